"""Small functions called outside of `jax.jit` are one program each, and inside it leave no call."""

import dataclasses

import jax
import numpy as np
import pytest
from compilations import count_compilations
from lq_problems import problem

from jgps.controllers import exploration_noise, linear_gaussian
from jgps.core import gaussian, linalg, path_integral
from jgps.core.estimation.regression import fit_linear_gaussian
from jgps.core.path_integral import Pi2StepConfig
from jgps.core.types import Controller, Gaussian, Rollouts

# Sizes that no other test has, whose programs would count as none.
N, T, DX, DU = 16, 5, 11, 9
RNG = np.random.default_rng(0)
CONTROLLER: Controller = jax.device_get(problem(0, T, DX, DU, dtype=np.float32)[2])
X, U = (RNG.normal(size=(N, T, size)).astype(np.float32) for size in (DX, DU))
COSTS, VALID = RNG.normal(size=(N, T)).astype(np.float32), np.ones(N, bool)
NORMAL = Gaussian(mean=np.ones(13, np.float32), cov=np.eye(13, dtype=np.float32))
CALLS = {
    "cholesky": lambda: linalg.cholesky(NORMAL.cov),
    "inverse of a small matrix": lambda: linalg.inverse_psd(NORMAL.cov),
    "inverse of a large matrix": lambda: linalg.inverse_psd(np.eye(23, dtype=np.float32)),
    "entropy": lambda: gaussian.entropy(NORMAL.cov),
    "divergence": lambda: gaussian.kl(NORMAL, NORMAL),
    "conditioning": lambda: gaussian.condition(NORMAL.mean, NORMAL.cov, 1),
    "path integral": lambda: path_integral.improve(
        CONTROLLER, Rollouts(X, U, VALID), COSTS, Pi2StepConfig()
    ),
    "regression": lambda: fit_linear_gaussian(X[:, 0], U[:, 0], ridge=1e-3),
    "action": lambda: linear_gaussian.act(CONTROLLER, X[0, 0], 1, U[0, 0]),
    "factors": lambda: linear_gaussian.factor(CONTROLLER),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_one_program(call):
    assert count_compilations(call) == 1
    assert count_compilations(call) == 0


def test_noise_is_one_program(key):
    assert count_compilations(lambda: exploration_noise(key, N, T, DU, 1.375)) == 1


def test_other_settings_are_another_program():
    def improve(config):
        return path_integral.improve(CONTROLLER, Rollouts(X, U, VALID), COSTS, config)

    config = Pi2StepConfig()
    other = dataclasses.replace(config, epsilon=0.5 * config.epsilon)
    assert not np.array_equal(improve(config)[1].eta, improve(other)[1].eta)


def test_inside_a_program_there_is_no_call():
    traced = jax.make_jaxpr(lambda cov: linalg.solve_psd(linalg.cholesky(cov)[0], cov))(NORMAL.cov)
    names = [equation.params.get("name") for equation in traced.eqns]
    assert not {"cholesky", "solve_psd"} & set(names)
