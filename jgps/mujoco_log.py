"""MuJoCo's own messages."""

import contextlib
import threading
from collections.abc import Iterator

import mujoco

_LOCK = threading.Lock()
_INSIDE = 0
_BEFORE: tuple[bool, bool] = True, True


@contextlib.contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Keeps MuJoCo from printing warnings, and from writing them to MUJOCO_LOG.TXT.

    What they say is in `MjData.warning`, which callers read where it counts. Uses may be nested and
    overlap in several threads; after the last one MuJoCo is as it was before the first. A handler
    of the user's own is called as always. It also decorates functions.
    """
    global _INSIDE, _BEFORE
    with _LOCK:
        if _INSIDE == 0:
            config = mujoco.MjLogConfig.get()
            _BEFORE = config.logto_console, config.logto_file
            _set_log(False, False)
        _INSIDE += 1
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if _INSIDE == 0:
                _set_log(*_BEFORE)


def _set_log(console: bool, file: bool) -> None:
    config = mujoco.MjLogConfig.get()
    config.logto_console, config.logto_file = console, file
    config.set()
