"""Hashes that tell the functions of tasks apart."""

import ast
import copy
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jgps
from jgps.training.description import _hash

TRACE = """
import jax, jax.numpy as jnp, numpy as np, dataclasses, jgps
from jgps.training.description import _function_hashes
table = np.arange(4.0)
@jax.jit
def inner(x):
    return jnp.sum(table * x)
@jax.custom_jvp
def square(x):
    return x * x
square.defjvp(lambda p, t: (square(p[0]), 2 * p[0] * t[0]))
def cost(x, u, t):
    return inner(x) + jnp.sum(square(u))
task = dataclasses.replace(jgps.tasks.make("point_mass"), cost=cost)
print(_function_hashes(task))
table = table + 1e-3
jax.clear_caches()
print(_function_hashes(task))
"""


def test_hashes_of_functions_are_the_same_in_another_process_and_see_constants():
    root = str(Path(jgps.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", TRACE],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    first, second = map(ast.literal_eval, outputs[0].splitlines())
    assert first["cost"] != second["cost"]
    assert (first["success"], first["distance"]) == (second["success"], second["distance"])


def test_the_hash_of_a_model_sees_what_mjx_simulates_in_its_place():
    task = jgps.tasks.make("peg_insertion")
    bare = dataclasses.replace(task, mjx_model=None)
    other = copy.copy(task.mjx_model)
    assert other is not None
    other.geom_solref[-1] *= 2
    changed = dataclasses.replace(task, mjx_model=other)
    hashes = [_hash(each) for each in (task, dataclasses.replace(task), bare, changed)]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
