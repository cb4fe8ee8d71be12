"""Carrying an attack out on many images: a batch that stays full.

    siege = make_siege(model, threat, attack)
    fallen = run_attack(siege, variables, key, victims, standing)

The attempts at all images wait in a queue for the places of one batch. A place is free again as soon as its
attempt has ended or its image has fallen, to any attempt, so no work is spent on points already broken and
one compiled program serves every attempt. Attempt t at image i draws from key i and t alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsynth_jax import sharding as parallel
from rsynth_jax.attacks.autoattack import Attack, Example, is_adversarial
from rsynth_jax.attacks.threats import Threat
from rsynth_jax.images import decode
from rsynth_jax.models import bind
from rsynth_jax.synthesis import ascent
from rsynth_jax.types import Key

BATCH_SIZE = 100


class Examples(NamedTuple):
    """Images uint8 (n, h, w, c), labels (n,) and clean logits (n, k)."""

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


class Siege(NamedTuple):
    """An attack as compiled programs over a batch of places.

    Attributes:
      attack: what is carried out.
      begin: (variables, places) -> states, each at its attempt's start.
      more: (variables, places, states) -> states a chunk of steps on, and who has won, bool (n,).
      num_calls: of `more`, that make an attempt.
    """

    attack: Attack
    begin: Callable
    more: Callable
    num_calls: int


class Places(NamedTuple):
    """What a batch works on, a row an attempt."""

    keys: Any
    victims: Examples
    tries: Any


class AttackResult(NamedTuple):
    """Which images fell, bool (n,), and to what: float32 (n, h, w, c), the clean image where none did."""

    images: np.ndarray
    adversarial: np.ndarray


def make_siege(model: nn.Module, threat: Threat, attack: Attack) -> Siege:
    """The programs of one attack."""
    chunk = ascent.chunk(attack.num_steps)

    def attempt(variables, place: Places):
        classifier = bind(model, variables)
        victim = Example(decode(place.victims.images), place.victims.labels, place.victims.logits)
        key = jax.random.fold_in(place.keys, place.tries)
        return classifier, victim, attack.attempt(key, classifier, victim, place.tries)

    def begin(variables, place):
        _, _, (start, climb) = attempt(variables, place)
        return climb.init(start)

    def more(variables, place, state):
        classifier, victim, (_, climb) = attempt(variables, place)
        state, _ = ascent.advance(climb, state, chunk)
        return state, is_adversarial(threat, classifier, victim, state.image)

    programs = jax.jit(jax.vmap(begin, (None, 0))), jax.jit(jax.vmap(more, (None, 0, 0)))
    return Siege(attack, *programs, attack.num_steps // chunk)


@jax.jit
def replaced(chosen, fresh, states):
    """`fresh` in the chosen rows, `states` in the others."""

    def rows(new, old):
        return jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(rows, fresh, states)


class Batch:
    """The places of a batch on the host: who works on what, and for how many more calls."""

    def __init__(self, size: int, queue: Iterator[tuple[int, int]], num_calls: int):
        self.image, self.index, self.left = np.zeros((3, size), int)
        self.queue, self.num_calls, self.taken = queue, num_calls, 0

    def fill(self, standing: np.ndarray) -> np.ndarray:
        """Free the places that are done, and give them the next attempts at standing images."""
        self.left[~standing[self.image]] = 0
        free, filled = np.flatnonzero(self.left == 0), np.zeros(len(self.left), bool)
        for place in free:
            for image, index in self.queue:
                self.taken += 1
                if standing[image]:
                    self.image[place], self.index[place], self.left[place] = image, index, self.num_calls
                    filled[place] = True
                    break
        return filled

    def work(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and try of every place, copied: JAX converts an int64 array once and keeps the result."""
        return self.image.astype(np.int32), self.index.astype(np.int32)

    def active(self) -> np.ndarray:
        """Which places are at work."""
        return self.left > 0


def run_attack(
    siege: Siege,
    variables,
    key: Key,
    victims: Examples,
    standing: np.ndarray,
    batch_size: int = BATCH_SIZE,
    report: Callable[[int, int, int], None] = lambda over, total, standing: None,
) -> AttackResult:
    """Attack every image that is `standing`, bool (n,).

    `report` is called as it goes on: attempts over or spared, of how many, and images still standing.
    """
    standing, found = standing.copy(), victims.images.astype(np.float32) / 255
    begun, total = standing.copy(), siege.attack.num_tries * int(standing.sum())
    if not total:
        return AttackResult(begun, found)  # none
    queue = ((i, t) for t in range(siege.attack.num_tries) for i in np.flatnonzero(begun))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(standing)))
    size = min(batch_size, -(-total // jax.device_count()) * jax.device_count())
    devices, batch = parallel.over_devices(size), Batch(size, queue, siege.num_calls)
    variables, states, places = devices.replicate(variables), None, None
    while (filled := batch.fill(standing)).any() or batch.active().any():
        if filled.any():
            chosen, tries = batch.work()
            rows = Examples(*(part[chosen] for part in victims))
            places = devices.split(Places(keys[chosen], rows, tries))
            fresh = siege.begin(variables, places)
            states = fresh if states is None else replaced(devices.split(filled), fresh, states)
        states, won = siege.more(variables, places, states)
        won = np.asarray(won) & batch.active()
        batch.left = np.maximum(batch.left - 1, 0)
        if won.any():
            standing[batch.image[won]] = False
            found[batch.image[won]] = np.asarray(states.image)[won]
        report(batch.taken - int(batch.active().sum()), total, int(standing.sum()))
    return AttackResult(begun & ~standing, found)
