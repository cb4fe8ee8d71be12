"""Adversaries of training, attacks of evaluation, and the runner that applies them to many images."""

from rsynth_jax.attacks.autoattack import Attack, standard
from rsynth_jax.attacks.evaluation import Evaluation, evaluate
from rsynth_jax.attacks.runner import AttackResult, make_runner, run_attack
from rsynth_jax.attacks.threats import Steps, Threat

__all__ = [
    "Attack",
    "AttackResult",
    "Evaluation",
    "Steps",
    "Threat",
    "evaluate",
    "make_runner",
    "run_attack",
    "standard",
]
