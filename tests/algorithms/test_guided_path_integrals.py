"""PIGPS and MDGPS-PILQR: what one trajectory step does, and networks where the cost jumps."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import jgps
from jgps import tasks
from jgps.algorithms.mdgps_pilqr import MdgpsPilqrConfig, mdgps_pilqr
from jgps.algorithms.pigps import PigpsConfig, pigps
from jgps.configs import FixedStartsConfig, OffsetConfig
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.pilqr import PilqrStepConfig
from jgps.core.types import OK, TOO_FEW_SAMPLES
from jgps.dynamics import NoPriorConfig
from jgps.optimise.guided.loop import make_parts
from jgps.optimise.models import FittedModelsConfig
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

SHORT = {
    "policy": MlpConfig(distil=DistilConfig(steps=50)),
    "models": FittedModelsConfig(prior=NoPriorConfig()),
}
TINY = Pi2StepConfig(epsilon=1e-4)
MAKE = {"pigps": pigps, "mdgps_pilqr": mdgps_pilqr}
CONFIGS = {
    "pigps": PigpsConfig(rollouts=FixedStartsConfig(num_samples=16), step=TINY, **SHORT),
    "mdgps_pilqr": MdgpsPilqrConfig(
        rollouts=FixedStartsConfig(num_samples=16),
        step=PilqrStepConfig(kl_step=1e-4, path_integral=TINY),
        **SHORT,
    ),
}
# Who samples and how near to the network steps are: both are the loop's, whatever the step.
CHOICES = {"pigps": ("on_policy", 1.0), "mdgps_pilqr": ("off_policy", 0.2)}
LARGE = {
    "pigps": Pi2StepConfig(epsilon=0.3),
    "mdgps_pilqr": PilqrStepConfig(kl_step=0.05, max_multiplier=1.0),
}


def _tiny_config(name):
    sampling, agreement = CHOICES[name]
    return dataclasses.replace(
        CONFIGS[name], sampling=sampling, linearisation=OffsetConfig(agreement=agreement)
    )


@functools.cache
def _tiny_steps(name):
    """The algorithm, its first state and the metrics that came with it."""
    algorithm = MAKE[name](tasks.make("point_mass"), _tiny_config(name), backend="native")
    return algorithm, *algorithm.step(algorithm.init(jax.random.key(2)))


def _shifted(learner, deviations):
    """The network with all its actions moved by so many of their standard deviations."""
    params = dict(learner.variables["params"])
    scale = learner.variables["standardisation"]["action_scale"]
    shift = deviations * np.sqrt(np.diagonal(learner.cov)) / scale
    params["action"] = {**params["action"], "bias": params["action"]["bias"] + shift}
    return dataclasses.replace(learner, variables={**learner.variables, "params": params})


@pytest.mark.parametrize("name", MAKE)
def test_metrics_say_how_controllers_and_network_differ(name):
    algorithm, state, first = _tiny_steps(name)
    _, second = algorithm.step(state)
    for metrics in (first, second):
        assert bool((metrics["status"] == OK).all()) and int(metrics["policy_status"]) == OK
        assert all(np.isfinite(value).all() for value in metrics.values())
    # Before the first training the network is nothing to stay near, and counts as the controllers.
    np.testing.assert_allclose(first["policy_kl"], 0, atol=1e-3)
    np.testing.assert_allclose(first["policy_cost_expected"], first["cost_expected"], rtol=1e-5)
    assert bool((second["policy_kl"] > 0.01).all())
    assert not np.allclose(second["policy_cost_expected"], second["cost_expected"], rtol=1e-3)


@pytest.mark.parametrize("name", MAKE)
def test_a_tiny_step_ends_between_controllers_and_network(name):
    """In the states visited, and as near to the network as `agreement` says."""
    _, agreement = CHOICES[name]
    algorithm, before, _ = _tiny_steps(name)
    before = before._replace(newest=_shifted(before.newest, 2.0))
    after, metrics = algorithm.step(before)
    assert bool((metrics["status"] == OK).all())
    if name == "pigps":
        np.testing.assert_allclose(metrics["weights_kl"], 1e-4, atol=5e-5)
    else:  # models explain the cost and leave the weights little to tell
        assert bool((metrics["weights_kl"] <= 1.5e-4).all())
    # What the step sampled: `step` takes the second of these keys for it.
    parts = make_parts(tasks.make("point_mass"), _tiny_config(name), "native")
    sampled = parts.sample(before, jax.random.split(before.key, 4)[1])
    x, o = sampled.x, sampled.o
    by_network = np.asarray(before.newest.mean(o)).mean(axis=1)

    def mean(controllers):
        return np.einsum("ctij,ctj->cti", controllers.K, x.mean(axis=1)) + controllers.k

    by_controllers = mean(before.controllers)
    between = by_controllers + agreement * (by_network - by_controllers)

    def off(controllers):
        """Distance of the mean actions [C, T, dU] from there, in standard deviations."""
        variance = np.diagonal(controllers.C, axis1=-2, axis2=-1)
        return np.sqrt(np.mean((mean(controllers) - between) ** 2 / variance))

    assert off(before.controllers) > 1.5 * agreement
    # What is left is the mean of 16 samples' noise.
    assert off(after.controllers) < 0.35


@functools.cache
def _large_steps(name):
    """Of a task whose second condition cannot be simulated: start, state and metrics."""
    task = tasks.make("point_mass")
    stiff = task.train._replace(changes={"jnt_stiffness:x": np.array([0, 1e12, 0, 0])})
    # All else is compiled already.
    config = dataclasses.replace(_tiny_config(name), step=LARGE[name])
    algorithm = MAKE[name](dataclasses.replace(task, train=stiff), config, backend="native")
    start = algorithm.init(jax.random.key(0))
    return start, *algorithm.step(start)


@pytest.mark.parametrize("name", MAKE)
def test_a_condition_without_rollouts_keeps_its_controller_and_says_why(name):
    start, state, metrics = _large_steps(name)
    assert metrics["status"].tolist() == [OK, TOO_FEW_SAMPLES, OK, OK]
    for new, old in zip(state.controllers, start.controllers, strict=True):
        np.testing.assert_array_equal(new[1], old[1])
        assert np.isfinite(new).all()
    assert not np.array_equal(state.controllers.k[0], start.controllers.k[0])


def test_settings_reach_the_trajectory_step():
    learning = np.array([0, 2, 3])
    *_, metrics = _large_steps("pigps")
    np.testing.assert_allclose(metrics["weights_kl"][learning], 0.3, atol=1e-3)
    *_, metrics = _large_steps("mdgps_pilqr")
    bound = metrics["kl_bound"][learning]
    assert bool((bound <= 0.05 * tasks.make("point_mass").horizon * 1.001).all())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "config", "iterations"),
    [(pigps, PigpsConfig, 30), (mdgps_pilqr, MdgpsPilqrConfig, 8)],
)
def test_a_network_solves_a_cost_that_jumps(make, config, iterations):
    """In unseen conditions too, where models alone go for the lure.

    Of 18 runs of PIGPS (10 with 20 samples, 8 with 40) all solved every training condition by
    iteration 25. The first network of each that did succeeds in 95% of unseen conditions, with a
    standard deviation of 9%: the bound is one and a half of those below.
    MDGPS with PILQR has models to help it, and solved them within 8 iterations with all four seeds
    that were tried.
    """
    task = tasks.make("disc_point_mass")
    algorithm = make(task, config(rollouts=FixedStartsConfig(num_samples=20)), backend="native")
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert not metrics["noise_free_success"].all()
    for _ in range(iterations - 1):
        state, metrics = algorithm.step(state)
        if metrics["noise_free_success"].all():
            break
    found = jgps.evaluate(task, state.policy, key=jax.random.key(0))
    assert found.train.success_rate == 1 and found.test.success_rate >= 0.82
