"""Metrics of every iteration as plain Python, and what can be said of many of them."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.monitoring
import numpy as np

Record = dict[str, Any]  # one iteration: numbers and lists of numbers

MAX_LISTED = 32  # conditions that are shown one by one; more of them are summarised
NUM_WORST = 5  # conditions that a summary names
_QUANTILES = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "max": 1.0}


def quantiles(values: Sequence[float | None] | np.ndarray) -> dict[str, float]:
    """The quantiles of the finite numbers among some values.

    Args:
      values: one number per condition; None and NaN where there is none.

    Returns:
      The least, the 10%, 50% and 90% quantiles and the greatest, named min, p10, p50, p90 and max;
      nothing where no value is finite.
    """
    numbers = np.asarray(values, float)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return {}
    found = np.quantile(finite, list(_QUANTILES.values()))
    return dict(zip(_QUANTILES, found.tolist(), strict=True))


def highest(values: Sequence[float | None] | np.ndarray, count: int = NUM_WORST) -> list[int]:
    """The conditions with the highest values, the highest first.

    A value that is not finite counts as higher than any other, and of equal ones the first comes
    first.
    """
    numbers = np.asarray(values, float)
    order = np.argsort(-np.where(np.isfinite(numbers), numbers, np.inf), kind="stable")
    return order[:count].tolist()


def plain(value: Any) -> Any:
    """An array or scalar as Python numbers and lists; None where a number is not finite.

    float32 values convert exactly, so that equal records mean equal bits.
    """
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class CompileClock:
    """Seconds that JAX spent on tracing, lowering and compiling inside a `with` block."""

    def __enter__(self) -> "CompileClock":
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            self._spans.append((end - duration_secs, end))

    def take(self) -> float:
        """Seconds since the last call; nested spans count once."""
        total, covered = 0.0, -math.inf
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, covered))
            covered = max(covered, end)
        self._spans.clear()
        return total
