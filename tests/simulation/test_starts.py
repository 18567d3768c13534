"""Rollouts that each start at a pose of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.simulation import (
    Conditions,
    Shared,
    Starts,
    System,
    check_conditions,
    load_model,
    make_sampler,
)

# A free body beside a driven slide, nothing touches.
MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="box" pos="0 0 1">
      <freejoint/><geom type="box" size="0.1 0.2 0.3"/><site name="corner" pos="0.1 0.2 0.3"/>
    </body>
    <body name="cart" pos="1 0 0.5"><joint name="lift" type="slide" axis="0 0 1"/>
      <geom size="0.05" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator><general joint="lift" dyntype="filter" dynprm="0.05" gainprm="3"/></actuator>
</mujoco>
"""
C, N, T = 2, 3, 6
CHANGES = {"body_mass:cart": np.array([0.5, 2.0])}


def _system():
    model, layout, observation = load_model(MODEL, ("qpos", "qvel"), ("site_pos:corner", "qvel"))
    return System(model, layout, T, 2, observation)


def _policy(params, x, o, t, noise):
    return params * (o[2:3] + x[7:8]) + noise


def _starts(seed=0):
    rng = np.random.default_rng(seed)
    qpos, qvel = rng.normal(size=(C, N, 8)), rng.normal(size=(C, N, 7))
    qpos[..., 3:7] /= np.linalg.norm(qpos[..., 3:7], axis=-1, keepdims=True)
    return Starts(qpos, qvel, rng.normal(size=(C, N, 1)))


def _conditions(system, changes=CHANGES):
    qpos = np.tile([0, 0, 1, 1, 0, 0, 0, 0.0], (C, 1))
    return check_conditions(system.model, Conditions(qpos, np.zeros((C, 7)), changes))


def _noise():
    return jax.random.normal(jax.random.key(0), (C, N, T, 1))


def _as_conditions(system, starts):
    """The same poses as conditions [C * N] of one sample each: what starts replace."""
    changes = {key: np.repeat(value, N, axis=0) for key, value in CHANGES.items()}
    qpos, qvel, act = (np.reshape(a, (C * N, -1)) for a in starts)
    conditions = check_conditions(system.model, Conditions(qpos, qvel, changes, act=act))
    sampler = make_sampler(system, conditions, _policy, "native")
    params = jnp.repeat(jnp.array([0.5, -0.3]), N)
    result = sampler.sample(params, _noise().reshape(C * N, 1, T, 1))
    return {k: np.reshape(a, (C, N, *a.shape[2:])) for k, a in result._asdict().items()}


def test_starts_equal_conditions_with_the_same_poses():
    system, starts = _system(), _starts()
    sampler = make_sampler(system, _conditions(system), _policy, "native")
    result = sampler.sample(jnp.array([0.5, -0.3]), _noise(), starts)
    expected = _as_conditions(system, starts)
    assert bool(result.valid.all())
    for field in ("x", "u", "qpos", "o"):
        np.testing.assert_allclose(getattr(result, field), expected[field], atol=1e-6)
    np.testing.assert_allclose(result.qpos[:, :, 0], starts.qpos, atol=1e-12)
    # Without them it starts at the conditions' poses again.
    plain = sampler.sample(jnp.array([0.5, -0.3]), _noise())
    np.testing.assert_array_equal(plain.qpos[:, :, 0, :3], np.tile([0, 0, 1.0], (C, N, 1)))


def test_starts_under_jit_on_mjx_equal_native():
    """With params that are shared between conditions; the last start is not finite."""
    system, starts = _system(), _starts(seed=1)
    starts.qvel[1, 2, 3] = np.nan
    traced = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), starts)
    params = Shared(jnp.float32(0.4))
    results = []
    for backend in ("native", "mjx"):
        sampler = make_sampler(system, _conditions(system), _policy, backend)
        sample = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
        results.append(sample(params, _noise(), traced))
    native, mjx = results
    for result in results:
        np.testing.assert_array_equal(result.valid, [[True] * 3, [True, True, False]])
    for field in ("x", "u", "qpos", "o"):
        np.testing.assert_allclose(getattr(mjx, field), getattr(native, field), atol=2e-4)
    np.testing.assert_allclose(mjx.qpos[0, :, 0], starts.qpos[0], atol=1e-6)


def test_a_start_that_is_not_finite_leaves_the_others_bit_identical():
    system, starts = _system(), _starts(seed=2)
    sampler = make_sampler(system, _conditions(system), _policy, "native")
    clean = sampler.sample(jnp.zeros(C), _noise(), starts)
    for start, value in (((0, 1, 7), np.inf), ((0, 1, slice(3, 7)), 0.0)):  # no rotation
        qpos = starts.qpos.copy()
        qpos[start] = value
        bad = sampler.sample(jnp.zeros(C), _noise(), starts._replace(qpos=qpos))
        np.testing.assert_array_equal(bad.valid, [[True, False, True], [True] * 3])
        for field in ("x", "u", "qpos", "o"):
            good, now = np.array(getattr(clean, field)), np.array(getattr(bad, field))
            assert np.isnan(now[0, 1]).all()
            good[0, 1] = now[0, 1] = 0
            np.testing.assert_array_equal(now, good)


def test_quaternions_of_starts_are_made_unit():
    system, starts = _system(), _starts(seed=3)
    sampler = make_sampler(system, _conditions(system), _policy, "native")
    longer = starts.qpos.copy()
    longer[..., 3:7] *= 3
    one = sampler.sample(jnp.zeros(C), _noise(), starts)
    other = sampler.sample(jnp.zeros(C), _noise(), starts._replace(qpos=longer))
    np.testing.assert_allclose(other.x, one.x, atol=1e-6)


@pytest.mark.parametrize("backend", ["native", "mjx"])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((C, N, 7), (C, N, 7)), r"qpos has shape \(2, 3, 7\), expected \(2, 3, 8\)"),
        (((C, N, 8), (C, 7)), r"qvel has shape \(2, 7\), expected \(2, 3, 7\) for 2 conditions"),
        (((C, N, 8), (C, N, 7), (C, N, 2)), r"act has shape .2, 3, 2., expected .2, 3, 1."),
        (((C, 1, 8), (C, 1, 7)), r"qpos has shape \(2, 1, 8\), .* noise for 3 samples"),
    ],
)
def test_starts_of_other_shapes_are_refused(backend, shapes, message):
    system = _system()
    sampler = make_sampler(system, _conditions(system), _policy, backend)
    with pytest.raises(ValueError, match=message):
        sampler.sample(jnp.zeros(C), _noise(), Starts(*(jnp.zeros(s) for s in shapes)))


def test_activations_that_are_left_out_are_those_of_the_condition():
    system, starts = _system(), _starts(seed=4)
    conditions = _conditions(system)._replace(act=np.array([[1.0], [-2.0]]))
    sampler = make_sampler(system, conditions, _policy, "native")
    left_out = sampler.sample(jnp.zeros(C), _noise(), starts._replace(act=None))
    written = np.repeat(conditions.act[:, None], N, axis=1)
    told = sampler.sample(jnp.zeros(C), _noise(), starts._replace(act=written))
    np.testing.assert_array_equal(left_out.x, told.x)
    other = sampler.sample(jnp.zeros(C), _noise(), starts)
    assert np.abs(np.asarray(other.x) - left_out.x).max() > 1e-3
