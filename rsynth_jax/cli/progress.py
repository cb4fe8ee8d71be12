"""Progress where there is no terminal: in a pipe, a log file or a notebook, plain lines in place of a bar.

with PlainProgress(TextColumn("{task.description}"), MofNCompleteColumn()) as bar:
    task = bar.add_task("training", total=4000)
    bar.update(task, completed=20)             # "training 20/4000", within `INTERVAL` seconds
"""

import sys
import threading

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.text import Text

INTERVAL = 30.0  # seconds between two lines of a task


class PlainProgress(Progress):
    """Write a line of each task to standard error every `INTERVAL` seconds, and one at the end.

    A line has the columns that are text, without control codes. A task is written from its start on, and once
    after it is finished.
    """

    def __init__(self, *columns: ProgressColumn, speed_estimate_period: float):
        super().__init__(
            *columns,
            disable=True,
            auto_refresh=False,
            console=Console(stderr=True),
            speed_estimate_period=speed_estimate_period,
        )
        self._finished: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_lines, daemon=True)

    def start(self) -> None:
        """Begin to write lines."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Write the last lines."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _write_lines(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._write()
        self._write()

    def _write(self) -> None:
        for task in self.tasks:
            if task.started and task.id not in self._finished:
                self._finished |= {task.id} if task.finished else set()
                texts = [column(task) for column in self.columns if isinstance(column, ProgressColumn)]
                words = " ".join(text.plain for text in texts if isinstance(text, Text)).split()
                print(*words, file=sys.stderr, flush=True)
