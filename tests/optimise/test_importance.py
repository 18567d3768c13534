"""Older rollouts count by importance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jgps import tasks
from jgps.algorithms import FixedStartsConfig, MdgpsConfig, mdgps
from jgps.controllers import exploration_noise
from jgps.core.types import Controller
from jgps.dynamics import NoPriorConfig
from jgps.optimise.guided.history import recent
from jgps.optimise.guided.importance import log_prob_before, reused
from jgps.optimise.models import FittedModelsConfig
from jgps.policies.learner import MlpConfig

C, N, T, DX, DU = 2, 3, 4, 3, 2
CONFIG = MdgpsConfig(
    rollouts=FixedStartsConfig(num_samples=3), policy=MlpConfig(hidden=(8,)), reuse=3,
    models=FittedModelsConfig(prior=NoPriorConfig()),
    observation_prior=NoPriorConfig(),
)  # fmt: skip

reused_of = jax.jit(reused, static_argnums=(2, 3))
log_prob_of = jax.jit(log_prob_before, static_argnums=3)


def _controllers(rng):
    root = rng.normal(size=(C, T, DU, DU))
    return Controller(
        K=jnp.asarray(rng.normal(size=(C, T, DU, DX)), jnp.float32),
        k=jnp.asarray(rng.normal(size=(C, T, DU)), jnp.float32),
        C=jnp.asarray(root @ np.swapaxes(root, -1, -2) + np.eye(DU), jnp.float32),
    )


def test_log_density_of_the_actions_before_each_step(rng):
    controllers = _controllers(rng)
    x, u = rng.normal(size=(C, N, T, DX)), rng.normal(size=(C, N, T, DU))
    found = log_prob_of(controllers, jnp.float32(x), jnp.float32(u), 0.0)
    for c, n in np.ndindex(C, N):
        each = [
            scipy.stats.multivariate_normal.logpdf(
                u[c, n, t],
                controllers.K[c, t] @ x[c, n, t] + controllers.k[c, t],
                controllers.C[c, t],
            )
            + 0.5 * DU * np.log(2 * np.pi)  # the constant, the same for all controllers
            for t in range(T)
        ]
        np.testing.assert_allclose(found[c, n], np.cumsum(each) - each, rtol=2e-4, atol=2e-4)


@pytest.fixture(scope="module")
def states():
    algorithm = mdgps(tasks.make("point_mass"), CONFIG, backend="native")
    states = [algorithm.init(jax.random.key(0))]
    for _ in range(4):
        states.append(algorithm.step(states[-1])[0])
    return states


def _log_prob(controllers, c, x, u, smoothing):
    """By SciPy, of x and u [T, ...] in condition c."""
    each = [
        scipy.stats.multivariate_normal.logpdf(
            u[t], controllers.K[c, t] @ x[t] + controllers.k[c, t], controllers.C[c, t]
        )
        for t in range(len(x))
    ]
    steps = np.arange(-50, 51)
    each = np.array(each) / np.sum(np.exp(-np.square(steps) / (4 * smoothing**2)))
    return np.cumsum(each) - each


def test_newest_rollouts_come_first_and_older_ones_count_by_importance(states):
    # The state as it was when the network was trained: before the iteration was counted.
    state = states[4]._replace(iteration=states[3].iteration)
    found = reused_of(state, states[3].controllers, 3, CONFIG.rollouts.noise_smoothing)
    newest = recent(state.history, state.iteration, 1)
    np.testing.assert_array_equal(found.o[:, :3], newest.o)
    np.testing.assert_allclose(found.weight[:, :3], 1, atol=1e-4)
    assert found.weight[:, 3:].min() < 0.9
    for age in (1, 2):
        past = recent(states[4 - age].history, states[3 - age].iteration, 1)
        for c, n in np.ndindex(past.valid.shape):
            x, u = np.float64(past.x[c, n]), np.float64(past.u[c, n])
            new, old = (
                _log_prob(states[i].controllers, c, x, u, CONFIG.rollouts.noise_smoothing)
                for i in (3, 3 - age)
            )
            expected = np.exp(np.minimum(new - old, 0))
            np.testing.assert_allclose(found.weight[c, 3 * age + n], expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 2.0])
def test_weights_of_smooth_noise_have_mean_one(smoothing, key):
    """Before they are truncated; taken for white, smooth noise would give several hundred."""
    horizon, change = 60, 0.25
    u = exploration_noise(key, 20_000, horizon, 1, smoothing, renormalise=False)[None]
    x = jnp.zeros((*u.shape[:3], 1))
    drew = Controller(
        K=jnp.zeros((1, horizon, 1, 1)), k=jnp.zeros((1, horizon, 1)),
        C=jnp.ones((1, horizon, 1, 1)),
    )  # fmt: skip
    other = drew._replace(k=drew.k + change * jnp.sin(jnp.linspace(0, jnp.pi, horizon))[:, None])
    ratio = log_prob_of(other, x, u, smoothing) - log_prob_of(drew, x, u, smoothing)
    np.testing.assert_allclose(jnp.mean(jnp.exp(ratio), axis=(0, 1)), 1, atol=0.15)


def test_slots_that_hold_nothing_yet_do_not_count(states):
    state = states[1]._replace(iteration=states[0].iteration)
    found = reused_of(state, states[0].controllers, 3, CONFIG.rollouts.noise_smoothing)
    assert (found.weight[:, :3] > 0).all() and (found.weight[:, 3:] == 0).all()


def test_bad_settings():
    with pytest.raises(ValueError, match=r"MdgpsConfig.reuse is 0; .* >= 1"):
        MdgpsConfig(reuse=0)
    with pytest.raises(ValueError, match=r"reuse is 2; it has to be 1 with sampling 'on_policy'"):
        MdgpsConfig(reuse=2, sampling="on_policy")
