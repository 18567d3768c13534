"""Times functions, and records the machine that they were timed on."""

import gc
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = ("jgps", "jax", "jaxlib", "mujoco", "mujoco-mjx", "numpy", "crocoddyl", "warp-lang")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")

Row = dict[str, Any]


def compiled(function: Callable, *args) -> tuple[Callable, float]:
    """Compiles the function for these arguments; returns it and the seconds that this took."""
    start = time.perf_counter()
    lowered = function if hasattr(function, "lower") else jax.jit(function)
    executable = lowered.lower(*args).compile()
    return executable, time.perf_counter() - start


def times(
    functions: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 2
) -> dict[str, np.ndarray]:
    """Measures the seconds of every run of every function, [repeats] each.

    The functions take turns, so that whatever else the machine does hits all of them alike.
    """
    for function in functions.values():
        for _ in range(warm_up):
            jax.block_until_ready(function())
    seconds = {name: np.zeros(repeats) for name in functions}
    gc.collect()
    for repeat in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name][repeat] = time.perf_counter() - start
    return seconds


def row(name: str, seconds, unit: str = "ms", scale: float = 1e3, **extra) -> Row:
    """Makes one line of a result: median and quartiles of the time, or of the rate.

    Args:
      name: what was timed.
      seconds: seconds of every run, [repeats].
      unit: unit of the result; one that ends in "/s" is a rate.
      scale: units in a second, by which seconds are multiplied; for a rate the work done in one
        run, which is divided by seconds.
      extra: other entries of the line, such as `peer_of` and `compile_s`.
    """
    seconds = np.asarray(seconds, np.float64)
    values = scale / seconds if unit.endswith("/s") else scale * seconds
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        "name": name,
        "unit": unit,
        "median": float(middle),
        "quartiles": [float(low), float(high)],
        "best": float(values.max() if unit.endswith("/s") else values.min()),
        "runs": int(seconds.size),
        **extra,
    }


def environment() -> dict[str, Any]:
    """Returns the hardware, versions and settings that a timing depends on."""
    return {
        "cpu": _cpu_name(),
        "cores": _usable_cores(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "accelerator": None if jax.default_backend() == "cpu" else jax.devices()[0].device_kind,
        "jax_backend": jax.default_backend(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "compilation_cache": bool(os.environ.get("JAX_COMPILATION_CACHE_DIR")),
        "revision": _revision(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Returns the git revision of the code, with a plus where it was changed; None without git."""
    folder = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(
                ["git", *command], cwd=folder, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changes else "")
