"""Fixtures and settings that all tests share; every test seeds itself."""

import gc
import os
import pathlib

import cpu_budget
import jax
import numpy as np
import pytest
from xla_flags import compile_fast

# Programs compiled by an earlier run are reused. This goes through the environment as well, for the
# command lines that tests start. It changes how long tests take, nothing else.
SETTINGS = {
    "jax_compilation_cache_dir": str(pathlib.Path(__file__).parents[1] / ".jax_cache"),
    "jax_persistent_cache_min_compile_time_secs": "0",
    "jax_persistent_cache_min_entry_size_bytes": "-1",
    # Where in Python an operation comes from is not written into what is compiled.
    "jax_traceback_in_locations_limit": "0",
}
compile_fast()
for name, value in SETTINGS.items():
    value = os.environ.setdefault(name.upper(), value)
    jax.config.update(name, value if name.endswith("dir") else int(value))
# Tracing makes so many objects that looking for unused ones takes up to a tenth of the time.
gc.set_threshold(100_000, 50, 100)
# A process may have 65,530 of them, and the file that needs most makes 20,000.
MANY_MAPS = 35_000


def _rank(item: pytest.Item) -> int:
    """The place of a test's file among the longest, behind all of them where it is not there."""
    longest = cpu_budget.LONGEST
    path = item.path.as_posix()
    return next((i for i, name in enumerate(longest) if path.endswith(name)), len(longest))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; skips tests marked `gpu` on a machine without an accelerator."""
    items.sort(key=_rank)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and jax.default_backend() == "cpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="JAX has no accelerator on this machine"))


def _within_budget(item: pytest.Item):
    """Fails a test whose set-up or call takes too much processor time."""
    before = cpu_budget.spent()
    result = yield
    slow = item.get_closest_marker("slow") is not None
    sentence = cpu_budget.complaint(cpu_budget.spent() - before, slow)
    if sentence is not None:
        pytest.fail(sentence, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    return (yield from _within_budget(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    return (yield from _within_budget(item))


def _memory_maps() -> int | None:
    """How many pieces of memory this process maps, None where the system does not tell."""
    try:
        return pathlib.Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return None


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Lets go of compiled programs: a process may map 65,530 pieces of memory, XLA takes many.

    Past that a test process dies while it reads or compiles a program. Until then what one module
    traced, down to the functions of jax.numpy, spares the next ones time.
    """
    yield
    maps = _memory_maps()
    if maps is None or maps > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key() -> jax.Array:
    """The key of seed 0."""
    return jax.random.key(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy's generator of seed 0."""
    return np.random.default_rng(0)


@pytest.fixture
def x64():
    """Enables float64 inside one test."""
    with jax.enable_x64(True):
        yield
