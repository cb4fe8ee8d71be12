"""Read pickles of plain values and arrays with an interpreter that calls only the functions given to it.

    value = read(file, Vocabulary({"collections OrderedDict": mapping}, persistent, with_state))

`pickle` runs what a file asks for. Here a global is a name, looked up in a short table of our own functions.
The objects of a few other names are passed over: a mark takes their place. Every other name, and every opcode
that plain values and arrays do not need, is refused.
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
      passes: whether the objects of a name without a meaning are passed over; by default they are refused.
    """

    globals: dict[str, Any]
    persistent: Callable[[Any], Any]
    with_state: Callable[[Any, Any], Any]
    passes: Callable[[str], bool] = lambda name: False


class Global(NamedTuple):
    """A global on the stack: its name alone, "module name"."""

    name: str


class Passed(NamedTuple):
    """An object that was passed over: the name of its class or function."""

    name: str


def mapping(items: Any = ()) -> dict:
    """Make a dict of pairs as SETITEMS does."""
    made: dict = {}
    _set_items(made, items.items() if type(items) is dict else items)
    return made


def read(file: BinaryIO, vocabulary: Vocabulary) -> Any:
    """Read the pickle that starts at the file's position, and leave the position at its end.

    Raises ValueError for an opcode or a global that is not known; KeyError, IndexError, TypeError or
    AttributeError for a stream that is not consistent.
    """
    machine = _Machine([], {}, vocabulary)
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name == "STOP":
            break
        if opcode.name not in _OPCODES:
            raise ValueError(f"it uses {opcode.name} at byte {position}, which no weights need")
        _OPCODES[opcode.name](machine, argument)
    return machine.stack.pop()


_MARK = object()


class _Machine(NamedTuple):
    stack: list
    memo: dict
    vocabulary: Vocabulary

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> tuple:
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def pop_to_mark(self) -> tuple:
        popped = []
        while (top := self.stack.pop()) is not _MARK:
            popped.append(top)
        return tuple(popped[::-1])

    def push_global(self, name: str) -> None:
        if name in self.vocabulary.globals:
            self.push(Global(name))
        elif self.vocabulary.passes(name):
            self.push(Passed(name))
        else:
            raise ValueError(f"it asks for {name[:80]!r}, which no weights need")

    def apply(self, function: Any, arguments: Any) -> None:
        """Push the result of our function of that name, or the mark of an object that is passed over."""
        if type(function) is Passed:
            return self.push(function)
        meaning = self.vocabulary.globals[function.name] if type(function) is Global else None
        if not callable(meaning) or type(arguments) is not tuple:
            raise ValueError("it applies a value that is not a function")
        self.push(meaning(*arguments))

    def make(self, kind: Any, arguments: Any) -> None:
        """Push the mark of an object that is passed over; no other class has objects."""
        if type(kind) is not Passed:
            raise ValueError("it makes an object of a class, which no weights need")
        self.push(kind)

    def build(self, value: Any, state: Any) -> None:
        """Push the value with its state; an object that is passed over has none."""
        self.push(value if type(value) is Passed else self.vocabulary.with_state(value, state))

    def set_items(self, items: tuple) -> None:
        if type(self.stack[-1]) is not Passed:
            _set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def extend(self, items: tuple) -> None:
        if type(self.stack[-1]) is not Passed:
            list.extend(self.stack[-1], items)  # TypeError if it is no list


def _set_items(target: Any, items: Any) -> None:
    """Set the items of a dict but those whose keys are tuples, which may take exponential time to hash."""
    dict.update(target, ((key, value) for key, value in items if type(key) is not tuple))


_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")  # the last two: Python 2's
_OPCODES: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(_LITERALS + _STRINGS, _Machine.push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, key: m.memo.update({key: m.stack[-1]})),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, key: m.push(m.memo[key])),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "EMPTY_SET": lambda m, _: m.push(Passed("builtins set")),
    "ADDITEMS": lambda m, _: m.pop_to_mark(),
    "FROZENSET": lambda m, _: (m.pop_to_mark(), m.push(Passed("builtins frozenset"))),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": lambda m, _: m.push(_MARK),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "TUPLE": lambda m, _: m.push(m.pop_to_mark()),
    "TUPLE1": lambda m, _: m.push(m.pop(1)),
    "TUPLE2": lambda m, _: m.push(m.pop(2)),
    "TUPLE3": lambda m, _: m.push(m.pop(3)),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    "APPENDS": lambda m, _: m.extend(m.pop_to_mark()),
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": lambda m, _: m.push_global(" ".join(m.pop(2))),
    "REDUCE": lambda m, _: m.apply(*m.pop(2)),
    "NEWOBJ": lambda m, _: m.make(*m.pop(2)),
    "BUILD": lambda m, _: m.build(*m.pop(2)),
    "BINPERSID": lambda m, _: m.push(m.vocabulary.persistent(*m.pop(1))),
}
