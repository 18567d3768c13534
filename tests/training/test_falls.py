"""Falls: counted in evaluations, never a success, shown in tables and summaries."""

import io
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import jgps
from jgps import tasks
from jgps.cli.progress import evaluation_table
from jgps.core.types import Rollouts
from jgps.optimise.models import noise_free_metrics
from jgps.simulation import Conditions
from jgps.training.results import summarise

MODEL = """
<mujoco>
  <worldbody><body><joint name="x" type="slide" axis="1 0 0"/><geom size="0.1"/></body></worldbody>
  <actuator><motor joint="x" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
SPEEDS = (0.0, 0.5, 1.0)  # m/s; after 9 steps of 0.05 s they are at 0, 0.225 and 0.45 m


def _task(limit=0.3, **settings):
    """To get 0.1 m far, and not beyond the limit."""
    fall = {} if limit is None else {"fall": lambda s: lambda x: x[0] > limit}
    return tasks.from_mjcf(
        MODEL, cost=lambda s: lambda x, u, t: jnp.sum(x**2) + jnp.sum(u**2), horizon=10,
        qpos=np.zeros((3, 1)), qvel=np.array(SPEEDS)[:, None],
        success=lambda s: lambda x, u: x[-1, 0] > 0.1, **fall, **settings,
    )  # fmt: skip


class Still(NamedTuple):
    """A policy without any force."""

    force: jax.Array

    def params_for(self, x0):
        return jnp.zeros((len(x0), 1)) + self.force

    @staticmethod
    def act(params, x, o, t, noise):
        return params


def _evaluated(task):
    return jgps.evaluate(task, Still(jnp.zeros(())), key=jax.random.key(0))


def _text(evaluation):
    console = Console(file=io.StringIO(), width=160)
    console.print(evaluation_table(evaluation))
    return console.file.getvalue()


def test_falls_are_counted_and_are_no_success():
    test = Conditions(np.zeros((2, 1)), np.array([[1.0], [0.9]]))
    found = _evaluated(_task(test=test))
    assert found.train.falls.tolist() == [0, 0, 1] and found.test.falls.tolist() == [1, 1]
    assert found.train.success.tolist() == [0, 1, 0]
    assert found.metrics()["falls_train"] == pytest.approx(1 / 3)
    assert found.metrics()["falls_test"] == found.test.fall_rate == 1
    without = _evaluated(_task(None))
    assert without.train.success.tolist() == [0, 1, 1]
    assert without.train.falls is None and without.train.fall_rate is None
    assert not any(name.startswith("falls") for name in without.metrics())


def test_a_rollout_that_is_not_finite_is_as_bad_as_a_fall():
    changes = {"jnt_stiffness:x": np.array([0.0, 0.0, -1e14])}
    found = _evaluated(_task(1e9, changes=changes))
    assert found.train.valid.tolist() == [1, 1, 0]
    assert found.train.falls.tolist() == [0, 0, 1]


def test_the_table_shows_falls_where_there_is_a_test_for_them():
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in
            _text(_evaluated(_task())).splitlines()]  # fmt: skip
    assert [row[2:4] for row in rows if row and row[0] == "training"] == [
        ["0%", "0%"], ["100%", "0%"], ["0%", "100%"],
    ]  # fmt: skip
    assert "falls" in _text(_evaluated(_task()))
    assert "falls" not in _text(_evaluated(_task(None)))


def test_summaries_and_metrics_of_rollouts_have_falls():
    evaluation = _evaluated(_task())
    told = dict.fromkeys(("task", "algorithm", "seed", "backend"), "")
    times = dict.fromkeys(("compile_seconds", "evaluation_seconds", "wall_seconds"), 1.0)
    summary = summarise(told, [{"cost": [1.0]}], evaluation, rollouts_per_step=1, **times)
    assert summary["falls_train"] == summary["falls_test"] == pytest.approx(1 / 3)
    x, u, valid = (jnp.asarray(a) for a in evaluation.train.rollouts[:3])
    metrics = noise_free_metrics(_task(), Rollouts(x, u, valid))
    assert metrics["noise_free_falls"].tolist() == [0, 0, 1]
    assert metrics["noise_free_success"].tolist() == [0, 1, 0]
