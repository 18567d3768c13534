"""Older rollouts count by importance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jgps import tasks
from jgps.algorithms import BadmmConfig, MdgpsConfig, mdgps
from jgps.algorithms.guided_state import recent
from jgps.algorithms.importance import log_prob_before, reused
from jgps.core.types import Controller
from jgps.dynamics import NoPriorConfig

C, N, T, DX, DU = 2, 3, 4, 3, 2


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
    found = log_prob_before(controllers, jnp.float32(x), jnp.float32(u))
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
    config = MdgpsConfig(
        num_samples=3, hidden=(8,), window=3, reuse=3, prior=NoPriorConfig(),
        policy_prior=NoPriorConfig(),
    )  # fmt: skip
    algorithm = mdgps(tasks.make("point_mass"), config, backend="native")
    states = [algorithm.init(jax.random.key(0))]
    for _ in range(4):
        states.append(algorithm.step(states[-1])[0])
    return states


def test_newest_rollouts_come_first_and_count_fully(states):
    # The state as it was when the network was trained: before the iteration was counted.
    state = states[4]._replace(iteration=states[3].iteration)
    drew = states[3].controllers
    found = reused(state, drew, 3)
    newest = recent(state, 1)
    np.testing.assert_array_equal(found.o[:, :3], newest.o)
    np.testing.assert_allclose(found.weight[:, :3], 1, atol=1e-4)
    older = np.asarray(found.weight[:, 3:])
    assert (older >= 0).all() and (older <= 1).all()
    # Where nothing was done yet, nothing tells controllers apart.
    np.testing.assert_array_equal(older[..., 0], 1)
    assert older[..., 1:].min() < 0.99


def test_slots_that_hold_nothing_yet_do_not_count(states):
    state = states[1]._replace(iteration=states[0].iteration)
    found = reused(state, states[0].controllers, 3)
    assert (found.weight[:, :3] > 0).all() and (found.weight[:, 3:] == 0).all()


def test_bad_settings():
    with pytest.raises(ValueError, match=r"MdgpsConfig.reuse is 5; .* from 1 to window"):
        MdgpsConfig(reuse=5)
    with pytest.raises(ValueError, match=r"reuse is 2 with sampling 'on_policy'"):
        MdgpsConfig(reuse=2, sampling="on_policy")
    with pytest.raises(ValueError, match=r"BadmmConfig.reuse is 2; it has to be 1"):
        BadmmConfig(reuse=2)
