"""The house rules that no linter knows, read off the syntax tree of every source file.

A module of the library imports from lower layers alone; only the doors touch the world; programs know
the library and nothing of each other; functions and files stay short. A new module fails here until it
is given its place in `LAYER`.
"""

import ast
import functools
import graphlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOOR = 6  # above every layer; what may touch files, the terminal or the network

LAYER = {
    "rsynth_jax": 0,
    "rsynth_jax.checks": 0,
    "rsynth_jax.attacks": 0,
    "rsynth_jax.cli": 0,
    "rsynth_jax.data": 0,
    "rsynth_jax.sampling": 0,
    "rsynth_jax.storage": 0,
    "rsynth_jax.synthesis": 0,
    "rsynth_jax.training": 0,
    "rsynth_jax.types": 0,
    "rsynth_jax.synthesis.parameterization": 1,
    "rsynth_jax.data.loader": 1,
    "rsynth_jax.images": 1,
    "rsynth_jax.training.losses": 1,
    "rsynth_jax.metrics": 1,
    "rsynth_jax.metrics.estimates": 1,
    "rsynth_jax.metrics.frechet": 1,
    "rsynth_jax.metrics.inception_score": 1,
    "rsynth_jax.metrics.kernel": 1,
    "rsynth_jax.metrics.moments": 1,
    "rsynth_jax.metrics.neighbors": 1,
    "rsynth_jax.metrics.paired": 1,
    "rsynth_jax.metrics.ranking": 1,
    "rsynth_jax.models": 1,
    "rsynth_jax.models.alexnet": 1,
    "rsynth_jax.models.efficientnet": 1,
    "rsynth_jax.models.inception": 1,
    "rsynth_jax.models.layers": 1,
    "rsynth_jax.models.preact_resnet": 1,
    "rsynth_jax.models.pytorch": 1,
    "rsynth_jax.models.resnet": 1,
    "rsynth_jax.synthesis.objectives": 1,
    "rsynth_jax.sharding": 1,
    "rsynth_jax.storage.unpickler": 1,
    "rsynth_jax.synthesis.projections": 1,
    "rsynth_jax.synthesis.class_gaussians": 1,
    "rsynth_jax.synthesis.ascent": 2,
    "rsynth_jax.attacks.adversaries": 3,
    "rsynth_jax.attacks.apgd": 3,
    "rsynth_jax.attacks.autoattack": 3,
    "rsynth_jax.attacks.fab": 3,
    "rsynth_jax.attacks.square": 3,
    "rsynth_jax.synthesis.tasks": 3,
    "rsynth_jax.sampling.runner": 3,
    "rsynth_jax.attacks.runner": 4,
    "rsynth_jax.attacks.evaluation": 5,
    "rsynth_jax.sampling.embedding": 2,
    "rsynth_jax.training.dual": 5,
    "rsynth_jax.training.build": 5,
    "rsynth_jax.training.recipes": 0,
    "rsynth_jax.training.classifier": 4,
    "rsynth_jax.storage.releases": DOOR,
    "rsynth_jax.cli.run": DOOR,
    "rsynth_jax.data.sources": DOOR,
    "rsynth_jax.storage.extractors": DOOR,
    "rsynth_jax.cli.report": DOOR,
    "rsynth_jax.data.image_files": DOOR,
    "rsynth_jax.cli.sheets": DOOR,
    "rsynth_jax.cli.options": DOOR,
    "rsynth_jax.cli.train_log": DOOR,
    "rsynth_jax.storage.state_dicts": DOOR,
    "rsynth_jax.data.unlabelled": DOOR,
}

WITHIN_A_LAYER = {
    ("rsynth_jax.metrics.frechet", "rsynth_jax.metrics.estimates"),
    ("rsynth_jax.metrics.frechet", "rsynth_jax.metrics.moments"),
    ("rsynth_jax.metrics.inception_score", "rsynth_jax.metrics.estimates"),
    ("rsynth_jax.metrics.kernel", "rsynth_jax.metrics.estimates"),
    ("rsynth_jax.metrics.neighbors", "rsynth_jax.metrics.estimates"),
    ("rsynth_jax.metrics.ranking", "rsynth_jax.metrics.estimates"),
    ("rsynth_jax.synthesis.objectives", "rsynth_jax.metrics.paired"),  # the perceptual distance
    ("rsynth_jax.models", "rsynth_jax.models.preact_resnet"),
    ("rsynth_jax.models", "rsynth_jax.models.resnet"),
    ("rsynth_jax.models.alexnet", "rsynth_jax.models.layers"),
    ("rsynth_jax.models.efficientnet", "rsynth_jax.models.layers"),
    ("rsynth_jax.models.inception", "rsynth_jax.models.layers"),
    ("rsynth_jax.models.preact_resnet", "rsynth_jax.models.layers"),
    ("rsynth_jax.models.resnet", "rsynth_jax.models.layers"),
    ("rsynth_jax.attacks.autoattack", "rsynth_jax.attacks.adversaries"),
    ("rsynth_jax.attacks.autoattack", "rsynth_jax.attacks.apgd"),
    ("rsynth_jax.attacks.autoattack", "rsynth_jax.attacks.fab"),
    ("rsynth_jax.attacks.autoattack", "rsynth_jax.attacks.square"),
    ("rsynth_jax.synthesis.projections", "rsynth_jax.images"),
    ("rsynth_jax.training.build", "rsynth_jax.training.dual"),
    ("rsynth_jax.cli.train_log", "rsynth_jax.cli.run"),  # its clock
    ("rsynth_jax.cli.run", "rsynth_jax.storage.releases"),  # its atomic write
    ("rsynth_jax.data.sources", "rsynth_jax.data.image_files"),
    ("rsynth_jax.storage.extractors", "rsynth_jax.storage.releases"),  # a classifier is an extractor
    ("rsynth_jax.cli.sheets", "rsynth_jax.storage.releases"),  # its atomic write
    ("rsynth_jax.storage.extractors", "rsynth_jax.storage.state_dicts"),
    ("rsynth_jax.data.unlabelled", "rsynth_jax.storage.releases"),  # what a classifier can work on
    ("rsynth_jax.cli.report", "rsynth_jax.storage.releases"),
    ("rsynth_jax.cli.report", "rsynth_jax.cli.run"),
    ("rsynth_jax.cli.report", "rsynth_jax.cli.sheets"),
    ("rsynth_jax.cli.report", "rsynth_jax.cli.options"),
    ("rsynth_jax.cli.options", "rsynth_jax.storage.releases"),
    ("rsynth_jax.cli.options", "rsynth_jax.cli.run"),
    ("rsynth_jax.cli.options", "rsynth_jax.data.unlabelled"),
    ("rsynth_jax.data.unlabelled", "rsynth_jax.data.sources"),  # its readers
    ("rsynth_jax.data.unlabelled", "rsynth_jax.data.image_files"),
}

PROGRAM_FOLDERS = {"train", "synth", "rsynth_jax_train", "rsynth_jax_synth"}
SYSTEM = {"io", "os", "pathlib", "random", "shutil", "socket", "subprocess", "sys", "tempfile", "time"}
WORLD = SYSTEM | {"argparse", "json", "logging", "matplotlib", "PIL", "rich", "tyro", "urllib"}
RUNS_CODE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}  # when they load a file
SAYS_NOTHING = {"common", "core", "helpers", "manager", "misc", "utils"}
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = {"bytearray", "Counter", "defaultdict", "deque", "dict", "list", "OrderedDict", "set"}
MUTATORS = {"add", "append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}

LONGEST_FUNCTION = 40  # lines
MEDIAN_FUNCTION = 10
LONGEST_FILE = 250


def module_name(path: Path) -> str:
    """rsynth_jax/models/__init__.py -> rsynth_jax.models."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(*folders: str) -> dict[str, Path]:
    """The module name and the file of every source under the folders."""
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return {module_name(file): file for file in files}


LIBRARY = sources("rsynth_jax")
PROGRAMS = sources("train", "synth")
EVERYTHING = LIBRARY | PROGRAMS
PURE = [name for name in LIBRARY if LAYER.get(name) != DOOR]


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(EVERYTHING[name].read_text(), str(EVERYTHING[name]))


def imports(name: str) -> Iterator[str]:
    """Every module that an import anywhere in a module names; `from a import b` names a.b, if that is one."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            inner = (f"{base}.{alias.name}" for alias in node.names)
            yield from (module if module in EVERYTHING else base for module in inner)


def tops(name: str) -> set[str]:
    """The top-level packages a module imports from; "" for a relative import."""
    return {module.split(".")[0] for module in imports(name)}


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))


def functions(name: str) -> list[ast.FunctionDef]:
    """Every function and method, nested ones too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree(name)) if isinstance(node, kinds)]


def length(function: ast.FunctionDef) -> int:
    """Lines from `def` to the last, nested functions and blank lines too, docstring and decorators not."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def graph() -> dict[str, set[str]]:
    """The real imports within the library."""
    return {name: {module for module in imports(name) if module in LIBRARY} for name in LIBRARY}


def test_every_module_has_its_place():
    assert set(LIBRARY) == set(LAYER)


@pytest.mark.parametrize("name", LIBRARY)
def test_imports_go_down(name):
    level = LAYER.get(name, -1)
    upward = {module for module in graph()[name] if LAYER.get(module, DOOR) >= level}
    allowed = {lower for upper, lower in WITHIN_A_LAYER if upper == name}
    assert upward == allowed


def test_imports_have_no_cycle():
    graphlib.TopologicalSorter(graph()).prepare()


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_relative_imports(name):
    assert "" not in tops(name)


@pytest.mark.parametrize("name", EVERYTHING)
def test_nobody_imports_a_program(name):
    assert not tops(name) & PROGRAM_FOLDERS


@pytest.mark.parametrize("name", PURE)
def test_only_doors_touch_the_world(name):
    assert not tops(name) & WORLD
    assert not {ast.unparse(call.func) for call in calls(name)} & {"print", "input", "open"}


def is_mutable(value: ast.expr | None) -> bool:
    called = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in MUTABLE_CALLS
    return called or isinstance(value, MUTABLE)


def state(name: str) -> Iterator[str]:
    """Mutable values of a module or a class that do not bear a constant's name."""
    scopes = (node for node in ast.walk(tree(name)) if isinstance(node, ast.Module | ast.ClassDef))
    for statement in (statement for scope in scopes for statement in scope.body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and is_mutable(statement.value):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (ast.unparse(target) for target in targets if not ast.unparse(target).isupper())


def writes(name: str) -> Iterator[str]:
    """Places that change a table: TABLE[...] = ..., del TABLE[...], TABLE.update(...)."""
    for node in ast.walk(tree(name)):
        stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
        called = isinstance(node, ast.Attribute) and node.attr in MUTATORS
        if (stored or called) and ast.unparse(node.value).isupper():
            yield ast.unparse(node)


@pytest.mark.parametrize("name", LIBRARY)
def test_modules_keep_no_state(name):
    assert [*state(name), *writes(name)] == []
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree(name)))


@pytest.mark.parametrize("name", EVERYTHING)
def test_names_say_something(name):
    assert not set(name.split(".")) & SAYS_NOTHING


@pytest.mark.parametrize("name", EVERYTHING)
def test_loading_runs_no_code(name):
    assert not tops(name) & RUNS_CODE
    assert not {ast.unparse(call.func) for call in calls(name)} & {"eval", "exec"}
    keywords = (keyword for call in calls(name) for keyword in call.keywords)
    assert all(ast.unparse(k.value) == "False" for k in keywords if k.arg == "allow_pickle")


@pytest.mark.parametrize("name", LIBRARY)
def test_no_boolean_parameters(name):
    switches = []
    for function in functions(name):
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        annotated = [(p.arg, ast.unparse(p.annotation)) for p in parameters if p.annotation]
        switches += [parameter for parameter, kind in annotated if "bool" in kind.split()]
        defaults = [*given.defaults, *given.kw_defaults]
        switches += [f"{function.name}(... = {d.value})" for d in defaults if is_boolean(d)]
    assert switches == []


def is_boolean(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


@pytest.mark.parametrize("name", EVERYTHING)
def test_functions_are_short(name):
    lengths = [(f.name, length(f)) for f in functions(name) if f.name != "main"]
    assert [(f, lines) for f, lines in lengths if lines > LONGEST_FUNCTION] == []


def test_the_median_function_is_shorter_still():
    assert statistics.median(length(f) for name in EVERYTHING for f in functions(name)) < MEDIAN_FUNCTION


@pytest.mark.parametrize("name", EVERYTHING)
def test_files_are_short(name):
    num_lines = EVERYTHING[name].read_text().count("\n")
    assert num_lines <= LONGEST_FILE


@pytest.mark.parametrize("name", LIBRARY)
def test_everything_public_says_what_it_is(name):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree(name).body if isinstance(node, kinds) and node.name[0] != "_"]
    silent = [getattr(node, "name", name) for node in [tree(name), *public] if not ast.get_docstring(node)]
    assert silent == []
