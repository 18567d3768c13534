"""One process at a time writes into a run directory."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from jgps.core.warn import warn
from jgps.training.errors import UsageError
from jgps.training.files import parse_json

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

NAME = ".jgps.lock"
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # by another process


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keeps other processes out of a directory until the block or this process ends.

    The system locks an open file, `NAME`, and lets go of it with the process that opened it and
    those that this one forked, however they end. What the file says is for people. The directory
    is made if there is none, and taken away again if it is empty in the end.

    Raises:
      UsageError: another process, or another run in this one, holds the directory.
      OSError: the directory cannot be written.
    """
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    file = _open_locked(path)
    try:
        os.ftruncate(file, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        with contextlib.suppress(OSError):  # of a full disk: it is locked all the same
            os.write(file, json.dumps(holder).encode() + b"\n")
        yield
    finally:
        with contextlib.suppress(OSError):  # somebody deleted it, or the directory
            if _is_open(path, file):  # and not another's, made since this one was deleted
                path.unlink()
        os.close(file)
        if made:
            with contextlib.suppress(OSError):  # there is something in it, as there should be
                directory.rmdir()


def _open_locked(path: Path) -> int:
    """The descriptor of the lock file, locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(file, path)
            # Whoever held it before may have deleted it since it was opened here.
            if _is_open(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, path: Path) -> None:
    if fcntl is None:
        _warn(path, "this system has no fcntl")
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise UsageError(_describe(file, path)) from None
        _warn(path, os.strerror(error.errno or 0))


def _is_open(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _warn(path: Path, reason: str) -> None:
    warn(
        f"{path.parent} cannot be locked ({reason}): nothing keeps a second process from writing "
        "into it and spoiling the run, so start none"
    )


def _describe(file: int, path: Path) -> str:
    """Who holds the lock, as far as it says so."""
    try:
        holder = parse_json(os.pread(file, 4096, 0))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError):
        who = "another process"  # which has not written its name yet
    return (
        f"{path.parent} is in use by {who}; wait until it has finished or end it, or choose "
        "another out"
    )
