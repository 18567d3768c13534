"""Local models by derivatives: right about small changes, and in the place of fitted ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import tasks
from jgps.algorithms import ALGORITHMS, mdgps, trajopt
from jgps.configs import (
    DistilConfig,
    FixedStartsConfig,
    IlqgStepConfig,
    KnownModelsConfig,
    LqrStepConfig,
    MdgpsConfig,
    MlpConfig,
    NoPriorConfig,
    RandomStartsConfig,
    RegressionConfig,
    TrajoptConfig,
)
from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core.types import OK, Rollouts
from jgps.optimise.known_models import _linear, known_models
from jgps.optimise.rollouts.sampling import make_sample
from jgps.tasks.start import initial_controllers, initial_states

N = 4


def _rollouts(task, backend, deviation):
    """Of the initial controllers with that much noise."""
    controllers = initial_controllers(task, initial_states(task, task.train))
    scaled = controllers._replace(C=deviation**2 * controllers.C)
    sample = make_sample(
        task, NearestController.act, backend, FixedStartsConfig(num_samples=N, noise_smoothing=0)
    )
    return sample(jax.vmap(linear_gaussian.factor)(scaled)[0], jax.random.key(0)).rollouts


def _errors(task, backend, deviation):
    """How far models are off the next state, and how far rollouts are from their mean."""
    rollouts = _rollouts(task, backend, deviation)
    models = known_models(task, KnownModelsConfig(), (task.train.num, N), backend)
    _, found, _ = jax.jit(models.fit)((), rollouts, None)
    assert found is not None and (found.status.code == OK).all()
    z = np.concatenate([rollouts.x, rollouts.u], axis=-1)[:, :, :-1]
    after = np.asarray(rollouts.x)[:, :, 1:]
    told = np.einsum("ctij,cntj->cnti", found.dynamics.F, z) + np.asarray(found.dynamics.f)[:, None]
    return np.abs(told - after).max(), np.abs(after - after.mean(axis=1, keepdims=True)).max()


def _short(name, horizon):
    return dataclasses.replace(tasks.make(name), horizon=horizon)


@pytest.mark.parametrize(
    ("name", "backend"), [("reacher", "native"), ("pendulum", "native"), ("pendulum", "analytic")]
)
def test_errors_are_of_second_order_in_how_far_rollouts_go(name, backend, x64):
    task = _short(name, 8)
    error, spread = _errors(task, backend, 0.1)
    smaller, less_spread = _errors(task, backend, 0.01)
    assert less_spread == pytest.approx(0.1 * spread, rel=0.3)
    assert smaller < 0.03 * error or smaller < 1e-7
    assert smaller < 0.01 * less_spread


def test_simulator_and_function_have_the_same_models(x64):
    task = _short("pendulum", 6)
    rollouts = _rollouts(task, "analytic", 1.0)
    found = [
        jax.jit(known_models(task, KnownModelsConfig(), (task.train.num, N), backend).fit)(
            (), rollouts, None
        )
        for backend in ("native", "analytic")
    ]
    for one, other in zip(*(jax.tree.leaves(each[1].dynamics) for each in found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_not_finite_is_told_and_leaves_the_others_alone():
    task = _short("pendulum", 6)
    rollouts = _rollouts(task, "native", 1.0)
    models = known_models(task, KnownModelsConfig(derivatives_at=N), (task.train.num, N), "native")
    fit = jax.jit(models.fit)
    _, whole, _ = fit((), rollouts, None)
    x = np.array(rollouts.x)
    x[1] = np.nan
    valid = np.arange(task.train.num)[:, None] != 1
    broken = Rollouts(jnp.asarray(x), rollouts.u, rollouts.valid & valid)
    _, found, _ = fit((), broken, None)
    assert found is not None and whole is not None
    assert found.status.code[1] != OK and (np.delete(found.status.code, 1) == OK).all()
    assert np.isfinite(np.asarray(found.dynamics.F)).all()
    np.testing.assert_array_equal(
        np.delete(found.dynamics.F, 1, 0), np.delete(whole.dynamics.F, 1, 0)
    )


def test_rollouts_correct_derivatives_that_do_not_explain_them(x64):
    """Derivatives at no change say nothing of a wall that samples run into."""
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(200, 2, 1)), rng.normal(size=(200, 2, 1))
    x[:, 1] = 0.5 * x[:, 0] + 0.1 * u[:, 0]
    rollouts = Rollouts(jnp.asarray(x), jnp.asarray(u), jnp.ones(200, bool))
    for F, atol in (([[0.5, 0.1]], 1e-12), ([[1e3, 1e3]], 1e-2)):
        known, status = _linear(
            1e-6, 100.0, rollouts, jnp.ones(1, bool), jnp.asarray(F)[None, None]
        )
        assert status.code == OK
        np.testing.assert_allclose(known.F[0], [[0.5, 0.1]], atol=atol)
        assert known.W[0, 0, 0] < 1e-4
    assert (
        _linear(1e-6, 0.0, rollouts, jnp.ones(1, bool), jnp.asarray(F)[None, None])[0].F == 1e3
    ).all()


def test_what_known_models_can_not_have_is_refused():
    with pytest.raises(ValueError, match=r"it has to be a jgps.configs.LqrStepConfig: limits"):
        MdgpsConfig(
            step=IlqgStepConfig(),
            sampling="on_policy",
            rollouts=RandomStartsConfig(),
            linearisation=RegressionConfig(),
        )
    task = tasks.make("pendulum")
    with pytest.raises(ValueError, match="take rollouts=FixedStartsConfig"):
        known_models(task, KnownModelsConfig(), (task.train.num + 1, N), "native")
    lagging = tasks.from_mjcf(
        "<mujoco><worldbody><body><joint name='a'/><geom size='.1'/></body></worldbody><actuator>"
        "<motor name='late' joint='a' delay='.02' nsample='20'/></actuator></mujoco>",
        cost=lambda s: lambda x, u, t: jnp.sum(x**2),
        horizon=4,
    )
    with pytest.raises(ValueError, match="can't do with actuators that have a delay"):
        known_models(lagging, KnownModelsConfig(), (1, N), "native")
    with pytest.raises(ValueError, match="lacks qvel:elbow"):
        task = tasks.make("reacher")
        place = task.layout["qvel"].start
        keep = np.delete(np.arange(task.layout.size), place + 1)
        less = dataclasses.replace(task.layout, index=task.layout.index[keep], size=len(keep))
        known_models(dataclasses.replace(task, layout=less), KnownModelsConfig(), (16, N), "native")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("mdgps", IlqgStepConfig()),
        ("badmm", IlqgStepConfig()),
        ("dagger", IlqgStepConfig()),
        ("trajopt", IlqgStepConfig()),
        ("trajopt", LqrStepConfig()),
    ],
)
def test_algorithms_take_known_models_and_the_ilqg_step_without_a_line_of_their_own(name, step):
    """Two iterations lower the cost of a short swing; nothing but models and step differs."""
    make, config_type = ALGORITHMS[name]
    fields = {field.name for field in dataclasses.fields(config_type)}
    small = {
        "models": KnownModelsConfig(),
        "step": step,
        "policy": MlpConfig(hidden=(8,), distil=DistilConfig(steps=50)),
        "observation_prior": NoPriorConfig(),
        "teacher_iterations": 2,
    }
    config = config_type(**{key: value for key, value in small.items() if key in fields})
    algorithm = make(_short("pendulum", 12), config, "analytic")
    state, costs = algorithm.init(jax.random.key(0)), []
    for _ in range(3):
        state, metrics = algorithm.step(state)
        assert (np.asarray(metrics["status"]) == OK).all()
        costs.append(float(np.mean(metrics["cost"])))
    assert costs[-1] < costs[0]
    task = _short("pendulum", 12)
    controllers, x0 = state.controllers, initial_states(task, task.train)
    first = np.einsum("cux,cx->cu", controllers.K[:, 0], x0) + controllers.k[:, 0]
    limit = float(task.model.actuator_ctrlrange[0, 1])
    if isinstance(step, IlqgStepConfig):
        assert np.abs(first).max() <= limit * (1 + 1e-5)


@pytest.mark.slow
def test_trajectories_swing_pendulums_up_within_the_motors_limits():
    """Under half the torque that holds one level, seed 0: three of four at least.

    Of seeds 0 to 4 all four swing up with two, and three with the others: each condition finds a
    swing of its own, and one that ends a little short of the top is a local optimum.
    """
    task = tasks.make("pendulum")
    config = TrajoptConfig(models=KnownModelsConfig(), step=IlqgStepConfig())
    algorithm = trajopt(task, config, "analytic")
    state, first = algorithm.step(algorithm.init(jax.random.key(0)))
    metrics = first
    for _ in range(17):
        state, metrics = algorithm.step(state)
    assert (np.asarray(metrics["status"]) == OK).all()
    assert not np.any(first["noise_free_success"])
    assert np.sum(metrics["noise_free_success"]) >= 3, metrics["noise_free_success"]
    assert np.mean(metrics["cost"]) < 0.25 * np.mean(first["cost"])


@pytest.mark.slow
def test_mdgps_moves_a_peg_by_derivatives_that_rollouts_correct():
    """Three iterations, seed 0; with derivatives alone a step of the third is NOT_CONVERGED."""
    task = tasks.make("peg_insertion")
    task = dataclasses.replace(task, train=task.train.select(np.arange(2)))
    config = MdgpsConfig(
        models=KnownModelsConfig(correction=100.0),
        step=IlqgStepConfig(),
        rollouts=FixedStartsConfig(num_samples=20),
        policy=MlpConfig(hidden=(16,), distil=DistilConfig(steps=100)),
        observation_prior=NoPriorConfig(),
    )
    algorithm = mdgps(task, config, "native")
    state, costs = algorithm.init(jax.random.key(0)), []
    for _ in range(4):
        state, metrics = algorithm.step(state)
        assert (np.asarray(metrics["status"]) == OK).all()
        costs.append(np.asarray(metrics["cost"]))
    assert (costs[-1] < 0.4 * costs[0]).all(), costs
