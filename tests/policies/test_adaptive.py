"""A policy that adapts its model: it tracks what one with the nominal model does not."""

import functools

import adaptive_pendulum as pendulum
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import dynamics, policies
from jgps.controllers import Target
from jgps.core import types
from jgps.dynamics import AdaptationConfig

STEPS, CHANGE = 300, 100  # of 0.02 s; when the mass changes
LIMITS = (jnp.array([-40.0]), jnp.array([40.0]))  # N m
# A position error falls by 4% in a step; torques are next to free.
WEIGHTS = {"x_weight": jnp.array([100.0, 1.0]), "u_weight": jnp.array([1e-5])}


def make(limits=LIMITS):
    return policies.make_adaptive_policy(dynamics.make_adaptation(AdaptationConfig(), 2, 1), limits)


def episode(key, mass, adapted):
    """Errors of the state [STEPS, 2] about two sines, torques, and the statuses."""
    policy = make()
    for_size, for_speed, for_noise = jax.random.split(key, 3)
    size = jax.random.uniform(for_size, (2,), minval=0.2, maxval=0.7)  # rad
    speed = jax.random.uniform(for_speed, (2,), minval=1.0, maxval=5.0)  # rad/s

    def wanted(t):
        angle = [jnp.sum(size * jnp.sin(speed * pendulum.DT * each)) for each in (t, t - 1)]
        return jnp.stack([angle[0], (angle[0] - angle[1]) / pendulum.DT])

    def step(carry, t):
        state, x, u = carry
        target = Target(x=wanted(t + 1.0), u=u, **WEIGHTS)
        u, state, info = policy.act(state, x, target, pendulum.nominal(x, u))
        if not adapted:  # it forgets at once, and acts by the nominal model
            state = state._replace(adaptation=policy.init().adaptation)
            state = state._replace(started=jnp.asarray(False))
        now = jnp.where(t < CHANGE, pendulum.NOMINAL, mass)
        x = pendulum.disturbed(jax.random.fold_in(for_noise, t), x, u, now)
        return (state, x, u), (x - wanted(t + 1.0), u, info.status.code)

    start = (policy.init(), wanted(0.0), jnp.zeros(1))
    return jax.lax.scan(step, start, jnp.arange(STEPS))[1]


@functools.partial(jax.jit, static_argnames="adapted")
def episodes(keys, mass, adapted):
    return jax.vmap(functools.partial(episode, adapted=adapted), in_axes=(0, None))(keys, mass)


def errors(adapted, mass):
    """Root mean square errors of the angle before and after the change, [seeds]."""
    found = episodes(jax.random.split(jax.random.key(0), 20), mass, adapted)
    error, u, code = jax.tree.map(np.asarray, found)
    assert (code == types.OK).all() and np.abs(u).max() < LIMITS[1]
    angle = np.square(error[:, :, 0])
    return np.sqrt(angle[:, :CHANGE].mean(1)), np.sqrt(angle[:, CHANGE + 10 :].mean(1))


@pytest.mark.parametrize(("mass", "share"), [(1.5, 0.5), (0.5, 0.2)])
def test_it_tracks_better_than_the_nominal_model_after_a_change_of_mass(mass, share):
    """20 seeds: in each of them, and on average by far; before the change it is no worse."""
    (before, after), (fixed_before, fixed_after) = (errors(each, mass) for each in (True, False))
    assert before.mean() < fixed_before.mean()
    assert (after < fixed_after).all()
    assert after.mean() < share * fixed_after.mean()


def test_it_learns_from_what_was_done_and_from_the_second_state_on():
    policy = make()
    x = jnp.array([0.1, 0.2])
    target = Target(x=x, u=jnp.zeros(1), **WEIGHTS)
    act = jax.jit(policy.act)
    u, state, info = act(policy.init(), x, target, pendulum.nominal(x, jnp.zeros(1)))
    assert state.adaptation.count == 0 and info.status.code == types.OK
    done = u + 1.0  # noise on what it said
    state = state._replace(u=done)
    x_next = pendulum.step(x, done, 1.0)
    _, state, info = act(state, x_next, target, pendulum.nominal(x_next, jnp.zeros(1)))
    assert state.adaptation.count == 1
    # The nominal model is right about that, so nothing is to be learned.
    np.testing.assert_allclose(state.adaptation.mean, jnp.stack([*x, *done, 0, 0]), atol=1e-6)


def test_a_state_that_is_not_finite_costs_two_samples_and_no_more():
    policy, x = make(), jnp.array([0.1, 0.2])
    target = Target(x=x, u=jnp.array([0.3]), **WEIGHTS)
    act = jax.jit(policy.act)
    state, codes, actions = policy.init(), [], []
    for seen in (x, x * jnp.nan, x, x):
        u, state, info = act(state, seen, target, pendulum.nominal(seen, jnp.zeros(1)))
        codes.append(int(info.status.code))
        actions.append(float(u[0]))
    assert codes == [types.OK, types.NON_FINITE, types.OK, types.OK]
    assert actions[1] == pytest.approx(0.3) and np.isfinite(actions).all()
    assert state.adaptation.skipped == 2 and state.adaptation.count == 1


def test_limits_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"limits must be lower and upper \[dU\], got \(1,\)"):
        make((jnp.zeros(1), jnp.ones(2)))
