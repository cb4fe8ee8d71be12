"""Read pickles of plain values and arrays with an interpreter that calls only the functions given to it.

    value = read(file, Vocabulary({"collections OrderedDict": dict}, persistent, with_state))

`pickle` runs what a file asks for. Here a global is a name, looked up in a short table of our own functions;
every other name, and every opcode that plain values and arrays do not need, is refused.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple


class Vocabulary(NamedTuple):
    """The meaning of the names in a pickle.

    Attributes:
      globals: "module name" -> a value, or a function of ours that may be applied.
      persistent: persistent id -> value.
      with_state: (value, state) -> the value after a BUILD opcode.
    """

    globals: dict[str, Any]
    persistent: Callable[[Any], Any]
    with_state: Callable[[Any, Any], Any]


class Global(NamedTuple):
    """A global on the stack: its name alone, "module name"."""

    name: str


def read(file: BinaryIO, vocabulary: Vocabulary) -> Any:
    """Read the pickle that starts at the file's position, and leave the position at its end.

    Raises:
      ValueError: for an opcode or a global that is not known.
      KeyError, IndexError, TypeError, AttributeError: for a stream that is not consistent.
    """
    machine = _Machine([], {}, vocabulary)
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name == "STOP":
            break
        if opcode.name not in _OPCODES:
            raise ValueError(f"it uses {opcode.name} at byte {position}, which no weights need")
        _OPCODES[opcode.name](machine, argument)
    return machine.stack.pop()


class _Machine(NamedTuple):
    """The state of the interpreter."""

    stack: list
    memo: dict
    vocabulary: Vocabulary


_MARK = Global("mark")


def _pop(stack: list, count: int) -> list:
    """Take the last values."""
    return [stack.pop() for _ in range(count)][::-1]


def _pop_to_mark(stack: list) -> list:
    """Take the values since the last mark, and the mark."""
    popped = []
    while (top := stack.pop()) is not _MARK:
        popped.append(top)
    return popped[::-1]


def _push_global(machine: _Machine, name: str) -> None:
    """Push a global that is known."""
    if name not in machine.vocabulary.globals:
        raise ValueError(f"it asks for {name[:80]!r}, which no weights need")
    machine.stack.append(Global(name))


def _apply(machine: _Machine) -> None:
    """Replace a global and its arguments by the result of our function of that name."""
    function, arguments = _pop(machine.stack, 2)
    meaning = machine.vocabulary.globals[function.name] if type(function) is Global else None
    if not callable(meaning) or type(arguments) is not tuple:
        raise ValueError("it applies a value that is not a function")
    machine.stack.append(meaning(*arguments))


def _build(machine: _Machine) -> None:
    """Replace a value and its state by the value with that state."""
    value, state = _pop(machine.stack, 2)
    machine.stack.append(machine.vocabulary.with_state(value, state))


def _set_items(machine: _Machine, items: list) -> None:
    """Put alternating keys and values into the dictionary below them."""
    if type(machine.stack[-1]) is not dict:
        raise ValueError("it sets an item of a value that is not a dictionary")
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _append(machine: _Machine, items: list) -> None:
    """Append to the list below."""
    if type(machine.stack[-1]) is not list:
        raise ValueError("it appends to a value that is not a list")
    machine.stack[-1].extend(items)


_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES")
_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")  # the last two: Python 2's
_OPCODES: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.stack.append(_MARK),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "TUPLE": lambda m, _: m.stack.append(tuple(_pop_to_mark(m.stack))),
    "TUPLE1": lambda m, _: m.stack.append(tuple(_pop(m.stack, 1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(_pop(m.stack, 2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(_pop(m.stack, 3))),
    "SETITEM": lambda m, _: _set_items(m, _pop(m.stack, 2)),
    "SETITEMS": lambda m, _: _set_items(m, _pop_to_mark(m.stack)),
    "APPEND": lambda m, _: _append(m, _pop(m.stack, 1)),
    "APPENDS": lambda m, _: _append(m, _pop_to_mark(m.stack)),
    "BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "LONG_BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "GLOBAL": _push_global,
    "STACK_GLOBAL": lambda m, _: _push_global(m, " ".join(_pop(m.stack, 2))),
    "REDUCE": lambda m, _: _apply(m),
    "BUILD": lambda m, _: _build(m),
    "BINPERSID": lambda m, _: m.stack.append(m.vocabulary.persistent(m.stack.pop())),
}
_OPCODES |= dict.fromkeys(_LITERALS + _STRINGS, lambda m, literal: m.stack.append(literal))
