"""A released generator comes back as it was saved; damaged files, other kinds and unfit parts are refused."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.models import style
from rsynth_jax.models.style import GeneratorConfig
from rsynth_jax.storage import files, generators, release_files, releases
from rsynth_jax.storage.generators import GeneratorRelease
from rsynth_jax.storage.release_files import GENERATOR

CONFIG = GeneratorConfig(num_classes=2, image_size=16, widths=(8, 4), latent_size=4, mapping_depth=1)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, GeneratorRelease]:
    """A generator of random weights in a training run's folder, and its file."""
    shapes = jax.eval_shape(functools.partial(style.init, CONFIG), jax.random.key(0))
    release = GeneratorRelease(
        config=CONFIG,
        variables=jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes),
        mean_styles=RNG.normal(size=(2, 4)).astype(np.float32),
        class_names=("cat", "dog"),
        recipe={"steps": 3, "widths": [8, 4], "classifier": None},
    )
    path = tmp_path_factory.mktemp("run") / generators.RELEASE
    generators.save(path, release)
    return path, release


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A classifier in a training run's folder, and its file."""
    path = tmp_path_factory.mktemp("run") / releases.RELEASE
    with tiny.network():
        tiny.release(path, ("cat", "dog"))
    return path


def rounded(array) -> np.ndarray:
    return np.asarray(array).astype(jnp.bfloat16).astype(np.float32)


def damaged(saved, folder: Path, **texts: str) -> Path:
    """A copy of the release with other texts, in the form of older ones: without a SHA-256."""
    file = files.read_tensors(saved[0])
    path = folder / "damaged.safetensors"
    kept = {name: text for name, text in file.metadata.items() if name != "sha256"}
    files.write_tensors(path, {name: np.array(a) for name, a in file.arrays.items()}, kept | texts)
    return path


def changed(release: GeneratorRelease, path: Path, **parts) -> Path:
    generators.save(path, release._replace(**parts))
    return path


def test_a_generator_comes_back_with_rounded_arrays_and_everything_else_exact(saved):
    path, release = saved
    loaded = generators.load(path)
    for name in ("config", "class_names", "recipe", "image_shape"):
        assert getattr(loaded, name) == getattr(release, name)
    for name in ("variables", "mean_styles"):
        jax.tree.map(
            lambda a, b: assert_array_equal(a, rounded(b)), getattr(loaded, name), getattr(release, name)
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.variables)} == {np.dtype("float32")}
    assert loaded.image_shape == (16, 16, 3)


def test_a_loaded_generator_saved_again_is_the_same_file(saved, tmp_path):
    generators.save(tmp_path / "again.safetensors", generators.load(saved[0]))
    assert (tmp_path / "again.safetensors").read_bytes() == saved[0].read_bytes()


def test_a_loaded_generator_makes_images(saved):
    generator = generators.load(saved[0]).generator
    key = jax.random.key(0, impl="rbg")
    image = jax.eval_shape(lambda: generator.decode(generator.code(generator.prior(key), jnp.int32(1)), key))
    assert image.shape == (16, 16, 3) and image.dtype == jnp.float32


def test_loading_compiles_nothing(saved, caplog):
    with jax.log_compiles():
        generators.load(saved[0])
    assert not [text for text in caplog.messages if text.startswith(("Compiling", "Finished XLA"))]


def test_a_generator_is_found_by_its_file_and_its_run(saved):
    path, _ = saved
    assert release_files.locate(str(path), GENERATOR) == path == release_files.locate(path.parent, GENERATOR)


# ---- the other kind


def test_a_classifier_is_refused_as_a_generator_by_file_run_and_name(classifier):
    for name in (classifier, classifier.parent, "cat-dog-64"):
        with refused(match=r"is a classifier: give a generator$"):
            generators.load(name)


def test_a_generator_is_refused_as_a_classifier_by_file_run_and_name(saved):
    path, _ = saved
    for name in (path, path.parent):
        with refused(match=r"is a generator: give a classifier$"):
            releases.load(name)
    with refused(match=r"^'faces-style-64' is a generator: give a classifier$"):
        releases.load("faces-style-64")


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("pt", "holds weights of PyTorch, not a generator of rsynth_jax"),
        ("rsynth_jax generator 2", "was not written by rsynth_jax: its format is 'rsynth_jax generator 2'"),
    ],
)
def test_a_file_of_another_format_is_refused(saved, tmp_path, format, said):
    with refused(match=said):
        generators.load(damaged(saved, tmp_path, format=format))


# ---- damage


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.9999])
def test_a_truncated_file_is_refused(saved, tmp_path, part):
    content = saved[0].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: int(part * len(content))])
    with refused(match="cut.safetensors is not a whole safetensors file"):
        generators.load(tmp_path / "cut.safetensors")


def config(**values) -> str:
    return json.dumps(CONFIG._asdict() | values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config", "{"),
        ("config", "[]"),
        ("config", '{"num_classes": 2}'),
        ("config", config(evil=1)),
        ("config", config(num_classes=3)),
        ("config", config(num_classes="2")),
        ("config", config(num_classes=0)),
        ("config", config(image_size=32)),
        ("config", config(image_size=32, widths=[8, 4, 4])),
        ("config", config(widths=[8, 8])),
        ("config", config(widths=[])),
        ("config", config(widths=8)),
        ("config", config(latent_size=5)),
        ("config", config(mapping_depth=2)),
        ("config", config(mapping_depth=2**31 - 1)),
        ("config", config(latent_size=10**19)),
        ("config", config(norm="adain")),
        ("config", config(norm="__import__('os').abort()")),
        ("config", config(norm=["adain"])),
        ("class_names", '["cat"]'),
        ("class_names", '["cat", "dog", "emu"]'),
        ("class_names", "[1, 2]"),
        ("class_names", '{"cat": 1}'),
        ("recipe", "not JSON"),
        ("recipe", "[1]"),
        ("recipe", '{"gamma": NaN}'),
        ("recipe", '{"gamma": 1e400}'),
        ("recipe", "[" * 100_000),
    ],
    ids=lambda value: value[:60],
)
def test_a_description_that_does_not_fit_is_refused(saved, tmp_path, name, text):
    with refused(match=r"damaged\.safetensors is damaged: "):
        generators.load(damaged(saved, tmp_path, **{name: text}))


def test_weights_of_another_width_or_number_of_classes_are_refused_by_the_part(saved, tmp_path):
    with refused(match="its weights are not those of its generator"):
        generators.load(damaged(saved, tmp_path, config=config(widths=[8, 8])))
    with refused(match="its mean styles do not fit 2 classes of 4 values"):
        generators.load(changed(saved[1], tmp_path / "m", mean_styles=np.zeros((3, 4), np.float32)))
    with refused(match="its class names are not those of 2 classes"):
        generators.load(changed(saved[1], tmp_path / "n", class_names=("cat",)))


@pytest.mark.parametrize("change", ["missing", "extra", "transposed"])
def test_a_missing_extra_or_transposed_array_is_refused(saved, tmp_path, change):
    params = dict(saved[1].variables["params"])
    detail = params.pop("detail")
    if change == "extra":
        params |= {"detail": detail, "more": detail}
    if change == "transposed":
        params["detail"] = detail | {"kernel": detail["kernel"].T}
    with refused(match="its weights are not those of its generator"):
        generators.load(changed(saved[1], tmp_path / "x.safetensors", variables={"params": params}))


@pytest.mark.parametrize("value", [np.nan, np.inf, np.finfo(np.float32).max])  # the last rounds to infinity
@pytest.mark.parametrize("part", ["variables", "mean_styles"])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(saved, tmp_path, monkeypatch, part, value):
    leaves, structure = jax.tree.flatten(jax.tree.map(np.array, getattr(saved[1], part)))
    leaves[-1].flat[0] = value
    broken = saved[1]._replace(**{part: jax.tree.unflatten(structure, leaves)})
    path = tmp_path / "x.safetensors"
    with refused(match=r"cannot write .*x\.safetensors: .* holds NaN or infinity"):
        generators.save(path, broken)
    assert not path.exists()
    with monkeypatch.context() as without:
        without.setattr(release_files.checks, "finite", lambda **_: None)
        generators.save(path, broken)
    with refused(match=r"x\.safetensors is damaged: .* holds NaN or infinity"):
        generators.load(path)


def test_a_recipe_that_is_not_finite_is_not_written(saved, tmp_path):
    with refused(match="cannot write"):
        generators.save(tmp_path / "x.safetensors", saved[1]._replace(recipe={"gamma": np.inf}))
    assert not list(tmp_path.iterdir())
