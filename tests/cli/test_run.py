"""Runs: exit statuses, errors in one line, signals, the cache of compiled programs, progress."""

import dataclasses
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from rsynth_jax.cli import epoch_run, progress, run, step_run
from rsynth_jax.cli.options import SystemFlags
from rsynth_jax.storage import files

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """rsynth-try: try something."""

    num: int = 3
    """How many."""
    system: SystemFlags = SystemFlags()


@pytest.fixture
def command(monkeypatch, tmp_path, handlers):
    """Sets the command line; what the run does to the environment and the signals is undone."""
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path)})
    monkeypatch.setattr(os, "_exit", sys.exit)
    return lambda *arguments: monkeypatch.setattr("sys.argv", ["rsynth-try", *arguments])


@pytest.fixture
def handlers():
    """Puts the process's signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


MEMORY = "rsynth-try: the memory is not enough: lower --batch-size, --num or --image-size\n"


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (ValueError("two\n  lines"), 2, "rsynth-try: two lines\n"),
        (
            PermissionError(13, "No right", "a/b"),
            2,
            "rsynth-try: cannot use a/b: No right\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 2, MEMORY),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes."), 2, MEMORY),
    ],
)
def test_a_program_that_raises_ends_with_its_status_and_at_most_one_line(
    command, capsys, tmp_path, raised, status, message
):
    def program(options):
        raise raised

    command()
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, program)
    assert stopped.value.code == status and capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []  # not even the cache folder


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no\nsuch backend")])
def test_an_absent_device_ends_with_status_2_and_one_line(command, capsys, monkeypatch, error):
    def devices():
        raise error

    command()
    monkeypatch.setitem(os.environ, "JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, lambda options: 0)
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and errors.count("\n") == 1 and len(errors) < 200
    assert errors.startswith("rsynth-try: JAX finds no device for JAX_PLATFORMS=cuda: unset it, or ")


PROGRAMS = sorted(path.stem for folder in ("synth", "train") for path in (ROOT / folder).glob("[a-z]*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_is_printed_in_an_encoding_of_few_characters(command, monkeypatch, name):
    output = io.BytesIO()
    command("--help")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, "ascii", write_through=True))
    folder = "train" if (ROOT / "train" / f"{name}.py").exists() else "synth"
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"{folder}.{name}").main()
    assert not stopped.value.code and b"usage: rsynth-" in output.getvalue()


def test_a_message_may_have_any_character(command, monkeypatch):
    errors = io.BytesIO()
    command("--num", "\udcff\xe9")
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(errors, "ascii", "strict", write_through=True))
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, lambda options: 0)
    assert stopped.value.code == 2 and b"?" in errors.getvalue()


def test_a_defect_keeps_its_traceback(command):
    command()
    with pytest.raises(ZeroDivisionError):
        run.run(Options, lambda options: 1 // 0)


@pytest.mark.parametrize("status", [0, 143])
def test_a_program_s_answer_is_the_exit_status(command, status):
    command("--num", "5")
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, lambda options: status if options.num == 5 else 1)
    assert stopped.value.code == status


def test_a_program_that_is_terminated_removes_its_temporary_file(command, tmp_path, monkeypatch):
    def program(options):
        files.write(tmp_path / "file", b"content")

    command()
    monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, program)
    assert stopped.value.code == 143 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("swallow", [Exception, BaseException])
def test_ctrl_c_that_a_library_swallows_or_replaces_still_ends_the_program(command, capfd, swallow):
    def program(options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException as error:
            if swallow is Exception:
                raise RuntimeError("in a callback") from error
        time.sleep(10)
        return 0

    command()
    with pytest.raises(SystemExit) as stopped:
        run.run(Options, program)
    assert stopped.value.code == 130 and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("synth.generation --class cat --num 1", 0.2),
        ("synth.scoring a.npz b.npz", 0.3),
        ("train.train", 0.25),
        ("synth.generation --class cat --num 1", 0.8),
    ],
)
def test_ctrl_c_while_a_program_starts_ends_it_with_status_130_and_no_line(tmp_path, words, seconds):
    """Or the program has ended by then, or climbs, on a fast machine."""
    process = start(tmp_path, "-m", *words.split())
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode in (130, 2, 0) and "Traceback" not in errors
    assert process.returncode != 130 or errors.strip() == "" or errors.startswith("climbing")


@pytest.mark.parametrize("seconds", ["0.2", pytest.param("0.3", marks=pytest.mark.slow)])
def test_ctrl_c_while_a_program_is_compiled_ends_it_with_status_130(tmp_path, seconds):
    process = start(tmp_path, "-c", CLIMB, seconds, "--num", "64", "--steps", "500")
    assert process.communicate(timeout=60)[1].count("\n") <= 2 and process.returncode == 130


def start(folder, *arguments):
    """Starts Python in a folder, without the tests' flags of XLA, which compile faster."""
    usual = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=usual | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("is_pipe", "status", "line"), [(False, 2, "No space left on device\n"), (True, 141, "")]
)
def test_an_output_that_cannot_be_written_ends_a_program_with_at_most_a_line(is_pipe, status, line):
    if is_pipe:
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    flags = [sys.executable, "-c", PROGRAM, "--no-cache"]
    done = subprocess.run(flags, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == status and done.stderr.endswith(line)
    assert done.stderr.count("\n") == line.count("\n")


def test_a_tilde_is_the_home_wherever_a_place_begins(command, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", "/home/me")
    command("~/a.png", "--out=~/b.png", "--data", "folder:~/c", "--data=npz:~/d", "a~b", "x/~", "--~", "~:")
    words = []
    with pytest.raises(SystemExit):
        run.run(Options, lambda _: 0, lambda _, arguments: words.extend(arguments) or Options())
    home = ["/home/me/a.png", "--out=/home/me/b.png", "--data", "folder:/home/me/c", "--data=npz:/home/me/d"]
    assert words == [*home, "a~b", "x/~", "--~", "~:"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_does_not_interrupt(handlers, number):
    interrupted = run.Interrupted()
    assert interrupted.signal is None
    os.kill(os.getpid(), number)
    assert interrupted.signal == number


def test_a_clock_s_lap_leaves_out_the_pauses(monkeypatch):
    now = iter([10.0, 13.0, 20.0])
    monkeypatch.setattr(run.time, "perf_counter", lambda: next(now))
    clock = run.Clock()
    assert clock.lap() == 3
    clock.pause(5)
    assert clock.lap() == 2


# ---- compiled programs


def test_compiled_programs_are_kept_in_the_user_s_cache_folder(command, tmp_path):
    settings = run.jax_settings([])
    assert settings["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "rsynth_jax")
    assert not (tmp_path / "rsynth_jax").exists()  # until a program is compiled
    assert settings["JAX_NUM_CPU_DEVICES"] == str(os.cpu_count())


def test_settings_of_the_environment_stay(command, monkeypatch):
    monkeypatch.setitem(os.environ, "JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setitem(os.environ, "JAX_NUM_CPU_DEVICES", "1")
    assert set(run.jax_settings([])) == {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"}


@pytest.mark.parametrize("reason", ["flag", "a file is in the way", "no home"])
def test_without_a_cache_folder_nothing_is_kept(command, monkeypatch, tmp_path, reason):
    if reason == "a file is in the way":
        (tmp_path / "rsynth_jax").touch()
    if reason == "no home":
        monkeypatch.delitem(os.environ, "XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _no_home)
    settings = run.jax_settings(["--no-cache"] if reason == "flag" else [])
    assert "JAX_COMPILATION_CACHE_DIR" not in settings
    assert ("JAX_ENABLE_COMPILATION_CACHE" in settings) == (reason == "flag")


def _no_home():
    raise RuntimeError("no home")


PROGRAM = """
import dataclasses
from rsynth_jax.cli.options import SystemFlags
from rsynth_jax.cli.run import run

@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    '''rsynth-try: compile something.'''

    system: SystemFlags = SystemFlags()

def program(options):
    import jax, jax.numpy as jnp
    print(jax.device_count(), jax.jit(jnp.cumsum)(jnp.arange(4.0))[-1])
    return 0

run(Options, program)
"""

# generation that is interrupted while its program is traced or compiled
CLIMB = """
import os, signal, sys, threading
from rsynth_jax.cli import run
from synth import generation
stop = threading.Timer(float(sys.argv.pop(1)), os.kill, [os.getpid(), signal.SIGINT])
run.Monitor.__enter__ = lambda self: stop.start() or self
generation.main()
"""


def execute(home: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment | {"XDG_CACHE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_second_start_compiles_nothing_and_prints_no_warning(tmp_path):
    def kept() -> set[str]:
        return {file.name for file in (tmp_path / "rsynth_jax").glob("*-cache")}

    printed = f"{os.cpu_count()} 6.0\n"
    assert execute(tmp_path, "--no-cache") == printed and not (tmp_path / "rsynth_jax").exists()
    assert execute(tmp_path) == printed
    programs = kept()
    assert programs and execute(tmp_path) == printed and kept() == programs


# ---- progress


def frame(step: int, *values: int):
    return step, np.array(values, np.uint8).reshape(-1, 1, 1, 1)


def test_a_monitor_joins_the_shown_images_to_frames_and_counts_steps(capsys):
    with run.Monitor(num=3, num_steps=4, shown=np.array([True, False, True])) as watched:
        for step, images in (frame(0, 0, 1), frame(4, 6, 7), frame(0, 2), frame(4, 8)):
            watched(step, images)
    assert list(watched.frames) == [0, 4]
    assert [images.ravel().tolist() for images in watched.frames.values()] == [[0, 2], [6, 8]]
    assert watched.seconds > 0 and "climbing" in (errors := capsys.readouterr().err) and "12/12" in errors


def test_a_monitor_keeps_no_frames_unless_asked_to(capsys):
    with run.Monitor(num=1, num_steps=2) as watched:
        watched(*frame(0, 1))
    assert watched.frames == {}


def test_without_a_terminal_progress_is_plain_lines_at_an_interval_and_at_the_end(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    with open(reader) as lines, open(writer, "w") as errors, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", errors)
        with run.progress_bar("{task.fields[now]}") as bar:
            waiting = bar.add_task("waiting", start=False)
            task = bar.add_task("training", total=4000, completed=10, now="loss 0.700")
            first = lines.readline()
            bar.update(task, completed=20, now="loss 0.693")
            bar.console.print("epoch 1")
            second = lines.readline() + lines.readline()
            assert bar.tasks[waiting].start_time is None
        with run.tracks() as track:
            assert list(track("reading")(range(3))) == [0, 1, 2]
        errors.close()
        rest = second + lines.read()
    assert re.fullmatch(r"training 10/4000 0:00:00 ETA -:--:-- loss 0.700\n", first)
    assert re.search(r"^training 20/4000 0:00:0\d ETA [-\d:]+ loss 0.693\n", rest, re.MULTILINE)
    assert re.search(r"^epoch 1\n", first + rest, re.MULTILINE) and "waiting" not in rest
    assert rest.endswith("\nreading 3/3 0:00:00 ETA 0:00:00\n")
    assert all(line.isprintable() for line in (first + rest).splitlines())


def test_in_a_terminal_progress_is_a_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any file for a terminal
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", output := io.StringIO())
        with run.progress_bar() as bar:
            bar.update(bar.add_task("climbing", total=2), completed=2)
    assert "\x1b[" in output.getvalue() and "2/2" in output.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_progress_of_a_training_fits_into_80_columns(monkeypatch, terminal):
    numbers = {"loss": 12.345, "clean_accuracy": 1, "adversarial_accuracy": 1, "images_per_second": 1234}
    numbers |= {"num_steps": 40, "auc": 0.95, "generator_loss": -12.34, "accuracy": 1}
    monkeypatch.setenv("COLUMNS", "80")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    steps = [f"{now} 1234/s" for now in (step_run.GAN_NOW, step_run.SEGMENTER_NOW)]
    for now in (epoch_run._NOW, epoch_run._DUAL, *steps):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", output := io.StringIO())
            with run.progress_bar("{task.fields[now]}") as bar:
                bar.add_task("training", total=9999, completed=9998, now=now.format(**numbers))
        lines = [
            re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", line).strip() for line in output.getvalue().splitlines()
        ]
        assert any(line.startswith("training ") and line.endswith("1234/s") for line in lines), lines
        assert all(len(line) <= 80 for line in lines)
