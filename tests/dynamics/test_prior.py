"""Priors over iterations: what they give a fit, the window, failures and recompilation."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics
from jgps.core import types
from jgps.core.types import Rollouts
from jgps.dynamics.prior import _num_clusters

C, N, T, DX, DU = 2, 5, 30, 4, 2
CONFIG = dynamics.MixturePriorConfig(max_clusters=6, window=3)


def _double_pendulum(seed, num_samples, num_conditions=C):
    """Two torque-driven links from different starts, 0.05 s a step; one start per condition."""
    rng = np.random.default_rng(seed)
    shape = (num_conditions, num_samples)
    q = np.tile(np.linspace(-0.5, 0.8, num_conditions)[:, None, None], (1, num_samples, 2))
    v = np.zeros((*shape, 2))
    x, u = [], []
    for _ in range(T):
        x.append(np.concatenate([q, v], axis=-1))
        u.append(4 * (1.0 - q) - 0.5 * v + rng.normal(size=(*shape, 2)))
        for _ in range(5):
            bend = q[..., 1] - q[..., 0]
            mass = np.stack([np.full(shape, 2.0), np.cos(bend), np.cos(bend), np.ones(shape)], -1)
            whirl = np.stack([v[..., 1] ** 2, -(v[..., 0] ** 2)], -1) * np.sin(bend)[..., None]
            force = u[-1] + whirl - 5 * np.sin(q) * np.array([2.0, 1.0]) - 0.3 * v
            acceleration = np.linalg.solve(mass.reshape(*shape, 2, 2), force[..., None])[..., 0]
            v = v + 0.01 * acceleration
            q = q + 0.01 * v
    return Rollouts(
        x=jnp.asarray(np.stack(x, axis=2), jnp.float32),
        u=jnp.asarray(np.stack(u, axis=2), jnp.float32),
        valid=jnp.ones(shape, bool),
    )


def _make(config=CONFIG, num_samples=N):
    """The prior with its functions jitted."""
    prior = dynamics.make_prior(config, DX, DU, C, num_samples, T)
    return prior._replace(update=jax.jit(prior.update), evaluate=jax.jit(prior.evaluate))


@pytest.fixture(scope="module")
def shared():
    return _make()


def _prediction_error(fitted, rollouts):
    """Root mean square error of one step, in units of each entry's spread."""
    z = np.concatenate([rollouts.x, rollouts.u], axis=-1)[:, :, :-1]
    predicted = np.einsum("ctij,cntj->cnti", fitted.F, z) + np.asarray(fitted.f)[:, None]
    error = (predicted - rollouts.x[:, :, 1:]) / np.std(rollouts.x, axis=(0, 1, 2))
    return np.sqrt(np.mean(np.square(error)))


def test_clusters_of_wide_points_hold_more_of_them():
    config = dynamics.MixturePriorConfig()
    points = jnp.array([400])
    numbers = [int(_num_clusters(config, dim, points)[0]) for dim in (10, 80, 100, 1000)]
    assert numbers == [10, 10, 4, 2]


@pytest.mark.parametrize("seed", range(4))
def test_five_samples_predict_better_with_the_mixture_prior(shared, seed):
    state = shared.init(jax.random.key(seed))
    fit = jax.vmap(dynamics.fit)
    for iteration in range(2):
        rollouts = _double_pendulum(10 * seed + iteration, N)
        state, _ = shared.update(state, rollouts)
    held_out = _double_pendulum(1000 + seed, 20)
    fitted, (status, _) = fit(rollouts, shared.evaluate(state, rollouts))
    without, _ = jax.vmap(lambda own: dynamics.fit(own))(rollouts)
    assert status.code.tolist() == [types.OK] * C
    error, error_without = (_prediction_error(d, held_out) for d in (fitted, without))
    assert error < 0.5 * error_without
    assert error < 0.05


def test_update_reports_the_mixture(shared):
    state, metrics = shared.update(shared.init(jax.random.key(0)), _double_pendulum(0, N))
    chex.assert_shape(list(metrics.values()), (1,))
    chex.assert_tree_all_finite(metrics)
    assert metrics["mixture_clusters"] == 6  # 10 trajectories of 30 steps / 40, at most 6
    assert metrics["mixture_status"] == types.OK
    assert state.mixture.count == C * N * (T - 1)


def test_number_of_clusters_follows_the_valid_trajectories(shared):
    rollouts = _double_pendulum(0, N)
    state = shared.init(jax.random.key(0))
    few = rollouts._replace(valid=jnp.zeros((C, N), bool).at[0, :4].set(True))
    state, metrics = shared.update(state, few)
    assert metrics["mixture_clusters"] == 3  # 4 * 30 / 40
    assert state.mixture.active.sum() == 3
    assert state.mixture.count == 4 * (T - 1)
    one = rollouts._replace(valid=jnp.zeros((C, N), bool).at[0, 0].set(True))
    _, metrics = shared.update(shared.init(jax.random.key(0)), one)
    assert metrics["mixture_clusters"] == 2  # the least


def test_window_is_a_ring_of_the_last_iterations(shared):
    state = shared.init(jax.random.key(1))
    history = [_double_pendulum(seed, N) for seed in range(5)]
    for i, rollouts in enumerate(history):
        state, _ = shared.update(state, rollouts)
        assert state.mixture.count == min(i + 1, 3) * C * N * (T - 1)
    kept = sorted(float(first) for first in state.points[:, 0, 0, 0, DX])
    expected = sorted(float(rollouts.u[0, 0, 0, 0]) for rollouts in history[-3:])
    np.testing.assert_array_equal(kept, expected)
    assert state.num_updates == 5


def test_second_iteration_compiles_nothing():
    prior = dynamics.make_prior(CONFIG, DX, DU, C, N, T)
    step = jax.jit(chex.assert_max_traces(prior.update, n=1))
    evaluate = jax.jit(chex.assert_max_traces(prior.evaluate, n=1))
    state = prior.init(jax.random.key(0))
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    for seed in range(3):
        rollouts = _double_pendulum(seed, N)
        state, _ = step(state, rollouts)
        evaluate(state, rollouts)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before


def test_same_key_same_result_and_warm_start(shared):
    first, second = (_double_pendulum(seed, N) for seed in range(2))
    runs = []
    for _ in range(2):
        state, metrics = shared.update(shared.init(jax.random.key(5)), first)
        state, metrics = shared.update(state, second)
        runs.append((state.mixture, metrics))
    chex.assert_trees_all_equal(*runs)
    # The same data once more: a warm start goes on where the last fit ended.
    state, cold = shared.update(shared.init(jax.random.key(5)), first)
    for _ in range(2):
        state = state._replace(num_updates=jnp.zeros((), jnp.int32))
        state, warm = shared.update(state, first)
    assert warm["mixture_log_likelihood"] > cold["mixture_log_likelihood"]


def test_a_broken_sample_is_contained(shared):
    rollouts = _double_pendulum(3, N)
    broken = rollouts._replace(
        x=rollouts.x.at[1, 2, 4:].set(jnp.nan), valid=rollouts.valid.at[1, 2].set(False)
    )
    state, metrics = shared.update(shared.init(jax.random.key(0)), broken)
    assert metrics["mixture_status"] == types.OK
    prior = shared.evaluate(state, broken)
    chex.assert_tree_all_finite((state.mixture, prior))
    fitted, (status, _) = jax.vmap(dynamics.fit)(broken, prior)
    assert status.code.tolist() == [types.OK] * C
    assert _prediction_error(fitted, _double_pendulum(1000, 20)) < 0.05


def test_a_declared_valid_nan_is_left_out_of_the_window(shared):
    state, _ = shared.update(shared.init(jax.random.key(0)), _double_pendulum(3, N))
    rollouts = _double_pendulum(4, N)
    broken = rollouts._replace(x=rollouts.x.at[0, 1, 2, 3].set(jnp.nan))
    after, metrics = shared.update(state, broken)
    assert metrics["mixture_status"] == types.OK
    assert after.mixture.count == (2 * C * N - 1) * (T - 1)
    declared = rollouts._replace(valid=rollouts.valid.at[0, 1].set(False))
    chex.assert_trees_all_equal(after, shared.update(state, declared)[0])


def test_a_fit_that_fails_keeps_the_last_mixture(shared):
    state, _ = shared.update(shared.init(jax.random.key(0)), _double_pendulum(3, N))
    rollouts = _double_pendulum(4, N)
    # Finite, but its square is not.
    huge = rollouts._replace(x=rollouts.x.at[0, 1, 2, 3].set(1e30))
    after, metrics = shared.update(state, huge)
    assert metrics["mixture_status"] != types.OK
    chex.assert_trees_all_equal(after.mixture, state.mixture)


def test_no_valid_sample_at_first_then_a_cold_start(shared):
    rollouts = _double_pendulum(3, N)
    nothing = rollouts._replace(x=jnp.full_like(rollouts.x, jnp.nan), valid=jnp.zeros((C, N), bool))
    state, _ = shared.update(shared.init(jax.random.key(0)), nothing)
    prior = shared.evaluate(state, nothing)
    chex.assert_trees_all_close(prior, jax.tree.map(jnp.zeros_like, prior))
    _, (status, _) = jax.vmap(dynamics.fit)(nothing, prior)
    assert status.code.tolist() == [types.TOO_FEW_SAMPLES] * C
    state, metrics = shared.update(state, rollouts)
    assert metrics["mixture_status"] == types.OK
    assert state.mixture.count == C * N * (T - 1)
    fitted, _ = jax.vmap(dynamics.fit)(rollouts, shared.evaluate(state, rollouts))
    assert _prediction_error(fitted, _double_pendulum(1000, 20)) < 0.05


def test_one_mixture_per_condition_sees_only_its_own():
    per_condition = _make(dynamics.MixturePriorConfig(max_clusters=6, window=3, shared=False))
    rollouts = _double_pendulum(0, N)
    state, metrics = per_condition.update(per_condition.init(jax.random.key(0)), rollouts)
    chex.assert_shape(list(metrics.values()), (C,))
    assert state.mixture.count.tolist() == [N * (T - 1)] * C
    changed = rollouts._replace(x=rollouts.x.at[1].multiply(3.0))
    other, _ = per_condition.update(per_condition.init(jax.random.key(0)), changed)
    prior, other_prior = (per_condition.evaluate(s, rollouts) for s in (state, other))
    assert prior is not None and other_prior is not None
    assert prior.mean.shape == (C, T - 1, 2 * DX + DU)
    np.testing.assert_array_equal(prior.mean[0], other_prior.mean[0])
    assert np.abs(prior.mean[1] - other_prior.mean[1]).max() > 0.1
    fitted, (status, _) = jax.vmap(dynamics.fit)(rollouts, prior)
    assert status.code.tolist() == [types.OK] * C
    assert _prediction_error(fitted, _double_pendulum(1000, 20)) < 0.1


def test_constant_prior():
    dim = 2 * DX + DU
    variance = tuple(float(i + 1) for i in range(dim))
    config = dynamics.ConstantPriorConfig(mean=0.5, variance=variance, strength=2.0)
    prior = dynamics.make_prior(config, DX, DU, C, N, T)
    rollouts = _double_pendulum(0, N)
    state, metrics = prior.update(prior.init(jax.random.key(0)), rollouts)
    assert metrics == {}
    niw = prior.evaluate(state, rollouts)
    assert niw is not None
    chex.assert_tree_shape_prefix(niw, (C, T - 1))
    np.testing.assert_array_equal(niw.mean[1, 3], 0.5)
    np.testing.assert_array_equal(niw.scatter[1, 3], 2.0 * np.diag(variance))
    assert niw.dof[0, 0] == niw.strength[0, 0] == 2.0
    _, (status, _) = jax.vmap(dynamics.fit)(rollouts, niw)
    assert status.code.tolist() == [types.OK] * C


def test_no_prior():
    prior = dynamics.make_prior(dynamics.NoPriorConfig(), DX, DU, C, N, T)
    rollouts = _double_pendulum(0, N)
    state, metrics = prior.update(prior.init(jax.random.key(0)), rollouts)
    assert metrics == {} and prior.evaluate(state, rollouts) is None


def test_wrong_shapes_and_configs():
    rollouts = _double_pendulum(0, N)
    prior = dynamics.make_prior(CONFIG, DX, DU, C, N + 1, T)
    with pytest.raises(ValueError, match="this prior was made for x"):
        prior.update(prior.init(jax.random.key(0)), rollouts)
    with pytest.raises(
        ValueError, match=r"^ConstantPriorConfig\.mean has 2 entries; it has to be one"
    ):
        dynamics.make_prior(dynamics.ConstantPriorConfig(mean=(0.0, 1.0)), DX, DU, C, N, T)
    no_config: Any = "mixture"
    with pytest.raises(ValueError, match="NoPriorConfig, ConstantPriorConfig or MixturePriorCon"):
        dynamics.make_prior(no_config, DX, DU, C, N, T)
    with pytest.raises(ValueError, match=r"MixturePriorConfig\.min_clusters is 2; .*= 1"):
        dynamics.MixturePriorConfig(max_clusters=1)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (dynamics.MixturePriorConfig, "strength", -1.0),
        (dynamics.MixturePriorConfig, "strength", np.inf),
        (dynamics.MixturePriorConfig, "min_clusters", 0),
        (dynamics.MixturePriorConfig, "max_clusters", 0),
        (dynamics.MixturePriorConfig, "max_clusters", 8.5),
        (dynamics.MixturePriorConfig, "points_per_cluster", 0),
        (dynamics.MixturePriorConfig, "window", 0),
        (dynamics.MixturePriorConfig, "window", 2.5),
        (dynamics.ConstantPriorConfig, "strength", np.nan),
        (dynamics.ConstantPriorConfig, "mean", np.nan),
        (dynamics.ConstantPriorConfig, "variance", 0.0),
        (dynamics.ConstantPriorConfig, "variance", np.inf),
    ],
)
def test_invalid_settings_name_class_field_and_value(config, field, value):
    with pytest.raises(ValueError, match=rf"^{config.__name__}\.{field} is {value}; it has to be"):
        config(**{field: value})
