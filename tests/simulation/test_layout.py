"""State vectors against MuJoCo's own quantities, and messages of wrong names."""

import dataclasses
import pickle

import mujoco
import numpy as np
import pytest

from jgps.simulation import load_model

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom type="plane" size="2 2 0.1"/>
    <body name="cart" pos="0 0 1">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom size="0.1"/>
      <body name="pole" pos="0 0 0.1">
        <joint name="hinge" axis="0 1 0"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.5" size="0.03"/>
        <site name="end" pos="0 0 0.5"/>
      </body>
    </body>
    <body name="block" pos="1 0 0.5">
      <freejoint name="free"/>
      <geom type="box" size="0.1 0.2 0.3"/>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="slide"/><motor name="turn" joint="hinge"/></actuator>
  <sensor><jointpos name="angle" joint="hinge"/></sensor>
</mujoco>
"""
# Without ctrllimited MuJoCo takes this for no range at all.
UPSIDE_DOWN = MODEL.replace('name="push"', 'name="push" ctrlrange="3 -3"')


def _random_data(model, seed):
    rng = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    data.qpos[:] = rng.normal(size=model.nq)
    data.qpos[5:9] /= np.linalg.norm(data.qpos[5:9])
    data.qvel[:] = rng.normal(size=model.nv)
    mujoco.mj_forward(model, data)
    return data


def test_entries_hold_what_they_name():
    entries = (
        "sensor:angle", "site_pos:end", "site_vel:end", "body_pos:block", "body_rot:block",
        "body_vel:block", "qpos", "qvel:hinge",
    )  # fmt: skip
    model, layout, _ = load_model(MODEL, entries)
    data = _random_data(model, seed=0)
    x = layout.of(data)
    assert x.shape == (layout.size,) == (1 + 3 + 3 + 3 + 6 + 6 + 11 + 1,)

    rotation = data.body("block").xmat.reshape(3, 3)
    jacobian = np.zeros((3, model.nv))
    mujoco.mj_jacSite(model, data, jacobian, None, model.site("end").id)
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(
        model, data, mujoco.mjtObj.mjOBJ_XBODY, model.body("block").id, velocity, 0
    )
    first_columns = np.r_[rotation[:, 0], rotation[:, 1]]
    expected = {
        "sensor:angle": data.qpos[1],
        "site_pos:end": data.site("end").xpos,
        "site_vel:end": jacobian @ data.qvel,
        "body_pos:block": data.body("block").xpos,
        "body_rot:block": first_columns,
        "body_vel:block": np.r_[velocity[3:], velocity[:3]],
        "qpos": np.r_[data.qpos[:5], first_columns],
        "qvel:hinge": data.qvel[1],
    }
    for entry, value in expected.items():
        np.testing.assert_allclose(x[layout[entry]], value, atol=1e-12, err_msg=entry)


def test_opposite_quaternions_are_one_state():
    model, layout, _ = load_model(MODEL, ("qpos:free",))
    data = _random_data(model, seed=1)
    flipped = data.qpos.copy()
    flipped[5:9] *= -1
    one = layout.of(data)
    data.qpos[:] = flipped
    other = layout.of(data)
    np.testing.assert_allclose(one, other, atol=1e-14)


def test_actuated_joints_come_in_actuator_order():
    swapped = MODEL.replace(
        '<motor name="push" joint="slide"/><motor name="turn" joint="hinge"/>',
        '<motor name="turn" joint="hinge"/><motor name="push" joint="slide"/>',
    )
    _, layout, _ = load_model(swapped, ("qpos", "qvel"))
    np.testing.assert_array_equal(layout.positions, [1, 0])
    np.testing.assert_array_equal(layout.velocities, [12, 11])
    _, without_velocity, _ = load_model(MODEL, ("qpos", "qvel:hinge"))
    assert without_velocity.positions.size == 0


@pytest.mark.parametrize(
    ("source", "entries", "message"),
    [
        ("<mujoco><worldbody>", ("qpos",), "does not parse"),
        ("/nowhere/arm.xml", ("qpos",), "'/nowhere/arm.xml' does not exist"),
        ("<mujoco/>", ("qpos",), "no actuator"),
        (MODEL, ("site_pos:tip",), "no site 'tip'; it has: end"),
        (MODEL, ("qpos:elbow",), "no joint 'elbow'; it has: slide, hinge, free"),
        (MODEL, ("sensor:force",), "no sensor 'force'; it has: angle"),
        (MODEL, ("speed",), "unknown state entry 'speed'; kinds: qpos"),
        (MODEL, ("site_pos",), "no site ''"),
        (MODEL, ("act",), "no actuator of the model has an activation"),
        (MODEL, ("body_up:pelvis",), "no body 'pelvis'; it has: world, cart, pole, block"),
        (MODEL, ("gyro",), "no joint ''; it has: slide, hinge, free"),
        (MODEL, ("gyro:elbow",), "no joint 'elbow'; it has: slide, hinge, free"),
        (MODEL, ("gyro:hinge",), "^state entry 'gyro:hinge': joint 'hinge' is a hinge joint, and"),
        (MODEL, ("phase",), "^state entry 'phase': a phase has a period in seconds, a number ab"),
        (MODEL, ("phase:fast",), "'phase:fast': a phase has a period in seconds"),
        (MODEL, ("phase:0",), "'phase:0': a phase has a period in seconds"),
        (MODEL, ("phase:-1",), "'phase:-1': a phase has a period in seconds"),
        (MODEL, ("phase:nan",), "'phase:nan': a phase has a period in seconds"),
        (MODEL, ("phase:inf",), "'phase:inf': a phase has a period in seconds"),
        (MODEL, ("ctrl",), "^state entry 'ctrl': a state cannot hold what is decided in it; name"),
        (mujoco.MjModel.from_xml_string(MODEL), ("body_up:pole",), "the entry of 'pole' needs"),
        ("mujoco " * 80, ("qpos",), "does not exist"),
        (MODEL, ("qpos", "qpos"), "distinct"),
        (MODEL, (), "at least one"),
        (UPSIDE_DOWN, ("qpos",), "actuator 'push' has the control range 3 to -3; it has to begin"),
    ],
)
def test_mistakes_get_one_clear_sentence(source, entries, message):
    with pytest.raises(ValueError, match=message) as error:
        load_model(source, entries)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("site_pos:tip",), "^observation entry 'site_pos:tip': the model has no site 'tip'; it"),
        (("qpos:elbow",), "^observation entry 'qpos:elbow': the model has no joint 'elbow'"),
        (("camera",), "^unknown observation entry 'camera'; kinds: qpos"),
        (("ctrl:push",), "^observation entry 'ctrl:push': controls come together; write 'ctrl'"),
        (("gyro:slide",), "^observation entry 'gyro:slide': joint 'slide' is a slide joint"),
        (("phase:x",), "^observation entry 'phase:x': a phase has a period"),
        (("act",), "^observation entry 'act': no actuator of the model has an activation"),
        (("qpos", "qpos"), "^observation entries have to be distinct"),
        ((), "^observation entries have to be distinct and at least one"),
    ],
)
def test_mistakes_in_an_observation_get_one_clear_sentence(entries, message):
    with pytest.raises(ValueError, match=message) as error:
        load_model(MODEL, ("qpos",), entries)
    assert "\n" not in str(error.value)


def test_state_and_observation_come_of_the_same_sensors():
    model, layout, observation = load_model(
        MODEL, ("qvel", "site_pos:end"), ("body_rot:block", "site_pos:end", "qpos:hinge")
    )
    data = _random_data(model, seed=2)
    assert observation is not None
    assert model.nsensor == 1 + 1 + 2  # the model's own, the site's once, the body's axes
    o = observation.of(data)
    rotation = data.body("block").xmat.reshape(3, 3)
    expected = np.r_[rotation[:, 0], rotation[:, 1], data.site("end").xpos, data.qpos[1]]
    np.testing.assert_allclose(o, expected, atol=1e-12)
    x = layout.of(data)
    np.testing.assert_array_equal(x, np.r_[data.qvel, data.site("end").xpos])
    with pytest.raises(ValueError, match=r"'qvel' is not in the observation; entries: body_rot"):
        observation["qvel"]


def test_what_a_robot_feels():
    """Of a model that has the sensors by itself, under names of its own."""
    felt = (
        '<gyro name="gyro" site="imu"/>'
        '<framezaxis name="up" objtype="xbody" objname="world" reftype="site" refname="imu"/>'
    )
    source = MODEL.replace("<sensor>", f"<sensor>{felt}").replace(
        '<freejoint name="free"/>', '<freejoint name="free"/><site name="imu"/>'
    )
    entries = ("body_up:block", "gyro:free", "phase:0.5", "ctrl", "phase:2", "body_up:pole")
    model, layout, observation = load_model(source, ("qpos", "phase:2"), entries)
    data = _random_data(model, seed=3)
    data.ctrl[:], data.time = (0.3, -0.7), 60.125
    assert observation is not None and observation.size == 3 + 3 + 2 + 2 + 2 + 3
    o = observation.of(data)
    expected = {
        "body_up:block": data.sensor("up").data,
        "gyro:free": data.sensor("gyro").data,
        "phase:0.5": [0, 1],  # a quarter of a turn
        "ctrl": [0.3, -0.7],
        "phase:2": [np.cos(np.pi / 8), np.sin(np.pi / 8)],
        "body_up:pole": data.body("pole").xmat.reshape(3, 3)[2],
    }
    for entry, value in expected.items():
        np.testing.assert_allclose(o[observation[entry]], value, atol=1e-12, err_msg=entry)
    np.testing.assert_allclose(layout.of(data)[layout["phase:2"]], expected["phase:2"], atol=1e-12)
    data.qpos[5:9] = (1, 0, 0, 0)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(observation.of(data)[:3], [0, 0, 1], atol=1e-12)


def test_layouts_of_other_phases_differ_and_come_back_from_a_pickle():
    layouts = [load_model(MODEL, ("qpos", entry))[1] for entry in ("phase:1", "phase:1", "phase:2")]
    same, again, other = (dataclasses.replace(each, slices=layouts[0].slices) for each in layouts)
    assert same == again and hash(same) == hash(again) and same != other
    assert pickle.loads(pickle.dumps(layouts[2])) == layouts[2]
    assert not layouts[0].uses_sensors


def test_unknown_entry_of_a_layout_lists_the_known():
    _, layout, _ = load_model(MODEL, ("qpos",))
    with pytest.raises(ValueError, match="'qvel' is not in the state; entries: qpos"):
        layout["qvel"]


def _with_flag(flag, model=MODEL):
    return model.replace('timestep="0.01"/>', f'timestep="0.01"><flag {flag}/></option>')


def test_sensors_that_the_state_needs_are_switched_on():
    """And stay off, as the model says, where x and o are made of joints alone."""
    disabled = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    source = _with_flag('sensor="disable"')
    for entries, observation, off in (
        (("qpos", "site_pos:end"), None, False),
        (("qpos",), ("sensor:angle",), False),
        (("qpos", "qvel"), ("qpos",), True),
    ):
        model, layout, _ = load_model(source, entries, observation)
        assert bool(model.opt.disableflags & disabled) == off
    model, layout, _ = load_model(source, ("qpos", "site_pos:end"))
    data = mujoco.MjData(model)
    data.qpos[0] = 0.7
    mujoco.mj_forward(model, data)
    x = layout.of(data)
    np.testing.assert_allclose(x[layout["site_pos:end"]], [0.7, 0, 1.6])


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ('actuation="disable"', "no control has an effect"),
        ('sleep="enable"', "from the state alone"),
    ],
)
def test_flags_that_rollouts_cannot_do_with_are_refused(flag, why):
    with pytest.raises(ValueError, match=f"the model has <flag {flag}/>, with which .*{why}"):
        load_model(_with_flag(flag), ("qpos",))


@pytest.mark.parametrize(
    "flag", ["contact", "gravity", "warmstart", "clampctrl", "limit", "equality", "frictionloss"]
)
def test_physics_that_a_model_switches_off_stays_off(flag):
    model, _, _ = load_model(_with_flag(f'{flag}="disable"'), ("qpos", "site_pos:end"))
    bit = getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag.upper()}")
    assert model.opt.disableflags & bit
    assert model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET


def test_actuators_with_several_controls_have_no_joint_for_each():
    source = MODEL.replace('<motor name="push"', '<pid kp="3" ki="1"')
    model, layout, _ = load_model(source, ("qpos", "qvel"))
    assert model.nu == 3 and model.nactuator == 2
    assert len(layout.positions) == len(layout.velocities) == 0


def test_sensors_that_a_callback_fills_in_are_refused():
    source = MODEL.replace("</mujoco>", '<sensor><user name="u" dim="0"/></sensor></mujoco>')
    with pytest.raises(ValueError, match="state entry 'sensor:u': the sensor is of type user, who"):
        load_model(source, ("qpos", "sensor:u"))
