"""Random generators of a seed, of whose 64 bits each one counts.

key = seeds.key(0)        # jax.random.key(0)
keys = seeds.keys(0, rows)  # one for each row
rng = seeds.rng(0, 5)     # numpy.random.default_rng((0, 5))
"""

import functools
from typing import TYPE_CHECKING

import numpy as np

from rsynth_jax import checks

if TYPE_CHECKING:
    from jaxtyping import Array

    from rsynth_jax.types import Key


def key(seed: int) -> "Key":
    """Make the key of a seed, 0 ... 2^64 - 1: `jax.random.key` itself would use only its low 32 bits."""
    import jax  # not needed by --help

    high, low = _words(seed)
    return jax.random.fold_in(jax.random.key(low), np.uint32(high)) if high else jax.random.key(low)


def keys(seed: int, *numbers: np.ndarray) -> "Array":
    """Make a key of a seed and of each row of numbers, int (n,) each: (n,)."""
    import jax

    def own(*numbers: "Array | np.ndarray") -> "Key":
        return functools.reduce(jax.random.fold_in, numbers, key(seed))

    return jax.vmap(own)(*(np.asarray(each, np.int32) for each in numbers))


def rng(seed: int, number: int = 0) -> np.random.Generator:
    """Make the NumPy generator of a seed, 0 ... 2^64 - 1, and of a number below 2^32."""
    high, low = _words(seed)
    return np.random.default_rng((low, number, high))  # (2^32, 0) itself would draw what (0, 1) draws


def _words(seed: int) -> tuple[int, int]:
    """The high and the low 32 bits."""
    checks.seed(seed=seed)
    return divmod(int(seed), 1 << 32)
