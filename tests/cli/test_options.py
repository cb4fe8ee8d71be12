"""Flags: each declared once, and help for every program without JAX."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELP = """
import sys
from {module} import main

sys.argv = ["program", "--help"]
try:
    main()
except SystemExit as stopped:
    assert not stopped.code
heavy = {{"jax", "flax", "optax", "orbax", "matplotlib", "scipy", "grain", "tensorflow_datasets"}}
print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "module",
    [
        "synth.generation",
        "synth.inpainting",
        "synth.inversion",
        "synth.scoring",
        "synth.sketching",
        "synth.visualisation",
        "train.detect",
        "train.evaluate",
        "train.train_generator",
    ],
)
def test_help_imports_nothing_heavy(module):
    command = [sys.executable, "-c", HELP.format(module=module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "\n" and "usage: rsynth-" in done.stdout
