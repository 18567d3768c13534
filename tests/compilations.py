"""How many programs a call compiles."""

from collections.abc import Callable
from typing import Any

import jax


def count_compilations(function: Callable[..., Any], *args: Any) -> int:
    """Number of programs that XLA compiles while `function(*args)` runs."""
    events = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(function(*args))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(events)
