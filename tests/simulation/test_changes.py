"""What conditions change in the model reaches the simulation, or is refused by name."""

import re

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from recompiled import different, recompiled

from jgps.simulation import (
    Conditions,
    System,
    check_conditions,
    condition_models,
    load_model,
    make_sampler,
)
from jgps.simulation.changes import CHANGEABLE

# Every kind of object; what rests, touches, pulls or limits is where its numbers count.
MODEL = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.002" cone="elliptic"/>
  <asset><material name="skin" rgba="1 0 0 1"/></asset>
  <worldbody>
    <light name="lamp" pos="0 0 3" dir="0 0 -1"/><camera name="eye" pos="0 -2 1"/>
    <geom name="floor" type="plane" size="5 5 .1" material="skin" solref=".05 1"/>
    <body name="arm" pos="0 0 1" gravcomp=".1">
      <joint name="a" axis="0 1 0" damping=".5" armature=".01" stiffness="1" range="-.5 .05"
        limited="true" actuatorfrcrange="-.5 .5" frictionloss=".05"/>
      <geom name="arm" type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass="1" contype="0"
        conaffinity="0"/>
      <body name="fore" pos=".3 0 0"><joint name="b" axis="0 1 0" damping=".5"/>
        <inertial pos=".15 0 0" mass=".5" diaginertia=".01 .01 .002"/>
        <site name="tip" pos="0 0 .05"/></body></body>
    <body name="ball" pos="-1 0 .099"><joint name="ball" type="free"/>
      <geom name="ball" size=".1" mass="1" friction=".5 .05 .01" condim="6"/></body>
    <body name="cart" pos="0 -1 .049"><joint name="s" type="slide" axis="1 0 0"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <geom name="cart" size=".05" mass="40" contype="0" conaffinity="0"/>
      <site name="hook" pos=".1 0 0"/></body>
    <body name="crank" pos="2 0 1"><joint name="crank" axis="0 1 0" damping=".5" frictionloss=".5"/>
      <geom size=".05" pos=".1 0 0" mass=".2" contype="0" conaffinity="0"/>
      <site name="rod" pos=".1 0 .05"/></body>
    <site name="slide" pos="2 0 .8" axisangle="0 1 0 0"/>
    <body name="tag" pos="3 0 0"/>
  </worldbody>
  <contact><pair name="skid" geom1="cart" geom2="floor" condim="3" friction=".1 .1 .01 .01 .01"/>
  </contact>
  <tendon><spatial name="rope" stiffness="5" armature=".01" springlength="0" damping=".1"
    range="0 1.41" limited="true" actuatorfrcrange="-.2 .2" frictionloss=".01"><site site="tip"/>
    <site site="hook"/></spatial></tendon>
  <equality><joint name="gear" joint1="b" joint2="crank" active="true"/></equality>
  <actuator>
    <motor name="m" joint="a" ctrlrange="-1 1" ctrllimited="true" forcerange="-.6 .6"
      forcelimited="true"/>
    <position name="p" joint="s" kp="10" kv="1"/>
    <general name="f" joint="b" dyntype="filter" dynprm=".1" gainprm="1" actlimited="true"
      actrange="-.2 .2"/>
    <motor name="t" tendon="rope"/>
    <general name="rod" cranksite="rod" slidersite="slide" cranklength=".3"/>
  </actuator>
  <sensor><framepos name="eye" objtype="camera" objname="eye"/>
    <framequat name="eye_quat" objtype="camera" objname="eye"/>
    <framequat name="tip" objtype="site" objname="tip"/></sensor>
</mujoco>
"""
ENTRIES = ("qpos", "qvel", "act", "sensor:eye", "sensor:eye_quat", "sensor:tip")
OBJECT = {
    "body": "arm", "jnt": "a", "dof": "a", "geom": "ball", "site": "tip", "cam": "eye",
    "light": "lamp", "mat": "skin", "tendon": "rope", "actuator": "m", "eq": "gear", "pair": "skid",
    "actuator_actrange": "f", "actuator_dynprm": "f", "actuator_biasprm": "p",
    "actuator_cranklength": "rod", "geom_quat": "floor", "body_iquat": "fore",
    "dof_solimp": "crank", "dof_solref": "crank",
}  # fmt: skip
ONLY_SEEN = ("geom_rgba", "site_rgba", "mat_rgba", "tendon_rgba", "cam_fovy", "light_pos",
             "light_dir", "light_diffuse")  # fmt: skip
KEYS = [
    f"{field}:{OBJECT.get(field, OBJECT[kind])}" if kind else field
    for kind, fields in CHANGEABLE.items()
    for field in fields
]
HORIZON, SUBSTEPS = 12, 10


def _open_loop(params, x, o, t, noise):
    del params, x, o, t
    return noise


def _other(field, own):
    """A number that the field could have in place of its own."""
    if field.endswith("quat"):
        return np.array([0.5, 0.5, 0.1, 0.7])
    if field in ("jnt_axis", "light_dir"):
        return np.array([0, 0.6, 0.8])
    if field.endswith(("rgba", "active0", "diffuse")):
        return 1 - own
    if field.endswith(("range", "mass", "inertia", "size", "gainprm", "biasprm", "mass_scale")):
        return own * 0.3 if field != "geom_size" else own * 1.2
    if "solimp" in field:
        return np.r_[0.5, 0.6, 0.01, own[..., 3:]]
    if field == "pair_solreffriction":
        return np.array([0.1, 1])
    if "solref" in field:
        return np.array([0.1, 1])
    return own + 0.25


def _own(model, key):
    """The model's numbers of a key: the row of the named object, which here has just one."""
    field, _, name = key.partition(":")
    if field == "body_mass_scale":
        return np.ones(1)
    if not name:
        return getattr(model, field)
    kind = field.partition("_")[0]
    kinds = {"jnt": "joint", "dof": "joint", "cam": "camera", "mat": "material", "eq": "equality"}
    found = getattr(model, kinds.get(kind, kind))(name)
    row = int(found.dofadr[0]) if kind == "dof" else found.id
    array = getattr(model, field)
    return array[row] if array.ndim > 1 else array[row : row + 1]


def _roll_out(source, changes, num, controls=(0.5, 0.4, 0.9, 0.3, 0.5), entries=ENTRIES):
    model, layout, _ = load_model(source, entries)
    given = Conditions(np.tile(model.qpos0, (num, 1)), np.full((num, model.nv), 0.3), changes)
    noise = jnp.tile(jnp.asarray(controls, jnp.float32), (num, 1, HORIZON, 1))
    system = System(model, layout, HORIZON, SUBSTEPS)
    result = make_sampler(system, given, _open_loop, "native").sample(jnp.zeros((num, 1)), noise)
    assert bool(np.all(result.valid))
    return np.asarray(result.x)[:, 0]


def test_every_field_that_can_be_changed_reaches_the_simulation():
    """Each in a condition of its own, beside plain MuJoCo with the source changed and compiled.

    All but looks make a difference.
    """
    model, layout, _ = load_model(MODEL, ENTRIES)
    changes, others = {}, {}
    for c, key in enumerate(KEYS, start=1):
        own = _own(model, key).astype(float)
        others[key] = _other(key.partition(":")[0], own)
        changes[key] = np.tile(own, (len(KEYS) + 1,) + (1,) * own.ndim)
        changes[key][c] = others[key]
    x = _roll_out(MODEL, changes, len(KEYS) + 1)
    for c, key in enumerate(KEYS, start=1):
        changed = recompiled(MODEL, key, others[key])
        rows = {name: value[c : c + 1] for name, value in changes.items()}
        given = Conditions(model.qpos0[None], np.zeros((1, model.nv)), rows)
        [applied] = condition_models(model, check_conditions(model, given))
        same = {"qpos_spring"} if key == "qpos_spring" else set()  # of a free joint: not in sources
        assert different(applied, load_model(changed, ("qpos",))[0]) <= same, key
        data = mujoco.MjData(changed)
        data.qvel[:] = 0.3
        for t in range(HORIZON):
            mujoco.mj_forward(changed, data)
            state = layout.of(data)
            np.testing.assert_allclose(x[c, t], state, atol=1e-4, rtol=1e-4, err_msg=key)
            data.ctrl[:] = np.float32([0.5, 0.4, 0.9, 0.3, 0.5])
            mujoco.mj_step(changed, data, nstep=SUBSTEPS)
        moved = np.abs(x[c] - x[0]).max()
        assert (moved == 0) == (key.partition(":")[0] in ONLY_SEEN), (key, moved)


def test_the_fields_are_documented():
    lines = (Conditions.__doc__ or "").replace("\n      ", " ").splitlines()
    for kind, fields in CHANGEABLE.items():
        if not kind:
            assert all(f"`{field}`" in " ".join(lines) for field in fields)
            continue
        line = next(line for line in lines if f"`{kind}_`" in line)
        told = re.findall(r"\w+", line.partition(f"`{kind}_`")[2].partition(";")[0])
        assert set(told) - {"of", "a", "joint"} == {f.removeprefix(f"{kind}_") for f in fields}


def test_a_scale_of_the_mass_is_another_density():
    """Mass and inertia follow together, unlike with `body_mass` alone, which leaves the inertia."""
    model, _, _ = load_model(MODEL, ENTRIES)
    given = Conditions(np.tile(model.qpos0, (2, 1)), np.zeros((2, model.nv)))
    scaled = given._replace(changes={"body_mass_scale:arm": [1, 3], "body_mass:fore": [0.5, 1]})
    denser = load_model(MODEL.replace('mass="1" contype', 'mass="3" contype'), ENTRIES)[0]
    models = condition_models(model, check_conditions(model, scaled))
    for field in ("body_mass", "body_inertia"):
        np.testing.assert_array_equal(getattr(models[0], field), getattr(model, field))
        np.testing.assert_allclose(
            getattr(models[1], field)[1], getattr(denser, field)[1], rtol=1e-12
        )
    np.testing.assert_array_equal(models[1].body("fore").mass, [1])
    np.testing.assert_array_equal(models[1].body("fore").inertia, model.body("fore").inertia)
    # Of what is changed already it is a factor, whatever comes first.
    both = given._replace(changes={"body_mass_scale:arm": [2, 2], "body_mass:arm": [1, 5]})
    models = condition_models(model, check_conditions(model, both))
    masses = [each.body("arm").mass[0] for each in models]
    np.testing.assert_allclose(masses, [2, 10])


SLIDE = """
<mujoco><option timestep="0.01" gravity="0 0 0"/><worldbody><body name="box">
  <joint name="a" type="slide" axis="1 0 0"/><geom size=".1" mass="1"/><site name="s"/></body>
  <body name="lid" pos="0 0 1"><joint name="c" type="slide" axis="0 0 1"/><geom size=".1"/></body>
</worldbody><equality><weld name="hold" body1="lid" active="false"/></equality>
<actuator><motor name="m" joint="a" ctrlrange="-1 1"/><motor name="free" joint="c"/></actuator>
</mujoco>
"""


@pytest.mark.parametrize("field", ["actuator_ctrlrange:m", "actuator_ctrlrange"])
def test_controls_are_clipped_to_the_range_of_their_condition(field):
    """What is recorded is what acted."""
    ranges = np.array([[-0.1, 0.1], [-1, 1], [-5, 5.0]])
    source = SLIDE
    if field == "actuator_ctrlrange":
        source = SLIDE.replace('name="free" joint="c"', 'name="free" joint="c" ctrlrange="-9 9"')
        ranges = np.stack([ranges, np.tile([-9.0, 9], (3, 1))], axis=1)
    model, layout, _ = load_model(source, ("qpos", "qvel"))
    given = Conditions(np.zeros((3, 2)), np.zeros((3, 2)), {field: ranges})
    noise = jnp.tile(jnp.array([3.0, 0]), (3, 2, 11, 1))
    system = System(model, layout, 11, 5)
    result = make_sampler(system, given, _open_loop, "native").sample(jnp.zeros((3, 1)), noise)
    asked = np.array([0.1, 1, 3])
    np.testing.assert_allclose(result.u[:, :, :, 0], np.tile(asked[:, None, None], (1, 2, 11)))
    np.testing.assert_allclose(result.x[:, 1, -1, 2], asked * 0.5, rtol=1e-5)  # 1 kg for 0.5 s


def test_an_actuator_with_several_controls_has_a_range_for_each():
    pid = '<actuator><pid name="pid" joint="c" kp="3" ki="1" ctrlrange="-2 2"/>'
    model, layout, _ = load_model(SLIDE.replace("<actuator>", pid), ("qpos", "qvel"))
    own, m = np.tile(model.actuator_ctrlrange[:2], (2, 1, 1)), np.array([[-1, 1], [-0.5, 0.5]])
    changes = {"actuator_ctrlrange:pid": 0.1 * own, "actuator_ctrlrange:m": m}
    given = Conditions(np.zeros((2, 2)), np.zeros((2, 2)), changes)
    controls = jnp.full((2, 1, 3, 4), 10.0)
    sampler = make_sampler(System(model, layout, 3, 1), given, _open_loop, "native")
    u = np.asarray(sampler.sample(jnp.zeros((2, 1)), controls).u)[:, 0]
    # The second control of a PID servo has no range.
    np.testing.assert_allclose(u[:, 1], np.c_[[0.2, 0.2], [10, 10], m[:, 1], [10, 10]], rtol=1e-6)


def _refused(source, changes, num=2):
    model, _, _ = load_model(source, ("qpos",))
    given = Conditions(np.tile(model.qpos0, (num, 1)), np.zeros((num, model.nv)), changes)
    with pytest.raises(ValueError) as refused:
        check_conditions(model, given)
    return str(refused.value)


def test_the_structure_of_the_model_is_refused_by_name():
    """And so is all that is not listed, whatever MuJoCo releases add."""
    model = load_model(MODEL, ENTRIES)[0]
    listed = {field for fields in CHANGEABLE.values() for field in fields}
    arrays = [name for name in dir(model) if isinstance(getattr(model, name), np.ndarray)]
    assert {"jnt_dofadr", "jnt_qposadr", "jnt_type", "body_parentid"} <= set(arrays)
    given = Conditions(np.tile(model.qpos0, (2, 1)), np.zeros((2, model.nv)))
    for name in set(arrays) - listed:
        value = np.stack([getattr(model, name)] * 2)
        with pytest.raises(ValueError, match=f"{name!r} is no number of the physics, so it can't"):
            check_conditions(model, given._replace(changes={name: value}))
    assert listed - set(arrays) == {"body_mass_scale"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body_mass:arm": [1, 0]}, "body_mass:arm is 0 in condition 1; a mass has to be positive"),
        ({"body_mass:arm": [-2, 1]}, "body_mass:arm is -2 in condition 0; a mass has to be"),
        ({"body_mass_scale:arm": [1, 0]}, "body_mass_scale:arm is 0 in condition 1; a scale has"),
        ({"body_inertia:arm": [[1, 1, 1], [1, 0, 1]]}, "body_inertia:arm is 0 in condition 1; an"),
        ({"geom_friction:ball": [[1, 1, 1], [1, 1, -1]]}, "geom_friction:ball is -1 in condition"),
        ({"dof_armature:a": [0, -1]}, "dof_armature:a is -1 in condition 1; it has to be at least"),
        ({"eq_active0:gear": [0, 2]}, "eq_active0:gear is 2 in condition 1; it has to be 0 .off."),
        ({"actuator_ctrlrange:m": [[-1, 1], [1, -1]]}, "is 1 in condition 1; a range has to begin"),
        ({"body_quat:arm": np.zeros((2, 4))}, "all of its numbers are 0; no rotation is"),
        ({"jnt_axis:a": np.zeros((2, 3))}, "all of its numbers are 0; it has no direction"),
        ({"body_pos:ball": np.zeros((2, 3))}, r"free joint; where it starts is in qpos\[2:9\]"),
        ({"body_quat": np.tile([[1, 0, 0, 0]] + 6 * [[0.6, 0.8, 0, 0]], (2, 1, 1))}, "'ball' has"),
        ({"actuator_ctrlrange:p": [[-1, 1], [1, 2]]}, "no effect where the model does not limit"),
        ({"jnt_range:b": [[-1, 1], [1, 2]]}, "set jnt_limited there"),
        ({"jnt_axis:ball": [[1, 0, 0], [0, 1, 0]]}, "has no effect on a free or ball joint"),
        ({"qpos_spring:a": [1, 2]}, "'qpos_spring' has no names; write 'qpos_spring' for all"),
        ({"body_mass:arm": [1, np.nan]}, "body_mass:arm has values that are not finite"),
        ({"body_mass:arm": [1, 2, 3]}, r"body_mass:arm has shape \(3,\), expected \(2, 1\)"),
        ({"body_mass:leg": [1, 2]}, "no object 'leg' .* there are: world, arm, fore, ball, cart"),
        ({"body_mass:amr": [1, 2]}, r"did you mean arm\?$"),
        ({"bodymass:arm": [1, 2]}, r"no array 'bodymass' .key 'bodymass:arm'.; did you mean body_"),
        ({"body_pos:world": np.zeros((2, 3)) + 1}, "'body_pos:world' has no effect on the world"),
        ({"body_mass": np.ones((2, 7))}, "'body_mass' has no effect on the world"),
        ({"geom_size:ball": [[0.1, 0, 0], [0, 0, 0]]}, "ball is 0 in condition 1; a size has to"),
        ({"body_inertia:arm": [[1, 1, 2], [1, 2.1, 1]]}, "is 2.1 in condition 1; no moment of in"),
        ({"cam_fovy:eye": [45, 180]}, "is 180 in condition 1; a field of view has to be within"),
        ({"geom_rgba:ball": np.full((2, 4), 1.5)}, "is 1.5 in condition 0; a colour has to be"),
        ({"geom_solref:ball": [[0.1, 1], [-9, 1]]}, "is -9 in condition 1; both of its numbers"),
        ({"geom_solmix:ball": [1, -1]}, "geom_solmix:ball is -1 in condition 1; it has to be at"),
        ({"jnt_pos:s": np.ones((2, 3))}, "'jnt_pos:s' has no effect on a slide joint"),
        ([1], r"changes is \[1\]; it has to be a mapping of keys.* or left out"),
        (None, "changes is None; it has to be a mapping"),
        ({1: [1, 2]}, "changes has the key 1; it has to be a mapping"),
        ({"body_mass:arm": ["1", "x"]}, r"changes\['body_mass:arm'\] is .* it has to be numbers"),
        ({"jnt_type:a": [1, 2]}, "'jnt_type' is no number of the physics.* there are jnt_pos"),
    ],
)  # fmt: skip
def test_changes_without_sense_or_effect_are_refused(changes, message):
    assert re.search(message, _refused(MODEL, changes)), _refused(MODEL, changes)


def test_what_stays_as_it_is_may_be_written_out():
    """The world has no mass, and a free body keeps its place in an array of all bodies."""
    model = load_model(MODEL, ENTRIES)[0]
    given = Conditions(np.tile(model.qpos0, (2, 1)), np.zeros((2, model.nv)))
    changes = {name: np.stack([getattr(model, name)] * 2) for name in ("body_mass", "body_pos")}
    changes["body_mass"][1, 1] = 4
    checked = check_conditions(model, given._replace(changes=changes))
    assert condition_models(model, checked)[1].body("arm").mass == 4


def test_a_mocap_body_pulls_along_what_is_welded_to_it():
    """Its pose at the start does; a change of the model would move the weld as well."""
    weld = '<equality><weld body1="lid" body2="hand"{}/>'
    hand = '<worldbody><body name="hand" mocap="true" pos="0 0 1.5"/>'
    source = SLIDE.replace("<equality>", weld).replace("<worldbody>", hand)
    heights = np.array([[0, 0, 1.5], [0, 0, 1.9]])
    moved = {"body_pos:hand": heights}
    rests = Conditions(np.zeros((2, 2)), np.zeros((2, 2)))
    told = ' relpose="0 0 .5 1 0 0 0"'
    for relpose, given in (("", {"mocap_pos": heights[:, None]}), (told, {"changes": moved})):
        model, layout, _ = load_model(source.format(relpose), ("qpos", "body_pos:lid"))
        system = System(model, layout, 41, 5)
        sampler = make_sampler(system, rests._replace(**given), _open_loop, "native")
        lid = np.asarray(sampler.sample(jnp.zeros((2, 1)), jnp.zeros((2, 1, 41, 2))).x)
        np.testing.assert_allclose(lid[:, 0, -1, -1], [1, 1.4], atol=1e-3)
    message = _refused(source.format(""), moved)
    assert "'hand' is a mocap body and what an equality holds to it would not follow" in message
    assert "give mocap_pos" in message


def test_sizes_of_assets_and_armature_from_nothing_are_refused():
    mesh = '<asset><mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/></asset><worldbody>'
    source = SLIDE.replace("<worldbody>", mesh).replace(
        'size=".1" mass', 'type="mesh" mesh="m" name="g" mass'
    )
    message = _refused(source, {"geom_size:g": np.ones((2, 3))})
    assert "'geom_size:g' has no effect on the geom of a mesh, whose size is that of its" in message
    tendon = '<tendon><fixed name="t"><joint joint="a" coef="1"/></fixed></tendon><equality>'
    message = _refused(SLIDE.replace("<equality>", tendon), {"tendon_armature:t": [0, 1]})
    assert "'tendon_armature:t' can't begin from 0, where MuJoCo's compiler leaves no" in message
