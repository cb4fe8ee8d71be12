"""Pickles of plain values and arrays, read by an interpreter that has nothing to call but what it is given.

    value = read(file, Vocabulary({"collections OrderedDict": dict}, persistent, restored))

`pickle` runs what a file asks for. Here a global is a word, looked up in a short table of our own
functions; an opcode that plain values and arrays do not need is refused, and so is every other word.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple


class Vocabulary(NamedTuple):
    """What the words of a pickle mean.

    Attributes:
      words: "module name" -> what it stands for: a value, or a function of ours that may be applied.
      persistent: the value of a persistent id.
      restored: (value, state) -> the value once it has the state that the pickle gives it.
    """

    words: dict[str, Any]
    persistent: Callable[[Any], Any]
    restored: Callable[[Any, Any], Any]


class Word(NamedTuple):
    """A global on the stack: its name alone."""

    name: str


class Machine(NamedTuple):
    """Where the interpreter stands."""

    stack: list
    memo: dict
    vocabulary: Vocabulary


MARK = Word("mark")
LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES"}
STRINGS = {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}  # the last two: Python 2's


def since_mark(stack: list) -> list:
    """Take what was pushed since the last mark, and the mark."""
    taken = []
    while (top := stack.pop()) is not MARK:
        taken.append(top)
    return taken[::-1]


def word(machine: Machine, name: str) -> None:
    """Push a word that is known."""
    if name not in machine.vocabulary.words:
        raise ValueError(f"it asks for {name[:80]!r}, which no weights need")
    machine.stack.append(Word(name))


def apply(machine: Machine) -> None:
    """Replace a word and its arguments by what our function of that name makes of them."""
    arguments, function = machine.stack.pop(), machine.stack.pop()
    meaning = machine.vocabulary.words[function.name] if type(function) is Word else None
    if not callable(meaning) or type(arguments) is not tuple:
        raise ValueError("it applies what is no function")
    machine.stack.append(meaning(*arguments))


def restore(machine: Machine) -> None:
    """Replace a value and its state by the value that has the state."""
    state, value = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.vocabulary.restored(value, state))


def put(machine: Machine, items: list) -> None:
    """Put alternating keys and values into the dictionary below them."""
    if type(machine.stack[-1]) is not dict:
        raise ValueError("it puts an item into what is no dictionary")
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def append(machine: Machine, items: list) -> None:
    """Append to the list below."""
    if type(machine.stack[-1]) is not list:
        raise ValueError("it appends to what is no list")
    machine.stack[-1].extend(items)


def take(stack: list, count: int) -> list:
    """Take the last values."""
    return [stack.pop() for _ in range(count)][::-1]


OPCODES = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.stack.append(MARK),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "TUPLE": lambda m, _: m.stack.append(tuple(since_mark(m.stack))),
    "TUPLE1": lambda m, _: m.stack.append(tuple(take(m.stack, 1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(take(m.stack, 2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(take(m.stack, 3))),
    "SETITEM": lambda m, _: put(m, take(m.stack, 2)),
    "SETITEMS": lambda m, _: put(m, since_mark(m.stack)),
    "APPEND": lambda m, _: append(m, take(m.stack, 1)),
    "APPENDS": lambda m, _: append(m, since_mark(m.stack)),
    "BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "LONG_BINPUT": lambda m, key: m.memo.update({key: m.stack[-1]}),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "GLOBAL": word,
    "STACK_GLOBAL": lambda m, _: word(m, " ".join(take(m.stack, 2))),
    "REDUCE": lambda m, _: apply(m),
    "BUILD": lambda m, _: restore(m),
    "BINPERSID": lambda m, _: m.stack.append(m.vocabulary.persistent(m.stack.pop())),
}
OPCODES |= {name: lambda m, literal: m.stack.append(literal) for name in LITERALS | STRINGS}


def read(file: BinaryIO, vocabulary: Vocabulary) -> Any:
    """The value of the pickle that starts here; the file is left where it ends.

    Raises ValueError for an opcode or a word that is not known, and KeyError, IndexError, TypeError or
    AttributeError for a stream that does not hold together.
    """
    machine = Machine([], {}, vocabulary)
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name == "STOP":
            break
        if opcode.name not in OPCODES:
            raise ValueError(f"it uses {opcode.name} at byte {position}, which no weights need")
        OPCODES[opcode.name](machine, argument)
    return machine.stack.pop()
