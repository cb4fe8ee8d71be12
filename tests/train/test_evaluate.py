"""The evaluation program on an untrained classifier: what it prints, writes and refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import NAMES, refused

from rsynth_jax.attacks import autoattack
from rsynth_jax.storage import releases
from rsynth_jax.synthesis.norms import L2, LINF
from rsynth_jax.training import build, recipes
from train import evaluate
from train.evaluate import Options

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict[str, Any]:
    """A classifier and twelve photos; two steps of attack, batches of four."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny.release(folder / "c.safetensors", NAMES, "linear")
    data = tiny.photos(folder / "d.npz", NAMES, test=12)
    places = {"classifier": str(folder / "c.safetensors"), "data": data}
    return places | {"num": 10, "steps": 2, "batch_size": 4, "epsilon": 2.0}


def numbers(options: dict[str, Any], path: Path, **changed) -> dict:
    """The JSON of a run; of the seconds, only that they are there."""
    assert evaluate.evaluate(tiny.options(Options, **options | {"json": path} | changed)) == 0
    found = json.loads(path.read_text())
    assert all(row.pop("seconds") > 0 for row in found["rows"])
    return found


@pytest.fixture(scope="module")
def once(options, tmp_path_factory) -> dict:
    return numbers(options, tmp_path_factory.mktemp("once") / "n.json")


def test_the_json_holds_every_number_printed(options, tmp_path, capsys):
    n = numbers(options, tmp_path / "n.json")
    printed = capsys.readouterr().out
    shares = [n["clean"], *n["clean_interval"], n["adversarial"], *n["adversarial_interval"]]
    assert re.findall(r"[\d.]+%", printed) == [f"{share:.1%}" for share in shares]
    assert (
        f"on {n['num']} images" in printed and f"PGD-{n['num_steps']} {n['norm']} {n['epsilon']:g}" in printed
    )
    assert printed.count("\n") == 1


@pytest.mark.slow
def test_autoattack_prints_the_accuracy_after_each_attack(options, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(autoattack, "STEPS", 1)
    monkeypatch.setattr(autoattack, "QUERIES", 2)
    n = numbers(options, tmp_path / "n.json", attack="autoattack", steps=None, epsilon=0.05)
    printed = capsys.readouterr().out.splitlines()
    assert [row["after"] for row in n["rows"]] == ["clean", "APGD-CE", "APGD-T", "FAB-T", "Square"]
    assert [line.split()[0] for line in printed[:-1]] == [row["after"] for row in n["rows"]]
    shares = [row["accuracy"] for row in n["rows"]]
    assert shares == sorted(shares, reverse=True) and n["adversarial"] == shares[-1]
    assert f"AutoAttack l2 0.05 {shares[-1]:.1%}" in printed[-1]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["apgd", "apgd-t", "fab-t", "square"])
def test_every_attack_runs_alone(options, tmp_path, attack):
    n = numbers(options, tmp_path / "n.json", attack=attack)
    assert len(n["rows"]) == 2 and n["adversarial"] <= n["clean"]


def test_autoattack_takes_no_steps(options):
    with refused(match="autoattack has steps of its own"):
        evaluate.evaluate(tiny.options(Options, **options | {"attack": "autoattack"}))


@pytest.mark.parametrize(("flag", "known"), [("attack", "pgd, apgd"), ("loss", "ce, margin, dlr")])
def test_an_unknown_attack_or_loss_is_refused_with_the_known_ones(options, flag, known):
    with refused(match=f"no {flag} named 'x'.*{known}"):
        evaluate.evaluate(tiny.options(Options, **options | {flag: "x"}))


def test_the_same_command_gives_the_same_numbers(options, tmp_path, once):
    assert numbers(options, tmp_path / "n.json") == once


def test_the_attack_is_on_the_classifier_s_own_threat_unless_told_otherwise(options, once):
    own = releases.load(options["classifier"]).threat
    bare = tiny.options(Options, **options | {"epsilon": None, "steps": 20})
    assert bare.attack.threat(own) == ((L2, 0.5), (pytest.approx(0.1), 20))
    told = tiny.options(Options, norm="linf", epsilon=0.25, step_size=0.125, steps=3)
    assert told.attack.threat(own) == ((LINF, 0.25), (0.125, 3))
    assert (once["norm"], once["epsilon"], once["num_steps"], once["step_size"]) == ("l2", 2.0, 2, 4.0)


def test_more_restarts_never_raise_the_adversarial_accuracy(options, tmp_path, once):
    more = numbers(options, tmp_path / "n.json", restarts=3)
    assert more["restarts"] == 3 and more["clean"] == once["clean"]
    assert more["adversarial"] <= once["adversarial"]


def test_every_count_is_a_share_of_the_images_inside_its_interval(once):
    assert once["num"] == 10
    for kind in ("clean", "adversarial"):
        low, high = once[f"{kind}_interval"]
        assert 0 <= low <= once[kind] <= high <= 1 and (10 * once[kind]) % 1 == pytest.approx(0)


def test_no_more_images_are_counted_than_there_are(options, tmp_path):
    assert numbers(options, tmp_path / "n.json", num=1000)["num"] == 12


@pytest.mark.parametrize("name", ["num", "steps", "restarts", "batch_size"])
@pytest.mark.parametrize("value", [0, -2])
def test_a_count_that_is_not_positive_is_refused_by_name(options, name, value):
    with refused(match=f"{name.replace('_', '.')} is {value}"):
        evaluate.evaluate(tiny.options(Options, **options | {name: value}))


@pytest.mark.parametrize("name", ["epsilon", "step_size"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_length_that_is_negative_or_not_finite_is_refused_by_name(options, name, value):
    with refused(match=f"{name.replace('_', '.')} is {value}"):
        evaluate.evaluate(tiny.options(Options, **options | {name: value}))


def test_an_unknown_norm_is_refused_with_the_known_ones(options):
    with refused(match="no norm named 'l3'.*l2, linf"):
        evaluate.evaluate(tiny.options(Options, **options | {"norm": "l3"}))


@pytest.mark.parametrize("names", [("airplane", "dog", "cat"), ("airplane", "cat"), ("a", "b", "c")])
def test_data_of_other_classes_are_refused(options, tmp_path, names):
    data = tiny.photos(tmp_path / "d.npz", names, test=12)
    with refused(match=r"the data set's classes \(.*\) are not the classifier's \(airplane, cat, dog\)"):
        evaluate.evaluate(tiny.options(Options, **options | {"data": data}))


def test_classes_are_renamed_to_the_classifier_s(options, tmp_path):
    data = {"data": tiny.photos(tmp_path / "d.npz", ("a", "b", "c"), test=12)}
    named = options | data | {"classes": NAMES}
    assert evaluate.evaluate(tiny.options(Options, **named)) == 0
    with refused(match="has 3 classes: give as many names"):
        evaluate.evaluate(tiny.options(Options, **named | {"classes": NAMES[:2]}))


def test_an_unknown_split_is_refused(options):
    with refused(match="no array.*train_images"):
        evaluate.evaluate(tiny.options(Options, **options | {"split": "train"}))


def test_a_json_below_a_file_is_refused(options, tmp_path):
    (tmp_path / "file").touch()
    with refused(match="cannot write .*n.json"):
        evaluate.evaluate(tiny.options(Options, **options | {"json": tmp_path / "file" / "n.json"}))


def test_a_bad_flag_ends_the_command_with_status_2_one_line_and_no_file(tmp_path):
    command = [sys.executable, "-m", "train.evaluate", "--json", str(tmp_path / "n.json"), "--steps", "many"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and re.match("rsynth-evaluate: .*many", done.stderr)


def test_a_bad_classifier_ends_the_command_with_status_2_one_line_and_no_file(tmp_path, mistake):
    said = mistake(evaluate.main, "--json", str(tmp_path / "n.json"), "--classifier", "nowhere")
    assert said.startswith("rsynth-evaluate: no classifier 'nowhere'") and list(tmp_path.iterdir()) == []


def test_an_epsilon_above_1_is_refused_in_linf_alone(options, tmp_path):
    with refused(match="epsilon is 8: give at most 1 in linf, where pixels are in .*, such as 8/255"):
        numbers(options, tmp_path / "n.json", norm="linf", epsilon=8.0)
    with refused(match="epsilon is 8: give at most 1 in linf"):
        build.validate(recipes.replace(recipes.Recipe(), norm="linf", epsilon=8.0))
    assert numbers(options, tmp_path / "n.json", norm="linf", epsilon=1.0)["epsilon"] == 1
    assert numbers(options, tmp_path / "n.json", norm="l2", epsilon=8.0)["epsilon"] == 8
