"""The KL-constrained solves: bounds, optimality within them, failures as data, float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lq_problems import problem, stack

from jgps.core import gaussian, lqr
from jgps.core.lqr import trust_region
from jgps.core.lqr.dual_descent import DescentProblem, descend
from jgps.core.lqr.dual_search import Limits, Search
from jgps.core.lqr.trust_region import PerStepTrustRegionConfig, TrustRegionConfig
from jgps.core.lqr.whitened import Candidate
from jgps.core.types import NON_FINITE, NOT_CONVERGED, NOT_PD, OK, Controller, ok_status

T, dX, dU = 10, 6, 3
BOUNDS = [0.1, 1.0, 10.0, 100.0]
INDEFINITE = [0.0, 0.5, 1.5, 3.0]
SOLVE = trust_region.solve_kl_constrained
solve_one = jax.jit(SOLVE, static_argnames="config")
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


@jax.jit
def divergence(new, previous, dynamics, initial):
    marginals = lqr.forward(new, dynamics, initial)
    return gaussian.controller_kl(new, previous, marginals)


@jax.jit
def objective(new, dynamics, cost, initial):
    return jnp.sum(lqr.expected_cost(lqr.forward(new, dynamics, initial), cost))


all_divergences = jax.jit(jax.vmap(divergence))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_meets_the_bound_on_convex_and_nonconvex_problems(dtype):
    with jax.enable_x64(True):
        (dynamics, cost, previous, initial), bounds = problems(dtype)
        new, info = solve(dynamics, cost, previous, initial, bounds)
        assert new.K.dtype == dtype
        np.testing.assert_array_equal(info.status.code, OK)
        kl = jnp.sum(all_divergences(new, previous, dynamics, initial), axis=1)
        np.testing.assert_allclose(kl, info.kl, rtol=1e-3)
        np.testing.assert_allclose(np.sum(info.kl_per_step, axis=1), info.kl, rtol=1e-5)
        at_floor = (info.eta <= 1.001e-8) & (kl < bounds)
        assert np.all((np.abs(kl - bounds) < 0.1 * bounds) | at_floor)
        assert np.sum(at_floor) <= 2
        assert np.all(info.cost < info.cost_previous)
        expected = jax.jit(jax.vmap(objective))(new, dynamics, cost, initial)
        np.testing.assert_allclose(expected, info.cost, rtol=1e-4)
        assert np.max(info.rounds) <= 12


def test_no_perturbation_improves_within_the_bound():
    """Perturbations, pulled back inside the achieved KL, do not lower the expected cost."""
    seeds, num = 8, 60
    # Along straight lines back to the previous controller until the bound holds again.
    pull = np.linspace(0, 0.5, 26)

    def best_within(new, bound, dynamics, cost, previous, initial, size, noise):
        root = jnp.eye(dU) + size * noise.C
        moved = Controller(
            K=new.K + size * noise.K,
            k=new.k + size * noise.k,
            C=root @ new.C @ jnp.swapaxes(root, -1, -2),
        )

        def at(pull):
            mixed = jax.tree.map(lambda a, b: (1 - pull) * a + pull * b, moved, previous)
            kl = jnp.sum(divergence(mixed, previous, dynamics, initial))
            return jnp.where(kl <= bound, objective(mixed, dynamics, cost, initial), jnp.inf)

        return jnp.min(jax.vmap(at)(pull))

    with jax.enable_x64(True):
        batch = stack(*(problem(21 + i, T, dX, dU, indefinite=0.2 * i) for i in range(seeds)))
        new, info = solve(*batch, jnp.full(seeds, 3.0))
        rng = np.random.default_rng(21)
        size = 10.0 ** rng.uniform(-3, -0.5, size=(seeds, num))
        shape = (seeds, num)
        noise = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=shape + a.shape[1:])), new)
        some = jax.vmap(best_within, in_axes=(None,) * 6 + (0, 0))
        values = jax.jit(jax.vmap(some))(new, info.kl, *batch, size, noise)
        assert np.all(np.sum(np.isfinite(values), axis=1) > 20)
        assert np.all(np.min(values, axis=1) > info.cost)


def test_a_loose_bound_gives_the_maximum_entropy_solution():
    with jax.enable_x64(True):
        dynamics, cost, previous, initial = problem(22, T, dX, dU)
        weight = jnp.linspace(0.5, 1.5, T)
        new, info = solve_one(dynamics, cost, previous, initial, 1e5, entropy_weight=weight)
        best, _ = lqr.solve_maximum_entropy(dynamics, cost, initial, weight)
        assert int(info.status.code) == OK
        assert np.isclose(info.eta, 1e-8)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), new, best)


def test_warm_start_needs_fewer_rounds_and_finds_the_same():
    (dynamics, cost, previous, initial), bounds = problems(np.float32)
    warm = jax.jit(jax.vmap(lambda *a: trust_region.solve_kl_constrained(*a[:-1], eta=a[-1])))
    new, info = solve(dynamics, cost, previous, initial, bounds)
    for wrong in (1e-30, 1e-6, 1e6, 1e15, np.nan):
        start = np.full_like(bounds, wrong)
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
        kl = all_divergences(new, previous, dynamics, initial)
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


FIELDS = [
    ("dynamics", "F", 8),
    ("dynamics", "f", 4),
    ("dynamics", "W", 0),
    ("cost", "H", 9),
    ("cost", "g", 2),
    ("cost", "h", 5),
    ("previous", "K", 0),
    ("previous", "k", 9),
    ("previous", "C", 3),
    ("initial", "mean", 0),
    ("initial", "cov", 0),
    ("epsilon", np.nan, 6),
    ("epsilon", np.inf, 6),
    ("epsilon", 0.0, 6),
    ("epsilon", -1.0, 6),
    ("entropy_weight", np.nan, 7),
    ("entropy_weight", -1.0, 7),
    ("entropy_weight", np.inf, 7),
    ("not convex", None, 4),
    ("singular", None, 3),
    ("fine", None, -1),
]


def failing_problems():
    """One problem for each of FIELDS, with its entropy weights and bounds for each step."""
    arguments = ("dynamics", "cost", "previous", "initial", "entropy_weight", "epsilon")
    cases = []
    for seed, (argument, field, step) in enumerate(FIELDS):
        values = problem(seed, T, dX, dU, dtype=np.float32)
        bundles: dict[str, Any] = dict(zip(arguments[:4], values, strict=True))
        steps = {name: np.full(T, 0.1, np.float32) for name in arguments[4:]}
        if argument in bundles:
            leaf = np.array(getattr(bundles[argument], field))
            leaf[(step,) + (0,) * (leaf.ndim - 1)] = np.nan
            bundles[argument] = bundles[argument]._replace(**{field: leaf})
        elif argument in steps:
            steps[argument][step] = field
        elif argument == "not convex":
            H = np.array(bundles["cost"].H)
            H[step, dX:, dX:] -= 1e18 * np.eye(dU, dtype=np.float32)
            bundles["cost"] = bundles["cost"]._replace(H=H)
        elif argument == "singular":
            C = np.array(bundles["previous"].C)
            C[step, 0] = 0
            bundles["previous"] = bundles["previous"]._replace(C=C)
        cases.append((*bundles.values(), *steps.values()))
    return stack(*cases)


@pytest.mark.parametrize("per_step", [False, True])
def test_failures_keep_the_previous_controller(per_step):
    *batch, weights, bounds = failing_problems()
    if not per_step:
        bounds = np.array(np.sum(bounds, axis=1))  # a NaN, infinity or -0.1, and once just 0.9
        bounds[FIELDS.index(("epsilon", 0.0, 6))] = 0
    solver = trust_region.solve_kl_constrained_per_step if per_step else SOLVE
    new, info = jax.jit(jax.vmap(lambda *a: solver(*a[:-1], entropy_weight=a[-1])))(
        *batch, bounds, weights
    )
    previous = batch[2]
    new, info = jax.device_get((new, info))
    for i, (argument, field, step) in enumerate(FIELDS):
        code = {"fine": OK, "not convex": NOT_PD, "singular": NOT_PD}.get(argument, NON_FINITE)
        step = -1 if argument == "epsilon" and not per_step else step
        found = (int(info.status.code[i]), int(info.status.step[i]))
        assert found == (code, step), (argument, field)
        if argument != "fine":
            jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b[i]), new, previous)
            assert info.kl[i] == 0
    assert np.isclose(info.kl[-1], 1, rtol=0.1)


def test_an_overflow_of_the_divergence_raises_every_multiplier():
    """The recursion passes and the divergence is infinite until all log eta are above 3."""
    limits = Limits(low=jnp.float32(-18), high=jnp.float32(30))
    bounds = jnp.ones(T, np.float32)

    def evaluate(log_eta, ceiling):
        usable = jnp.all(log_eta > ceiling)
        kl = jnp.exp(-(log_eta - 6))
        return blank._replace(
            log_eta=log_eta, kl_per_step=kl, kl=jnp.where(usable, jnp.sum(kl), jnp.inf)
        )

    policy = problem(0, T, dX, dU, dtype=np.float32)[2]
    zeros = jnp.zeros(T, np.float32)
    blank = Candidate(
        log_eta=zeros, policy=policy, kl_per_step=zeros, kl=jnp.float32(0), status=ok_status()
    )
    search = Search(*[jnp.float32(0)] * 6, best=blank, status=ok_status(), rounds=jnp.int32(0))

    def descend_below(ceiling):
        each = DescentProblem(
            lambda log_eta: evaluate(log_eta, ceiling), limits, bounds, tolerance=0.1, rounds=200,
            rate=0.3,
        )  # fmt: skip
        return descend(each, search)

    found = descend_below(3.0)
    assert int(found.status.code) == OK
    np.testing.assert_allclose(found.best.kl_per_step, 1, rtol=0.1)
    never = descend_below(np.inf)
    assert (int(never.status.code), int(never.status.step)) == (NON_FINITE, -1)
    assert int(never.rounds) < 30


def test_one_step_meets_its_bound():
    """T = 1, dX = 1, dU = 1."""
    one = problem(3, 1, 1, 1, dtype=np.float32)
    for solver in (solve_one, jax.jit(trust_region.solve_kl_constrained_per_step)):
        new, info = solver(*one, 0.01)
        assert int(info.status.code) == OK
        kl = divergence(new, one[2], one[0], one[3])
        np.testing.assert_allclose(kl, 0.01, rtol=0.1)
        assert info.cost < info.cost_previous


def test_mixed_dtypes_are_promoted_and_only_the_symmetric_part_of_h_counts():
    with jax.enable_x64(True):
        dynamics, cost, previous, initial = problem(3, 3, 2, 1)
        expected, _ = solve_one(dynamics, cost, previous, initial, 1.0)
        rough = jax.tree.map(lambda a: a.astype(np.float32), (cost, previous))
        found, _ = solve_one(dynamics, *rough, initial, 1.0)
        assert found.K.dtype == np.float64
        np.testing.assert_allclose(found.K, expected.K, rtol=1e-3, atol=1e-4)
        skew = 3 * jnp.triu(jnp.ones((3, 3)), 1)
        tilted = cost._replace(H=cost.H + skew - skew.T)
        found, _ = solve_one(dynamics, tilted, previous, initial, 1.0)
        np.testing.assert_allclose(found.K, expected.K, rtol=1e-6)


def test_an_unreachable_bound_is_not_converged():
    dynamics, cost, previous, initial = problem(24, T, dX, dU, dtype=np.float32)
    config = TrustRegionConfig(eta_max=1e-3)
    new, info = solve_one(dynamics, cost, previous, initial, 0.01, config=config)
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
        ("num_candidates", 2.5),
        ("max_rounds", 0),
        ("rounds", 0),
        ("rate", 0.0),
    ],
)
def test_config_out_of_range_is_refused(field, value):
    kind = PerStepTrustRegionConfig if field in ("rounds", "rate") else TrustRegionConfig
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{field} is .*; it has .*usually"):
        kind(**{field: value})


def test_limits_in_the_wrong_order_are_both_named():
    with pytest.raises(ValueError, match=r"eta_min is 1e-08; .* below eta_max = 1e-09"):
        TrustRegionConfig(eta_max=1e-9)


def test_wrong_shapes_are_named():
    dynamics, cost, previous, initial = problem(25, T, dX, dU, dtype=np.float32)
    one = (dynamics, cost, previous, initial)
    with pytest.raises(ValueError, match=r"epsilon must be a scalar, got shape \(10,\)"):
        SOLVE(*one, jnp.ones(T))
    with pytest.raises(ValueError, match=r"eta must be a scalar, got shape \(10,\)"):
        SOLVE(*one, 1.0, eta=jnp.ones(T))
    for name in ("epsilon", "eta"):
        with pytest.raises(ValueError, match=rf"{name} must be a scalar or have shape \(10,\)"):
            trust_region.solve_kl_constrained_per_step(*one, **{"epsilon": 1.0, name: jnp.ones(3)})
    with pytest.raises(ValueError, match=r"previous\.K must have shape \(10, 3, 6\)"):
        trust_region.solve_kl_constrained(
            dynamics, cost, previous._replace(K=previous.K[1:]), initial, 1.0
        )
