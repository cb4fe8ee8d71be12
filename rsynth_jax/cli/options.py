"""The flags of the programs, each declared once: groups of flags, and single flags as annotated types.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Options:
        input: InputFlags
        label: ClassName = None
        ascent: AscentFlags = AscentFlags(radius=3.0, steps=20, step_size=0.2)
        output: OutputFlags = OutputFlags(out=Path("inpainted.png"))

A group checks its own values. This module imports nothing heavy.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from tyro.conf import Positional, UseAppendAction, arg

from rsynth_jax import checks
from rsynth_jax.cli import hosts
from rsynth_jax.data import crops, image_files, sources
from rsynth_jax.data.crops import Box, Frame
from rsynth_jax.storage import class_names, files, shard_formats, shards

if TYPE_CHECKING:
    from rsynth_jax.attacks.autoattack import Attack
    from rsynth_jax.attacks.threats import Steps, Threat
    from rsynth_jax.storage.releases import Release

_CLASSIFIER = (
    "A released classifier's name, a .safetensors file, a training run, or package.module:function, which "
    "returns a classifier of your own."
)
_DTYPE = "The network computes in float32, or in bfloat16; images, logits and steps stay float32."
_SPLIT = "Part of A: train, test, train[:50%] ...; by default test of cifar10 or TFDS, all of anything else."
_BATCH = "Images computed together; changes the speed, and the results by no more than rounding."
_FITTING = f"{_BATCH} auto: as many as half of the free memory holds, at most 40; 100 to evaluate."
_CLASS = (
    "Target class, by name or number; predicted: of each image the predicted class; by default the labels of "
    "an .npz or of class folders, else the predicted class."
)
_OBJECTIVE = "log-prob (the paper's), logit, sum of both, or energy (of any class)."
_PARAMETERIZATION = "Coordinates of the ascent: pixel, pyramid (coarse to fine), fourier, or fourier:POWER."
MASKS = (
    "Folder of human masks: NAME.png, indexed or grey, for each image; the names of the classes in "
    "classes.txt, a line each, there or in one of the two folders above."
)
ClassifierName = Annotated[str, arg(help=_CLASSIFIER)]
Dtype = Annotated[str, arg(metavar="DTYPE", help=_DTYPE)]
Split = Annotated[str | None, arg(metavar="SPLIT", help=_SPLIT)]
Seed = Annotated[int, arg(help="Seed of the random draws.")]
BatchSize = Annotated[int, arg(help=_BATCH)]
FittingBatchSize = Annotated[int | Literal["auto"], arg(metavar="N", help=_FITTING)]
ClassName = Annotated[str | None, arg(name="class", metavar="CLASS", help=_CLASS)]
MaskWords = UseAppendAction[Annotated[tuple[str, ...], arg(metavar="MASK")]]
ObjectiveName = Annotated[str, arg(help=_OBJECTIVE)]
ParameterizationName = Annotated[str, arg(help=_PARAMETERIZATION)]
SQUARE = "square"
PREDICTED = "predicted"
Fit = Callable[[np.ndarray, int, Box | None], np.ndarray]  # an image, a side, a box -> an image of that side
EXACT = 8  # images of a device at once, with --exact
_SUFFIXES = {"sheet": image_files.SUFFIXES | {".gif"}, "gif": {".gif"}, "npz": {".npz"}, "json": {".json"}}
_SUFFIXES |= {"weights": {".safetensors"}, "card": {".md"}}
Bare = Annotated[bool, arg(help="Sheets and animations without captions: the images alone.")]
JsonFile = Annotated[Path | None, arg(metavar="FILE", help="Also write every number printed, as JSON.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemFlags:
    """Flags of every program."""

    no_cache: bool = False
    """Compile every program again, and do not keep the compiled programs."""
    version: bool = False
    """Print the version and exit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFlags:
    """How images are read."""

    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Folder of the TFDS data sets; TFDS's own default otherwise."""
    image_size: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize the central square of every image to this side (Lanczos)."""

    def __post_init__(self) -> None:
        checks.given(checks.positive, image_size=self.image_size)

    def load(self, place: str, split: str | None = None, side: int | None = None) -> sources.Dataset:
        """Open a data set at --image-size, else at this side."""
        return sources.load(place, split, self.data_dir, self.image_size or side)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataFlags(DataFlags):
    """How images and labels are read."""

    classes: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ()
    """Names of the classes, in the order of the data set, in place of its own: the names, a text file with
    one a line, or cifar10, cifar100, imagenet or restricted-imagenet."""

    def load_labelled(self, place: str, *splits: str, side: int | None = None) -> list[sources.Dataset]:
        """Open splits of a data set with labels. Raises ValueError unless all have the classes named."""
        names = class_names.read(self.classes)
        datasets = [sources.labelled(self.load(place, split, side), names) for split in splits]
        if any(dataset.class_names != datasets[0].class_names for dataset in datasets):
            raise ValueError("the training and the test split do not have the same classes")
        return datasets


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputFlags(DataFlags):
    """The images that a program edits."""

    images: Positional[Annotated[str, arg(metavar="A")]]
    """The images: one image file, a folder, an .npz with the array images, cifar10, or tfds:NAME.

    Files are turned upright by their EXIF; transparent pixels become white. By default images are resized to
    the classifier's side.
    """
    split: Split = None
    num: Annotated[int | None, arg(metavar="N")] = None
    """Only the first N images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.given(checks.positive, num=self.num)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoFlags:
    """Which part of a photograph is worked on, and where the edited photograph is written."""

    crop: Annotated[str, arg(metavar="X,Y,W,H")] = SQUARE
    """The part of each photograph that is worked on, resized to the classifier's side: square, the largest
    in the middle, or left, top, width and height in pixels of the upright photograph."""
    photo: Annotated[Path | None, arg(metavar="PATH")] = None
    """Also write each photograph itself at its own resolution, with the change enlarged and added: a file for
    one photograph, a folder for several. Elsewhere the pixels stay, in PNG and WebP files to the last byte,
    and everywhere EXIF data and the ICC profile."""

    def __post_init__(self) -> None:
        _ = self.box

    @property
    def box(self) -> Box | None:
        """The part, None for the central square. Raises ValueError if it cannot be read."""
        if self.crop == SQUARE:
            return None
        if not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", self.crop):
            raise ValueError(
                f"cannot read --crop {self.crop[:40]!r}: write left,top,width,height, or {SQUARE}"
            )
        return Box(*map(int, self.crop.split(",")))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthFlags:
    """How far an ascent may lead, and how many images climb at once."""

    radius: float
    """Largest l2 distance from the start, in pixel values of [0, 1], at 32 pixels; it grows with the side."""
    batch_size: FittingBatchSize = "auto"

    def __post_init__(self) -> None:
        checks.positive(**{name: value for name, value in vars(self).items() if value != "auto"})

    def settings(self, release: "Release") -> dict[str, Any]:
        """The arguments of a sampler; the batch size "auto" is chosen by memory."""
        values = {"num_steps" if name == "steps" else name: value for name, value in vars(self).items()}
        return values | {"batch_size": fitting(self.batch_size, release)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AscentFlags(LengthFlags):
    """How far an ascent may lead, and its steps."""

    steps: int
    """Number of steps of the ascent."""
    step_size: float
    """l2 length of a step, at 32 pixels; it grows with the side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackFlags:
    """An attack, and its threat model."""

    attack: str = "pgd"
    """pgd, apgd, apgd-t, fab-t, square or autoattack."""
    norm: Annotated[str | None, arg(metavar="NORM")] = None
    """Norm of the threat model: l2 or linf; the classifier's own by default."""
    epsilon: Annotated[float | None, arg(metavar="RADIUS")] = None
    """Radius of the threat model, in pixel values of [0, 1]; the classifier's own by default."""
    loss: str = "ce"
    """Loss of pgd and apgd: ce, margin or dlr."""
    steps: Annotated[int | None, arg(metavar="STEPS")] = None
    """Number of steps of an attempt: 20 for pgd, 5000 queries for square, else 100."""
    step_size: Annotated[float | None, arg(metavar="LENGTH")] = None
    """Length of a step of pgd; 4 epsilon / steps by default (0.1 for 20 steps at epsilon 0.5)."""
    restarts: int = 1
    """Random starts of pgd, apgd and square for each image, which must withstand all of them."""

    def __post_init__(self) -> None:
        checks.positive(restarts=self.restarts)
        checks.given(checks.positive, steps=self.steps)
        checks.given(checks.not_negative, epsilon=self.epsilon, step_size=self.step_size)
        if self.attack == "autoattack" and self.steps is not None:
            raise ValueError("autoattack has steps of its own: leave out --steps, or name one of its attacks")

    def threat(self, own: "Threat") -> "tuple[Threat, Steps]":
        """Choose the threat model and the steps of an attempt: by the flags, else the classifier's own.

        Raises ValueError if there is no such norm.
        """
        from rsynth_jax.attacks import autoattack
        from rsynth_jax.attacks.threats import Steps, Threat
        from rsynth_jax.synthesis.norms import NORMS

        norm = own.norm if self.norm is None else checks.named("norm", self.norm, NORMS)
        epsilon = own.epsilon if self.epsilon is None else self.epsilon
        default = {"pgd": 20, "square": autoattack.QUERIES}.get(self.attack, autoattack.STEPS)
        num_steps = self.steps or default
        step_size = 4 * epsilon / num_steps if self.step_size is None else self.step_size
        return Threat(norm, epsilon), Steps(step_size, num_steps)

    def attacks(self, threat: "Threat", steps: "Steps", num_classes: int) -> "tuple[Attack, ...]":
        """Make the attacks. Raises ValueError for a name of an attack or a loss that does not exist."""
        from rsynth_jax.attacks import autoattack

        loss = checks.named("loss", self.loss, autoattack.LOSSES)
        return autoattack.named(self.attack, threat, steps, loss, self.restarts, num_classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetFlags:
    """The contact sheet and the numbers that a program writes."""

    out: Path
    """The contact sheet: .png, .jpg, .webp or .bmp, or an animation, .gif."""
    json: JsonFile = None

    @property
    def paths(self) -> dict[str, Any]:
        """The files that `report` writes."""
        return {"sheet": self.out, "json": self.json}

    def check(self) -> None:
        """Raise ValueError if an output cannot be written."""
        check_outputs(**self.paths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageFlags(SheetFlags):
    """The contact sheet with or without captions, and the numbers that a program writes."""

    bare: Bare = False

    @property
    def written(self) -> dict[str, Any]:
        """The arguments of `report`."""
        return self.paths | {"bare": self.bare}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlags(PageFlags):
    """The files that a program writes."""

    each: bool = False
    """Also write every result as an image of its own, in OUT's format (PNG for .gif), in a folder named like
    OUT without its suffix."""
    npz: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the images as arrays: images uint8 (n, h, w, c), labels, class_names."""
    gif: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write an animation."""

    @property
    def animated(self) -> bool:
        """Whether a file shows the frames of the ascent."""
        return self.gif is not None or is_animation(self.out)

    def animate(self, rows: np.ndarray) -> np.ndarray | None:
        """Which images an animation shows, bool (n,): these rows; None where there is no animation."""
        return rows if self.animated else None

    @property
    def paths(self) -> dict[str, Any]:
        """The files that `report` writes."""
        suffix = ".png" if is_animation(self.out) else self.out.suffix
        each = self.out.with_suffix("") / f"image{suffix}" if self.each else None
        return super().paths | {"npz": self.npz, "gif": self.gif, "each": each}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardFlags:
    """Flags of images that are made and written batch by batch, however many."""

    shards: Annotated[Path | None, arg(metavar="DIR")] = None
    """Write the images as shards into this folder, beside manifest.json, and of them only the first ones to
    OUT. The same command again continues where it was stopped, and its --batch-size may be another."""
    shard_size: Annotated[int, arg(metavar="N")] = 1000
    """Images of each shard: two shards are in memory."""
    format: str = "npz"
    """npz, png (a folder of PNGs each) or array_record (PNGs, each before its label in 4 bytes)."""
    exact: bool = False
    """Make 8 images at a time on each device, whatever --batch-size, so that the bytes of an image depend on
    the seed, its class and its number alone; else a few may differ by 1 of 255 (docs/large-runs.md)."""

    def __post_init__(self) -> None:
        checks.positive(shard_size=self.shard_size)
        checks.named("format", self.format, shard_formats.FORMATS)
        if self.exact and self.shards is None:
            raise ValueError("--exact is a flag of --shards: give --shards DIR too")

    def batch_size(self, size: int) -> int:
        """Return how many images are made at once, of the number that --batch-size gives."""
        import jax

        return EXACT * jax.local_device_count() if self.exact else size

    def check(self, output: SheetFlags | None = None, photo: PhotoFlags | None = None) -> None:
        """Raise ValueError if the folder cannot be written, or the output has all images or their frames."""
        if self.shards is None:
            hosts.check_alone()
            return
        files.check_writable(self.shards / shards.MANIFEST)
        if photo is not None and photo.photo is not None:
            raise ValueError("--photo writes photographs one by one: leave it out, or --shards")
        if isinstance(output, OutputFlags):
            asked = {"npz": output.npz, "each": output.each, "gif": output.gif}
            asked["out FILE.gif"] = output.animated
            if found := next((name for name, value in asked.items() if value), None):
                raise ValueError(f"--{found} keeps every image in memory: leave it out, or --shards")


def read(
    flags: InputFlags,
    release: "Release",
    label: str | None = None,
    factor: int = 1,
    crop: Box | None = None,
    fit: Fit = image_files.square_bytes,
) -> sources.Pictures:
    """Read the images that a classifier is to edit, see `open_images` and `pictures`."""
    return pictures(
        open_images(flags, release.image_shape[0], factor, crop, fit), release, label, factor, crop
    )


def open_images(
    flags: InputFlags,
    side: int,
    factor: int = 1,
    crop: Box | None = None,
    fit: Fit = image_files.square_bytes,
) -> sources.Dataset:
    """Open the images that a network is to edit, at its side unless the flags give another.

    Args:
      factor: read the images `factor` times smaller.
      crop: the part of each image, by default the central square.
      fit: makes an image of the side wanted, of that part.

    Raises:
      ValueError: there are no images, or the factor does not divide the side.
    """
    if flags.image_size is None and side % factor:
        raise ValueError(f"factor is {factor}: it does not divide the network's {side} pixels")
    size = flags.image_size or side // factor
    stored = sources.load(flags.images, flags.split, flags.data_dir).first(flags.num)
    return sources.mapped(stored, lambda image: fit(image, size, crop))


def pictures(
    dataset: sources.Dataset,
    release: "Release",
    label: str | None = None,
    factor: int = 1,
    crop: Box | None = None,
) -> sources.Pictures:
    """Read images that a classifier is to edit.

    Args:
      label: the class for all of them, or "predicted"; by default the labels that the data set has.
      factor: repeat each pixel as a block.
      crop: the part of each photograph that the data set shows, by default the central square.

    Raises:
      ValueError: no image can be read, or the classifier takes no images of their size.
    """
    from rsynth_jax.models.embedding import channel_repeats
    from rsynth_jax.sampling.samplers import enlarged

    pictures = sources.read_all(dataset)
    images = enlarged(pictures.images, factor)
    channel_repeats(release.model, release.variables, images.shape[1:])
    labels = sources.labels_for(dataset, release.class_names) if label is None else class_asked(label)
    return framed(pictures._replace(images=images, labels=labels), crop)


def framed(pictures: sources.Pictures, crop: Box | None = None) -> sources.Pictures:
    """Add which part of its photograph each image shows; an image that is in no file of its own is whole."""
    if pictures.files is None:
        height, width = pictures.images.shape[1:3]
        return pictures._replace(
            frames=(Frame(height, width, crops.whole(height, width)),) * len(pictures.images)
        )
    return pictures._replace(frames=tuple(image_files.frame(file, crop) for file in pictures.files))


def class_asked(label: str | None) -> str | None:
    """Return the class that --class names, None for the predicted ones."""
    return None if label == PREDICTED else label


def fitting(size: int | Literal["auto"], release: "Release", most: int = 40) -> int:
    """Return the batch size; "auto" is as many images as fit in memory, or `most`."""
    from rsynth_jax.sampling import memory

    return memory.batch_size(release, most) if size == "auto" else size


def unit_number(text: str, num_units: int) -> int:
    """Parse the number of a unit of the penultimate layer. Raises ValueError if there is none."""
    if not (text.isascii() and text.isdigit()) or int(text) >= num_units:
        raise ValueError(f"no feature {text!r}: give a number from 0 to {num_units - 1}")
    return int(text)


def units_of(asked: Sequence[str], weights: np.ndarray, features: np.ndarray | None = None) -> list[int]:
    """Parse numbers of units, and top:K. Raises ValueError for a unit that does not exist."""
    from rsynth_jax.sampling import measures

    found = []
    for word in asked:
        kind, _, most = word.partition(":")
        if kind != "top":
            found.append(unit_number(word, len(weights)))
        elif not (most.isascii() and most.isdigit() and 0 < int(most) <= len(weights)):
            raise ValueError(f"cannot read {word!r}: write top:K, with K from 1 to {len(weights)}")
        elif not weights.shape[1]:
            raise ValueError(f"no {word}: the last layer of this network is not known: give numbers")
        else:
            found += measures.units_by_effect(weights, features)[: int(most)].tolist()
    return found


def check_outputs(**outputs: Path | None) -> None:
    """Raise ValueError for an output that cannot be written, that meets another, or of another suffix.

    Outputs by kind: sheet, image, each, gif, npz, json, weights or card. A device or a pipe needs no suffix.
    """
    files.check_writable(*outputs.values())
    for kind, path in outputs.items():
        known = _SUFFIXES.get(kind, image_files.SUFFIXES)
        if path is not None and path.suffix.lower() not in known and not files.is_stream(path):
            raise ValueError(f"cannot write {path}: end its name in {' or '.join(sorted(known))}")


def is_animation(path: Path) -> bool:
    """Whether the name of a file ends in .gif."""
    return path.suffix.lower() == ".gif"
