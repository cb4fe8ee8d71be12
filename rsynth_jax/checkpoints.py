"""The door to storage: Orbax for the state of a training run, safetensors for a released classifier.

    release = load("cifar10")                     # bundled, by name; or a file; or a training run
    model = models.create(release.config)
    classifier = models.bind(model, release.variables)

A release is arrays and JSON, nothing else: loading one runs no code from it. Writes are atomic.
"""

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import safetensors
from flax import traverse_util
from safetensors.numpy import save as to_safetensors

from rsynth_jax import models
from rsynth_jax.attacks import Threat
from rsynth_jax.seeds import Seeds
from rsynth_jax.training import TrainState, Variables

ZOO = Path(__file__).parent / "zoo"
FORMAT = "rsynth_jax classifier 1"
RELEASE = "classifier.safetensors"  # its name inside a training run


class Release(NamedTuple):
    """A classifier as others use it.

    Attributes:
      config: makes the network again.
      variables: its params and batch statistics, float32.
      seeds: the class Gaussians that generation starts from.
      class_names: label i is class_names[i].
      image_shape: (height, width, channels) it was trained on.
      threat: the adversary it was trained against.
      recipe: how it was trained, as plain values.
    """

    config: models.Config
    variables: Variables
    seeds: Seeds
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    threat: Threat
    recipe: dict[str, Any]


def writable(*paths: Path | None) -> None:
    """Raise ValueError for a path that `write` could not write, before any work is done for it."""
    for path in filter(None, paths):
        there = next(parent for parent in Path(path).absolute().parents if parent.exists())
        if Path(path).is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ValueError(f"cannot write {path}: {there} is not a folder that can be written to")


def write(path: Path, content: bytes) -> None:
    """The whole file or none: written beside, then renamed. Raises ValueError where it cannot be."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o666 & ~umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays as one compressed .npz."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write(path, content.getvalue())


def umask() -> int:
    """The process's umask; reading it is only possible by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def compact(array: Any) -> np.ndarray:
    """bfloat16: half the size, at a cost that the model card measures."""
    return np.asarray(array).astype(ml_dtypes.bfloat16)


def save(path: Path, release: Release) -> None:
    """Write a release as one safetensors file: the arrays in bfloat16, the rest as JSON."""
    tree = {"variables": release.variables, "seeds": release.seeds._asdict()}
    flat = {"/".join(key): compact(value) for key, value in traverse_util.flatten_dict(tree).items()}
    described = {
        "config": release.config._asdict(),
        "class_names": release.class_names,
        "image_shape": release.image_shape,
        "threat": release.threat._asdict(),
        "recipe": release.recipe,
    }
    metadata = {"format": FORMAT} | {key: json.dumps(value) for key, value in described.items()}
    write(path, to_safetensors(flat, metadata))


def locate(name: str) -> Path:
    """The file of a bundled classifier's name, of a path, or inside a training run."""
    bundled = ZOO / f"{name}.safetensors"
    candidates = (bundled, Path(name).expanduser() / RELEASE, Path(name).expanduser())
    for path in candidates:
        if path.is_file():
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
        raise ValueError(f"{path} was not written by rsynth_jax: it says {metadata.get('format')!r}")
    try:
        described = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
        tree = traverse_util.unflatten_dict({tuple(key.split("/")): v for key, v in flat.items()})
        release = Release(
            config=models.Config(**described["config"]),
            variables=tree["variables"],
            seeds=Seeds(**tree["seeds"]),
            class_names=tuple(described["class_names"]),
            image_shape=tuple(described["image_shape"]),
            threat=Threat(**described["threat"]),
            recipe=described["recipe"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its description does not hold ({error})") from error
    check(path, release)
    return release


def check(path: Path, release: Release) -> None:
    """Raise ValueError unless the arrays are those of the architecture."""
    model = models.create(release.config)
    image = jnp.zeros((1, *release.image_shape))
    expected = jax.eval_shape(model.init, jax.random.key(0), image)
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, release.variables):
        raise ValueError(f"{path}: its weights are not those of a {release.config.architecture}")


def manager(run: Path) -> ocp.CheckpointManager:
    """The checkpoints of a training run: the newest two, each whole or absent."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager((Path(run) / "checkpoints").absolute(), options=options)


def save_state(run: Path, state: TrainState) -> None:
    """Write the training state of a run under its step, if it is not there yet."""
    with manager(run) as checkpoints:
        if int(state.step) not in checkpoints.all_steps():
            checkpoints.save(int(state.step), args=ocp.args.StandardSave(state._asdict()))


def restore_state(run: Path, like: TrainState) -> TrainState:
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
        try:
            restored = checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax raises many kinds, most of them many lines long
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"{run}/checkpoints/{step} does not fit this recipe: {first}") from error
    return TrainState(**restored)
