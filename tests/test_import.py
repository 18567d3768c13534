"""Importing jgps has no side effect, is quick, and finds no accelerator on its own."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, time
import jax
import jax._src.xla_bridge as bridge  # whether a backend runs is not public
import numpy as np

environment = dict(os.environ)
config = {name: repr(value) for name, value in jax.config.values.items()}
printing = repr(np.get_printoptions())
start = time.perf_counter()
import jgps
seconds = time.perf_counter() - start
after = {name: repr(value) for name, value in jax.config.values.items()}
print(json.dumps({
    "seconds": seconds,
    "environment": sorted(set(environment.items()) ^ set(os.environ.items())),
    "config": sorted(name for name in config if config[name] != after[name]),
    "printing_changed": printing != repr(np.get_printoptions()),
    "backend_started": bridge.backends_are_initialized(),
}))
"""


@pytest.fixture(scope="module")
def report() -> dict:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120
    )
    assert process.stderr == ""
    return json.loads(process.stdout)


def test_import_leaves_the_environment_alone(report: dict):
    assert report["environment"] == []


def test_import_leaves_jax_and_numpy_settings_alone(report: dict):
    assert report["config"] == []
    assert not report["printing_changed"]


def test_import_starts_no_backend(report: dict):
    assert not report["backend_started"]


def test_import_is_quick(report: dict):
    # A few seconds on two cores, nearly all of it third parties; the bound is for a busy machine.
    assert report["seconds"] < 15
