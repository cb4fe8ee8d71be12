"""Objectives, projections, the ascent, and the tasks that they make together."""

from rsynth_jax.synthesis.ascent import (
    Ascent,
    advance,
    best_so_far,
    projected_gradient_ascent,
    run,
    steepest,
    stop_when,
    with_step_keys,
)
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.synthesis.norms import L2, LINF, Norm
from rsynth_jax.synthesis.tasks import AscentFn, Task, TaskFn, best_of, jittered, with_optimizer

__all__ = [
    "L2",
    "LINF",
    "Ascent",
    "AscentFn",
    "ClassGaussians",
    "Norm",
    "Task",
    "TaskFn",
    "advance",
    "best_of",
    "best_so_far",
    "jittered",
    "projected_gradient_ascent",
    "run",
    "steepest",
    "stop_when",
    "with_optimizer",
    "with_step_keys",
]
