"""All of the state that MuJoCo integrates goes along from one control step to the next."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import Conditions, System, check_conditions, load_model, make_sampler
from jgps.simulation import native as native_backend

HORIZON = 51  # 50 control steps


def _leg(index, x, y):
    capsule = '<geom type="capsule" fromto="0 0 0 0 0 -.2" size=".02" mass="{}"/>'
    return f"""<body pos="{x} {y} 0"><joint name="h{index}" axis="0 1 0" damping=".5"/>
      {capsule.format(0.3)}<body pos="0 0 -.2"><joint name="k{index}" axis="0 1 0" damping=".5"/>
      {capsule.format(0.2)}</body></body>"""


def _legs(iterations):
    """A box on four legs; the solver stops long before it is done, so its warm start counts."""
    corners = enumerate((x, y) for x in (0.2, -0.2) for y in (0.1, -0.1))
    legs = [_leg(i, x, y) for i, (x, y) in corners]
    servos = [f'<position joint="{kind}{i}" kp="40"/>' for i in range(4) for kind in "hk"]
    return f"""<mujoco><option timestep="0.004" iterations="{iterations}" ls_iterations="5"/>
      <worldbody><geom type="plane" size="5 5 .1"/><body name="torso" pos="0 0 .43"><freejoint/>
      <geom type="box" size=".2 .1 .05" mass="5"/>{"".join(legs)}</body></worldbody>
      <actuator>{"".join(servos)}</actuator></mujoco>"""


HIDDEN = """
<mujoco>
  <option timestep="0.004" iterations="2" ls_iterations="5"/>
  <size nuserdata="3"/>
  <worldbody>
    <geom type="plane" size="2 2 .1"/>
    <body name="hand" mocap="true" pos="0 0.3 1"><site name="hand"/></body>
    <body name="arm" pos="0 0 1"><joint name="a" axis="0 1 0" damping=".5"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/>
      <body name="fore" pos=".3 0 0"><joint name="b" axis="0 1 0" damping=".5"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/><site name="tip" pos=".3 0 0"/>
      </body></body>
    <body name="box" pos="1 0 .2"><freejoint/><geom type="box" size=".1 .1 .1" mass="1"/></body>
    <body name="lid" pos="1 0 .5"><joint name="c" type="slide" axis="0 0 1" damping="5"/>
      <geom type="box" size=".2 .2 .02" mass=".5"/></body>
  </worldbody>
  <tendon><spatial name="rope" stiffness="20" springlength=".2"><site site="hand"/>
    <site site="tip"/></spatial></tendon>
  <equality><weld name="hold" body1="lid" active="false"/></equality>
  <actuator>
    <position joint="a" kp="10" delay=".03" nsample="10" interp="linear"/>
    <general joint="b" dyntype="filterexact" dynprm=".1" gainprm="2"/>
    <intvelocity joint="c" kp="50" actrange="-1 1"/>
    <muscle name="rope" tendon="rope" lengthrange=".1 1" force="20"/>
  </actuator>
  <sensor>
    <accelerometer name="felt" site="tip"/><actuatorfrc name="force" actuator="rope"/>
    <jointpos name="late" joint="a" delay=".02" nsample="8"/>
    <jointvel name="seldom" joint="b" interval=".02" nsample="4"/>
  </sensor>
</mujoco>
"""
SENSED = tuple(f"sensor:{name}" for name in ("felt", "force", "late", "seldom"))


def _open_loop(params, x, o, t, noise):
    del params, x, o, t
    return noise


def _controls(num, model):
    t, i = np.arange(HORIZON)[:, None], np.arange(model.nu)
    return np.stack([[0.5 * np.sin(0.4 * t + i + n)] for n in range(num)])  # [C, 1, T, dU]


def _roll_out(source, entries, substeps, conditions=None, num=3):
    model, layout, _ = load_model(source, entries)
    if conditions is None:
        rest = Conditions(np.tile(model.qpos0, (num, 1)), np.zeros((num, model.nv)))
        conditions = check_conditions(model, rest)
    system = System(model, layout, HORIZON, substeps)
    controls = _controls(conditions.num, model)
    sampler = make_sampler(system, conditions, _open_loop, "native")
    with jax.enable_x64(True):
        result = sampler.sample(jnp.zeros((conditions.num, 1)), jnp.asarray(controls))
        assert bool(np.all(result.valid))
        return system, result._replace(x=np.asarray(result.x)), controls


def _by_hand(system, controls, begin=lambda data: None):
    """States x and positions of plain stepping, which looks at sensors in a copy."""
    model, layout = system.model, system.layout
    data, seen = mujoco.MjData(model), mujoco.MjData(model)
    begin(data)
    states, positions = [], []
    for control in controls:
        mujoco.mj_copyData(seen, model, data)
        mujoco.mj_forward(model, seen)
        states.append(layout.of(seen))
        positions.append(data.qpos.copy())
        data.ctrl[:] = control
        for _ in range(system.substeps):
            mujoco.mj_step(model, data)
    return np.array(states), np.array(positions)


@pytest.mark.parametrize("iterations", [1, 3, 100])
@pytest.mark.parametrize("entries", [("qpos", "qvel"), ("qpos", "qvel", "body_pos:torso")])
def test_legs_equal_plain_stepping(iterations, entries):
    """Without and with the forward computation that sensors need; off by 6.2 without warm start."""
    system, result, controls = _roll_out(_legs(iterations), entries, 5)
    for c in range(3):
        x, qpos = _by_hand(system, controls[c, 0])
        np.testing.assert_allclose(result.qpos[c, 0], qpos, rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.x[c, 0], x, rtol=0, atol=1e-9)
    assert np.abs(result.qpos[0, 0, -1] - result.qpos[0, 0, 0]).max() > 0.1


def test_whatever_else_is_hidden_equals_plain_stepping():
    """Delays, activations, a muscle, mocap, an equality that is on where a condition says so."""
    entries = ("qpos", "qvel", "act", *SENSED)
    model, _, _ = load_model(HIDDEN, entries)
    qpos = np.tile(model.qpos0, (3, 1))
    act = np.array([[0, 0, 0], [0.5, 0.2, 0.3], [-1, -0.2, 0.8]])
    hand = np.array([[[0, 0.3, 1]], [[0.2, 0.4, 1]], [[0, 0.5, 0.5]]])
    changes = {"eq_active0:hold": [0, 1, 0]}
    given = Conditions(qpos, np.zeros((3, model.nv)), changes, act=act, mocap_pos=hand)
    system, result, controls = _roll_out(HIDDEN, entries, 5, check_conditions(model, given))

    for c in range(3):

        def begin(data, c=c):
            data.act[:], data.mocap_pos[:], data.eq_active[0] = act[c], hand[c], c == 1

        x, positions = _by_hand(system, controls[c, 0], begin)
        np.testing.assert_allclose(result.qpos[c, 0], positions, rtol=0, atol=1e-9)
        np.testing.assert_allclose(result.x[c, 0], x, rtol=0, atol=1e-9)
    lid = model.joint("c").qposadr[0]
    assert abs(result.qpos[1, 0, -1, lid]) < 0.1 < abs(result.qpos[0, 0, -1, lid])


def test_a_simulation_depends_neither_on_threads_nor_on_its_neighbours(monkeypatch):
    """Nor on what was simulated before, or on whether a neighbour diverges."""
    model, layout, _ = load_model(_legs(1), ("qpos", "qvel", "body_pos:torso"))
    system = System(model, layout, 21, 5)
    controls = jnp.asarray(_controls(7, model)[:, :, :21])
    given = Conditions(np.tile(model.qpos0, (7, 1)), np.zeros((7, model.nv)))

    def roll_out(rows, threads, controls=controls):
        monkeypatch.setattr(native_backend, "num_threads", lambda: threads)
        sampler = make_sampler(system, given.select(rows), _open_loop, "native")
        sampler.sample(jnp.zeros((len(rows), 1)), controls[rows[::-1]])  # of something else
        return sampler.sample(jnp.zeros((len(rows), 1)), controls[rows]).x

    everything = np.arange(7)
    whole = roll_out(everything, 3)
    np.testing.assert_array_equal(roll_out(everything, 1), whole)
    np.testing.assert_array_equal(roll_out(everything[:0:-1], 2), whole[:0:-1])
    np.testing.assert_array_equal(roll_out(everything[4:5], 2), whole[4:5])
    diverging = roll_out(everything, 2, controls.at[3, 0, 4].set(jnp.nan))
    np.testing.assert_array_equal(np.delete(diverging, 3, 0), np.delete(whole, 3, 0))


def test_a_model_that_mujoco_cannot_step_is_said_in_one_sentence():
    small = _legs(1).replace("<worldbody>", '<size memory="8K"/><worldbody>')
    with pytest.raises(ValueError, match=r"MuJoCo can't simulate this model: .*"):
        _roll_out(small, ("qpos", "qvel"), 5)
