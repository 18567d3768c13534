"""Closed-loop rollouts on C MuJoCo against stepping MuJoCo by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from compilations import count_compilations

from jgps.simulation import Conditions, System, check_conditions, load_model, make_sampler

MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 -9.81"/>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 0.1"/>
    <body name="arm" pos="0 0 0.6">
      <joint name="shoulder" axis="0 1 0" damping="0.1"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"/>
      <body name="fore" pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0" damping="0.1"/>
        <geom name="lower" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03"/>
        <site name="tip" pos="0.3 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="shoulder" ctrllimited="true" ctrlrange="-1 1"/>
    <motor joint="elbow"/>
  </actuator>
</mujoco>
"""
ENTRIES = ("qpos", "qvel", "site_pos:tip", "site_vel:tip")
HORIZON, SUBSTEPS = 12, 3


def policy(params, x, o, t, noise):
    del o
    return params[0] + params[1] * x[:2] + noise * (1 + t)


def _system():
    model, layout, _ = load_model(MODEL, ENTRIES)
    return System(model, layout, HORIZON, SUBSTEPS)


def _conditions(model, **changes):
    qpos = np.array([[0.1, 0.2], [0.4, -0.3]])
    return check_conditions(model, Conditions(qpos, np.ones((2, 2)), changes))


def _by_hand(system, model, qpos, qvel, params, noise):
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    xs, us = [], []
    for t in range(HORIZON):
        mujoco.mj_forward(model, data)
        x = system.layout.of(data)
        u = params[0] + params[1] * x[:2] + noise[t] * (1 + t)
        data.ctrl[:] = [np.clip(u[0], -1, 1), u[1]]
        xs.append(x)
        us.append(data.ctrl.copy())
        for _ in range(SUBSTEPS):
            mujoco.mj_step(model, data)
    return np.array(xs), np.array(us)


def test_closed_loop_equals_stepping_by_hand_with_changed_models():
    system = _system()
    masses, frictions = np.array([0.5, 2.0]), np.array([[0.2, 0, 0], [1, 0, 0]])
    conditions = _conditions(
        system.model, **{"body_mass:fore": masses, "geom_friction:floor": frictions}
    )
    params = jnp.array([[0.3, -0.5], [-0.2, 0.7]])
    noise = jax.random.normal(jax.random.key(0), (2, 3, HORIZON, 2))
    result = make_sampler(system, conditions, policy, "native").sample(params, noise)
    assert result.x.shape == (2, 3, HORIZON, system.layout.size)
    assert result.qpos.shape == (2, 3, HORIZON, 2)
    assert bool(result.valid.all())
    for c in range(2):
        model, _, _ = load_model(MODEL, ENTRIES)
        model.body("fore").mass[:] = masses[c]
        model.geom("floor").friction[:] = frictions[c]
        mujoco.mj_setConst(model, mujoco.MjData(model))
        for n in range(3):
            x, u = _by_hand(
                system, model, conditions.qpos[c], conditions.qvel[c],
                np.asarray(params[c]), np.asarray(noise[c, n]),
            )  # fmt: skip
            np.testing.assert_allclose(result.x[c, n], x, atol=2e-4)
            np.testing.assert_allclose(result.u[c, n], u, atol=2e-4)


def test_the_policy_reads_the_observation_at_the_state_before_its_action():
    entries = ("sensor:force", "site_vel:tip", "qpos:elbow")
    sensing = MODEL.replace(
        "</mujoco>", '<sensor><jointvel name="force" joint="elbow"/></sensor></mujoco>'
    )
    model, layout, observation = load_model(sensing, ("qpos", "qvel"), entries)
    system = System(model, layout, HORIZON, SUBSTEPS, observation)
    conditions = _conditions(model)

    def read(params, x, o, t, noise):
        return params * jnp.stack([o[1] + x[0], o[0] - o[4]]) + noise

    noise = jax.random.normal(jax.random.key(3), (2, 2, HORIZON, 2))
    params = np.array([0.1, -0.2])
    result = make_sampler(system, conditions, read, "native").sample(jnp.asarray(params), noise)
    assert result.o.shape == (2, 2, HORIZON, 5) and bool(result.valid.all())
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = conditions.qpos[1], conditions.qvel[1]
    for t in range(HORIZON):
        mujoco.mj_forward(model, data)
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, jacobian, None, model.site("tip").id)
        o = np.r_[data.qvel[1], jacobian @ data.qvel, data.qpos[1]]
        u = params[1] * np.array([o[1] + data.qpos[0], o[0] - o[4]]) + np.asarray(noise[1, 0, t])
        np.testing.assert_allclose(result.o[1, 0, t], o, atol=2e-4)
        data.ctrl[:] = [np.clip(u[0], -1, 1), u[1]]
        np.testing.assert_allclose(result.u[1, 0, t], data.ctrl, atol=2e-4)
        mujoco.mj_step(model, data, nstep=SUBSTEPS)


def test_without_an_observation_layout_it_is_the_state():
    system = _system()

    def read(params, x, o, t, noise):
        return params + o[:2] - x[:2] + noise

    sampler = make_sampler(system, _conditions(system.model), read, "native")
    noise = jax.random.uniform(jax.random.key(4), (2, 1, HORIZON, 2))
    result = sampler.sample(jnp.zeros((2, 2)), noise)
    np.testing.assert_array_equal(result.o, result.x)
    np.testing.assert_array_equal(result.u, noise)


def test_changed_model_leaves_the_base_model_alone():
    system = _system()
    before = system.model.body_mass.copy()
    _conditions(system.model, **{"body_mass:fore": np.array([[5.0], [6.0]])})
    conditions = _conditions(system.model, **{"body_mass:fore": np.array([[5.0], [6.0]])})
    make_sampler(system, conditions, policy, "native")
    np.testing.assert_array_equal(system.model.body_mass, before)


def test_one_bad_sample_is_marked_and_leaves_the_others_bit_identical(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    system = _system()
    sampler = make_sampler(system, _conditions(system.model), policy, "native")
    params = jnp.zeros((2, 2))
    noise = jax.random.normal(jax.random.key(1), (2, 3, HORIZON, 2))
    clean = sampler.sample(params, noise)
    for poison in (jnp.nan, jnp.inf, 1e12):  # the last one makes MuJoCo itself diverge
        bad = sampler.sample(params, noise.at[1, 2, 4, 1].set(poison))
        np.testing.assert_array_equal(bad.valid, [[True] * 3, [True, True, False]])
        assert np.isnan(bad.x[1, 2]).all() and np.isnan(bad.u[1, 2]).all()
        for field in ("x", "u", "qpos"):
            good, now = np.array(getattr(clean, field)), np.array(getattr(bad, field))
            good[1, 2] = now[1, 2] = 0
            np.testing.assert_array_equal(now, good)
    assert not list(tmp_path.iterdir())  # MuJoCo would leave a log file
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_gives_the_same_rollouts():
    system = _system()
    sampler = make_sampler(system, _conditions(system.model), policy, "native")
    noise = jax.random.normal(jax.random.key(2), (2, 5, HORIZON, 2))
    one, other = (sampler.sample(jnp.zeros((2, 2)), noise) for _ in range(2))
    np.testing.assert_array_equal(one.x, other.x)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (Conditions(np.zeros((2, 3)), np.zeros((2, 2))), r"qpos has shape \(2, 3\), expected"),
        (Conditions(np.zeros((2, 2)), np.zeros((3, 2))), r"qvel has shape \(3, 2\), expected"),
        (Conditions(np.full((1, 2), np.nan), np.zeros((1, 2))), "qpos has values that are not"),
        (
            Conditions(np.zeros((1, 2)), np.zeros((1, 2)), {"body_pos:leg": np.zeros((1, 3))}),
            "no object 'leg'",
        ),
        (
            Conditions(np.zeros((1, 2)), np.zeros((1, 2)), {"body_size:arm": np.zeros((1, 3))}),
            "no array 'body_size'",
        ),
        (
            Conditions(np.zeros((1, 2)), np.zeros((1, 2)), {"body_pos:arm": np.zeros((1, 2))}),
            r"body_pos:arm has shape \(1, 2\), expected \(1, 3\)",
        ),
    ],
)
def test_conditions_that_do_not_fit_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        check_conditions(_system().model, conditions)


def test_quaternions_are_made_unit_and_zeros_refused():
    free = """<mujoco><worldbody><body><freejoint/><geom size="1"/></body>
      <body><joint name="j"/><geom size="1"/></body></worldbody>
      <actuator><motor joint="j"/></actuator></mujoco>"""
    model, _, _ = load_model(free, ("qpos",))
    qpos = np.array([[0, 0, 0, 0, 2.0, 0, 0, 0.5]])
    checked = check_conditions(model, Conditions(qpos, np.zeros((1, 7))))
    np.testing.assert_array_equal(checked.qpos, [[0, 0, 0, 0, 1, 0, 0, 0.5]])
    with pytest.raises(ValueError, match="quaternion of zeros at 3"):
        check_conditions(model, Conditions(np.zeros((1, 8)), np.zeros((1, 7))))


def test_activations_are_part_of_the_state_where_asked():
    filtered = MODEL.replace(
        '<motor joint="elbow"/>', '<general joint="elbow" dyntype="filter" dynprm="0.1"/>'
    )
    model, layout, _ = load_model(filtered, ("qvel", "act", "qpos"))
    conditions = check_conditions(model, Conditions(np.zeros((1, 2)), np.zeros((1, 2))))
    sampler = make_sampler(
        System(model, layout, HORIZON, SUBSTEPS), conditions, lambda p, x, o, t, e: e, "native"
    )
    result = sampler.sample(jnp.zeros((1, 1)), jnp.ones((1, 1, HORIZON, 2)))
    data = mujoco.MjData(model)
    data.ctrl[:] = 1
    for t in range(HORIZON):
        expected = np.r_[data.qvel, data.act, data.qpos]
        np.testing.assert_allclose(result.x[0, 0, t], expected, atol=1e-5)
        mujoco.mj_step(model, data, nstep=SUBSTEPS)
    assert float(result.x[0, 0, -1, 2]) > 0.5


def test_unknown_backend_lists_the_known():
    from jgps.simulation import resolve_backend

    with pytest.raises(ValueError, match="unknown backend 'cuda'; backends: auto, native, mjx"):
        resolve_backend("cuda")


class Policy(NamedTuple):
    """A policy whose functions are equal where their gains are."""

    gain: float

    def __call__(self, params, x, o, t, noise):
        del o, t
        return params + self.gain * x[:2] + noise


def test_equal_policies_share_a_program():
    noise = jax.random.normal(jax.random.key(5), (2, 2, HORIZON, 2))
    mass = np.array([0.5, 2.0])

    def roll_out(gain, mass):
        system = _system()
        conditions = _conditions(system.model, **{"body_mass:fore": mass})
        sampler = make_sampler(system, conditions, Policy(gain), "native")
        return sampler.sample(jnp.zeros((2, 2)), noise).x

    assert count_compilations(lambda: roll_out(0.25, mass)) > 0
    assert count_compilations(lambda: roll_out(0.25, 2 * mass)) == 0
    assert count_compilations(lambda: roll_out(0.5, mass)) > 0
