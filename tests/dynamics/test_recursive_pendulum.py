"""Models that are adapted online on a pendulum: over long runs, and after its mass has changed."""

import adaptive_pendulum as pendulum
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics
from jgps.core import types
from jgps.dynamics import AdaptationConfig

EXCITED, CONSTANT, SAME = 0, 1, 2  # torques; a constant one, in which it comes to rest; one sample
REST = jnp.array([0.3, 0.0])


def _long_run(kind, forgetting, thousands):
    """Models and states after every 1,000 steps of a pendulum of another mass."""
    adaptation = dynamics.make_adaptation(AdaptationConfig(forgetting=forgetting), 2, 1)

    def step(carry, t):
        state, x, smooth = carry
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), (2,))
        smooth = 0.9 * smooth + noise[:1]
        u = jnp.where(kind == EXCITED, smooth - 0.5 * x[1:], 1.5)
        x = jnp.where(kind == SAME, REST, x)
        disturbance = jnp.where(kind == EXCITED, pendulum.NOISE, 0) * noise[1]
        x_next = pendulum.step(x, u, 1.5) + disturbance * jnp.array([pendulum.DT, 1.0])
        state = adaptation.update(state, pendulum.nominal(x, u), x, u, x_next)
        return (state, x_next, smooth), None

    def thousand(carry, times):
        carry, _ = jax.lax.scan(step, carry, times)
        model, info = adaptation.evaluate(carry[0], pendulum.nominal(REST, jnp.zeros(1)))
        return carry, (model, info, carry[0])

    start = (adaptation.init(), jnp.array([0.5, 0.0]), jnp.zeros(1))
    return jax.lax.scan(thousand, start, jnp.arange(1000 * thousands).reshape(-1, 1000))[1]


@pytest.mark.parametrize(("forgetting", "thousands"), [(0.9, 100), (0.999, 20)])
def test_covariances_stay_what_they_are_over_thousands_of_steps(forgetting, thousands):
    run = jax.jit(jax.vmap(lambda kind: _long_run(kind, forgetting, thousands)))
    model, info, state = jax.tree.map(np.asarray, run(jnp.array([EXCITED, CONSTANT, SAME])))
    assert (info.status.code == types.OK).all() and (info.ridge_added == 0).all()
    assert (state.skipped == 0).all()
    np.testing.assert_array_equal(model.W, np.swapaxes(model.W, -1, -2))
    eigenvalues = np.linalg.eigvalsh(model.W.astype(np.float64))
    share = AdaptationConfig().strength / (state.count + AdaptationConfig().strength)
    # Never below the prior's share, never far above what the wrong mass leaves unexplained.
    assert (eigenvalues[..., 0] >= 0.98 * share * pendulum.NOISE**2).all()
    assert eigenvalues.max() < 2e-5
    trace = np.sum(np.square(state.factor.astype(np.float64)), axis=(-2, -1))
    assert (trace < 20 * state.count).all() and (state.count <= 1 / (1 - forgetting)).all()
    assert (trace[EXCITED] > 1).all() and (trace[SAME] == 0).all()
    assert trace[CONSTANT, -1] < 1e-4
    # In the end it has the true mass where that shows, the nominal one where it does not.
    true = jax.jacfwd(pendulum.step, 1)(REST, jnp.zeros(1), 1.5)[:, 0]
    prior = pendulum.nominal(REST, jnp.zeros(1)).F[:, 2]
    np.testing.assert_allclose(model.F[EXCITED, -1, :, 2], true, rtol=0.1)
    np.testing.assert_allclose(model.F[CONSTANT, -1, :, 2], prior, rtol=1e-4)
    np.testing.assert_allclose(model.F[SAME, -1, :, 2], prior, rtol=1e-6)


BEFORE, AFTER = 100, 300  # steps before and after the mass changes


def _change_of_mass(key, mass, noise):
    """Errors of the adapted and the nominal model at every step, and what both saw after it."""
    adaptation = dynamics.make_adaptation(AdaptationConfig(), 2, 1)

    def step(carry, t):
        state, x, smooth, key = carry
        key, for_torque, for_noise = jax.random.split(key, 3)
        smooth = 0.9 * smooth + 1.1 * jax.random.normal(for_torque, (1,))
        u = smooth - 0.5 * x[1:]
        now = jnp.where(t < BEFORE, pendulum.NOMINAL, mass)
        x_next = pendulum.disturbed(for_noise, x, u, now, noise)
        prior = pendulum.nominal(x, u)
        model, _ = adaptation.evaluate(state, prior)
        z = jnp.concatenate([x, u])
        adapted, nominal = (x_next - each.F @ z - each.f for each in (model, prior))
        state = adaptation.update(state, prior, x, u, x_next)
        return (state, x_next, smooth, key), (adapted, nominal, z, x_next)

    x = 0.5 * jax.random.normal(key, (2,))
    start = (adaptation.init(), x, jnp.zeros(1), key)
    return jax.lax.scan(step, start, jnp.arange(BEFORE + AFTER))[1]


_changes_of_mass = jax.jit(jax.vmap(_change_of_mass, in_axes=(0, None, None)))


def _left_by_least_squares(z, target):
    """What one linear model of all steps after the change leaves of `target` [C, S, 2]."""
    rows = np.concatenate([z, np.ones((*z.shape[:2], 1))], axis=2)
    fits = [np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(rows, target, strict=True)]
    return target - rows @ np.array(fits)


@pytest.mark.parametrize(("mass", "noise"), [(1.5, 1e-3), (0.5, 1e-3), (1.5, 1e-4), (0.5, 1e-4)])
def test_after_a_change_of_mass_it_soon_predicts_as_a_model_identified_anew(mass, noise):
    """32 seeds; the mass rises or falls by half, and changes what a torque does by -33 or +100 %.

    Identified anew are the deviations from the nominal model, by least squares on all 300 steps
    after the change, where they are exactly linear: only noise is left. A linear model of x' itself
    leaves 3 and 20 times as much at the greater noise.
    """
    found = _changes_of_mass(jax.random.split(jax.random.key(0), 32), mass, noise)
    adapted, nominal, z, x_next = jax.tree.map(np.asarray, found)
    after = slice(BEFORE, None)

    def size(error):  # of velocities; positions integrate them
        return np.sqrt(np.mean(np.square(error[..., 1])))

    anew = size(_left_by_least_squares(z[:, after], nominal[:, after]))
    plain = size(_left_by_least_squares(z[:, after], x_next[:, after]))
    np.testing.assert_allclose(anew, noise, rtol=0.05)
    soon = size(adapted[:, BEFORE + 25 : BEFORE + 50])
    assert size(nominal[:, after]) > 10 * anew and size(adapted[:, BEFORE : BEFORE + 3]) > 10 * anew
    assert soon < 2 * anew
    assert size(adapted[:, BEFORE + 10 : BEFORE + 15]) < 2 * plain
    # Before and long after it only pays for remembering 10 steps.
    assert size(adapted[:, 50:BEFORE]) < 1.3 * anew
    assert size(adapted[:, BEFORE + 100 :]) < 1.3 * anew
