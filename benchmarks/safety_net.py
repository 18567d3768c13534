"""Metrics of short runs with fixed seeds, bit for bit: a change of structure leaves them alone.

    python benchmarks/safety_net.py record FILE.json [CASE ...]   before the change
    python benchmarks/safety_net.py check FILE.json [CASE ...]    after it, on the same machine

Floats are compared as they are in memory. Another processor, another JAX or other XLA flags give
other last bits: record on the machine that checks. All programs are compiled with XLA's own options
(see `jgps.core.compile_options`), as those of the code that the committed record was made with.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import tempfile

import jax
import numpy as np

import jgps
from jgps import tasks
from jgps.algorithms import (
    ALGORITHMS,
    FixedStartsConfig,
    LqrStepConfig,
    MdgpsConfig,
    MlpConfig,
    OffsetConfig,
    RandomStartsConfig,
    RegressionConfig,
    VisualConfig,
    mdgps,
)
from jgps.core import compile_options
from jgps.dynamics import MixturePriorConfig, NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig
from jgps.vision.pose_regression import PoseConfig


def hexed(metrics):
    out = {}
    for k, v in sorted(metrics.items()):
        a = np.asarray(v)
        out[k] = [float(x).hex() if a.dtype.kind == "f" else int(x) for x in a.ravel()]
    return out


def leaves(tree):
    h = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        h.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return h.hexdigest()[:16]


def go(make, task, config, iterations, backend="native", seed=0):
    run = make(task, config, backend=backend)
    state = run.init(jax.random.key(seed))
    rows = []
    for _ in range(iterations):
        state, metrics = run.step(state)
        rows.append(hexed(metrics))
    result = jgps.evaluate(task, state.policy, key=jax.random.key(1), backend=backend)
    rows.append(
        {
            f"{s}_{n}": [float(x).hex() for x in np.ravel(v)]
            for s, r in result.sets.items()
            for n, v in (("cost", r.cost), ("distance", r.distance), ("success", r.success))
            if v is not None
        }
    )
    rows.append({"policy": leaves(state.policy), "controllers": leaves(state.controllers)})
    return rows


def few(name, horizon=None, conditions=None):
    task = tasks.make(name)
    if horizon:
        task = dataclasses.replace(task, horizon=horizon)
    if conditions:
        task = dataclasses.replace(task, train=jax.tree.map(lambda a: a[:conditions], task.train))
    return task


SHORT = MlpConfig(distil=DistilConfig(steps=200))
APART, NO_PRIOR = MixturePriorConfig(shared=False), FittedModelsConfig(prior=NoPriorConfig())
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


for name in ALGORITHMS:

    def f(name=name):
        make, config = ALGORITHMS[name]
        extra = {"teacher_iterations": 1} if name == "dagger" else {}
        return go(make, few("point_mass", 20), config(**extra), 3)

    CASES[name] = f


@case
def random_starts():
    c = MdgpsConfig(
        sampling="on_policy",
        linearisation=RegressionConfig(),
        rollouts=RandomStartsConfig(num_rollouts=12, num_groups=3),
        policy=SHORT,
    )
    return go(mdgps, few("point_mass", 20), c, 3)


@case
def on_policy_fitted_global():
    c = MdgpsConfig(
        sampling="on_policy",
        linearisation=RegressionConfig(covariance="network"),
        policy_weighting="precision",
        step_rule="global",
        policy=SHORT,
    )
    return go(mdgps, few("reacher", 20), c, 3)


@case
def reuse():
    return go(
        mdgps,
        few("point_mass", 20),
        MdgpsConfig(
            reuse=3, policy=SHORT, models=FittedModelsConfig(prior=MixturePriorConfig(shared=False))
        ),
        4,
    )


@case
def blind():
    return go(mdgps, few("blind_peg_insertion", 30, 2), MdgpsConfig(policy=SHORT), 3)


@case
def on_mjx():
    return go(mdgps, few("point_mass", 20), MdgpsConfig(policy=SHORT), 3, "mjx")


def visual(kind):
    policy = VisualConfig(
        kind=kind,
        pretraining=PoseConfig(steps=20),
        pretraining_images=24,
        dense_iterations=1,
        channels=(8, 4, 4),
        dense=DistilConfig(steps=40, learning_rate=3e-3, frozen="convolutions"),
        end_to_end=DistilConfig(
            steps=4, batch_size=16, learning_rate=1e-3, checks=1, convolution_rate=0.1
        ),
    )
    c = MdgpsConfig(
        policy=policy,
        trajectory_iterations=1,
        step=LqrStepConfig(min_multiplier=0.1, max_multiplier=1.0),
        linearisation=OffsetConfig(agreement=0.5),
        rollouts=FixedStartsConfig(num_samples=3),
        models=NO_PRIOR,
    )
    return go(mdgps, few("hanger", 20, 2), c, 4)


@case
def visuomotor():
    return visual("visuomotor")


@case
def pose_prediction():
    return visual("pose_prediction")


@case
def resumed():
    with tempfile.TemporaryDirectory() as d:
        args = dict(config=MdgpsConfig(policy=SHORT), backend="native", seed=1)
        task = few("point_mass", 20)
        whole = jgps.train(task, iterations=4, **args)
        jgps.train(task, iterations=2, out=d + "/run", **args)
        again = jgps.train(task, iterations=4, out=d + "/run", resume=True, **args)

        def strip(rs):
            return [{k: v for k, v in r.items() if "seconds" not in k} for r in rs]

        assert strip(whole.metrics) == strip(again.metrics), "resume differs"
        return strip(again.metrics)


def main(action: str, path: str, *wanted: str) -> int:
    compile_options.SOONER = ()  # XLA's own options, as the record was made with
    found = {}
    for name in wanted or CASES:
        found[name] = CASES[name]()
        print(name, "done", flush=True)
    if action == "record":
        pathlib.Path(path).write_text(json.dumps(found, indent=0) + "\n")
        return 0
    recorded = json.loads(pathlib.Path(path).read_text())
    different = {name: _difference(recorded[name], rows) for name, rows in found.items()}
    for name, where in different.items():
        print(f"{name}: {where or 'the same'}")
    return int(any(different.values()))


def _renamed(row: dict) -> dict:
    """A row recorded before metrics `trial_*` were called `noise_free_*`."""
    return {re.sub("^trial_", "noise_free_", key): value for key, value in row.items()}


def _difference(recorded: list, found: list) -> str:
    """The first difference between the rows of two runs; empty where they are the same."""
    recorded, found = [_renamed(row) for row in recorded], json.loads(json.dumps(found))
    for iteration, (one, other) in enumerate(zip(recorded, found, strict=True)):
        for key in one:
            if one[key] != other.get(key):
                return f"row {iteration} {key}: {one[key]} recorded, {other.get(key)} now"
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
