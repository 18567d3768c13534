"""The KL-constrained solves: bounds, optimality within them, failures as data, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lq_problems import problem, stack

from jgps.core import gaussian, lqr, trust_region
from jgps.core.trust_region import TrustRegionConfig
from jgps.core.types import NON_FINITE, NOT_CONVERGED, NOT_PD, OK, Controller

T, dX, dU = 10, 6, 3
BOUNDS = [0.1, 1.0, 10.0, 100.0]
INDEFINITE = [0.0, 0.5, 1.5, 3.0]
solve = jax.jit(jax.vmap(trust_region.solve_kl_constrained))
solve_per_step = jax.jit(jax.vmap(trust_region.solve_kl_constrained_per_step))


def problems(dtype):
    """Four bounds for each of four degrees of non-convexity."""
    batch = stack(
        *(
            problem(i, T, dX, dU, indefinite=i_, dtype=dtype)
            for i, i_ in enumerate(np.repeat(INDEFINITE, len(BOUNDS)))
        )
    )
    return batch, np.tile(BOUNDS, len(INDEFINITE)).astype(dtype)


def divergence(new, previous, dynamics, initial):
    marginals = lqr.forward(new, dynamics, initial)
    return gaussian.controller_kl(new, previous, marginals)


def objective(new, dynamics, cost, initial):
    return jnp.sum(lqr.expected_cost(lqr.forward(new, dynamics, initial), cost))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_meets_the_bound_on_convex_and_nonconvex_problems(dtype):
    with jax.enable_x64(True):
        (dynamics, cost, previous, initial), bounds = problems(dtype)
        new, info = solve(dynamics, cost, previous, initial, bounds)
        assert new.K.dtype == dtype
        np.testing.assert_array_equal(info.status.code, OK)
        kl = jnp.sum(jax.vmap(divergence)(new, previous, dynamics, initial), axis=1)
        np.testing.assert_allclose(kl, info.kl, rtol=1e-3)
        np.testing.assert_allclose(np.sum(info.kl_per_step, axis=1), info.kl, rtol=1e-5)
        at_floor = (info.eta <= 1.001e-8) & (kl < bounds)
        assert np.all((np.abs(kl - bounds) < 0.1 * bounds) | at_floor)
        assert np.sum(at_floor) <= 2
        assert np.all(info.cost < info.cost_previous)
        expected = jax.vmap(objective)(new, dynamics, cost, initial)
        np.testing.assert_allclose(expected, info.cost, rtol=1e-4)
        assert np.max(info.rounds) <= 12


def test_no_perturbation_improves_within_the_bound():
    """Perturbations, pulled back inside the achieved KL, do not lower the expected cost."""
    with jax.enable_x64(True):
        dynamics, cost, previous, initial = problem(21, T, dX, dU, indefinite=0.5)
        one = jax.tree.map(lambda a: a[None], (dynamics, cost, previous, initial))
        new, info = jax.tree.map(lambda a: a[0], solve(*one, jnp.full(1, 3.0)))
        rng = np.random.default_rng(21)
        size = 10.0 ** rng.uniform(-3, -0.5, size=400)
        noise = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=(400, *a.shape))), new)
        # Along straight lines back to the previous controller until the bound holds again.
        pull = np.linspace(0, 0.5, 26)

        def best_within(size, noise):
            root = jnp.eye(dU) + size * noise.C
            moved = Controller(
                K=new.K + size * noise.K,
                k=new.k + size * noise.k,
                C=root @ new.C @ jnp.swapaxes(root, -1, -2),
            )

            def at(pull):
                mixed = jax.tree.map(lambda a, b: (1 - pull) * a + pull * b, moved, previous)
                kl = jnp.sum(divergence(mixed, previous, dynamics, initial))
                value = objective(mixed, dynamics, cost, initial)
                return jnp.where(kl <= info.kl, value, jnp.inf)

            return jnp.min(jax.vmap(at)(pull))

        values = jax.jit(jax.vmap(best_within))(size, noise)
        assert np.sum(np.isfinite(values)) > 200
        assert np.min(values) > info.cost


def test_a_loose_bound_gives_the_maximum_entropy_solution():
    with jax.enable_x64(True):
        dynamics, cost, previous, initial = problem(22, T, dX, dU)
        weight = jnp.linspace(0.5, 1.5, T)
        new, info = trust_region.solve_kl_constrained(
            dynamics, cost, previous, initial, 1e5, entropy_weight=weight
        )
        best, _ = lqr.solve_maximum_entropy(dynamics, cost, initial, weight)
        assert int(info.status.code) == OK
        assert np.isclose(info.eta, 1e-8)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), new, best)


def test_warm_start_needs_fewer_rounds_and_finds_the_same():
    (dynamics, cost, previous, initial), bounds = problems(np.float32)
    warm = jax.jit(jax.vmap(lambda *a: trust_region.solve_kl_constrained(*a[:-1], eta=a[-1])))
    new, info = solve(dynamics, cost, previous, initial, bounds)
    for wrong in (1e-30, 1e-6, 1e6, 1e15, np.nan):
        start = jnp.full_like(bounds, wrong)
        _, far = warm(dynamics, cost, previous, initial, bounds, start)
        np.testing.assert_array_equal(far.status.code, OK)
        assert np.max(np.abs(np.log(far.kl / info.kl))) < 0.25
    _, near = warm(dynamics, cost, previous, initial, bounds, info.eta)
    assert np.sum(near.rounds) < np.sum(info.rounds)


def test_vmap_equals_a_loop_and_jit_equals_eager():
    with jax.enable_x64(True):
        batch, bounds = problems(np.float64)
        new, info = solve(*batch, bounds)
        i = 9
        dynamics, cost, previous, initial = jax.tree.map(lambda a: a[i], batch)
        alone, info_alone = trust_region.solve_kl_constrained(
            dynamics, cost, previous, initial, bounds[i]
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-8),
            (new, info),
            (alone, info_alone),
        )


def test_every_step_meets_its_own_bound():
    with jax.enable_x64(True):
        (dynamics, cost, previous, initial), _ = problems(np.float64)
        rng = np.random.default_rng(23)
        bounds = rng.uniform(0.02, 1.0, size=(len(cost.h), T))
        new, info = solve_per_step(dynamics, cost, previous, initial, bounds)
        np.testing.assert_array_equal(info.status.code, OK)
        kl = jax.vmap(divergence)(new, previous, dynamics, initial)
        np.testing.assert_allclose(kl, info.kl_per_step, rtol=1e-6, atol=1e-9)
        at_floor = (info.eta <= 1.001e-8) & (kl < bounds)
        assert np.all((np.abs(kl - bounds) < 0.1 * bounds) | at_floor)
        assert np.all(info.cost < info.cost_previous)
        assert np.max(info.rounds) <= 100
        # A bound on every step costs something against one bound on their sum.
        _, joint = solve(dynamics, cost, previous, initial, np.sum(info.kl_per_step, axis=1))
        comparable = joint.kl > 0.999 * info.kl
        assert np.all(joint.cost[comparable] <= info.cost[comparable])
        assert np.any(comparable)


def failing_problems():
    """In order: hopelessly non-convex, singular previous covariance, NaN cost, fine."""
    cases = [problem(seed, T, dX, dU, dtype=np.float32) for seed in range(4)]
    dynamics, cost, previous, initial = cases[0]
    H = cost.H.at[4, dX:, dX:].add(-1e18 * jnp.eye(dU))
    cases[0] = (dynamics, cost._replace(H=H), previous, initial)
    dynamics, cost, previous, initial = cases[1]
    cases[1] = (dynamics, cost, previous._replace(C=previous.C.at[3, 0].set(0)), initial)
    dynamics, cost, previous, initial = cases[2]
    cases[2] = (dynamics, cost._replace(H=cost.H.at[2, 0, 0].set(np.nan)), previous, initial)
    return stack(*cases)


@pytest.mark.parametrize("per_step", [False, True])
def test_failures_keep_the_previous_controller(per_step):
    batch = failing_problems()
    bounds = np.full(4, 1.0, np.float32)
    if per_step:
        new, info = solve_per_step(*batch, np.full((4, T), 0.1, np.float32))
    else:
        new, info = solve(*batch, bounds)
    codes = [NOT_PD, NOT_PD, NON_FINITE, OK]
    np.testing.assert_array_equal(info.status.code, codes)
    np.testing.assert_array_equal(info.status.step, [4, 3, 2, -1])
    previous = batch[2]
    for i in range(3):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b[i]), new, previous)
    assert np.all(info.kl[:3] == 0)
    assert np.isclose(info.kl[3], 1, rtol=0.1)


def test_an_unreachable_bound_is_not_converged():
    dynamics, cost, previous, initial = problem(24, T, dX, dU, dtype=np.float32)
    config = TrustRegionConfig(eta_max=1e-3)
    new, info = trust_region.solve_kl_constrained(
        dynamics, cost, previous, initial, 0.01, config=config
    )
    assert int(info.status.code) == NOT_CONVERGED
    np.testing.assert_array_equal(new.K, previous.K)
    assert info.cost == info.cost_previous


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tolerance", 0.0),
        ("eta_min", -1.0),
        ("eta_max", 1e30),
        ("num_candidates", 1),
        ("max_rounds", 0),
        ("step_rounds", 0),
        ("step_rate", 0.0),
    ],
)
def test_config_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field}.*\(try .*got"):
        TrustRegionConfig(**{field: value})


def test_wrong_shape_of_the_previous_controller_is_named():
    dynamics, cost, previous, initial = problem(25, T, dX, dU, dtype=np.float32)
    with pytest.raises(ValueError, match=r"previous\.K must have shape \(10, 3, 6\)"):
        trust_region.solve_kl_constrained(
            dynamics, cost, previous._replace(K=previous.K[1:]), initial, 1.0
        )
