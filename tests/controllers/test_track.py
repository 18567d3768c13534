"""Actions that reach a wanted next state: against SciPy, limits, failures, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jgps import controllers
from jgps.controllers import Target
from jgps.core import types
from jgps.core.types import Dynamics

DX, DU = 4, 3
WIDE = (jnp.full(DU, -jnp.inf), jnp.full(DU, jnp.inf))
track = jax.jit(controllers.track)


def problem(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    model = Dynamics(F=rng.normal(size=(DX, DX + DU)), f=rng.normal(size=DX), W=np.eye(DX))
    target = Target(
        x=rng.normal(size=DX), u=rng.normal(size=DU),
        x_weight=np.array([1.0, 10.0, 0.0, 3.0]), u_weight=rng.uniform(0.01, 0.1, DU),
    )  # fmt: skip
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (model, rng.normal(size=DX), target))


def by_scipy(model, x, target, low, high):
    """A bounded least-squares problem of both sums of squares."""
    model, x, target = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (model, x, target))
    root = np.sqrt(target.x_weight)
    rows = np.concatenate([root[:, None] * model.F[:, DX:], np.diag(np.sqrt(target.u_weight))])
    missing = root * (target.x - model.F[:, :DX] @ x - model.f)
    right = np.concatenate([missing, np.sqrt(target.u_weight) * target.u])
    return scipy.optimize.lsq_linear(rows, right, (low, high), method="bvls", tol=1e-14).x


@pytest.mark.parametrize("reach", [0.3, 1.0, np.inf])
def test_it_is_the_bounded_least_squares_solution(reach, x64):
    limits = (jnp.full(DU, -reach), jnp.full(DU, 1.5 * reach))
    found = []
    for seed in range(10):
        model, x, target = problem(seed, jnp.float64)
        u, status = track(model, x, target, limits)
        assert status.code == types.OK
        np.testing.assert_allclose(
            u, by_scipy(model, x, target, *map(np.asarray, limits)), atol=1e-8
        )
        found.append(u)
    at_limit = np.mean((np.array(found) == -reach) | (np.array(found) == 1.5 * reach))
    assert (at_limit == 0) if reach == np.inf else (0.1 < at_limit < 1)


def test_float32_is_float64_to_1e_4():
    for seed in range(5):
        model, x, target = problem(seed)
        u, status = track(model, x, target, WIDE)
        assert status.code == types.OK and u.dtype == jnp.float32
        np.testing.assert_allclose(
            u, by_scipy(model, x, target, -np.inf, np.inf), rtol=1e-4, atol=1e-4
        )


def test_without_weight_on_the_state_it_is_the_usual_action_within_limits():
    model, x, target = problem(0)
    target = target._replace(u=jnp.array([-2.0, 0.1, 5.0]), x_weight=jnp.zeros(DX))
    u, status = track(model, x, target, (-jnp.ones(DU), jnp.ones(DU)))
    assert status.code == types.OK
    np.testing.assert_array_equal(u, jnp.array([-1.0, 0.1, 1.0]))


def test_failures_are_data_and_the_action_is_the_usual_one():
    model, x, target = problem(0)
    limits = (-0.5 * jnp.ones(DU), 0.5 * jnp.ones(DU))
    broken = {
        types.NON_FINITE: (model._replace(f=model.f.at[0].set(jnp.nan)), x, target),
        # Two actuators that do the same, and no weight that tells them apart in float32.
        types.NOT_PD: (
            model._replace(F=model.F.at[:, -2:].set(1.0)),
            x,
            target._replace(u_weight=jnp.full(DU, 1e-20)),
        ),
    }
    for code, given in broken.items():
        u, status = track(*given, limits)
        assert status.code == code
        np.testing.assert_array_equal(u, jnp.clip(target.u, *limits))


def test_a_state_does_not_depend_on_the_others():
    """Bit by bit on those whose neighbour fails; to 1e-6 on one alone."""
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[problem(seed) for seed in range(4)])
    limits = (-0.5 * jnp.ones(DU), 0.5 * jnp.ones(DU))
    over = jax.jit(jax.vmap(controllers.track, in_axes=(0, 0, 0, None)))
    u, status = over(*batch, limits)
    assert (status.code == types.OK).all()
    for i in range(4):
        np.testing.assert_allclose(u[i], track(*problem(i), limits)[0], atol=1e-6)
    model, x, target = batch
    spoiled, _ = over(model, x.at[1].set(jnp.inf), target, limits)
    keep = np.array([0, 2, 3])
    np.testing.assert_array_equal(spoiled[keep], u[keep])


def _call(model=None, x=None, limits=WIDE, **changed):
    own_model, own_x, target = problem(0)
    return controllers.track(
        own_model if model is None else model,
        own_x if x is None else x,
        target._replace(**changed),
        limits,
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"x": jnp.zeros(3)}, r"^x must be \[4\] to match model.F \(4, 7\), got \(3,\)"),
        ({"u": jnp.zeros((5, 3))}, r"target.u must be \[3\]"),
        ({"model": Dynamics(jnp.zeros((9, 4, 7)), jnp.zeros((9, 4)), jnp.zeros((9, 4, 4)))},
         r"model.F must be \[dX, dX\+dU\] of one step, got \(9, 4, 7\)"),
        ({"limits": (jnp.zeros(2), jnp.ones(3))}, r"the lower limit must be \[3\]"),
        ({"limits": (jnp.ones(3), jnp.zeros(3))}, "every lower one has to be at most the upper"),
        ({"x_weight": -jnp.ones(4)}, "every weight has to be >= 0"),
        ({"x_weight": jnp.full(4, jnp.nan)}, "every weight has to be >= 0"),
        ({"u_weight": jnp.zeros(3)}, "every weight has to be > 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        _call(**changed)
