"""Ctrl-C and SIGTERM: the state is saved first, and neither is ever lost."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from jgps.training.errors import Terminated, WriteError


class Interrupts:
    """Ctrl-C and SIGTERM inside a `with` block of the main thread.

    Ctrl-C is a KeyboardInterrupt and SIGTERM a `Terminated`, where the process has no handlers of
    its own; such handlers are called as ever. While they are `held`, both wait: orbax writes from
    threads that they would cut off. Python raises such exceptions anywhere, in callbacks of C code
    and destructors too, where they are lost or become others; `check`, and the end of the block,
    raise them again.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._held = False
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._stop: int | None = None  # the signal that ends the block

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if callable(before) or before is signal.SIG_DFL:  # not where it is ignored
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        # What could not be written is said in any case: it is what the user has to know.
        known = isinstance(error, KeyboardInterrupt | Terminated | WriteError)
        if self._stop is not None and not known:
            self._raise(self._stop)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Signals wait until the block is done."""
        self._held = True
        try:
            yield
        except WriteError:  # which ends the run, as the signals would
            self._waiting = []
            raise
        finally:
            self._held = False
            waiting, self._waiting = self._waiting, []
            for number, frame in waiting:
                self._deliver(number, frame)

    def check(self) -> None:
        """Raises again what was lost."""
        if self._stop is not None:
            self._raise(self._stop)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting.append((number, frame))
        else:
            self._deliver(number, frame)

    def _deliver(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
            return
        self._stop = number
        self._raise(number)

    def _raise(self, number: int) -> None:
        if number == signal.SIGTERM:
            raise Terminated(128 + number)
        raise KeyboardInterrupt
