"""Finds out what this machine computes on, and keeps compiled programs for the next run."""

import contextlib
import importlib
import io
import os
from pathlib import Path

import jax

from jgps.simulation import num_threads, resolve_backend
from jgps.training import UsageError


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user's environment says where or how."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for name, value in (
        ("jax_compilation_cache_dir", str(base / "jgps")),
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        ("jax_persistent_cache_min_entry_size_bytes", -1),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def check_backend(name: str) -> None:
    """Imports the backend, and keeps MJX from printing that optional parts are not installed.

    Raises:
      UsageError: if there is no such backend.
    """
    try:
        if resolve_backend(name) == "mjx":
            with contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module("mujoco.mjx")
    except ValueError as error:
        raise UsageError(str(error)) from None


def where(backend: str) -> str:
    """Returns the backend and the device that it runs on, in words."""
    name = resolve_backend(backend)
    device = f"{num_threads()} threads" if name == "native" else jax.devices()[0].device_kind
    return f"{name} on {device}"
