"""Run an attack on many images, in one batch that stays full.

    runner = make_runner(model, threat, attack)
    result = run_attack(runner, variables, key, examples, remaining)

The attempts at all images wait in a queue for the rows of one batch. A row is free as soon as its attempt has
ended, or any attempt at its image has succeeded. Attempt t at image i draws from (key, i, t) alone.
"""

import functools
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rsynth_jax import sharding
from rsynth_jax.attacks.autoattack import Attack, Attempt, Example, is_adversarial
from rsynth_jax.attacks.threats import Threat, check
from rsynth_jax.images import decode
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent
from rsynth_jax.synthesis.ascent import Ascent, AscentInfo
from rsynth_jax.types import Bytes, Classifier, Image, Key, Scalar, Variables

BATCH_SIZE = 100
Callback = Callable[[int, int, int], None]  # (attempts ended or skipped, of how many, images not yet broken)


class Examples(NamedTuple):
    """Images uint8 (n, h, w, c), labels (n,) and clean logits (n, k)."""

    images: Bytes
    labels: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n k"]


class Rows(NamedTuple):
    """The attempts of a batch: the key of each row's image, the example, and the index of the try."""

    keys: Any
    examples: Any
    tries: Any


class AttackRunner(NamedTuple):
    """An attack as compiled programs over the rows of a batch.

    Attributes:
      init: (variables, rows) -> states, each at its attempt's start.
      advance: (variables, rows, states) -> states after a chunk of steps, and which images are adversarial.
      num_calls: of `advance`, that complete an attempt.
    """

    attack: Attack
    init: Callable[[Variables, Rows], Any]
    advance: Callable[[Variables, Rows, Any], tuple[Any, Array]]
    num_calls: int


class AttackResult(NamedTuple):
    """Which images are broken, bool (n,), and by what: float32 (n, h, w, c), the clean image elsewhere."""

    broken: Bool[np.ndarray, " n"]
    adversarial: Float[np.ndarray, "n h w c"]


@functools.lru_cache(maxsize=16)
def make_runner(model: nn.Module, threat: Threat, attack: Attack) -> AttackRunner:
    """Build the programs of one attack; the same arguments return the same compiled programs.

    An attempt is split into calls of equal length, at most `ascent.CHUNK` steps; where that makes more steps
    than the attack has, the last ones change nothing.
    """
    check(threat)
    num_calls = -(-attack.num_steps // ascent.CHUNK)
    length = -(-attack.num_steps // num_calls)

    def attempt(variables: Variables, row: Rows) -> tuple[Classifier, Example, Attempt]:
        classifier = bind(model, variables)
        example = Example(decode(row.examples.images), row.examples.labels, row.examples.logits)
        each = attack.attempt(jax.random.fold_in(row.keys, row.tries), classifier, example, row.tries)
        if num_calls * length > attack.num_steps:
            each = each._replace(ascent=_stop_after(attack.num_steps, each.ascent))
        return classifier, example, each

    def init(variables: Variables, row: Rows) -> Any:
        _, _, each = attempt(variables, row)
        return each.ascent.init(each.start)

    def advance(variables: Variables, row: Rows, state: Any) -> tuple[Any, Scalar]:
        classifier, example, each = attempt(variables, row)
        state, _ = ascent.advance(each.ascent, state, length)
        return state, is_adversarial(threat, classifier, example, state.point)

    init_rows = jax.jit(jax.vmap(init, (None, 0)))
    advance_rows = jax.jit(jax.vmap(advance, (None, 0, 0)))
    return AttackRunner(attack, init_rows, advance_rows, num_calls)


def image_keys(key: Key, num: int) -> Array:
    """Derive the keys of `num` images, (num,): the one of image i depends on `key` and i alone."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num))


def run_attack(
    runner: AttackRunner,
    variables: Variables,
    keys: Array,
    examples: Examples,
    remaining: Bool[np.ndarray, " n"],
    batch_size: int = BATCH_SIZE,
    callback: Callback | None = None,
) -> AttackResult:
    """Attack every image that is `remaining`, each with its key of `keys` (n,).

    `callback` is called after every chunk of steps. The batch size is the number of attempts in progress,
    rounded up to a multiple of the number of devices; a CPU has at most `sharding.CPU_ROWS` a device.
    """
    broken = np.zeros(len(remaining), bool)
    adversarial = examples.images.astype(np.float32) / 255
    num_attempts = runner.attack.num_tries * int(remaining.sum())
    if num_attempts == 0:
        return AttackResult(broken, adversarial)
    size = sharding.padded(min(batch_size, num_attempts, sharding.most_rows()))
    devices = sharding.over_devices(size)
    variables = devices.place(variables)
    batch = _Batch(size, runner, remaining)
    rows: Any = None
    states: Any = None
    while (new := batch.refill(broken)).any() or batch.active.any():
        if new.any():
            rows = devices.split(batch.rows(keys, examples))
            started = runner.init(variables, rows)
            states = started if states is None else _replace(devices.split(new), started, states)
        states, succeeded = runner.advance(variables, rows, states)
        hits = np.asarray(succeeded) & batch.active
        batch.calls_left -= batch.active
        if hits.any():
            broken[batch.images[hits]] = True
            adversarial[batch.images[hits]] = np.asarray(states.point)[hits]
        if callback is not None:
            num_ended = num_attempts - len(batch.queue) - int(batch.active.sum())
            callback(num_ended, num_attempts, int((remaining & ~broken).sum()))
    return AttackResult(broken, adversarial)


_replace = jax.jit(jax.vmap(ascent.select))  # (which rows, new, old)


class _Batch:
    """The queue of attempts, and the image, the try and the calls to come of each row, on the host."""

    def __init__(self, size: int, runner: AttackRunner, remaining: np.ndarray):
        images = np.flatnonzero(remaining)
        self.queue = deque((image, index) for index in range(runner.attack.num_tries) for image in images)
        self.num_calls = runner.num_calls
        self.images = np.zeros(size, int)
        self.tries = np.zeros(size, int)
        self.calls_left = np.zeros(size, int)

    @property
    def active(self) -> np.ndarray:
        return self.calls_left > 0

    def refill(self, broken: np.ndarray) -> np.ndarray:
        """Free the rows of broken images, start attempts in free rows, and return which rows are new."""
        self.calls_left[broken[self.images]] = 0
        free = ~self.active
        for row in np.flatnonzero(free):
            while self.queue and broken[self.queue[0][0]]:
                self.queue.popleft()
            if self.queue:
                self.images[row], self.tries[row] = self.queue.popleft()
                self.calls_left[row] = self.num_calls
        return free & self.active

    def rows(self, keys: Array, examples: Examples) -> Rows:
        """The rows of arrays; copied, as JAX may keep an array that it converts."""
        images = self.images.astype(np.int32)
        return Rows(keys[images], Examples(*(part[images] for part in examples)), self.tries.astype(np.int32))


class _LimitedState(NamedTuple):
    steps_left: Scalar
    inner: Any

    @property
    def point(self) -> Image:
        return self.inner.point


def _stop_after(num_steps: int, climb: Ascent) -> Ascent:
    """Change nothing after `num_steps` steps."""

    def init(image: Image) -> _LimitedState:
        return _LimitedState(jnp.int32(num_steps), climb.init(image))

    def step(state: _LimitedState) -> tuple[_LimitedState, AscentInfo]:
        inner, info = climb.step(state.inner)
        inner = ascent.select(state.steps_left > 0, inner, state.inner)
        return _LimitedState(state.steps_left - 1, inner), info

    return Ascent(init, step)
