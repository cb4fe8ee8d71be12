"""Climb an objective, inside a set, from a start: image synthesis with one robust classifier.

    import rsynth_jax as rs

    release = rs.load("cifar10")
    images = rs.generate(release, "cat", num=16, seed=0)

A training method is a pair (adversary, loss); a synthesis task is a triple (start, objective,
projection); one gradient ascent in input space serves both. The functions are imported when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsynth_jax.api import (
        Release,
        Stroke,
        blend_styles,
        classifier,
        decode_prior,
        detect,
        draw,
        evaluate,
        export_classifier,
        from_function,
        from_linen,
        from_nnx,
        generate,
        generate_in_code,
        import_classifier,
        inpaint,
        inpaint_in_code,
        interpolate,
        invert,
        invert_by,
        invert_from,
        load,
        load_generator,
        load_inverter,
        load_translator,
        loop,
        mix,
        paint,
        project,
        reencode,
        refine,
        score,
        sketch,
        superresolve,
        translate,
        translate_by,
        translate_in_code,
        translate_like,
        visualize,
    )

__version__ = "0.1.0"

__all__ = [
    "Release",
    "Stroke",
    "blend_styles",
    "classifier",
    "decode_prior",
    "detect",
    "draw",
    "evaluate",
    "export_classifier",
    "from_function",
    "from_linen",
    "from_nnx",
    "generate",
    "generate_in_code",
    "import_classifier",
    "inpaint",
    "inpaint_in_code",
    "interpolate",
    "invert",
    "invert_by",
    "invert_from",
    "load",
    "load_generator",
    "load_inverter",
    "load_translator",
    "loop",
    "mix",
    "paint",
    "project",
    "reencode",
    "refine",
    "score",
    "sketch",
    "superresolve",
    "translate",
    "translate_by",
    "translate_in_code",
    "translate_like",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("rsynth_jax.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
