"""Event files for TensorBoard, written by the thread that asks for it."""

import importlib
import io
import itertools
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jgps.training.files import cannot_write, write_all


class EventFile:
    """Appends scalars to a new event file in a directory.

    tensorboardX's own writer has threads: one that cannot write ends with a traceback, and leaves
    its queue to fill up until training waits for ever.
    """

    def __init__(self, directory: Path, first: int):
        """Makes the file; events of earlier files from iteration `first` on are hidden.

        Raises:
          WriteError: the file cannot be made.
        """
        # Slow to import; what its modules hold is made when they are imported.
        self._events: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        self._summaries: Any = importlib.import_module("tensorboardX.proto.summary_pb2")
        self._file, self.path = _new_file(directory)
        self._write(file_version="brain.Event:2")
        if first:
            log = self._events.SessionLog
            self._write(step=first, session_log=log(status=log.START))

    def append(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Writes the scalars of one iteration.

        Raises:
          WriteError: the file cannot be written.
        """
        summary = self._summaries.Summary
        values = [summary.Value(tag=k, simple_value=v) for k, v in scalars.items()]
        self._write(step=iteration, summary=summary(value=values))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, **event: Any) -> None:
        from tensorboardX.record_writer import masked_crc32c

        data = self._events.Event(wall_time=time.time(), **event).SerializeToString()
        length = struct.pack("<Q", len(data))
        sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        content = b"".join((length, next(sums), data, next(sums)))
        try:
            write_all(self._file, content)
        except OSError as error:
            raise cannot_write(self.path, len(content), error) from None


def _new_file(directory: Path) -> tuple[io.FileIO, Path]:
    """A file with a name of its own, also where two are made in one second."""
    stem = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
    path = directory / stem
    try:
        directory.mkdir(exist_ok=True)
        for number in itertools.count(1):
            try:
                return io.FileIO(path, "x"), path
            except FileExistsError:
                path = directory / f"{stem}.{number}"
    except OSError as error:
        raise cannot_write(path, 0, error) from None
    raise AssertionError("itertools.count ends")
