"""Runs that cannot go on say why, and failures in one condition stay there."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import CONFIG, NETWORK_CONFIG, broken_in, read_lines, train, train_network

import jgps
from jgps.algorithms import (
    ALGORITHMS,
    DaggerConfig,
    MdgpsConfig,
    MlpConfig,
    TrajoptConfig,
    VisualConfig,
)
from jgps.controllers import HoldConfig
from jgps.core.types import NON_FINITE, NOT_CONVERGED, NOT_PD, STATUS_TEXT, TOO_FEW_SAMPLES
from jgps.policies import DistilConfig
from jgps.policies.learner import Problem
from jgps.recipes.recipe import sees
from jgps.tasks import Task
from jgps.training import TrainingError, UsageError, checkpoint
from jgps.training.failure import PATIENCE, explain_failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "pointmass"}, "unknown task 'pointmass'; tasks: point_mass, "),
        ({"algorithm": "sac"}, "unknown algorithm 'sac'; algorithms: mdgps, badmm, "),
        ({"backend": "bullet"}, "unknown backend 'bullet'; backends: auto, native, mjx"),
        ({"iterations": 0}, "iterations is 0; it has to be from 1 to 1000000000"),
        ({"iterations": 2**63}, "iterations is 9223372036854775808; it has to be from 1"),
        ({"out": ""}, "out is empty; it has to name a directory"),
        ({"out": "a\0b"}, r"out is 'a\\x00b'; it has to be text in UTF-8 without NUL"),
        ({"out": "a\udcff"}, r"out is 'a\\udcff'; it has to be text in UTF-8"),
        ({"out": b"a"}, "out is b'a'; it has to be a path"),
        ({"start_from": ""}, "start_from is empty; it has to name a directory"),
        ({"on_start": 3}, "on_start is 3; it has to be a function, or None"),
        ({"on_iteration": "print"}, "on_iteration is 'print'; it has to be a function, or None"),
        ({"iterations": 2.5}, "iterations is 2.5; it has to be an integer"),
        ({"iterations": True}, "iterations is True; it has to be an integer"),
        ({"seed": -1}, "seed is -1; it has to be from 0"),
        ({"seed": 1.5}, "seed is 1.5; it has to be an integer"),
        ({"config": {"num_samples": 3}}, "config is a dict; trajopt takes a TrajoptConfig"),
        ({"evaluate_every": -1}, "evaluate_every is -1; it has to be at least 0"),
        ({"resume": True}, "need a run directory"),
        ({"resume": 1}, "^resume is 1; it has to be True or False"),
        ({"overwrite": "no"}, "^overwrite is 'no'; it has to be True or False"),
        ({"out": 3}, "^out is 3; it has to be a path"),
        ({"task": 3}, "^task is 3; jgps.train takes a task, as jgps.tasks.make"),
        ({"task": "pont_mass"}, r"did you mean point_mass\?$"),
        ({"algorithm": "trajop"}, r"did you mean trajopt\?$"),
        ({"algorithm": ["trajopt"], "config": None}, r"unknown algorithm \['trajopt'\]"),
        (
            {"algorithm": "dagger", "config": DaggerConfig(teacher_iterations=3), "iterations": 3},
            "iterations is 3, .* ask for at least 4, or lower config.teacher_iterations",
        ),
    ],
)
def test_mistakes_in_arguments(task: Task, arguments: dict, message: str):
    with pytest.raises(UsageError) as error:
        train(**{"task": task, **arguments})
    assert re.search(message, str(error.value))


def test_a_condition_whose_rollouts_are_not_finite_is_contained(task: Task):
    task = dataclasses.replace(task, initial=HoldConfig())  # which differs with the masses
    spoilt = broken_in(task, [2])
    broken, whole = (train(each, iterations=3, seed=1) for each in (spoilt, task))
    assert [record["samples_valid"] for record in broken.metrics] == [[3, 3, 0, 3]] * 3
    assert all(record["status"][2] != 0 for record in broken.metrics)
    others = [0, 1, 3]
    assert all(record["status"][c] == 0 for record in broken.metrics for c in others)
    cost = np.asarray([record["cost"] for record in broken.metrics], float)[:, others]
    assert np.all(cost[-1] < cost[0])
    # It kept the controller that it began with, and the others are no worse for it.
    start = jgps.algorithms.trajopt(spoilt, CONFIG).init(jax.random.key(1)).policy.controllers
    kept = broken.state.policy.controllers
    assert all(bool(jnp.all(a[2] == b[2])) for a, b in zip(kept, start, strict=True))
    np.testing.assert_allclose(
        cost, np.asarray([r["cost"] for r in whole.metrics], float)[:, others], rtol=1e-3
    )


def test_nothing_finite_stops_the_run_and_saves_it(task: Task, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as error:
        train(broken_in(task, [0, 1, 2, 3]), seed=1, out=out)
    assert "iteration 0: every rollout" in str(error.value)
    assert "explore less" in str(error.value)
    assert checkpoint.iterations(out) == [0]
    assert checkpoint.problem(out, 0) is None


def test_a_cost_that_is_not_finite_anywhere_names_it(task: Task):
    broken = dataclasses.replace(task, cost=lambda x, u, t: jnp.log(-1 - x[0] ** 2) + u @ u)
    with pytest.raises(TrainingError, match=r"every condition failed .*not finite.*task's cost"):
        train(broken, iterations=1)


def test_every_condition_failing_once_is_no_end_but_three_times_in_a_row(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def make(task, config, backend):
        algorithm = jgps.algorithms.trajopt(task, config, backend)

        def step(state):
            new, metrics = algorithm.step(state)
            if int(state.iteration) in (0, 1, 3, 4, 5):
                metrics = {**metrics, "status": jnp.full(4, NOT_CONVERGED)}
            return new, metrics

        return algorithm._replace(step=step)

    monkeypatch.setitem(jgps.algorithms.ALGORITHMS, "trajopt", (make, TrajoptConfig))
    out = tmp_path / "run"
    train(task, iterations=5, seed=1, out=out)
    for resume in (True, True):  # the failures of before count, and the error is the same again
        with pytest.raises(TrainingError) as error:
            train(task, iterations=9, seed=1, out=out, resume=resume)
        message = str(error.value)
        assert "iteration 5: for 3 iterations in a row every condition failed" in message
        assert "did not converge" in message and "config.step.kl_step" in message
        assert checkpoint.iterations(out)[-1] == len(read_lines(out)) == 5


@pytest.mark.parametrize("fatal", [True, False])
def test_a_problem_with_the_first_state_ends_the_run_or_is_a_warning(
    task: Task, monkeypatch: pytest.MonkeyPatch, fatal: bool
):
    def make(task, config, backend):
        algorithm = jgps.algorithms.trajopt(task, config, backend)
        return algorithm._replace(problem=lambda state: Problem("it has no legs; buy some", fatal))

    monkeypatch.setitem(jgps.algorithms.ALGORITHMS, "trajopt", (make, TrajoptConfig))
    if fatal:
        with pytest.raises(TrainingError, match="it has no legs; buy some"):
            train(task, iterations=1, seed=1)
    else:
        with pytest.warns(UserWarning, match="it has no legs; buy some"):
            train(task, iterations=1, seed=1)


def diverging(on_divergence: str) -> MdgpsConfig:
    distil = DistilConfig(steps=10, checks=5, learning_rate=1e15, on_divergence=on_divergence)
    return dataclasses.replace(NETWORK_CONFIG, policy=MlpConfig(hidden=(8,), distil=distil))


def test_a_network_that_diverges_is_reported_once_and_training_goes_on(task: Task):
    with pytest.warns(UserWarning, match="iteration 0: the network kept its parameters") as warned:
        result = train_network(task, config=diverging("continue"), iterations=2, seed=1)
    assert sum("the network" in str(each.message) for each in warned) == 1
    assert {each.filename for each in warned if "the network" in str(each.message)} == {__file__}
    assert [record["policy_status"] for record in result.metrics] == [NON_FINITE] * 2
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(result.state.newest))
    assert result.metrics[0]["cost_test_policy"] == result.metrics[1]["cost_test_policy"]


def test_a_network_that_diverges_ends_the_run_where_the_config_says_so(task: Task, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as error:
        train_network(task, config=diverging("stop"), iterations=2, seed=1, out=out)
    message = str(error.value)
    assert "iteration 0: the network kept its parameters" in message
    assert "(not finite)" in message and "config.policy.distil.learning_rate" in message
    assert checkpoint.iterations(out) == [0]


def _failed(code: int) -> list[dict]:
    return [{"status": [code, code], "status_step": [-1, 3], "policy_status": 0}] * PATIENCE


def _messages(config: object) -> list[str | None]:
    """All that can be said of a failed run with these settings."""
    failures = [explain_failure(_failed(code), config) for code in STATUS_TEXT if code]
    diverged = [{"samples_valid": [0, 0], "status": [NON_FINITE] * 2}]
    network = [{"status": [0, 0], "policy_status": NON_FINITE}]
    return [
        *failures,
        explain_failure(diverged, config),
        explain_failure(network, config, True) if hasattr(config, "policy") else "",
    ]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_messages_name_only_settings_that_the_algorithm_has(name: str):
    config = ALGORITHMS[name][1]()
    configs = [config]
    if sees(name):
        configs.append(dataclasses.replace(config, policy=VisualConfig()))
    for each in configs:
        messages = _messages(each)
        assert None not in messages
        paths = re.findall(r"\bconfig((?:\.[a-z]\w*)+)", " ".join(filter(None, messages)))
        assert paths or not hasattr(each, "rollouts")
        assert (".rollouts.num_samples" in paths) == hasattr(each, "rollouts")
        for path in paths:
            found = each
            for part in path[1:].split("."):
                assert part in {field.name for field in dataclasses.fields(found)}, f"config{path}"
                found = getattr(found, part)


def test_messages_name_the_settings_that_help():
    def of(name: str, code: int) -> str:
        return explain_failure(_failed(code), ALGORITHMS[name][1]()) or ""

    assert "raise the fit's ridge (config.models.fit.ridge)" in of("trajopt", NOT_PD)
    assert "prior.em" not in of("trajopt", NOT_PD)
    assert of("trajopt", NOT_CONVERGED).endswith(
        "lower the KL bound of a step (config.step.kl_step), or allow more rounds "
        "(config.step.trust_region.max_rounds)"
    )
    assert of("pilqr", NOT_CONVERGED).endswith(
        "or allow more rounds (config.step.trust_region.search.max_rounds and "
        "config.step.trust_region.rounds)"
    )
    assert of("pi2", NOT_PD).endswith("; take more samples (config.rollouts.num_samples)")
    assert "explore less" in of("pi2", TOO_FEW_SAMPLES)


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        (MlpConfig(), "config.policy.distil.learning_rate"),
        (
            VisualConfig(),
            "config.policy.dense.learning_rate and config.policy.end_to_end.learning_rate",
        ),
    ],
)
def test_a_network_that_diverges_names_its_own_learning_rates(
    policy: MlpConfig | VisualConfig, rates: str
):
    config = MdgpsConfig(policy=policy)
    message = explain_failure([{"policy_status": NON_FINITE}], config, True)
    assert message is not None and f"a lower learning rate ({rates})" in message
