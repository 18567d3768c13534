"""A change of any object gives the model that MuJoCo's compiler makes of the changed source."""

import re

import mujoco
import numpy as np
import pytest
from recompiled import different, recompiled

from jgps.simulation import Conditions, check_conditions, condition_models, load_model
from jgps.simulation.changes import CHANGEABLE

INERTIAL = '<inertial pos="{}" mass="1" diaginertia=".1 .12 .15"/>'
CENTRED, BESIDE = INERTIAL.format("0 0 0"), INERTIAL.format(".1 0 .02")
# Every type of joint and geom; bodies whose mass matrix is diagonal, and others.
MODEL = f"""<mujoco><compiler angle="radian"/><asset>
  <mesh name="c" vertex="0 0 0 1 0 0 0 1 0 0 0 1" scale=".1 .1 .1"/></asset>
<worldbody><geom name="floor" type="plane" size="5 5 .1"/>
<body name="free" pos="0 0 1"><freejoint name="free"/>{CENTRED}<geom name="sphere" size=".1"/>
  <geom name="capsule" type="capsule" size=".05 .1"/>
  <geom name="ellipsoid" type="ellipsoid" size=".1 .2 .3"/>
  <geom name="cylinder" type="cylinder" size=".1 .2"/><geom name="box" type="box" size=".1 .2 .3"/>
  <geom name="mesh" type="mesh" mesh="c"/><site name="free"/></body>
<body name="slider" pos="1 0 1"><joint name="x" type="slide" axis="1 0 0"/>
  <joint name="y" type="slide" axis="0 1 0"/>{CENTRED}<geom name="slider" size=".1"/></body>
<body name="wheel" pos="5 0 1"><joint name="wheel" axis="0 0 1"/>{CENTRED}</body>
<body name="link" pos="2 0 1" gravcomp=".1"><joint name="a" axis="0 1 0" limited="true"
  range="-1 1" actuatorfrclimited="true" actuatorfrcrange="-1 1"/>{BESIDE}<geom name="link"
  size=".1"/><site name="link" pos=".1 0 .1"/>
  <body name="child" pos=".2 0 0"><joint name="b" axis="0 1 0"/>{BESIDE}<geom name="child"
    size=".1"/><site name="child" pos=".1 0 0"/></body></body>
<body name="ball" pos="4 0 1"><joint name="ball" type="ball"/>{BESIDE}</body></worldbody>
<tendon><spatial name="rope" armature=".1" springlength="1" limited="true" range="0 3"
  actuatorfrclimited="true" actuatorfrcrange="-1 1"><site site="link"/><site site="free"/></spatial>
  <fixed name="fixed" springlength="0" armature=".1" limited="true" range="-3 3"
  actuatorfrclimited="true" actuatorfrcrange="-1 1"><joint joint="a" coef="1"/>
  <joint joint="b" coef="1"/></fixed></tendon>
<actuator><motor name="m" joint="a" ctrllimited="true" ctrlrange="-1 1" forcelimited="true"
  forcerange="-1 1"/><general name="f" joint="b" dyntype="filter" dynprm=".1" biastype="affine"
  actlimited="true" actrange="-1 1" ctrllimited="true" ctrlrange="-1 1" forcelimited="true"
  forcerange="-1 1"/></actuator>
<equality><joint name="gear" joint1="a" joint2="b" active="false"/></equality></mujoco>"""
OBJECTS = {"jnt": "joint", "dof": "joint", "cam": "camera", "mat": "material", "eq": "equality"}
LEFT_OUT = ("pair", "light", "cam", "mat", "")  # of which test_changes tries one each


def _other(field: str, own: np.ndarray) -> np.ndarray:
    """Numbers that the field could have in place of its own."""
    if field.endswith("quat"):
        return np.array([0.5, 0.5, 0.1, 0.7])
    if field == "jnt_axis":
        return np.array([0, 0.6, 0.8])
    if field.endswith(("active0", "rgba")):
        return 1 - own
    if field.endswith("_size"):
        return own * np.array([4, 3, 2])
    if "solref" in field:
        return np.array([0.1, 1])
    if "solimp" in field:
        return np.array([0.5, 0.6, 0.01, 0.4, 3])
    return own + np.where(own < 0, -0.25, 0.25) * (own != 0 if field == "body_inertia" else 1)


def _changes(model: mujoco.MjModel):
    """Every field of every object with a name, its own numbers and others."""
    for kind, fields in CHANGEABLE.items():
        if kind in LEFT_OUT:
            continue
        accessor = getattr(model, OBJECTS.get(kind, kind))
        count = {"body": model.nbody, "joint": model.njnt, "equality": model.neq}.get(
            OBJECTS.get(kind, kind), None
        )
        counts = {"geom": model.ngeom, "site": model.nsite, "tendon": model.ntendon,
                  "actuator": model.nactuator}  # fmt: skip
        for number in range(counts[kind] if count is None else count):
            for field in fields:
                if field == "body_mass_scale":
                    own = np.ones(1)
                elif kind == "dof":
                    own = getattr(model, field)[int(accessor(number).dofadr[0])]
                    if accessor(number).dofadr.size and int(model.jnt_type[number]) < 2:
                        continue  # a row for each degree of freedom, and one number in the source
                else:
                    own = getattr(model, field)[number]
                yield f"{field}:{accessor(number).name}", np.atleast_1d(own).astype(float)


def test_it_is_the_recompiled_model_or_refused():
    """All arrays are compared, also those that `mj_setConst` derives; refusals say why."""
    model = load_model(MODEL, ("qpos", "qvel"))[0]
    rest = Conditions(model.qpos0[None], np.zeros((1, model.nv)))
    refused, compared = [], 0
    for key, own in _changes(model):
        field = key.partition(":")[0]
        value = _other(field, own)
        given = rest._replace(changes={key: value[None]})
        try:
            changed = condition_models(model, check_conditions(model, given))[0]
        except ValueError as error:
            refused.append((key, str(error)))
            continue
        expected = recompiled(MODEL, key, value)
        known = set()
        if key in ("geom_pos:mesh", "geom_quat:mesh"):  # where the asset's own frame adds up
            known = {"geom_pos", "geom_quat", "dof_length", "geom_sameframe"}
        if key in (
            "jnt_pos:wheel",
            "jnt_axis:wheel",
        ):  # one joint alone: its mass matrix is a number all the same
            known = {"body_simple", "dof_simplenum"}
        assert different(changed, expected) <= known, key
        compared += 1
    assert compared > 150
    reasons = "|".join(
        ("the world", "free or ball joint", "has a free joint", "of a mesh", "laid out",
         "slide joint", "not limit", "compiled as simple")
    )  # fmt: skip
    unclear = [each for each in refused if not re.search(reasons, each[1])]
    assert not unclear


@pytest.mark.parametrize("key", ["jnt_axis:x", "jnt_axis:y"])
def test_a_diagonal_mass_matrix_stays_diagonal(key):
    """Two sliders across each other push each other once they are not at right angles."""
    model = load_model(MODEL, ("qpos", "qvel"))[0]
    given = Conditions(model.qpos0[None], np.zeros((1, model.nv)), {key: [[0.6, 0.8, 0]]})
    with pytest.raises(ValueError, match=r"'slider' that don't act on each other; make a model"):
        check_conditions(model, given)
