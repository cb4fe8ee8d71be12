"""The names of the classes of data sets, in the order of their labels: small tables, one name a line.

    names = read(["imagenet"])                    # a table by name: 1,000 names
    names = read(["names.txt"])                   # a text file, one name a line
    names = read(["cat", "dog"])                  # the names themselves

The names of ImageNet are those of torchvision 0.28 (torchvision/models/_meta.py, BSD-3-Clause, see
tables/LICENSE-torchvision), which are all different; those of CIFAR-10 and CIFAR-100 are the data sets' own
(Krizhevsky 2009), those of Restricted ImageNet are the ones of MadryLab/robustness 1.2.1 (MIT).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rsynth_jax import messages
from rsynth_jax.storage import files, paths

_TABLES = Path(__file__).with_name("tables")
_LARGEST = 1 << 24  # bytes of a file


def known() -> tuple[str, ...]:
    """List the names of the tables."""
    return tuple(sorted(path.stem for path in _TABLES.glob("*.txt")))


def read(words: Sequence[str]) -> tuple[str, ...]:
    """Read class names, label after label.

    Args:
      words: the name of a table, the path of a text file (UTF-8, one name a line, empty lines are passed
        over), or the names; none for no names.

    Raises:
      ValueError: a name is there twice, or the file cannot be read or holds no names.
    """
    names = tuple(words)
    if len(names) == 1 and names[0] in known():
        return _lines(_TABLES / f"{names[0]}.txt")
    if len(names) == 1 and paths.is_file(names[0]):
        names = _lines(paths.of(names[0]))
        if not names:
            raise ValueError(f"{words[0]} holds no names: write one a line")
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if times > 1:
        raise ValueError(
            f"the class {messages.shown(name, 40)!r} is there {times} times: give each name once"
        )
    return names


def _lines(path: Path) -> tuple[str, ...]:
    with files.errors_as(f"cannot read class names from {path}"):
        with files.open_file(path) as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST / 1e6:.0f} MB")
        lines = content.decode("utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())
