"""Code that the programs share: flags, the run of a command, its report. Only programs import it.

A command that Ctrl-C stops while it is imported has nothing to clean up, and ends at once, with status 130.
Then `run.run` takes over.
"""

import os
import signal
import sys


def _end(number: int, frame: object) -> None:
    os._exit(128 + number)


# -m: `python -m synth.generation`, whose package is imported before its name is known
if sys.argv and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("rsynth")):
    signal.signal(signal.SIGINT, _end)
