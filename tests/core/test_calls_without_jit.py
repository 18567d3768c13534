"""Small functions called outside of `jax.jit` are one program each, and inside it leave no call."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations
from lq_problems import problem

from jgps import rendering, tasks
from jgps.controllers import NearestController, exploration_noise, linear_gaussian
from jgps.core import gaussian, linalg, path_integral, pilqr
from jgps.core.estimation.regression import fit_linear_gaussian
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import Gaussian, Rollouts
from jgps.policies import initialise, mlp
from jgps.policies.networks.spatial_softmax import spatial_softmax

# Sizes that no other test has, whose programs would count as none.
N, T, DX, DU = 16, 5, 11, 9
RNG = np.random.default_rng(0)
DYNAMICS, COST, CONTROLLER, INITIAL = jax.device_get(problem(0, T, DX, DU, dtype=np.float32))
X, U = (RNG.normal(size=(N, T, size)).astype(np.float32) for size in (DX, DU))
COSTS, VALID = RNG.normal(size=(N, T)).astype(np.float32), np.ones(N, bool)
NORMAL = Gaussian(mean=np.ones(13, np.float32), cov=np.eye(13, dtype=np.float32))
BANK = NearestController(
    jax.tree.map(lambda leaf: np.stack([leaf] * 3), CONTROLLER), RNG.normal(size=(3, DX))
)
MEMORY = jax.device_get(pilqr.first_memory(T, np.float32))
KEYS = jax.random.split(jax.random.key(0), 7)
KEY = KEYS[0]
APPEARANCE = rendering.appearance_of(tasks.make("pusher").model)
POLICY = initialise(mlp(DX, DU, (17,)), KEY, DX, DU, jnp.float32)
CALLS = {
    "cholesky": lambda: linalg.cholesky(NORMAL.cov),
    "inverse of a small matrix": lambda: linalg.inverse_psd(NORMAL.cov),
    "inverse of a large matrix": lambda: linalg.inverse_psd(np.eye(23, dtype=np.float32)),
    "entropy": lambda: gaussian.entropy(NORMAL.cov),
    "divergence": lambda: gaussian.kl(NORMAL, NORMAL),
    "path integral": lambda: path_integral.improve(
        CONTROLLER, Rollouts(X, U, VALID), COSTS, Pi2StepConfig()
    ),
    "regression": lambda: fit_linear_gaussian(X[:, 0], U[:, 0], ridge=1e-3),
    "action": lambda: linear_gaussian.act(CONTROLLER, X[0, 0], 1, U[0, 0]),
    "factors": lambda: linear_gaussian.factor(CONTROLLER),
    "nearest": lambda: BANK.params_for(np.ones((4, DX), np.float32)),
    "symmetric part": lambda: linalg.symmetrise(NORMAL.cov),
    "status": lambda: path_integral.covariance_status(CONTROLLER),
    "pilqr": lambda: pilqr.improve(
        CONTROLLER, CONTROLLER, DYNAMICS, COST, INITIAL, Rollouts(X, U, VALID), COSTS, MEMORY
    ),
    "appearances": lambda: rendering.randomise(KEYS, APPEARANCE),
    "noise": lambda: exploration_noise(KEY, N, T, DU, 1.375),
    "network": lambda: POLICY.mean(X),
    "feature points": lambda: spatial_softmax(np.ones((3, 14, 15, 6), np.float32)),
}


# Names that calls of these functions would have; JAX has a `cholesky` of its own.
OURS = set(
    "inverse_psd inverse_triangular solve_psd log_det symmetrise entropy kl controller_kl "
    "improve temperature weights divergence update covariance_status predicted_costs unexplained "
    "adapt replay fit_linear_gaussian spread act factor params_for randomise _exploration_noise "
    "mean_action spatial_softmax".split()
)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_one_program(call):
    assert count_compilations(call) == 1
    assert count_compilations(call) == 0


def test_other_settings_are_another_program():
    def improve(config):
        return path_integral.improve(CONTROLLER, Rollouts(X, U, VALID), COSTS, config)

    config = Pi2StepConfig()
    other = dataclasses.replace(config, epsilon=0.5 * config.epsilon)
    assert not np.array_equal(improve(config)[1].eta, improve(other)[1].eta)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_inside_a_program_there_is_no_call(call):
    text = jax.jit(call).lower().as_text()
    called = set(re.findall(r"call @(\w+)\(", text))
    assert not called & OURS


def test_noise_takes_numbers_of_any_kind(key):
    one = exploration_noise(key, np.int64(2), 5, 1, np.float32(1.5))
    np.testing.assert_array_equal(one, exploration_noise(key, 2, 5, 1, 1.5))
