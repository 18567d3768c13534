"""Full disks, places where nothing can be written, no home, two runs at once, and signals."""

import errno
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from faults import ITERATIONS, TORTURE, same_state, sample, train
from small_runs import without_seconds

import jgps
from jgps.cli import main as cli
from jgps.rendering import write_video
from jgps.training import TrainingError, TrainingResult, UsageError, checkpoint, lock
from jgps.training.errors import Terminated, WriteError
from jgps.training.files import writing
from jgps.training.interrupts import Interrupts
from jgps.training.metrics_file import read_metrics

pytestmark = pytest.mark.usefixtures("made_once")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may become larger; as where a disk is full, that is an error of who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


HOW = ("at once", "swallowed", "changed", "while saving", "at the end")
SIZES = [0, 300, 1200, 1700, 2200, 3000, 4000, 6000, 8000, 16000, 40000]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("size", sample(SIZES, 5, seed=3))
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    whole: TrainingResult, tmp_path: Path, size: int
):
    out = tmp_path / "run"
    with largest_file(size), pytest.raises(TrainingError) as error:
        train(out)
    message = str(error.value)
    assert message.startswith(f"cannot write {out}/") and "(File too large; " in message
    assert " to write, " in message and " free there); make room there, and resume" in message
    kept = checkpoint.iterations(out)
    assert all(checkpoint.problem(out, each) is None for each in kept)
    found = train(out, resume=(out / "config.json").exists())
    assert same_state(found, whole)
    assert without_seconds(found.metrics) == without_seconds(whole.metrics)
    assert read_metrics(out) == (found.metrics, "")
    assert not list(out.rglob("*tmp*"))


def test_a_full_disk_loses_nothing_of_a_run_that_goes_on(whole: TrainingResult, run: Path):
    """The metrics, rewritten when a run goes on, and the newest checkpoints are still there."""
    with largest_file(1000), pytest.raises(WriteError, match="cannot write"):
        train(run, ITERATIONS + 2, resume=True)
    assert read_metrics(run) == (whole.metrics, "")
    assert [checkpoint.problem(run, i) for i in (2, 3, 4)] == [None] * 3
    assert not list(run.rglob("*tmp*"))


_CHILD = """
import resource, sys
from jgps.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""
_TRAIN = ["train", "point_mass", "--algorithm", "trajopt", "--prior", "none", "--iterations", "2"]
_TRAIN += ["--config.rollouts.num-samples", "3", "--checkpoint.every-iterations", "1"]


@pytest.mark.parametrize("size", SIZES[1:-1] if TORTURE else [3000])
def test_a_full_disk_leaves_no_trace_at_exit(tmp_path: Path, size: int):
    environment = {**os.environ, "PYTHONPATH": str(Path(jgps.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(size), *_TRAIN, "--out", str(tmp_path / "run")],
        # What compiles is not kept: that would be too large as well.
        env={**environment, "JAX_ENABLE_COMPILATION_CACHE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    one = done.stderr.count("\n") == 1 and done.stderr.startswith("jgps: cannot write ")
    assert one, done.stderr


def test_output_that_cannot_be_written_is_said_once(tmp_path: Path):
    """To a full disk, and to a reader that has gone."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "jgps.cli.main", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(Path(jgps.__file__).parents[1])}
    with full.open("w") as output:
        done = subprocess.run(
            command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == (
        "jgps: output cannot be read or written (No space left on device); make room there and "
        "try again\n"
    )


@pytest.mark.skipif(not TORTURE, reason="make torture mounts a small disk")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kilobytes", [16, 64, 96, 128, 160, 192, 256, 320])
def test_a_disk_that_is_really_full(whole: TrainingResult, tmp_path: Path, kilobytes: int):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        with pytest.raises(TrainingError, match=r"No space left on device; .* free there\)"):
            train(disk / "run", iterations=30)
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        out = disk / "run"
        found = train(out, resume=(out / "config.json").exists())
        assert same_state(found, whole)
    except UsageError as error:
        assert "already has" in str(error)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("place", ["/proc/run", "/dev/null/run", "/sys/run"])
def test_where_nothing_can_be_written(place: str, capsys: pytest.CaptureFixture):
    """No user can, root included."""
    with pytest.raises(UsageError, match=f"cannot write into {place} .*choose another out"):
        train(Path(place))
    assert cli.main([*_TRAIN, "--out", place]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "choose another --out" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_directory_without_permission(run: Path, mode: int):
    run.chmod(mode)
    try:
        with pytest.raises(UsageError, match=r"Permission denied"):
            train(run, resume=True)
    finally:
        run.chmod(0o755)


def test_a_report_that_cannot_be_written_is_one_line(run: Path, capsys: pytest.CaptureFixture):
    with largest_file(3000):
        assert cli.main(["report", str(run)]) == 1
    figure = run / "figures" / "learning_curve.png"
    full = f"cannot write {figure} (File too large; "
    assert not figure.exists()
    (run / "figures").rmdir()
    (run / "figures").write_text("")
    assert cli.main(["report", str(run)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and full in lines[0] and f"cannot write {figure} (File ex" in lines[1]


def test_a_video_that_cannot_be_encoded_is_named(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "final.mp4"
    frames = rng.integers(0, 255, (30, 64, 64, 3)).astype(np.uint8)
    with (
        largest_file(2000),
        pytest.raises(WriteError, match=r"cannot write .*final.mp4 \(Error writing .* free there"),
        writing(path),
    ):
        write_video(path, frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("default::UserWarning")  # the command line shows it
@pytest.mark.parametrize("home", [None, "/proc/nobody", "/dev/null"])
def test_without_a_home_there_is_no_cache(
    home: str | None, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def nobody(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cli.main(["evaluate", str(run)]) == 0
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "no home directory" in errors and "XDG_CACHE" in errors


def test_one_run_at_a_time(run: Path, whole: TrainingResult, capsys: pytest.CaptureFixture):
    before = {path: path.lstat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    with lock.held(run):
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(UsageError, match=f"is in use by process {os.getpid()} on "):
                train(run, **options)
        assert cli.main([*_TRAIN, "--out", str(run), "--resume"]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and "choose another --out" in errors
        assert cli.main(["evaluate", str(run)]) == 0
    assert before == {path: path.lstat().st_mtime_ns for path in before}
    assert not (run / lock.NAME).exists()
    assert same_state(train(run, resume=True), whole)


def test_what_a_killed_process_left_locks_nobody_out(run: Path, whole: TrainingResult):
    (run / lock.NAME).write_text('{"pid": 1, "host": "gone", "since": "1970"}\n')
    assert same_state(train(run, resume=True), whole)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", "[" * 4096, b"[]", b"7", b"{}", bytes(99), b'{"pid": 1}'),
        *('{"pid": 1}'.encode(encoding) for encoding in ("utf-16", "utf-32-be", "utf-8-sig")),
    ],
)
def test_whatever_a_lock_says_it_is_held(tmp_path: Path, content: bytes | str):
    out = tmp_path / "run"
    with lock.held(out):
        (out / lock.NAME).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UsageError, match="is in use by another process; wait"):
            lock.held(out).__enter__()


def test_a_lock_that_was_deleted_is_none(tmp_path: Path):
    """Whoever waits for a file that its holder deletes has to take the next one."""
    first, second = tmp_path / "run", tmp_path / "run" / lock.NAME
    with lock.held(first):
        second.unlink()
        with lock.held(first), pytest.raises(UsageError, match="in use"):
            lock.held(first).__enter__()


def test_who_lost_the_lock_leaves_the_next_ones_alone(tmp_path: Path):
    out = tmp_path / "run"
    lost = lock.held(out)
    lost.__enter__()
    (out / lock.NAME).unlink()
    with lock.held(out):
        lost.__exit__(None, None, None)
        with pytest.raises(UsageError, match="in use"):
            lock.held(out).__enter__()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("jgps.training.lock.fcntl.flock", unsupported)
    message = r"cannot be locked \(No locks available\): .*so start"
    with pytest.warns(UserWarning, match=message) as warned:
        train(tmp_path / "run", iterations=1)
    assert warned[0].filename == train.__code__.co_filename


@pytest.mark.parametrize(
    ("number", "kind", "how"),
    [
        *((signal.SIGINT, KeyboardInterrupt, how) for how in HOW),
        # Both signals have one handler: of the other these are enough.
        *((signal.SIGTERM, Terminated, how) for how in (HOW if TORTURE else HOW[1:4:2])),
    ],
)
def test_signals_stop_a_run_after_saving(
    whole: TrainingResult, tmp_path: Path, number: int, kind: type[BaseException], how: str,
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
):  # fmt: skip
    """Also where Python raised the exception in a place where it is lost."""
    # Where tests run in the background of a shell, Ctrl-C is ignored from the beginning.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    save = checkpoint.save

    def save_interrupted(*arguments):
        signal.raise_signal(number)
        return save(*arguments)

    def on_iteration(record: dict) -> None:
        if how == "at once" and record["iteration"] == 1:
            signal.raise_signal(number)
        if how in ("swallowed", "changed", "at the end"):
            if record["iteration"] == (ITERATIONS - 1 if how == "at the end" else 1):
                try:
                    signal.raise_signal(number)
                except BaseException as error:
                    if how == "changed":
                        raise RuntimeError("XlaRuntimeError: INTERNAL") from error
        if how == "while saving" and record["iteration"] == 0:
            monkeypatch.setattr(checkpoint, "save", save_interrupted)

    out = tmp_path / "run"
    with pytest.raises(kind) as stop:
        train(out, on_iteration=on_iteration)
    monkeypatch.undo()
    if kind is Terminated:
        assert stop.value.code == 128 + signal.SIGTERM
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    done = ITERATIONS if how == "at the end" else 2
    assert checkpoint.iterations(out)[-1] == len(read_metrics(out).records) == done
    found = train(out, resume=True)
    assert same_state(found, whole)
    assert without_seconds(found.metrics) == without_seconds(whole.metrics)


def test_handlers_of_the_process_are_called_as_ever():
    caught = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGTERM)
            with interrupts.held():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                assert caught == [signal.SIGTERM]
            interrupts.check()
        assert caught == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated(143), 143)])
def test_the_command_line_ends_as_shells_expect(
    stop: BaseException, code: int, tmp_path: Path, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    def fail(*_, on_start, **__) -> None:
        on_start(0)
        raise stop

    monkeypatch.setattr("jgps.training.train", fail)
    assert cli.main([*_TRAIN, "--out", str(tmp_path)]) == code
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "--resume" in errors and "saved in" in errors


def test_another_machine_is_named_when_a_run_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(run, resume=True)
    monkeypatch.setattr("jgps.training.description.cores", lambda: 64)
    with pytest.warns(UserWarning, match=r"\(cores: \d+ before, 64 now\), so that results differ"):
        train(run, resume=True)
