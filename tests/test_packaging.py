"""The wheel as a stranger gets it: built, installed in an environment of its own, run from elsewhere."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "benchmarks", "docs"
)

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FOLDERS = dict(re.findall(r"(\w+) = (\w+)", SETUP["options"]["package_dir"]))  # package -> its folder
SCRIPTS = dict(re.findall(r"(\S+) = (\S+):main", SETUP["options.entry_points"]["console_scripts"]))


def succeed(*command, cwd: Path) -> str:
    """What a command prints; fails with all it said unless its exit status is 0."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that no old build/ gets in and none is left behind."""
    source = tmp_path_factory.mktemp("source") / "rsynth_jax"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    out = source.parent / "dist"
    succeed(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel; its dependencies are those of the environment of the tests.

    A .pth file lends them. Python reads no .pth file in a folder that a .pth file added, so an editable
    install there stays invisible.
    """
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place)
    pip = (sys.executable, "-m", "pip", "--python", place / "bin" / "python", "--quiet")
    succeed(*pip, "install", "--no-deps", "--no-index", wheel, cwd=place)
    packages = sysconfig.get_path("purelib", vars={"base": place, "platbase": place})
    lent = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    (Path(packages) / "lent.pth").write_text("\n".join(lent))
    return place / "bin"


def released_apart(file: Path) -> bool:
    """Whether a file is a network of the release directory: the wheel holds one classifier."""
    return file.suffix == ".safetensors" and file.stem != "cifar10"


def sources() -> set[str]:
    """The files that the wheel must hold, by their names in it."""
    names = {"rsynth_jax": "rsynth_jax"} | {folder: package for package, folder in FOLDERS.items()}
    files = [file.relative_to(ROOT) for folder in names for file in (ROOT / folder).rglob("*.py")]
    for data in ("zoo", "storage/tables"):
        found = (ROOT / "rsynth_jax" / data).rglob("[!.]*")
        files += [file.relative_to(ROOT) for file in found if file.is_file() and not released_apart(file)]
    files.append(Path("rsynth_jax", "py.typed"))
    return {"/".join([names[file.parts[0]], *file.parts[1:]]) for file in files}


def test_the_wheel_holds_the_sources_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == sources()
    assert wheel.stat().st_size < 5e6


def test_the_wheel_has_cifar10_and_asks_for_the_others(installed, tmp_path):
    code = "import rsynth_jax as rs; rs.load('cifar10'); rs.load('cat-dog-64')"
    command = [str(installed / "python"), "-c", code]
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.stderr.splitlines()[-1].startswith("ValueError: cat-dog-64 does not come with the wheel: put")


def test_every_program_has_a_command_beside_rsynth_itself():
    programs = {
        f"{package}.{file.stem}"
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).glob("[!_]*.py")
    }
    assert set(SCRIPTS.values()) == programs | {"rsynth_jax.cli.main"}


def test_the_lower_bounds_are_those_that_were_tried():
    extras = SETUP["options.extras_require"]
    asked = SETUP["options"]["install_requires"] + extras["tfds"] + extras["test"]
    tried = (ROOT / "tests" / "lower-bounds.txt").read_text()
    pattern = r"^([\w-]+)(?:\[\w+\])? ?%s ?([\d.]+)(?:, < 1)?$"
    bounds, pins = (re.findall(pattern % op, text, re.M) for op, text in ((">=", asked), ("==", tried)))
    assert sorted(bounds) == sorted(pins)


def test_a_command_prints_its_help(installed, tmp_path):
    assert "rsynth-generate" in succeed(installed / "rsynth-generate", "--help", cwd=tmp_path)


HELP = """
import contextlib, importlib.metadata, io, json, sys
said, names = {}, sys.argv[1].split()
for command in importlib.metadata.entry_points(group="console_scripts"):
    if command.name in names:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            sys.argv = [command.name, "--help"]
            command.load()()
        said[command.name] = out.getvalue()
print(json.dumps(said))
"""


def test_every_command_has_a_help_that_names_it(installed, tmp_path):
    """All in one process: importing JAX takes seconds."""
    said = json.loads(succeed(installed / "python", "-c", HELP, " ".join(SCRIPTS), cwd=tmp_path))
    assert set(said) == set(SCRIPTS) and all(f"usage: {name}" in text for name, text in said.items())
    assert all((installed / name).is_file() for name in SCRIPTS)


def test_no_generic_name_is_taken(installed, tmp_path):
    code = "from importlib.util import find_spec; print([find_spec(n) for n in ('train', 'synth', 'tests')])"
    assert succeed(installed / "python", "-c", code, cwd=tmp_path).split() == ["[None,", "None,", "None]"]


def test_the_library_that_runs_is_the_wheels(installed, tmp_path):
    code = "import rsynth_jax; print(rsynth_jax.__file__, rsynth_jax.__version__)"
    file, version = succeed(installed / "python", "-c", code, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parent)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
