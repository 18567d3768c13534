"""Finds out what this machine computes on, and keeps compiled programs for the next run."""

import contextlib
import importlib
import io
import os
from pathlib import Path

import jax

from jgps.core.warn import warn
from jgps.simulation import System, num_threads, resolve_backend
from jgps.training import UsageError

_CACHE = "jax_compilation_cache_dir"


def check_platform() -> None:
    """Makes sure that JAX has a device, which it looks for when it first needs one.

    Raises:
      UsageError: it has none, for instance because JAX_PLATFORMS names none of this machine.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a plugin is missing
        asked = os.environ.get("JAX_PLATFORMS")
        remedy = "set JAX_PLATFORMS to cpu"
        if asked:
            remedy = f"JAX_PLATFORMS is {asked!r}; leave it out, or set it to cpu"
        said = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise UsageError(f"JAX finds no device to compute on{said}; {remedy}") from None


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user's environment says where or how."""
    settings: dict[str, str | float] = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        # Programs are lowered and compiled in a twentieth less time without places in Python.
        "jax_traceback_in_locations_limit": 0,
    }
    if _CACHE.upper() not in os.environ:
        directory = _cache_directory()
        if directory is None:
            warn(
                "there is no home directory to keep compiled programs in, so that every run "
                "compiles anew; set XDG_CACHE_HOME to a directory that can be written"
            )
            return
        settings[_CACHE] = str(directory)
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _cache_directory() -> Path | None:
    """Where compiled programs are kept; None where nothing can be written."""
    try:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jgps"
        if not path.is_absolute():  # HOME is empty
            return None
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows the home of this user
        return None
    return path if os.access(path, os.W_OK) else None


def check_backend(name: str, system: System | None = None) -> None:
    """Imports the backend, and keeps MJX from printing that optional parts are not installed.

    Args:
      name: of the backend, or "auto".
      system: of the task; None where it is not known yet.

    Raises:
      UsageError: if there is no such backend, or it can't roll the task out.
    """
    try:
        if resolve_backend(name, system) == "mjx":
            with contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module("mujoco.mjx")
    except ValueError as error:
        raise UsageError(str(error)) from None


def where(backend: str, system: System) -> str:
    """Returns the backend that rolls a task out, and the device that it runs on, in words."""
    name = resolve_backend(backend, system)
    device = f"{num_threads()} threads" if name == "native" else jax.devices()[0].device_kind
    return f"{name} on {device}"
