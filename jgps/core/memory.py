"""Whether this machine has the memory that something takes at the very least."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax

# Of control groups, by which a container or a cluster's job is bounded: of version 2, and of 1.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available() -> int:
    """Bytes that a process can still have, on the host and on JAX's default device alike."""
    found = [_of_the_host(), *_of_containers()]
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None and "bytes_limit" in stats:
        found.append(int(stats["bytes_limit"]))
    return min(found)


def require(what: str, parts: Mapping[str, int], remedy: str) -> None:
    """Refuses what takes more memory than there is, before any of it is taken.

    Args:
      what: takes it.
      parts: bytes that it takes at the very least, by what for.
      remedy: what to do.

    Raises:
      ValueError: "what would need at least X GiB, ... for part; Y GiB are available; <remedy>".
    """
    needed, there = sum(parts.values()), available()
    if needed <= there:
        return
    largest = max(parts, key=lambda part: parts[part])
    raise ValueError(
        f"{what} would need at least {_gib(needed)} GiB of memory, {_gib(parts[largest])} of them "
        f"for {largest}; {_gib(there)} GiB are available; {remedy}"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f}"


def _of_the_host() -> int:
    """Without swapping, where the system tells; otherwise all that is built in."""
    told = Path("/proc/meminfo")
    if told.exists():
        for line in told.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return 1024 * int(value.split()[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_containers() -> list[int]:
    """The limits of control groups; "max" is none."""
    texts = [Path(each).read_text().strip() for each in LIMITS if Path(each).exists()]
    return [int(text) for text in texts if text.isdigit()]
