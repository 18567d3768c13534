"""The KL-constrained problem with limits: beside the one without, and beside clipped means."""

import functools

import jax
import jax.numpy as jnp
import lq_problems
import numpy as np
import pytest

from jgps.core import lqr
from jgps.core.lqr.limited import ControlLimits, KlProblem, keep_within, solve_kl_constrained_within
from jgps.core.types import NON_FINITE, OK

T, DX, DU, EPSILON = 12, 4, 2, 6.0
solve = jax.jit(jax.vmap(solve_kl_constrained_within, in_axes=(0, None, None)))


def _limits(size):
    return ControlLimits(jnp.full(DU, -size), jnp.full(DU, size))


@pytest.fixture(scope="module")
def problems():
    """Three of them in single precision."""
    return lq_problems.stack(
        *(lq_problems.problem(seed, T, DX, DU, dtype=np.float32) for seed in range(3))
    )


def _means(controller, dynamics, initial):
    return jax.vmap(lqr.forward)(controller, dynamics, initial).mean[..., DX:]


@pytest.fixture(scope="module")
def plain(problems):
    """Their solutions without limits."""
    return jax.vmap(lqr.solve_kl_constrained, in_axes=(0, 0, 0, 0, None))(*problems, EPSILON)


def test_far_from_limits_it_is_the_step_without(problems, plain):
    plain, expected = plain
    found, info = solve(KlProblem(*problems), EPSILON, _limits(jnp.inf))
    np.testing.assert_allclose(info.eta, expected.eta, rtol=1e-4)
    for name in ("kl", "cost", "cost_previous"):
        np.testing.assert_allclose(getattr(info, name), getattr(expected, name), rtol=2e-4)
    for name in ("K", "k", "C"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=2e-5)


def test_means_keep_within_limits_and_cost_less_than_clipped_ones(problems, plain):
    dynamics, cost, _, initial = problems
    size = 0.3
    found, info = solve(KlProblem(*problems), EPSILON, _limits(size))
    assert (info.status.code == OK).all()
    assert (info.kl < 1.1 * EPSILON).all() and (info.cost < info.cost_previous).all()
    u = np.asarray(_means(found, dynamics, initial))
    assert np.abs(u).max() <= size + 1e-6
    held = (np.asarray(found.K) == 0).all(axis=-1)
    assert 0 < held.mean() < 1, "some limits have to hold, and some not"
    np.testing.assert_array_equal(np.abs(u[held]), np.float32(size))
    assert (np.linalg.eigvalsh(np.asarray(found.C)) > 0).all()

    # What is left of the step without limits when its means are clipped costs no less.
    clipped, _ = jax.vmap(keep_within, in_axes=(0, 0, 0, None))(
        plain[0], dynamics, initial.mean, _limits(size)
    )
    cost_clipped = jnp.sum(
        jax.vmap(lambda *each: lqr.expected_cost(lqr.forward(*each[:3]), each[3]))(
            clipped, dynamics, initial, cost
        ),
        axis=-1,
    )
    assert (info.cost < cost_clipped).all()
    # That is the boxed passes' work: a multiplier for clipped means alone leaves more.
    none = jax.vmap(functools.partial(solve_kl_constrained_within, passes=0), (0, None, None))
    _, without = none(KlProblem(*problems), EPSILON, _limits(size))
    assert (info.cost < without.cost * (1 - 0.02)).all()


def test_what_is_unusable_is_told(problems):
    dynamics, cost, previous, initial = problems
    broken = cost._replace(g=cost.g.at[1, 3].set(jnp.nan))
    _, info = solve(KlProblem(dynamics, broken, previous, initial), EPSILON, _limits(0.3))
    np.testing.assert_array_equal(info.status.code, [OK, NON_FINITE, OK])
    assert info.status.step[1] == 3
