"""What `import rsynth_jax as rs` offers: one function a task, from arrays to arrays.

    release = rs.load("cifar10")
    cats = rs.generate(release, "cat", num=16, seed=0)
    filled = rs.inpaint(release, photos, masks, "dog")
    own = rs.classifier(rs.from_linen(module, variables), ("cat", "dog"), (224, 224, 3))
    found = rs.project(rs.load("cat-dog-64"), rs.load_generator(path), photos)
    robust = rs.import_classifier("imagenet_l2_3_0.pt", epsilon=3.0)
    others = rs.draw(rs.load_generator("runs/faces"), "cat", num=16, seed=0, truncation=0.7)
    again = rs.invert_by(rs.load("cat-dog-64"), rs.load_inverter("faces-deepsim-64"), photos)
    dogs = rs.translate_by(rs.load_translator("cat-dog-munit-64"), cats, "dog", styles=5)

Images are uint8 (n, h, w, c). The tasks are those of `rsynth_jax.sampling.samplers`, and in the codes of a
generator those of `rsynth_jax.sampling.codes`, which return more than the images: starts, codes, logits and
features before and after, distances. `draw`, `mix` and `loop`, by a learned generator, are those of
`rsynth_jax.sampling.generators`; `invert_by`, `reencode` and `decode_prior`, by a learned inverter, those of
`rsynth_jax.sampling.inverters`; `translate_by`, `translate_like` and `blend_styles`, by a learned translator,
those of `rsynth_jax.sampling.translators`, whose images are uint8 (n, styles, h, w, c).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, Protocol

import numpy as np
from jaxtyping import Int

from rsynth_jax import checks, seeds
from rsynth_jax.attacks import autoattack, evaluation
from rsynth_jax.attacks.autoattack import Attack
from rsynth_jax.attacks.evaluation import Evaluation
from rsynth_jax.attacks.threats import Steps, Threat
from rsynth_jax.metrics import ranking
from rsynth_jax.metrics.estimates import Estimate
from rsynth_jax.models import embedding
from rsynth_jax.models.networks import from_function as from_function
from rsynth_jax.models.networks import from_linen as from_linen
from rsynth_jax.models.networks import from_nnx as from_nnx
from rsynth_jax.sampling import codes, generators, inverters, measures, samplers, translators
from rsynth_jax.sampling.samplers import Stroke as Stroke
from rsynth_jax.storage import extractors, files, paths, published
from rsynth_jax.storage import generators as generator_files
from rsynth_jax.storage import inverters as inverter_files
from rsynth_jax.storage import translators as translator_files
from rsynth_jax.storage.releases import Release as Release
from rsynth_jax.storage.releases import classifier as classifier
from rsynth_jax.storage.releases import config_of
from rsynth_jax.storage.releases import load as load
from rsynth_jax.synthesis.norms import L2, Norm
from rsynth_jax.types import Bytes

P = ParamSpec("P")


class _HasImages(Protocol):
    @property
    def images(self) -> np.ndarray: ...


def _images(sampler: Callable[P, _HasImages]) -> Callable[P, np.ndarray]:
    """The same function, returning the images alone."""

    @functools.wraps(sampler)
    def images(*args: P.args, **kwargs: P.kwargs) -> np.ndarray:
        return sampler(*args, **kwargs).images

    return images


generate = _images(samplers.generate)
inpaint = _images(samplers.inpaint)
superresolve = _images(samplers.superresolve)
translate = _images(samplers.translate)
paint = _images(samplers.paint)
sketch = _images(samplers.sketch)
refine = _images(samplers.refine)
invert = _images(samplers.invert)
invert_from = _images(samplers.invert_from)
interpolate = _images(samplers.interpolate)
visualize = _images(samplers.visualize)
project = _images(codes.project)
generate_in_code = _images(codes.generate_in_code)
translate_in_code = _images(codes.translate_in_code)
inpaint_in_code = _images(codes.inpaint_in_code)

load_generator = generator_files.load
draw = _images(generators.draw)
loop = _images(generators.loop)
mix = generators.mix

load_inverter = inverter_files.load
invert_by = _images(inverters.invert_by)
reencode = _images(inverters.reencode)
decode_prior = inverters.decode_prior

load_translator = translator_files.load
translate_by = _images(translators.translate_by)
translate_like = _images(translators.translate_like)
blend_styles = _images(translators.blend_styles)


def import_classifier(
    path: str | Path,
    architecture: str | None = None,
    names_map: Mapping[str, str | None] | None = None,
    *,
    class_names: Sequence[str] = (),
    norm: Norm = L2,
    epsilon: float = 0.0,
) -> Release:
    """Import a published classifier: a PyTorch file, a .safetensors, or a folder of Hugging Face.

    Args:
      path: a state dict, or a checkpoint that holds one; nothing in it runs.
      architecture: a key of `models.ARCHITECTURES`; by default the one that fits.
      names_map: names of the file -> published names, see `storage.published`.
      class_names: label i is class_names[i]; by default those of the file, else the numbers.
      norm, epsilon: the threat model that it was trained against.

    Raises:
      ValueError: the file is damaged, or its tensors are not those of one architecture.
    """
    found = published.read(path, architecture, names_map)
    return published.as_release(found, class_names, Threat(norm, epsilon))


def export_classifier(release: Release, path: str | Path) -> None:
    """Write the weights as a safetensors file under the names that they are published with for PyTorch.

    Its metadata hold the architecture and the normalisation, (x - mean) / std. Raises ValueError if the file
    cannot be written.
    """
    files.write_tensors(paths.of(path), *published.exported(config_of(release), release.variables))


def evaluate(
    release: Release,
    images: Bytes,
    labels: Int[np.ndarray, " n"],
    *,
    threat: Threat | None = None,
    attacks: Sequence[Attack] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a classifier on clean and on attacked images.

    Args:
      release: the classifier.
      images: uint8 (n, h, w, c).
      labels: their classes, (n,).
      threat: by default the one the classifier was trained against.
      attacks: one after the other, each on the images still classified correctly; by default PGD with 20
        steps. `attacks.autoattack.standard(threat, num_classes)` is AutoAttack.
      seed: of the random starts.

    Returns:
      Which images are classified correctly, clean and after each attack.
    """
    threat = release.threat if threat is None else threat
    if attacks is None:
        attacks = (autoattack.pgd(threat, Steps(threat.epsilon / 5, 20)),)
    key = seeds.key(seed)
    return evaluation.evaluate(release.model, release.variables, images, labels, threat, attacks, key=key)


def score(
    generated: Bytes, real: Bytes, *, features: str = "efficientnet-lite0", seed: int = 0
) -> dict[str, Estimate]:
    """Score generated images against real ones, see `rsynth_jax.sampling.measures.compare`.

    Args:
      generated: uint8 (n, h, w, c), 6 or more.
      real: uint8 (m, h, w, c), 6 or more; they may be of another size.
      features: "efficientnet-lite0", "inception:FILE", or a classifier by name, file or training run.
      seed: of the resamples.
    """
    network = extractors.load(features)
    for images in (generated, real):
        checks.enough("a comparison", measures.FEWEST, len(images))
    embed = functools.partial(embedding.embed_images, network.model, network.variables, batch_size=50)
    return measures.compare(embed(generated), embed(real).features, seed=seed)


def detect(release: Release, inside: Bytes, outside: Bytes) -> Estimate:
    """Measure how well the energy tells images of the training distribution from others, two or more of each.

    Returns:
      The chance that an image of `inside` has more energy than one of `outside`, the AUROC (1: always, 0.5:
      no difference), with its 95 % interval by DeLong's variance.
    """
    energies = functools.partial(measures.energies, release.model, release.variables)
    return ranking.auroc(energies(inside), energies(outside))
