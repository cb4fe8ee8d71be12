"""The tables of class names, files of names, and names that are given as words."""

import pytest
from tiny import refused

from rsynth_jax.storage import class_names, releases


@pytest.mark.parametrize(
    ("table", "num", "some"),
    [
        ("cifar10", 10, {0: "airplane", 3: "cat", 9: "truck"}),
        ("cifar100", 100, {0: "apple", 26: "crab", 99: "worm"}),
        ("imagenet", 1000, {0: "tench", 207: "golden retriever", 281: "tabby", 999: "toilet tissue"}),
        ("restricted-imagenet", 9, {0: "dog", 5: "primate", 8: "insect"}),
    ],
)
def test_a_table_holds_each_name_once_in_the_order_of_the_labels(table, num, some):
    names = class_names.read([table])
    assert len(names) == len(set(names)) == num
    assert {label: names[label] for label in some} == some
    assert all(name == name.strip() and name.isprintable() for name in names)


def test_the_tables_are_listed_and_cifar10_is_that_of_the_bundled_classifier():
    assert class_names.known() == ("cifar10", "cifar100", "imagenet", "restricted-imagenet")
    assert class_names.read(["cifar10"]) == releases.load("cifar10").class_names


def test_a_file_holds_one_name_a_line_and_other_words_are_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("great white shark\n\n  dog \n", "utf-8")
    assert class_names.read([str(path)]) == ("great white shark", "dog")
    assert class_names.read(["cat", "imagenet"]) == ("cat", "imagenet")
    assert class_names.read(["cat"]) == ("cat",)
    assert class_names.read([]) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"dog\ncat\ndog\n", "'dog' is there 2 times"), (b"\n", "holds no names"), (b"\xff\xfe", "cannot read")],
)
def test_a_file_that_holds_no_names_or_one_twice_is_refused(tmp_path, content, said):
    (tmp_path / "names.txt").write_bytes(content)
    with refused(match=said):
        class_names.read([str(tmp_path / "names.txt")])


def test_a_name_given_twice_is_refused():
    with refused(match="'dog' is there 2 times: give each name once"):
        class_names.read(["dog", "cat", "dog"])
