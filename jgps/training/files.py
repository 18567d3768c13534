"""Files of a run: read with one sentence on what is wrong, written as a whole or not at all."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jgps.core.names import shown
from jgps.training.errors import DamagedError, UsageError, WriteError

CHECKSUM = "checksum"  # key of a JSON object that says what the rest of it was when it was written
_MAX_DEPTH = 50  # of lists and objects in each other; what jgps writes has less than ten
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of disks, quotas and limits


def as_path(name: str, value: Any) -> Path:
    """A path of a directory that can be written and read again on every system.

    Args:
      name: of the argument, for messages.
      value: text or a path.

    Raises:
      UsageError: it is something else, is empty, or is no text in UTF-8, which checkpoints need.
    """
    if not isinstance(value, str | Path):
        raise UsageError(f"{name} is {shown(value)}; it has to be a path")
    text = str(value)
    if not text:
        raise UsageError(f"{name} is empty; it has to name a directory")
    if "\0" in text or not _is_unicode(text):
        raise UsageError(f"{name} is {shown(text)}; it has to be text in UTF-8 without NUL bytes")
    return Path(value)


def exists(path: Path) -> bool:
    """Whether there is anything of that name, a link that leads nowhere included."""
    return os.path.lexists(path)


def read_bytes(path: Path, remedy: str) -> bytes:
    """The content of a regular file.

    Args:
      path: of the file.
      remedy: what to do where it cannot be read.

    Raises:
      DamagedError: it is missing, is something else or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            kind = "a directory" if path.is_dir() else "no regular file"
            raise DamagedError(f"{path} is {kind}; {remedy}")
        return path.read_bytes()
    except FileNotFoundError:
        wrong = "is missing"
        with contextlib.suppress(OSError):
            wrong = f"is a link to {os.readlink(path)}, which does not exist"
    except OSError as error:
        wrong = f"cannot be read ({_reason(error)})"
    raise DamagedError(f"{path} {wrong}; {remedy}")


def parse_json(content: bytes) -> dict[str, Any]:
    """A JSON object whose checksum, if it has one, is right; without the checksum.

    Raises:
      ValueError: it is something else; the message says what, as in "is not JSON".
    """
    foreign = describe_encoding(content)
    if foreign:
        raise ValueError(foreign)
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not an object")
    _check_values(value)
    if CHECKSUM in value and value.pop(CHECKSUM) != checksum(value):
        raise ValueError(
            "was changed since it was written (its checksum is that of another content; take the "
            "checksum out if the change is meant)"
        )
    return value


def describe_encoding(content: bytes) -> str:
    """What is said of JSON that is no text in UTF-8 by its NUL bytes; empty where it has none."""
    if b"\0" not in content:
        return ""
    encoding = json.detect_encoding(content[:4])  # which takes it for JSON
    if encoding != "utf-8" and content.decode(encoding, "ignore").lstrip().startswith(("{", "[")):
        return f"is in {encoding[:6].upper()} and has to be in UTF-8"
    return "holds NUL bytes, as a crash of the machine leaves them"


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file, without its checksum.

    Args:
      path: of the file.
      remedy: what to do where it cannot be read.

    Raises:
      DamagedError: the file cannot be read, holds something else or was changed.
    """
    content = read_bytes(path, remedy)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DamagedError(f"{path} {error}; {remedy}") from None


def read_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of numbers in an `.npz` file.

    Args:
      path: of the file.
      remedy: what to do where it cannot be read.

    Raises:
      DamagedError: the file cannot be read, is no such archive, or holds anything but numbers.
    """
    content = read_bytes(path, remedy)
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_number(content, len(archive.namelist()))
            for name in archive.namelist():
                # Read whole first, which compares its checksum; only then its header is believed.
                array = np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
                if array.dtype.kind not in "biuf":
                    raise ValueError(f"{name} holds {array.dtype}, not numbers")
                arrays[name.removesuffix(".npy")] = array
    except (
        ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError, struct.error,
        zipfile.BadZipFile, zlib.error, MemoryError, OverflowError,
    ) as error:  # fmt: skip
        raise DamagedError(f"{path} cannot be read ({_reason(error)}); {remedy}") from None
    return arrays


def _check_number(content: bytes, found: int) -> None:
    """Refuses an archive whose directory, which has no checksum, lost some of its files.

    Raises:
      ValueError: the archive's last record counts other than those that were found.
    """
    signature, *_, number = struct.unpack("<4s4xHH10x", content[-22:])
    if signature == b"PK\5\6" and number != found:  # else a comment follows the record
        raise ValueError(f"it has {found} of {number} arrays")


def checksum(content: Mapping[str, Any]) -> str:
    """Of a JSON object, whatever the order of its keys and the spaces it is written with."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum that `parse_json` looks at."""
    return {**content, CHECKSUM: checksum(content)}


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all.

    Raises:
      WriteError: it cannot be written, for instance because the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb", buffering=0) as file:
            write_all(file, content)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # which would hide what went wrong
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, len(content), error) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum, as a whole or not at all.

    Raises:
      WriteError: it cannot be written, for instance because the disk is full.
    """
    text = json.dumps(with_checksum(content), indent=2) + "\n"
    write_bytes(path, text.encode())


def write_all(file: io.RawIOBase | io.FileIO, content: bytes) -> None:
    """Writes to a file without a buffer, from which nothing is left to be written at exit."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What others raise while they write a file is one error, which names it.

    Raises:
      WriteError: the system, or the encoder of a video, cannot write it.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise cannot_write(path, None, error) from None


def cannot_write(path: Path, size: int | None, error: BaseException) -> WriteError:
    """The error to raise where a file cannot be written, of so many bytes if they are known."""
    sizes = "" if size is None else f"; {_in_words(size)} to write"
    with contextlib.suppress(OSError):
        sizes += f", {_in_words(shutil.disk_usage(path.parent).free)} free there"
    full = not isinstance(error, OSError) or error.errno in FULL or error.errno is None
    remedy = "make room there" if full else "see to it that this user may write there"
    return WriteError(
        f"cannot write {path} ({_reason(error)}{sizes}); {remedy}, and resume the run or repeat "
        "the command"
    )


def remove(path: Path) -> None:
    """Deletes a file, a link or a directory with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_values(value: Any, depth: int = 0) -> None:
    """Refuses what JSON allows and nobody can print, store as float64 or walk through.

    Raises:
      ValueError: text that is no Unicode, too large a number, or too many brackets in each other.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("is nested too deeply")
    if isinstance(value, str):
        if not _is_unicode(value):
            raise ValueError("holds text that is not Unicode")
    elif isinstance(value, int) and abs(value) > 2**1000:
        raise ValueError("holds a number that is too large")
    elif isinstance(value, list):
        for each in value:
            _check_values(each, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_values(key, depth)
            _check_values(each, depth + 1)


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a character, by which Python stands for bytes of no encoding."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _reason(error: BaseException) -> str:
    """What an exception says, in a few words."""
    text = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
    return " ".join(text.split())[:200]


def _in_words(size: float) -> str:
    """A number of bytes with a unit."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
