"""The scoring program on an untrained classifier: its figures, its reference, its sheet, its refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from PIL import Image as Pillow
from tiny import NAMES, refused

from rsynth_jax.models import embedding
from synth import scoring
from synth.scoring import Options

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("networks")


def blocks(num: int, contrast: float, side: int = 16) -> np.ndarray:
    coarse = 0.5 + contrast * (RNG.random((num, 4, 4, 3)) - 0.5)
    return np.uint8(255 * coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2))


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict[str, Any]:
    """Thirty images, paler than the forty they should be like and of another size."""
    folder = tmp_path_factory.mktemp("scoring")
    tiny.release(folder / "c.safetensors", NAMES)
    np.savez(folder / "a.npz", images=blocks(30, 0.9, side=12))
    np.savez(folder / "b.npz", images=blocks(40, 1.0))
    network = str(folder / "c.safetensors")
    places = {"generated": str(folder / "a.npz"), "real": f"npz:{folder / 'b.npz'}"}
    return places | {"features": network, "batch_size": 8}


def score(options: dict[str, Any], path: Path, **changed) -> dict:
    """What the program writes, but for the seconds."""
    assert scoring.score(tiny.options(Options, **options | {"json": path} | changed)) == 0
    numbers = json.loads(path.read_text())
    assert numbers.pop("seconds") > 0
    return numbers


@pytest.fixture(scope="module")
def once(options, tmp_path_factory) -> dict:
    return score(options, tmp_path_factory.mktemp("once") / "n.json")


# ---- the figures


def test_the_same_command_gives_the_same_numbers(options, tmp_path, once):
    assert score(options, tmp_path / "n.json") == once


def test_the_json_holds_every_number_printed(options, tmp_path, capsys):
    numbers = score(options, tmp_path / "n.json")
    *rows, last = capsys.readouterr().out.splitlines()
    for (name, label), row in zip(scoring.LABELS.items(), rows, strict=True):
        figures = [f"{numbers[name][end]:.4g}" for end in ("value", "low", "high")]
        assert row.startswith(label) and re.findall(r"-?[\d.]+(?:e[-+]\d+)?", row[16:]) == figures
    assert "30 images against 40" in last and options["features"] in last


def test_every_figure_lies_in_its_interval(once):
    for name in scoring.LABELS:
        assert once[name]["low"] <= once[name]["value"] <= once[name]["high"]


def test_a_set_is_nearer_to_itself_than_to_another(options, tmp_path, once):
    same = score(options, tmp_path / "n.json", generated=options["real"])
    assert same["fd"]["value"] < 1e-6 * once["fd"]["value"]
    assert same["kid_x1000"]["value"] < once["kid_x1000"]["value"]
    assert same["precision"]["value"] == same["recall"]["value"] == same["coverage"]["value"] == 1


def test_num_takes_the_first_of_each(options, tmp_path):
    for kind in ("generated", "real"):
        place = options[kind].removeprefix("npz:")
        np.savez(tmp_path / f"{kind}.npz", images=np.load(place)["images"][:10])
    cut = score(options, tmp_path / "n.json", num=10)
    paths = {kind: str(tmp_path / f"{kind}.npz") for kind in ("generated", "real")}
    plain = score(options, tmp_path / "m.json", **paths)
    assert (cut["num_a"], cut["num_b"]) == (10, 10)
    assert all(cut[name] == plain[name] for name in scoring.LABELS)


def test_folders_of_the_same_images_give_the_same_figures(options, tmp_path, once):
    for i, image in enumerate(np.load(options["generated"])["images"]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Pillow.fromarray(image).save(tmp_path / "a" / f"{i:03}.png")
    numbers = score(options, tmp_path / "n.json", generated=str(tmp_path / "a"))
    assert all(numbers[name] == once[name] for name in scoring.LABELS)


# ---- the reference


def test_a_reference_is_written_then_read_and_changes_no_number(options, tmp_path, once, monkeypatch):
    reference = tmp_path / "r.npz"
    assert score(options, tmp_path / "n.json", reference=reference) == once
    written = reference.read_bytes()
    embedded = []
    embed = embedding.embed
    monkeypatch.setattr(embedding, "embed", lambda *args: embedded.append(args) or embed(*args))
    assert score(options, tmp_path / "n.json", reference=reference, batch_size=8) == once
    assert len(embedded) == 1 and reference.read_bytes() == written


@pytest.fixture
def reference(options, tmp_path) -> Path:
    score(options, tmp_path / "n.json", reference=tmp_path / "r.npz")
    return tmp_path / "r.npz"


def test_a_reference_of_other_images_is_refused(options, reference):
    with refused(match=r"r\.npz holds features of other images"):
        scoring.score(tiny.options(Options, **options | {"reference": reference, "num": 20}))


def test_a_reference_of_another_network_is_refused(options, reference, tmp_path):
    variables = tiny.release(tmp_path / "d.safetensors", NAMES).variables
    moved = {**variables, "params": jax.tree.map(lambda x: x + 0.5, variables["params"])}
    tiny.release(tmp_path / "d.safetensors", NAMES, variables=moved)
    with refused(match=r"r\.npz holds features of another network"):
        scoring.score(
            tiny.options(
                Options, **options | {"reference": reference, "features": str(tmp_path / "d.safetensors")}
            )
        )


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_reference_is_refused_and_kept(options, tmp_path, content):
    (tmp_path / "r.npz").write_bytes(content)
    with refused(match=r"cannot read .*r\.npz"):
        scoring.score(tiny.options(Options, **options | {"reference": tmp_path / "r.npz"}))
    assert (tmp_path / "r.npz").read_bytes() == content


def test_an_npz_that_is_no_reference_is_refused(options):
    with refused(match=r"b\.npz has no array features"):
        scoring.score(
            tiny.options(Options, **options | {"reference": Path(options["real"].removeprefix("npz:"))})
        )


# ---- the sheet


def test_the_sheet_shows_copies_at_distance_zero(options, tmp_path):
    sheet = tmp_path / "s.png"
    numbers = score(options, tmp_path / "n.json", generated=options["real"], neighbors=sheet, num_neighbors=3)
    shown = numbers["neighbors"]
    assert [row[0] for row in shown["indices"]] == [0, 1, 2]
    assert all(row[0] == pytest.approx(0, abs=1e-5) and row == sorted(row) for row in shown["distances"])
    assert shown["median_within_b"] > 0.01
    with Pillow.open(sheet) as page:
        assert page.width > page.height  # six images across, three down


# ---- refusals

OUTPUTS = {"json": "n.json", "reference": "r.npz", "neighbors": "n.png"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num": 5}, "6 images or more, not 5"),
        ({"num": 0}, "num is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_neighbors": 0}, "num_neighbors is 0"),
        ({"image_size": -1}, "image_size is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"features": "nowhere"}, "no classifier 'nowhere'"),
        ({"real": "nowhere"}, "no folder nowhere"),
        ({"split_b": "train"}, "no array train_images"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_written(options, tmp_path, changed, said):
    files = {kind: tmp_path / name for kind, name in OUTPUTS.items()}
    with refused(match=said):
        scoring.score(tiny.options(Options, **options | files | changed))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["json", "reference", "neighbors"])
def test_an_output_below_a_file_is_refused(options, tmp_path, kind):
    (tmp_path / "file").touch()
    with refused(match="cannot write .*out"):
        scoring.score(tiny.options(Options, **options | {kind: tmp_path / "file" / "out"}))


def test_a_kept_reference_is_only_read(options, tmp_path, monkeypatch):
    path = tmp_path / "r.npz"
    kept = score(options, tmp_path / "n.json", reference=path)
    rights = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: Path(file) != path and rights(file, mode))
    assert score(options, tmp_path / "n.json", reference=path) == kept
    path.unlink()
    score(options, tmp_path / "n.json", reference=Path(os.devnull))


def test_an_image_of_another_size_in_b_leaves_no_file(options, tmp_path):
    photos = tmp_path / "b"
    photos.mkdir()
    for i, image in enumerate(blocks(8, 1.0)):
        Pillow.fromarray(image if i < 7 else image[:8]).save(photos / f"{i}.png")
    files = {kind: tmp_path / "out" / name for kind, name in OUTPUTS.items()}
    with refused(match="mixed size"):
        scoring.score(tiny.options(Options, **options | files | {"real": str(photos)}))
    assert not (tmp_path / "out").exists()


def test_a_missing_argument_ends_the_command_with_status_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "synth.scoring", "a.npz", "--json", str(tmp_path / "n.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and re.match("rsynth-score: .*B", done.stderr)


def test_a_missing_file_ends_the_command_with_status_2_and_one_line(tmp_path, mistake):
    words = ("nowhere.npz", "b.npz", "--features", "cifar10", "--json", str(tmp_path / "n.json"))
    assert re.match(r"rsynth-score: .*nowhere\.npz", mistake(scoring.main, *words))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_and_left_out_and_the_others_are_scored(options, tmp_path, capsys):
    a, b = (str(tiny.pictures(tmp_path / name, blocks(8, 0.9))) for name in "ab")
    sets = {"generated": a, "real": b, "neighbors": tmp_path / "s.png"}
    once = score(options, tmp_path / "n.json", **sets)
    tiny.pictures(tmp_path / "a", [], "00a")
    tiny.pictures(tmp_path / "b", [], "03a")
    asked = options | sets | {"json": tmp_path / "n.json"}
    assert scoring.score(tiny.options(Options, **asked)) == 1
    numbers = json.loads((tmp_path / "n.json").read_text())
    first, second = numbers.pop("skipped")
    assert "00a.png" in first and "03a.png" in second and numbers.pop("seconds") > 0 and numbers == once
    assert capsys.readouterr().err.splitlines()[-1] == "images skipped: 2"


def test_a_set_of_too_few_readable_images_is_refused(options, tmp_path):
    place = tiny.pictures(tmp_path / "a", blocks(5, 0.9), "damaged")
    with refused(match="6 images or more, not 5"):
        score(options, tmp_path / "n.json", generated=str(place))
