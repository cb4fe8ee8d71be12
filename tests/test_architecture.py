"""The rules of the tree that no linter knows: the order of packages, and that loading a file runs no code."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = (  # a module imports from its own package and from those before it
    *("types", "messages", "checks", "seeds", "sharding", "convolutions", "images"),
    *("metrics", "models", "synthesis", "attacks", "storage", "training", "data", "sampling", "api", "cli"),
)
FOLDERS = ("rsynth_jax", "train", "synth", "benchmarks")
PROGRAMS = {"train", "synth", "rsynth_jax_train", "rsynth_jax_synth"}
RUNS_CODE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}  # when they load a file

TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that an import names; `from a import b` names a.b too, in case it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def package(module: str) -> str | None:
    """rsynth_jax.models.layers -> models; None for what is not of the library."""
    parts = module.split(".")
    return parts[1] if parts[0] == "rsynth_jax" and len(parts) > 1 and parts[1] in ORDER else None


def test_every_package_has_its_place():
    found = {path.parts[1].removesuffix(".py") for path in TREES if path.parts[0] == "rsynth_jax"}
    assert found - {"__init__"} == set(ORDER)


def test_a_module_imports_from_its_own_package_and_those_before_it():
    upward = [
        f"{path} imports {module}"
        for path, tree in TREES.items()
        if (own := path.parts[1].removesuffix(".py")) in ORDER and path.parts[0] == "rsynth_jax"
        for module in imports(tree)
        if (other := package(module)) and ORDER.index(other) > ORDER.index(own)
    ]
    assert upward == []


def test_nothing_imports_a_program_or_by_a_relative_name():
    tops = {(str(path), module.split(".")[0]) for path, tree in TREES.items() for module in imports(tree)}
    assert [pair for pair in tops if pair[1] in PROGRAMS | {""}] == []


def test_loading_runs_no_code():
    for path, tree in TREES.items():
        assert not {module.split(".")[0] for module in imports(tree)} & RUNS_CODE, path
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not {ast.unparse(call.func) for call in calls} & {"eval", "exec"}, path
        keywords = [keyword for call in calls for keyword in call.keywords if keyword.arg == "allow_pickle"]
        assert all(ast.unparse(keyword.value) == "False" for keyword in keywords), path
