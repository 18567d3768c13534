"""Models that are adapted online: against a weighted regression, failures, what is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics
from jgps.core import lqr, types
from jgps.core.estimation import mixture
from jgps.core.types import Dynamics, QuadraticCost
from jgps.dynamics import AdaptationConfig, NormalInverseWishart

DX, DU = 3, 2
D = DX + DU
SPREAD = (0.5, 20.0, 1.0, 0.1, 2.0)
CONFIG = AdaptationConfig(forgetting=0.8, strength=0.3, spread=SPREAD, surprise=None)


def samples(seed, num, dtype=jnp.float32):
    """Steps of a linear system with noise, and prior models of it that are somewhat wrong."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(DX, D)) / SPREAD
    z = rng.normal(size=(num, D)) * SPREAD + 3.0
    x_next = z @ true.T + 0.4 + 0.05 * rng.normal(size=(num, DX))
    prior = Dynamics(
        F=true + 0.1 * rng.normal(size=(num, DX, D)) / SPREAD,
        f=rng.normal(size=(num, DX)),
        W=np.broadcast_to(1e-2 * np.diag([1.0, 2.0, 3.0]), (num, DX, DX)),
    )
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype), (prior, z[:, :DX], z[:, DX:], x_next)
    )


@functools.partial(jax.jit, static_argnames="config")
def learned(state, data, config=CONFIG):
    """The state after all steps of `samples`."""
    adaptation = dynamics.make_adaptation(config, DX, DU, state.mean.dtype)
    return jax.lax.scan(lambda s, row: (adaptation.update(s, *row), None), state, data)[0]


@functools.partial(jax.jit, static_argnames="config")
def evaluated(state, prior, config=CONFIG):
    return dynamics.make_adaptation(config, DX, DU, state.mean.dtype).evaluate(state, prior)


def fresh(dtype=jnp.float32):
    return dynamics.make_adaptation(CONFIG, DX, DU, dtype).init()


def by_regression(data, prior):
    """The same from all steps at once: residuals of weight 0.8^age, ridges from the prior."""
    seen, x, u, x_next = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), data)
    z = np.concatenate([x, u], axis=1)
    r = x_next - np.einsum("nij,nj->ni", seen.F, z) - seen.f
    weights = 0.8 ** np.arange(len(z))[::-1]
    n, s = weights.sum(), CONFIG.strength
    mean_z, mean_r = weights @ z / n, weights @ r / n
    z, r = z - mean_z, r - mean_r
    ridge = s * np.diag(np.square(SPREAD))
    dF = np.linalg.solve((z.T * weights) @ z + ridge, (z.T * weights) @ r).T
    left = r - z @ dF.T
    W = (left.T * weights) @ left + dF @ ridge @ dF.T + n * s / (n + s) * np.outer(mean_r, mean_r)
    df = n / (n + s) * mean_r - dF @ mean_z
    return prior.F + dF, prior.f + df, (W + s * np.asarray(prior.W)) / (n + s)


@pytest.mark.parametrize("num", [1, 60])
def test_it_is_a_weighted_regression_with_a_prior(num, x64):
    data = samples(0, num, jnp.float64)
    prior = jax.tree.map(lambda leaf: leaf[0], samples(1, 1, jnp.float64)[0])
    state = learned(fresh(jnp.float64), data)
    model, info = evaluated(state, prior)
    assert info.status.code == types.OK and info.ridge_added == 0
    for found, expected in zip(model, by_regression(data, prior), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.count, np.sum(0.8 ** np.arange(num)), rtol=1e-12)


def test_float32_is_float64_to_4_digits():
    """Entries spread from 0.1 to 20 about means up to 30 spreads away."""
    single, _ = evaluated(
        learned(fresh(), samples(0, 60)), jax.tree.map(lambda a: a[5], samples(0, 60)[0])
    )
    expected = by_regression(samples(0, 60), jax.tree.map(lambda a: a[5], samples(0, 60)[0]))
    for found, right, unit in zip(single, expected, (np.array(SPREAD), 1.0, 1.0), strict=True):
        np.testing.assert_allclose(
            found * unit, right * unit, atol=2e-4 * np.abs(right * unit).max()
        )


SURPRISED = dataclasses.replace(CONFIG, surprise=3.0)


def test_what_surprises_is_forgotten_for_by_how_much(x64):
    """The count after a step tells what was kept: 0.8^((miss / 3)^2)."""
    data = samples(0, 60, jnp.float64)
    state = learned(fresh(jnp.float64), data)
    row = jax.tree.map(lambda leaf: leaf[0], samples(0, 1, jnp.float64))
    F, f, W = by_regression(data, row[0])
    z = np.concatenate(row[1:3])
    weights = 0.8 ** np.arange(60)[::-1]
    n, s = weights.sum(), CONFIG.strength
    seen = np.concatenate(data[1:3], axis=1)
    middle = weights @ seen / n
    moments = ((seen - middle).T * weights) @ (seen - middle) + s * np.diag(np.square(SPREAD))
    leverage = (z - middle) @ np.linalg.solve(moments, z - middle) + 1 / (n + s)
    unit = np.sqrt(np.diag(W) * (1 + leverage))
    for misses in ([0.5, 0.0, 2.9], [0.5, -6.0, 1.0], [0.0, 0.0, 60.0]):
        x_next = jnp.asarray(F @ z + f + unit * misses)
        rows = jax.tree.map(lambda leaf: leaf[None], (*row[:3], x_next))
        kept = 0.8 ** max(1.0, (max(np.abs(misses)) / 3) ** 2)
        found = learned(state, rows, SURPRISED)
        np.testing.assert_allclose(found.count, kept * n + 1, rtol=1e-9)
        np.testing.assert_allclose(learned(state, rows).count, 0.8 * n + 1, rtol=1e-12)


def test_neither_noise_nor_rounding_is_a_surprise():
    """Also where the prior says that there is no noise, and is right."""
    state = learned(fresh(), samples(0, 60), SURPRISED)
    assert state.count > 0.8 * 5
    prior, x, u, _ = samples(0, 60)
    z = jnp.concatenate([x, u], axis=1)
    exact = jnp.einsum("nij,nj->ni", prior.F, z) + prior.f
    silent = prior._replace(W=jnp.zeros_like(prior.W))
    state = learned(fresh(), (silent, x, u, exact), SURPRISED)
    assert state.count > 0.99 * 5 and state.skipped == 0


def test_without_samples_it_is_the_prior_at_every_step_of_a_horizon():
    prior = samples(2, 4)[0]
    model, info = evaluated(fresh(), prior)
    jax.tree.map(np.testing.assert_array_equal, model, prior)
    assert info.status.code == types.OK


def test_a_constant_sample_moves_the_offset_alone():
    """Nothing is known of how it depends on z, so that stays the prior's."""
    data = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[:1], (50, *leaf.shape[1:])), samples(3, 1)
    )
    prior = jax.tree.map(lambda leaf: leaf[0], data[0])
    model, _ = evaluated(learned(fresh(), data), prior)
    np.testing.assert_array_equal(model.F, prior.F)
    z = jnp.concatenate([data[1][0], data[2][0]])
    before = data[3][0] - prior.F @ z - prior.f
    after = data[3][0] - model.F @ z - model.f
    # 5 steps are remembered beside a prior worth 0.3.
    np.testing.assert_allclose(after, before * 0.3 / 5.3, rtol=1e-3, atol=1e-5)


def test_lqr_plans_over_a_horizon_of_adapted_steps():
    prior = samples(2, 4)[0]
    model, _ = evaluated(learned(fresh(), samples(0, 60)), prior)
    deviation = np.asarray(model.F - prior.F)
    np.testing.assert_allclose(
        deviation, np.broadcast_to(deviation[:1], deviation.shape), atol=1e-5
    )
    assert np.abs(deviation).max() > 0.01
    cost = QuadraticCost(
        H=jnp.broadcast_to(jnp.eye(D), (5, D, D)), g=jnp.zeros((5, D)), h=jnp.zeros(5)
    )
    _, _, status = lqr.backward(model, cost, 0.0)
    assert status.code == types.OK


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("place", ["F", "f", "W", 1, 2, 3])
def test_a_step_that_is_not_finite_is_left_out_and_counted(place, bad):
    """Of the prior, x, u and x'; also what is finite until it is squared or subtracted."""
    if (place, bad) == ("W", 3e38):
        return  # the noise may be as large as it likes
    state = learned(fresh(), samples(0, 60), SURPRISED)
    rows = jax.tree.map(lambda leaf: leaf[:1], samples(4, 1))
    spoiled = list(rows)
    if isinstance(place, str):
        leaf = getattr(rows[0], place)
        spoiled[0] = rows[0]._replace(**{place: leaf.at[(0,) * leaf.ndim].set(bad)})
    else:
        spoiled[place] = rows[place].at[0, 1].set(bad)
    new = learned(state, tuple(spoiled), SURPRISED)
    jax.tree.map(np.testing.assert_array_equal, new[:3], state[:3])
    assert state.skipped == 0 and new.skipped == 1


def test_a_step_that_is_finite_and_far_off_is_forgotten_in_the_end():
    """Its square is next to what float32 holds: nothing that comes after it is kept out."""
    prior, x, u, x_next = samples(0, 1200)
    far = (prior, x, u, x_next.at[60, 0].set(5e15))
    state = learned(fresh(), far, SURPRISED)
    assert state.skipped == 0
    expected = evaluated(
        learned(fresh(), samples(0, 1200), SURPRISED), jax.tree.map(lambda a: a[0], prior)
    )
    found = evaluated(state, jax.tree.map(lambda a: a[0], prior))
    assert found[1].status.code == types.OK
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_prior_that_is_not_finite_is_data_inside_jit():
    prior = samples(2, 4)[0]
    prior = prior._replace(f=prior.f.at[2, 0].set(jnp.nan))
    model, info = evaluated(learned(fresh(), samples(0, 60)), prior)
    assert info.status.code == types.NON_FINITE and info.status.step == 2
    assert np.isfinite(np.asarray(model.f)[[0, 1, 3]]).all()


def test_a_prior_that_rounding_would_hide_is_raised_and_said():
    """All entries move together, ten thousand spreads far."""
    z = jnp.linspace(-1e4, 1e4, 60)[:, None] * jnp.ones(D)
    one = jax.tree.map(lambda leaf: leaf[0], samples(0, 1)[0])
    prior = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (60, *leaf.shape)), one)
    data = (prior, z[:, :DX], z[:, DX:], z[:, :DX])
    config = AdaptationConfig()
    model, info = evaluated(learned(fresh(), data, config), one, config)
    assert info.status.code == types.OK and info.ridge_added > 0
    assert all(np.isfinite(leaf).all() for leaf in model)
    # Along the one direction that was seen it is right.
    np.testing.assert_allclose(model.F @ jnp.ones(D), jnp.ones(DX), rtol=1e-4)


def test_results_do_not_depend_on_the_batch():
    """To 1e-6 of the largest entry; a state that fails changes no other, bit by bit."""
    data = [samples(seed, 20) for seed in range(5)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *data)
    prior = jax.tree.map(lambda leaf: leaf[:, 0], batch[0])
    start = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), fresh())
    many = jax.vmap(evaluated)(jax.vmap(learned)(start, batch), prior)[0]
    for i in range(5):
        alone, _ = evaluated(
            learned(fresh(), data[i]), jax.tree.map(lambda leaf, i=i: leaf[i], prior)
        )
        for found, expected in zip(many, alone, strict=True):
            np.testing.assert_allclose(
                found[i], expected, rtol=0, atol=1e-6 * np.abs(expected).max()
            )
    spoiled = (batch[0], batch[1].at[2].set(jnp.nan), *batch[2:])
    others = jax.vmap(evaluated)(jax.vmap(learned)(start, spoiled), prior)[0]
    keep = np.array([0, 1, 3, 4])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[keep], b[keep]), others, many)


def _joint(rng, dtype=np.float32):
    root = rng.normal(size=(2 * DX + DU, 2 * DX + DU))
    cov = root @ root.T * np.outer(*2 * [10.0 ** rng.integers(-2, 3, 2 * DX + DU)])
    return rng.normal(size=2 * DX + DU), cov


def test_the_dynamics_that_a_prior_expects_are_its_conditional_distribution(rng):
    mean, cov = _joint(rng)
    s = 2.5
    prior = NormalInverseWishart(
        mean=jnp.asarray(mean, jnp.float32), scatter=jnp.asarray(s * cov, jnp.float32),
        dof=jnp.asarray(1.0), strength=jnp.asarray(s),
    )  # fmt: skip
    model, status = dynamics.prior_model(prior, DX)
    assert status.code == types.OK
    unit = np.sqrt(np.diag(cov))
    F = np.linalg.solve(cov[:D, :D], cov[:D, D:]).T
    W = cov[D:, D:] - F @ cov[:D, D:]
    to_unit = unit[:D] / unit[D:, None]
    np.testing.assert_allclose(model.F * to_unit, F * to_unit, atol=1e-3)
    np.testing.assert_allclose((model.f - mean[D:] + F @ mean[:D]) / unit[D:], 0, atol=1e-3)
    np.testing.assert_allclose(
        model.W / np.outer(unit[D:], unit[D:]), W / np.outer(unit[D:], unit[D:]), atol=1e-4
    )
    assert np.linalg.eigvalsh(np.asarray(model.W, np.float64)).min() > 0


def test_a_mixture_seen_from_the_last_step_is_adapted_too(rng):
    """As Fu et al. (2016) do; an empty mixture says nothing, and nothing is learned from it."""
    means, covs = zip(*[_joint(rng), _joint(rng)], strict=True)
    full = mixture.Mixture(
        weights=jnp.array([0.5, 0.5]), mean=jnp.asarray(np.array(means), jnp.float32),
        cov=jnp.asarray(np.array(covs), jnp.float32), active=jnp.array([True, True]),
        count=jnp.asarray(100.0),
    )  # fmt: skip
    row = jax.tree.map(lambda leaf: leaf[0], samples(0, 1))
    point = jnp.concatenate(row[1:])[None]

    @jax.jit
    def adapted(mixture_now):
        prior = mixture.to_prior(mixture_now, point, jnp.ones(1), 1.0)
        model, status = dynamics.prior_model(prior, DX)
        adaptation = dynamics.make_adaptation(CONFIG, DX, DU)
        state = adaptation.update(adaptation.init(), model, *row[1:])
        return status, state, *adaptation.evaluate(state, model)

    status, state, model, info = adapted(full)
    assert status.code == info.status.code == types.OK and state.skipped == 0
    # One step is worth 1 and the prior 0.3, so that 1 / 1.3 of the error goes.
    assert all(np.isfinite(leaf).all() for leaf in model) and state.count == 1
    status, state, _, info = adapted(mixture.empty(2, 2 * DX + DU, jnp.float32))
    assert status.code == types.NOT_PD and info.status.code == types.NON_FINITE
    assert state.skipped == 1 and state.count == 0


def _call(**changed):
    prior, x, u, x_next = jax.tree.map(lambda leaf: leaf[0], samples(0, 1))
    given = {"prior": prior, "x": x, "u": u, "x_next": x_next, **changed}
    adaptation = dynamics.make_adaptation(CONFIG, DX, DU)
    return adaptation.update(adaptation.init(), *given.values())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: _call(x=jnp.zeros(4)), r"x must be \[3\] of one state, got \(4,\)"),
        (lambda: _call(u=jnp.zeros((7, 2))), r"u must be \[2\] .* use jax.vmap for batches"),
        (lambda: _call(x_next=jnp.zeros(())), r"x_next must be \[3\]"),
        (lambda: _call(prior=samples(0, 4)[0]), r"prior.F must be \[3, 5\] of one step, got \(4"),
        (lambda: _call(prior=_call_prior(f=jnp.zeros(4))), r"prior.f must be \[3\]"),
        (lambda: _call(prior=_call_prior(F=jnp.full((3, 5), jnp.inf))), "prior.F is not finite;"),
        (lambda: _evaluate(_horizon(jnp.nan)), "prior.W is not finite at step 2; the model"),
        (lambda: dynamics.make_adaptation(CONFIG, 3, 3), r"spread has 5 entries; .* dX \+ dU = 6"),
        (lambda: dynamics.make_adaptation(CONFIG, 5, 0), "dX and dU have to be at least 1"),
        (lambda: AdaptationConfig(forgetting=1.0), r"forgetting is 1.0; it has to be .* \(0, 0.99"),
        (lambda: AdaptationConfig(strength=0.0), "strength is 0.0; it has to be .* > 0"),
        (lambda: dynamics.prior_model(_prior_of(7), 4), "prior must have mean .* with dX = 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)


def _evaluate(prior):
    return dynamics.make_adaptation(CONFIG, DX, DU).evaluate(fresh(), prior)


def _call_prior(**changed):
    return jax.tree.map(lambda leaf: leaf[0], samples(0, 1)[0])._replace(**changed)


def _horizon(bad):
    prior = samples(0, 4)[0]
    return prior._replace(W=prior.W.at[2, 1, 1].set(bad))


def _prior_of(dim):
    one = jnp.ones(())
    return NormalInverseWishart(jnp.zeros(dim), jnp.eye(dim), one, one)
