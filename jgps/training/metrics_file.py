"""`metrics.jsonl`, one line per iteration with a checksum, and the same as TensorBoard events."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jgps.training.errors import DamagedError
from jgps.training.files import (
    CHECKSUM,
    cannot_write,
    describe_encoding,
    exists,
    parse_json,
    read_bytes,
    with_checksum,
    write_all,
    write_bytes,
)
from jgps.training.metrics import MAX_LISTED, Record, quantiles
from jgps.training.tensorboard import EventFile

NAME = "metrics.jsonl"
MAX_ITERATIONS = 10**9
_NAMED = 5  # damaged lines that a message names


class Metrics(NamedTuple):
    """What `metrics.jsonl` of a run says."""

    records: list[Record]  # one per iteration, in order; see `lost_record`
    problem: str  # a sentence on what is damaged, empty where nothing is


def lost_record(iteration: int) -> Record:
    """What stands for an iteration whose line is lost: nothing but its number."""
    return {"iteration": iteration}


def pad(records: Sequence[Record], iterations: int) -> list[Record]:
    """The first records, as many as there are iterations; where there is none, it is lost."""
    missing = range(len(records), iterations)
    return [*records[:iterations], *(lost_record(i) for i in missing)]


class MetricsLog:
    """Appends records to `metrics.jsonl` and to TensorBoard events in a run directory."""

    def __init__(self, directory: Path, kept: list[Record]):
        """Begins with `kept` records of an earlier session; everything after them is dropped.

        Raises:
          WriteError: the files cannot be written.
        """
        self._path = directory / NAME
        write_bytes(self._path, b"".join(_line(record) for record in kept))
        try:
            self._file = io.FileIO(self._path, "a")
        except OSError as error:
            raise cannot_write(self._path, 0, error) from None
        self._events = EventFile(directory / "tensorboard", len(kept))

    def append(self, record: Record) -> None:
        """Writes one iteration, so that it survives a crash of this process.

        `metrics.jsonl` gets all of it. TensorBoard gets the mean over conditions of every metric,
        and one scalar per condition, or `quantiles` of more than `MAX_LISTED` conditions.

        Raises:
          WriteError: the files cannot be written, for instance because the disk is full.
        """
        line = _line(record)
        try:
            write_all(self._file, line)
        except OSError as error:
            raise cannot_write(self._path, len(line), error) from None
        self._events.append(_scalars(record), record["iteration"])

    def sync(self) -> None:
        """Waits until what is written would survive a crash of the machine.

        Raises:
          WriteError: the disk cannot take it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, 0, error) from None

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._events.close()


def read_metrics(directory: Path) -> Metrics:
    """The records of a run directory, in order.

    Lines that are damaged lose their own iterations and no others: these are `lost_record`s where
    later lines are whole. A last line that is half written is left out without a word.
    """
    path = directory / NAME
    if not exists(path):
        return Metrics([], "")
    try:
        content = read_bytes(path, "what it said is left out")
    except DamagedError as error:
        return Metrics([], str(error))
    lines = content.split(b"\n")
    records: list[Record] = []
    damaged = []
    for number, line in enumerate(lines, start=1):
        record = _parse(line, number - 1, len(damaged))
        if record is None and number == len(lines):  # perhaps whole, and what ended it is damaged
            record = _parse(line[:-1], number - 1, len(damaged))
        if record is not None and record["iteration"] >= len(records):
            records = [*pad(records, record["iteration"]), record]
        elif number < len(lines):  # the last one was not written to its end
            damaged.append(number)
    foreign = "" if records else describe_encoding(content)
    if foreign:
        return Metrics([], f"{path} {foreign}; what it said is left out")
    return Metrics(records, _describe(path, damaged, records))


def _describe(path: Path, damaged: Sequence[int], records: Sequence[Record]) -> str:
    lost = [record["iteration"] for record in records if record == lost_record(record["iteration"])]
    parts = []
    if damaged:
        parts.append(f"line{'s' * (len(damaged) > 1)} {_list(damaged)} of {path} cannot be read")
    if lost:
        parts.append(f"the metrics of iteration{'s' * (len(lost) > 1)} {_list(lost)} are lost")
        parts[-1] += "" if damaged else f" in {path}"
    rest = "the others are used" if records else "none is left"
    return "; ".join([*parts, rest]) if parts else ""


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(each) for each in numbers[:_NAMED])
    return shown if len(numbers) <= _NAMED else f"{shown} and {len(numbers) - _NAMED} more"


def _line(record: Record) -> bytes:
    return json.dumps(with_checksum(record)).encode() + b"\n"


def _parse(line: bytes, index: int, shift: int) -> Record | None:
    """The record in a line; None where it is not whole.

    A line of before there were checksums says little of whether it is whole: its iteration has to
    be its index, or away from it by as many lines as are damaged before, which may have been
    divided or joined.
    """
    try:
        record = parse_json(line)
    except ValueError:
        return None
    signed = f'"{CHECKSUM}"'.encode() in line
    at = record.get("iteration")
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < MAX_ITERATIONS:
        return None
    if not all(map(_is_metric, record.values())):
        return None
    seconds = (value for name, value in record.items() if name.endswith("_seconds"))
    if not all(isinstance(value, int | float) for value in seconds):
        return None
    if not isinstance(record.get("cost", []), list):
        return None
    return record if signed or abs(at - index) <= shift else None


def _is_metric(value: Any) -> bool:
    """Whether a value is numbers, with null where one was not finite."""
    if isinstance(value, list):
        return all(map(_is_metric, value))
    if isinstance(value, dict):
        return all(map(_is_metric, value.values()))
    return value is None or isinstance(value, int | float)


def _scalars(record: Record) -> dict[str, float]:
    """What TensorBoard shows of an iteration."""
    scalars = {}
    for name, value in record.items():
        values = value if isinstance(value, list) else [value]
        numbers = [each for each in values if each is not None]
        if numbers:
            scalars[name] = float(np.mean(numbers))
        scalars |= {f"{name}/{part}": each for part, each in _parts(values).items()}
    return scalars


def _parts(values: Sequence[float | None]) -> dict[str, float]:
    """The scalars beside the mean that TensorBoard shows of a metric, by their names."""
    if len(values) > MAX_LISTED:
        return quantiles(values)
    if len(values) == 1:
        return {}
    return {str(c): float(each) for c, each in enumerate(values) if each is not None}
