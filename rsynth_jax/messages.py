"""The text of a message: one line of at most 200 characters, all of which can be shown.

listed(class_names)                    # "tench, goldfish, great white shark ... (1000 in all)"
one_line("cannot read a\\nb")           # "cannot read a b"
"""

from collections.abc import Iterable

LONGEST = 200  # characters of a message
_END = 90  # characters of the end of a message that is too long, which says what would be right
_NAME = 30  # characters of a name in a list


def one_line(message: str) -> str:
    """Return a message as one line without control characters; a long one loses words before its end."""
    line = printable(" ".join(message.split()))
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - _END - 5].rstrip()} ... {line[-_END:].lstrip()}"


def listed(names: Iterable[object], length: int = 60) -> str:
    """Join names by commas; of more than `length` characters the first ones, and the number of all."""
    shown_names = [shown(str(name), _NAME) for name in names]
    text = ", ".join(shown_names)
    if len(text) <= length:
        return text
    kept = text[: length + 1].rpartition(", ")[0] or shown_names[0]
    return kept if len(shown_names) == 1 else f"{kept} ... ({len(shown_names)} in all)"


def shown(text: str, length: int) -> str:
    """Cut a text of a file to a length, with a question mark for what cannot be shown."""
    cut = text if len(text) <= length else f"{text[: length - 4]} ..."
    return printable(cut)


def printable(text: str) -> str:
    """Replace what cannot be shown by a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """Replace what cannot be shown by a question mark, line by line."""
    return "\n".join(map(printable, text.split("\n")))
