"""The door to storage: Orbax for the state of a training run, safetensors for a released classifier.

    release = load("cifar10")                     # bundled, by name; or a file; or a training run
    model = models.create(release.config)
    classifier = models.bind(model, release.variables)

A release is arrays and JSON, nothing else: loading one runs no code from it. Writes are atomic.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import safetensors
from flax import traverse_util
from safetensors.numpy import save as to_safetensors

from rsynth_jax import checks, models
from rsynth_jax.attacks.adversaries import BALLS, Threat
from rsynth_jax.storage import files
from rsynth_jax.synthesis.class_gaussians import ClassGaussians
from rsynth_jax.training.classifier import TrainState, Variables
from rsynth_jax.training.dual import DualState

ZOO = Path(__file__).parents[1] / "zoo"
FORMAT = "rsynth_jax classifier 1"
RELEASE = "classifier.safetensors"  # its name inside a training run


class Release(NamedTuple):
    """A classifier as others use it.

    Attributes:
      config: makes the network again.
      variables: its params and batch statistics, float32.
      class_gaussians: the class Gaussians that generation starts from.
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) it was trained on.
      threat: the adversary it was trained against.
      recipe: how it was trained, as plain values; after dual training fake_steps is the T it came to.
    """

    config: models.Config
    variables: Variables
    class_gaussians: ClassGaussians
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    threat: Threat
    recipe: dict[str, Any]


def compact(array: Any) -> np.ndarray:
    """bfloat16: half the size. Figures of a model card are of the file, so this rounding is in them."""
    return np.asarray(array).astype(ml_dtypes.bfloat16)


def save(path: Path, release: Release) -> None:
    """Write a release as one safetensors file: the arrays in bfloat16, the rest as JSON."""
    tree = {"variables": release.variables, "seeds": release.class_gaussians._asdict()}
    flat = {"/".join(key): compact(value) for key, value in traverse_util.flatten_dict(tree).items()}
    described = {
        "config": release.config._asdict(),
        "class_names": release.class_names,
        "image_shape": release.image_shape,
        "threat": release.threat._asdict(),
        "recipe": release.recipe,
    }
    metadata = {"format": FORMAT} | {key: json.dumps(value) for key, value in described.items()}
    files.write(path, ordered(to_safetensors(flat, metadata)))


def ordered(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order, which otherwise varies from run to run."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def locate(name: str) -> Path:
    """The file of a bundled classifier's name, of a path, or inside a training run."""
    bundled = ZOO / f"{name}.safetensors"
    candidates = (bundled, Path(name).expanduser() / RELEASE, Path(name).expanduser())
    for path in candidates:
        if os.path.isfile(path):  # unlike Path.is_file, False for a name that no file can have
            return path
    known = ", ".join(sorted(file.stem for file in ZOO.glob("*.safetensors")))
    raise ValueError(
        f"no classifier {name!r}: give a bundled one ({known}), a .safetensors file, or a training run"
    )


def load(name: str) -> Release:
    """The release that `name` names: see `locate`.

    Raises ValueError for a file that is truncated, of another make, or whose arrays are not those of
    the architecture it names.
    """
    path = locate(name)
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            metadata = file.metadata() or {}
            flat = {key: file.get_tensor(key).astype(jnp.float32) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by rsynth_jax: its format is {metadata.get('format')!r}")
    try:
        release = assembled(metadata, flat)
        misfit = validate(release)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its description does not hold ({error})") from error
    if misfit:
        raise ValueError(f"{path}: its {misfit}")
    return release


DESCRIPTION = {
    "config": models.Config,
    "class_names": tuple[str, ...],
    "image_shape": tuple[int, int, int],
    "threat": Threat,
    "recipe": dict,
}


def parsed(value: Any, kind: Any) -> Any:
    """JSON as plain values of exactly the declared types. Raises TypeError, KeyError or ValueError."""
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        return kind(**{name: parsed(part, hints[name]) for name, part in value.items()})
    if get_origin(kind) is tuple and type(value) is list:
        kinds = [get_args(kind)[0]] * len(value) if ... in get_args(kind) else get_args(kind)
        return tuple(parsed(part, each) for part, each in zip(value, kinds, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} where a {kind} should be")
    return value


def assembled(metadata: dict[str, str], arrays: dict[str, jax.Array]) -> Release:
    """The release of a file's JSON and arrays."""
    described = {name: parsed(json.loads(metadata[name]), kind) for name, kind in DESCRIPTION.items()}
    tree = traverse_util.unflatten_dict({tuple(key.split("/")): value for key, value in arrays.items()})
    return Release(variables=tree["variables"], class_gaussians=ClassGaussians(**tree["seeds"]), **described)


def validate(release: Release) -> str | None:
    """What does not fit the rest, in words, if anything."""
    config, (mean, components) = release.config, release.class_gaussians
    model = models.create(config)
    checks.named("norm", release.threat.norm, BALLS)
    checks.positive(num_classes=config.num_classes, side=min(release.image_shape))
    checks.positive(fake_steps=parsed(release.recipe.get("fake_steps", 1), int))
    images = jax.ShapeDtypeStruct((1, *release.image_shape), jnp.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        return f"weights are not those of a {config.architecture} of {config.num_classes} classes"
    if len(release.class_names) != config.num_classes:
        return f"{len(release.class_names)} class names are not those of {config.num_classes} classes"
    if {len(mean), len(components)} != {config.num_classes} or mean.shape[1:] != components.shape[2:]:
        return f"seeds are not those of {config.num_classes} classes"
    return None


def manager(run: Path) -> ocp.CheckpointManager:
    """The checkpoints of a training run: the newest two, each whole or absent."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    handler = ocp.StandardCheckpointHandler()  # given, so that `item_metadata` can describe an unread state
    return ocp.CheckpointManager(
        (Path(run) / "checkpoints").absolute(), item_handlers=handler, options=options
    )


def shapes(tree: Any) -> list:
    """The shapes and types of a tree's arrays, whatever holds them."""
    return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))


def save_state(run: Path, state: TrainState | DualState) -> None:
    """Write the training state of a run under its step, if it is not there yet."""
    with manager(run) as checkpoints:
        if int(state.step) not in checkpoints.all_steps():
            checkpoints.save(int(state.step), args=ocp.args.StandardSave(state._asdict()))


def restore_state(run: Path, like: TrainState | DualState) -> TrainState | DualState:
    """The newest state of a run, with the structure, shapes and placement of `like`.

    Raises ValueError where there is none, or where it belongs to another network or optimizer.
    """
    if not (Path(run) / "checkpoints").is_dir():
        raise ValueError(f"nothing to resume in {run}: it has no checkpoints")
    with manager(run) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise ValueError(f"nothing to resume in {run}: it has no whole checkpoint")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        if shapes(checkpoints.item_metadata(step).tree) != shapes(abstract):  # Orbax would leave it half read
            raise ValueError(
                f"{run}/checkpoints/{step} does not fit this recipe: its arrays have other shapes"
            )
        try:
            restored = checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises many kinds, most of them many lines long
            first = str(error).strip().partition("\n")[0]
            raise ValueError(f"{run}/checkpoints/{step} does not fit this recipe: {first}") from error
    return type(like)(**restored)
