"""A pickle's values come out, and nothing that it asks for happens."""

import collections
import io
import os
import pickle
import pickletools

import pytest
from tiny import refused

from rsynth_jax.storage import unpickler

VOCABULARY = unpickler.Vocabulary(
    globals={"collections OrderedDict": dict, "builtins complex": "a value, which cannot be applied"},
    persistent=lambda key: ("elsewhere", key),
    with_state=lambda value, state: value,
)
PLAIN = {"a": [1, -2, 300, 70000, 2**40, 0.5], "b": (True, False, None), "c": {"d": ((), (1,), (1, 2), "é")}}
BROKEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def read(content: bytes):
    return unpickler.read(io.BytesIO(content), VOCABULARY)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", [PLAIN, {}, [], (), "text", list(range(3000)), 3])
def test_plain_values_come_out_as_they_went_in(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


def test_a_value_in_two_places_is_one_object():
    shared = ["shared"]
    first, second = read(pickle.dumps([shared, shared], 4))
    assert first is second


def test_a_global_that_is_known_is_applied_by_our_function():
    ordered = collections.OrderedDict(a=1, b=(2,))
    assert read(pickle.dumps(ordered, 2)) == {"a": 1, "b": (2,)}


def test_one_pickle_after_the_other_is_read_from_a_file():
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    assert [unpickler.read(file, VOCABULARY) for _ in range(2)] == [1, "two"] and file.read() == b"rest"


def test_persistent_ids_are_described():
    assert read(b"\x80\x02X\x01\x00\x00\x00kQ.") == ("elsewhere", "k")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "call",
    [Calls(os.system, "touch ran"), Calls(eval, "open('ran', 'w')"), Calls(getattr, "", "join")],
    ids=["system", "eval", "getattr"],
)
def test_a_global_that_is_not_known_is_refused_and_never_looked_up(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    with refused(match="it asks for '.+', which no weights need"):
        read(pickle.dumps({"weights": call}, protocol))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",  # protocol 0
        b"(S'touch ran'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",  # OBJ
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
    ],
    ids=["text", "INST", "OBJ", "NEWOBJ", "EXT1", "STACK_GLOBAL"],
)
def test_other_ways_to_call_or_to_name_are_refused(content):
    with refused(match="which no weights need"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02X\x06\x00\x00\x00system)R.",  # applies a string
        b"\x80\x02cbuiltins\ncomplex\n)R.",  # applies a global that is a value
        b"\x80\x02ccollections\nOrderedDict\n]R.",  # to a list
        b"\x80\x02ccollections\nOrderedDict\nX\x01\x00\x00\x00aK\x01s.",  # sets an item of a global
        b"\x80\x02)K\x01a.",  # appends to a tuple
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x02h\x07.",  # what was never put there
        b"\x80\x02}K\x01u.",  # no mark
        b"\x80\x02R.",
        b"\x80\x02.",
    ],
)
def test_what_does_not_hold_together_is_refused(content):
    with pytest.raises(BROKEN):
        read(content)


def test_every_truncation_is_refused():
    content = pickle.dumps(PLAIN, 2)
    for end in range(len(content)):
        with pytest.raises(BROKEN):
            read(content[:end])


def test_no_opcode_reaches_beyond_the_vocabulary():
    """Every opcode that names or calls is one of five; four look a global up, NEWOBJ passes objects over."""
    reaching = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
    reaching |= {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
    assert set(unpickler._OPCODES) <= {opcode.name for opcode in pickletools.opcodes}
    assert set(unpickler._OPCODES) & reaching == {
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID")
    }


class Extra:
    """An object whose class no vocabulary knows."""

    def __init__(self, **values):
        self.__dict__.update(values)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_of_the_names_to_pass_over_leave_a_mark(protocol):
    passing = VOCABULARY._replace(passes=lambda name: name.endswith(("Extra", "set", "Counter", "deque")))
    counted = collections.Counter(a=1)
    value = {"weights": [1, 2], "extra": Extra(a=Extra(), b={1}), "counter": counted, "set": frozenset([2])}
    value["lists"] = collections.deque([1, 2])
    read = unpickler.read(io.BytesIO(pickle.dumps(value, protocol)), passing)
    assert read["weights"] == [1, 2] and set(read) == set(value)
    assert all(type(read[name]) is unpickler.Passed for name in ("extra", "counter", "lists"))


def test_keys_that_take_exponential_time_to_hash_are_dropped():
    doubled = b"".join(b"2\x86" for _ in range(64))  # DUP, TUPLE2
    assert read(b"\x80\x02}" + b"K\x01" + doubled + b"K\x01s.") == {}
    pairs = b"](K\x01" + doubled + b"K\x01\x86e"
    assert unpickler.mapping(read(b"\x80\x02" + pairs + b".")) == {}
