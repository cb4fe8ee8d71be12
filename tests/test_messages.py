"""Messages: one line of 200 characters, and lists of names that are whole."""

import pytest
from tiny import refused

from rsynth_jax import checks, messages, models


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), ""),
        (["cat", "dog"], "cat, dog"),
        (
            [f"class {i}" for i in range(1000)],
            "class 0, class 1, class 2, class 3, class 4, class 5 ... (1000 in all)",
        ),
        (["x" * 100], "x" * 26 + " ..."),
        (
            ["x" * 70] * 3,
            ("x" * 26 + " ..., " + "x" * 26 + " ...")[:65].rpartition(", ")[0] + " ... (3 in all)",
        ),
        (["a\nb", "c\x1b"], "a?b, c?"),
    ],
)
def test_a_list_of_names_has_whole_names_and_their_number(names, expected):
    assert messages.listed(names) == expected


def test_an_unknown_class_of_many_is_refused_in_a_line_that_lists_the_first():
    names = [f"n{i:08d} something" for i in range(1000)]
    with refused(
        match=r"^no class 'cat': give a number, or one of n00000000 something, .* \.\.\. \(1000 in all\)$"
    ) as e:
        models.label_of("cat", names)
    assert len(str(e.value)) < 150
    with refused(
        match=r"\(2, 1 ... |the data set's classes \(a, b\) are not the classifier's \(n00.*1000 in all\)\)"
    ):
        checks.same_classes(["a", "b"], names)


def test_a_long_line_keeps_its_start_and_its_end():
    line = messages.one_line("it failed: " + "x" * 500 + "\n: give y")
    assert len(line) <= messages.LONGEST and line.startswith("it failed: x") and line.endswith("x : give y")
    assert messages.one_line("a\n\tb") == "a b"
