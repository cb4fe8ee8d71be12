"""A release comes back as it was saved; a damaged file is refused; reading one runs and compiles nothing."""

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import save, save_file
from tiny import refused

from rsynth_jax import messages, models
from rsynth_jax.storage import digests, generators, release_files, releases
from rsynth_jax.synthesis import class_gaussians

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, small) -> tuple[Path, releases.Release]:
    """A resnet8 of ten classes, and its file."""
    path = tmp_path_factory.mktemp("release") / "classifier.safetensors"
    return path, tiny.release(path, NAMES, "resnet8", small[1])


def damaged(saved, tmp_path: Path, **metadata: str) -> str:
    """A copy of the release with other metadata, in the form of older ones: without a SHA-256."""
    content = saved[0].read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]["sha256"]
    header["__metadata__"] |= metadata
    changed = json.dumps(header).encode()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    return str(path)


def rounded(array) -> np.ndarray:
    return np.asarray(array).astype(jnp.bfloat16).astype(np.float32)


def test_a_release_comes_back_with_rounded_arrays_and_everything_else_exact(saved):
    path, release = saved
    loaded = releases.load(str(path))
    kept = ("config", "class_names", "image_shape", "steps", "recipe")
    plain = json.loads(json.dumps({name: getattr(release, name) for name in kept}))
    assert json.loads(json.dumps({name: getattr(loaded, name) for name in kept})) == plain
    assert (
        loaded.class_names == NAMES and loaded.image_shape == tiny.SHAPE and loaded.threat == release.threat
    )
    for part in ("variables", "class_gaussians"):
        jax.tree.map(
            lambda a, b: assert_array_equal(a, rounded(b)), getattr(loaded, part), getattr(release, part)
        )
    for leaf in jax.tree.leaves((loaded.variables, loaded.class_gaussians)):
        assert type(leaf) is np.ndarray and leaf.dtype == np.float32


def test_a_loaded_release_classifies_as_the_saved_one(saved):
    path, release = saved
    loaded = releases.load(str(path))
    images = np.random.default_rng(0).random((4, *tiny.SHAPE), np.float32)
    before = release.model.apply(jax.tree.map(rounded, release.variables), images).logits
    assert_array_equal(loaded.model.apply(loaded.variables, images).logits, before)
    assert np.ptp(before) > 0.1


def test_a_network_that_computes_in_bfloat16_has_the_same_weights_and_nearly_the_logits():
    one, other = releases.load("cifar10"), releases.load("cifar10", "bfloat16")
    assert all(map(np.array_equal, jax.tree.leaves(one.variables), jax.tree.leaves(other.variables)))
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    with jax.numpy_dtype_promotion("standard"):  # Flax's batch norm mixes dtypes
        logits = [jax.jit(each.model.apply)(each.variables, images).logits for each in (one, other)]
    logits = [np.asarray(each) for each in logits]
    assert logits[1].dtype == np.float32 and not np.array_equal(*logits)
    assert_allclose(logits[1], logits[0], atol=0.2)


def test_a_dtype_that_there_is_not_or_of_a_network_of_ones_own_is_refused():
    with refused(match="'float16'.*float32, bfloat16"):
        releases.load("cifar10", "float16")
    release = releases.load("cifar10")
    own = release._replace(config=release.model)
    assert releases.computing_in(own, "float32") is own
    with refused(match="a network of your own computes as its code says"):
        releases.computing_in(own, "bfloat16")


def test_a_release_saved_twice_is_the_same_file(saved, tmp_path):
    path, release = saved
    releases.save(tmp_path / "again.safetensors", release)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_loaded_release_saved_again_is_the_same_file(saved, tmp_path):
    path, _ = saved
    releases.save(tmp_path / "again.safetensors", releases.load(str(path)))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_released_classifier_saved_again_is_the_same_file(tmp_path):
    releases.save(tmp_path / "again.safetensors", releases.load("cifar10"))
    assert (tmp_path / "again.safetensors").read_bytes() == Path(releases.locate("cifar10")).read_bytes()


# ---- a changed byte


def release_of(kind: str, folder: Path) -> tuple[Path, Any]:
    """A tiny release of a kind, and the function that loads it."""
    path = folder / f"{kind}.safetensors"
    if kind == "generator":
        tiny.generator(path, ("cat", "dog"))
        return path, generators.load
    tiny.release(path, ("cat", "dog"))
    return path, releases.load


@pytest.mark.parametrize("kind", ["classifier", "generator"])
@pytest.mark.parametrize("part", ["header", "arrays"])
def test_a_release_with_any_byte_changed_is_refused(tmp_path, networks, kind, part):
    path, load = release_of(kind, tmp_path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    for place in rng.integers(*((0, start) if part == "header" else (start, len(content))), 40).tolist():
        changed = bytearray(content)
        changed[place] ^= int(rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255]))
        path.write_bytes(changed)
        with refused(match=f"^{path} (is damaged: |is not a whole safetensors file|was not written by)"):
            load(path)
    path.write_bytes(content)
    load(path)


@pytest.mark.parametrize("name", ["sha257", "SHA256"])
def test_a_digest_of_a_damaged_name_does_not_make_a_release_an_older_one(saved, tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(saved[0].read_bytes().replace(b'"sha256"', f'"{name}"'.encode()))
    with refused(match=r"x\.safetensors is damaged: its description has"):
        releases.load(path)


def test_an_older_release_without_a_sha256_is_read(saved, tmp_path):
    loaded, whole = releases.load(damaged(saved, tmp_path)), releases.load(saved[0])
    jax.tree.map(assert_array_equal, loaded.variables, whole.variables)


def test_the_sums_of_the_bundled_files_are_theirs():
    """To write them: cd rsynth_jax/zoo && sha256sum *.safetensors */*.safetensors > SHA256SUMS."""
    released = release_files.ZOO.rglob("*.safetensors")
    found = {path.relative_to(release_files.ZOO).as_posix(): digests.of_file(path) for path in released}
    assert digests.read_sums(release_files.ZOO / digests.SUMS) == found


@pytest.mark.parametrize("listed", [True, False])
def test_a_bundled_file_that_is_changed_or_not_listed_is_refused(tmp_path, monkeypatch, listed):
    content = bytearray(releases.locate("cifar10").read_bytes())
    path = tmp_path / "cifar10.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(release_files, "ZOO", tmp_path.resolve())
    line = f"{digests.of_file(path)}  {path.name}\n"
    (tmp_path / digests.SUMS).write_text(line)
    releases.load(path)
    if listed:
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        (tmp_path / digests.SUMS).write_text(line.replace("cifar10", "others"))
    with refused(match=r"cifar10\.safetensors is damaged: its SHA-256 is not the one in SHA256SUMS"):
        releases.load(path)


@pytest.fixture
def short(monkeypatch) -> Iterator[Path]:
    """A folder whose path fits into a line; the user's cache is in it."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", f"{folder}/c")
        yield Path(folder)


@pytest.fixture
def zoo(tmp_path, short, monkeypatch) -> release_files.Kind:
    """The kind of two released classifiers, a and b, of which a wheel holds a alone."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_text(name)
    digests.write_sums(folder)
    (folder / "b.safetensors").unlink()
    monkeypatch.setattr(release_files, "ZOO", folder)
    monkeypatch.delenv("RSYNTH_RELEASES", raising=False)
    return release_files.CLASSIFIER._replace(folder=folder)


def test_loading_compiles_nothing(saved, caplog):
    def compiled() -> list[str]:
        return [text for text in caplog.messages if text.startswith(("Compiling", "Finished XLA"))]

    with jax.log_compiles():
        releases.load(str(saved[0]))
        assert compiled() == []
        jax.jit(lambda number: number + 1)(1)
        assert compiled()


def test_loading_imports_no_orbax():
    code = "import sys, rsynth_jax.storage.releases; print([m for m in sys.modules if m.startswith('orbax')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("file", sorted(release_files.ZOO.glob("*.safetensors")), ids=lambda file: file.stem)
def test_a_bundled_classifier_is_small_has_a_card_and_says_what_anyone_has(file):
    release = releases.load(file.stem)
    assert file.stat().st_size < 5e6 and file.with_suffix(".md").read_text().startswith(f"# {file.stem}\n")
    assert not release.recipe["data"].partition(":")[2].startswith("/")
    saved = jax.tree.leaves((release.variables, release.class_gaussians))
    assert all(np.isfinite(array).all() for array in saved)


def test_a_name_is_a_released_one_a_file_or_a_run(saved, zoo):
    path, _ = saved
    assert release_files.locate("a", zoo) == zoo.folder / "a.safetensors"
    assert releases.locate(str(path)) == releases.locate(str(path.parent)) == path


def test_an_unknown_name_is_refused_with_the_released_ones(zoo):
    with refused(match=r"no classifier 'three': give a file, a run, or a, b$"):
        release_files.locate("three", zoo)


def test_a_network_that_no_wheel_holds_is_put_into_the_cache_or_downloaded_to_it(
    zoo, short, monkeypatch, capsys
):
    place = short / "c/rsynth_jax/releases/b.safetensors"
    assert release_files.available(zoo) == ["a"]
    remedy = f"put b.safetensors into {place.parent}, or set RSYNTH_RELEASES to the address that has it"
    with refused(match=f"^b does not come with the wheel: {remedy}$"):
        release_files.locate("b", zoo)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"b")
    assert release_files.locate("b", zoo) == place and release_files.available(zoo) == ["a", "b"]
    place.unlink()
    directory = short / "r"
    directory.mkdir()
    monkeypatch.setenv("RSYNTH_RELEASES", f"{directory.as_uri()}/")
    assert release_files.available(zoo) == ["a", "b"]
    with refused(
        match=f"^cannot download {directory.as_uri()}/b.safetensors .*: put it into {place.parent}$"
    ):
        release_files.locate("b", zoo)
    (directory / "b.safetensors").write_bytes(b"other")
    with refused(match=r"^the download of .* is damaged: its SHA256 is not [0-9a-f]{64}$"):
        release_files.locate("b", zoo)
    assert not place.exists()
    (directory / "b.safetensors").write_bytes(b"b")
    capsys.readouterr()
    assert release_files.locate("b", zoo) == release_files.locate("b", zoo) == place
    assert capsys.readouterr().err.count("downloading ") == 1
    place.write_bytes(b"cut")
    with refused(match=f"^{place} is damaged: its SHA256 is not .*: remove it$"):
        release_files.locate("b", zoo)


RELEASED = [name for kind in release_files.KINDS for name in release_files.names(kind)]


def test_the_release_directory_is_one_folder_so_every_name_is_of_one_network():
    assert len(set(RELEASED)) == len(RELEASED) > 10


def test_the_longest_name_fits_into_the_line_that_says_where_to_put_it(zoo, monkeypatch):
    name = max(RELEASED, key=len)
    (zoo.folder / digests.SUMS).write_text(f"{'0' * 64}  {name}.safetensors\n")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp")
    with refused(match=f"{name} does not come") as caught:
        release_files.locate(name, zoo)
    assert len(str(caught.value)) <= messages.LONGEST


@pytest.mark.parametrize("name", ["", "\0", "x" * 5000])
def test_a_name_that_no_file_can_have_is_refused(name):
    with refused(match="no classifier"):
        releases.load(name)


@pytest.mark.parametrize("part", [0.0, 0.00001, 0.001, 0.5, 0.9999])
def test_a_truncated_file_is_refused(saved, tmp_path, part):
    content = saved[0].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: int(part * len(content))])
    with refused(match="cut.safetensors is not a whole safetensors file"):
        releases.load(str(tmp_path / "cut.safetensors"))


def test_the_program_that_imports_weights_of_pytorch_is_named_however_long_the_path(tmp_path):
    folder = tmp_path / ("far-away-" * 15)
    folder.mkdir()
    (folder / "net.pt").write_bytes(b"")
    with refused(match=r"net\.pt holds weights.*: rsynth-import FILE --out NAME\.safetensors makes one$"):
        releases.load(str(folder / "net.pt"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("net.pt", b""),
        ("net.model", b"PK\3\4 and more"),
        ("net.tar", b"\x80\2\x8a\x0al\xfc"),
        ("net.safetensors", save({"fc.weight": np.zeros(2, np.float32)}, {"format": "pt"})),
    ],
)
def test_weights_of_pytorch_are_named_with_the_program_that_imports_them(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refused(match=f"{name} holds weights of PyTorch, not a classifier.*: rsynth-import FILE --out"):
        releases.load(str(tmp_path / name))
    with refused(match=f"{name} holds weights of PyTorch, not a generator of rsynth_jax$"):
        generators.load(str(tmp_path / name))


def test_random_bytes_are_refused(tmp_path):
    (tmp_path / "noise.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    with refused(match="is not a whole safetensors file"):
        releases.load(str(tmp_path / "noise.safetensors"))


@pytest.mark.parametrize("metadata", [None, {"format": "np"}])
def test_a_safetensors_file_of_another_make_is_refused(tmp_path, metadata):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors", metadata)
    with refused(match=r"other\.safetensors was not written by rsynth_jax"):
        releases.load(str(tmp_path / "other.safetensors"))


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_and_never_unpickled(tmp_path):
    path = tmp_path / "pickle.safetensors"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with refused(match="is not a whole safetensors file"):
        releases.load(str(path))
    assert not (tmp_path / "exploded").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "exploded").exists()  # the bomb was a live one


def config(**changed) -> str:
    return json.dumps(models.Config("resnet8", 10)._asdict() | changed)


@pytest.mark.parametrize("architecture", ["resnet18", "preact-resnet18"])
def test_weights_of_another_architecture_are_refused(saved, tmp_path, architecture):
    with refused(match=f"weights are not those of a {architecture}"):
        releases.load(damaged(saved, tmp_path, config=config(architecture=architecture)))


def test_weights_of_another_number_of_classes_are_refused(saved, tmp_path):
    with refused(match="weights are not those of"):
        releases.load(damaged(saved, tmp_path, config=config(num_classes=11)))


@pytest.mark.parametrize("change", ["missing", "extra", "reshaped"])
def test_a_missing_extra_or_reshaped_tensor_is_refused(saved, tmp_path, change):
    _, release = saved
    params = dict(release.variables["params"])
    dense = params.pop("Dense_0")
    if change == "extra":
        params |= {"Dense_0": dense, "Dense_1": dense}
    if change == "reshaped":
        params["Dense_0"] = {"bias": dense["bias"], "kernel": dense["kernel"].T}
    releases.save(
        tmp_path / "x.safetensors", release._replace(variables=release.variables | {"params": params})
    )
    with refused(match="weights are not those of"):
        releases.load(str(tmp_path / "x.safetensors"))


def test_names_or_class_gaussians_that_do_not_fit_the_classes_are_refused(saved, tmp_path):
    _, release = saved
    cut = release.class_gaussians._replace(mean=release.class_gaussians.mean[:5])
    for change in (
        {"class_names": NAMES[:9]},
        {"class_names": (*NAMES, "unicorn")},
        {"class_gaussians": cut},
    ):
        releases.save(tmp_path / "x.safetensors", release._replace(**change))
        with refused(match=r"x\.safetensors"):
            releases.load(str(tmp_path / "x.safetensors"))


def test_one_gaussian_serves_all_classes_and_a_file_stays_small(saved, tmp_path):
    _, release = saved
    grey = release._replace(class_gaussians=class_gaussians.grey(channels=3))
    releases.save(tmp_path / "x.safetensors", grey)
    loaded = releases.load(tmp_path / "x.safetensors")
    assert_array_equal(loaded.class_gaussians.components, rounded(grey.class_gaussians.components))
    without = sum(2 * np.size(leaf) for leaf in jax.tree.leaves(release.variables))
    assert (tmp_path / "x.safetensors").stat().st_size - without < 60_000
    two = jax.tree.map(lambda leaf: np.repeat(leaf, 2, axis=0), grey.class_gaussians)
    releases.save(tmp_path / "x.safetensors", grey._replace(class_gaussians=two))
    with refused(match="class Gaussians do not fit 10 classes"):
        releases.load(tmp_path / "x.safetensors")


def test_the_origin_of_imported_weights_is_kept_in_the_description(saved, tmp_path):
    path, release = saved
    assert releases.origin(releases.load(path)) == releases.Origin()
    origin = releases.Origin("MadryLab/robustness, imagenet_l2_3_0.pt", "MIT", 64 * "a")
    releases.save(tmp_path / "x.safetensors", releases.with_origin(release, origin))
    loaded = releases.load(tmp_path / "x.safetensors")
    assert releases.origin(loaded) == origin and loaded.recipe["epochs"] == 0


@pytest.mark.parametrize("origin", [{"source": 3}, {"licence": []}, {"sha256": {}}, {"source": None}])
def test_an_origin_that_is_none_is_refused(saved, tmp_path, origin):
    recipe = saved[1].recipe | origin
    releases.save(tmp_path / "x.safetensors", saved[1]._replace(recipe=recipe))
    with refused(match="damaged"):
        releases.load(tmp_path / "x.safetensors")


THREAT = '{"norm": "l2", "epsilon": 0.5, "step_size": 0.1, "num_steps": 7}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", "{"),
        ("config", "[]"),
        ("config", "null"),
        ("config", '{"architecture": "resnet8"}'),
        ("config", config(evil=1)),
        ("config", config(architecture=["resnet8"])),
        ("config", config(architecture={"a": 1})),
        ("config", config(architecture="__import__('os').abort()")),
        ("config", config(dtype="object")),
        ("config", config(num_classes="10")),
        ("config", config(num_classes=-1)),
        ("config", config(mean="0.5")),
        ("config", config(mean=[0.1, 0.2])),
        ("config", config(std=None)),
        ("class_names", "3"),
        ("class_names", '{"cat": 1}'),
        ("class_names", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"),
        ("image_shape", "[16, 16]"),
        ("image_shape", '"abc"'),
        ("image_shape", "[-16, 16, 3]"),
        ("image_shape", "[16, 16, 3.5]"),
        ("threat", "{}"),
        ("threat", THREAT.replace("l2", "l3")),
        ("threat", THREAT.replace("0.5", "null")),
        ("recipe", "not JSON"),
        ("recipe", "[" * 100_000),
        ("threat", THREAT.replace("0.5", "NaN")),
        ("threat", THREAT.replace("0.5", "1e400")),
        ("config", config(mean=[float("nan")])),
        ("config", config(std=[float("inf")])),
        ("config", config(std=[0.0])),
        ("recipe", '{"beta": NaN}'),
        ("recipe", '{"beta": -1e400}'),
        ("recipe", '{"fake_steps": 0}'),
        ("recipe", '{"fake_steps": 2.5}'),
        ("recipe", '{"fake_steps": "24"}'),
        ("recipe", '{"view_shift": -1}'),
        ("recipe", '{"view_shift": 0.5}'),
        ("recipe", '{"fake_temperature": 0}'),
        ("recipe", '{"fake_temperature": "hot"}'),
        ("recipe", '{"fake_step_size": [0.2]}'),
    ],
    ids=lambda value: value[:40],
)
def test_a_description_that_does_not_hold_is_refused(saved, tmp_path, name, value):
    with refused(match=r"damaged\.safetensors"):
        releases.load(damaged(saved, tmp_path, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", config(num_classes=10**19)),
        ("config", config(num_classes=10**400)),
        ("config", config(mean=[1e20])),
        ("config", config(std=[10**30])),
        ("image_shape", f"[{10**19}, 16, 3]"),
        ("image_shape", "[100000, 100000, 3]"),
        ("threat", THREAT.replace("0.5", str(10**20))),
        ("threat", THREAT.replace("7", str(10**19))),
        ("class_names", json.dumps(["x" * 5000, "\x1b[31m\r\n"])),
        ("recipe", json.dumps({"fake_steps": 10**19})),
        ("config", config(**{"x" * 5000: 1})),
    ],
    ids=lambda value: value[:60],
)
def test_a_number_or_text_beyond_measure_is_refused_in_a_short_line(
    saved, tmp_path, monkeypatch, name, value
):
    monkeypatch.chdir(tmp_path)
    with refused(match="is damaged: ") as caught:
        releases.load(Path(damaged(saved, Path(), **{name: value})))
    assert len(str(caught.value)) <= 200 and str(caught.value).isprintable()


def test_an_image_shape_beyond_memory_is_not_allocated(saved, tmp_path, monkeypatch):
    zeros = jnp.zeros

    def guarded(shape, *rest, **named):
        assert np.prod(shape, dtype=float) < 1e9
        return zeros(shape, *rest, **named)

    monkeypatch.setattr(jnp, "zeros", guarded)
    loaded = releases.load(damaged(saved, tmp_path, image_shape="[16384, 16384, 3]"))
    assert loaded.image_shape == (16_384, 16_384, 3)


def with_value(release: releases.Release, part: str, value: float) -> releases.Release:
    """The release with one number of its weights or of its class Gaussians replaced."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.array, getattr(release, part)))
    leaves[-1].flat[0] = value
    return release._replace(**{part: jax.tree.unflatten(structure, leaves)})


@pytest.mark.parametrize("part", ["variables", "class_gaussians"])
@pytest.mark.parametrize("value", [np.nan, np.inf, np.finfo(np.float32).max])  # the last rounds to infinity
def test_numbers_that_are_not_finite_are_neither_written_nor_read(saved, tmp_path, monkeypatch, part, value):
    path, broken = tmp_path / "x.safetensors", with_value(saved[1], part, value)
    with refused(match=r"cannot write .*x\.safetensors: .* holds NaN or infinity"):
        releases.save(path, broken)
    assert not path.exists()
    with monkeypatch.context() as without:
        without.setattr(releases.checks, "finite", lambda **_: None)
        releases.save(path, broken)
    with refused(match=r"x\.safetensors is damaged: .* holds NaN or infinity"):
        releases.load(path)


def test_a_description_that_is_not_finite_is_not_written(saved, tmp_path):
    release = saved[1]
    for broken in (
        release._replace(recipe={"beta": np.inf}),
        release._replace(threat=release.threat._replace(epsilon=np.nan)),
    ):
        with refused(match="cannot write"):
            releases.save(tmp_path / "x.safetensors", broken)
    assert not list(tmp_path.iterdir())
