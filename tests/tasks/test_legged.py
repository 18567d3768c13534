"""Tasks of anyone's legged robot: what they are made of, and what is refused."""

import jax
import mujoco
import numpy as np
import pytest

from jgps import tasks
from jgps.costs import gait
from jgps.tasks.locomotion.quadruped_velocity import MODEL
from jgps.tasks.locomotion.stance import foot_site
from jgps.tasks.start_pose import start_features

TEXT = MODEL.read_text()
FEET = ("FR_foot", "FL_foot", "RR_foot", "RL_foot")
COMMANDS = tasks.Episodes(command=((-1, 1), (0, 0), (-1, 1)))
STANCE = [0, 0, 0.282, 1, 0, 0, 0, *([0, 0.9, -1.8] * 4)]


def make(source=TEXT, **changes):
    given = {"trunk": "trunk", "feet": FEET, "stance": "stand", "episodes": COMMANDS}
    return tasks.legged(source, **{**given, **changes})


@pytest.fixture(scope="module")
def task():
    return make()


def test_starts_have_the_lowest_foot_on_the_floor(task):
    drawn = tasks.draw(task, 3, 30)
    x = start_features(task.model, task.layout, drawn)
    heights = [x[:, task.layout[f"site_pos:{foot_site(foot)}"].start + 2] for foot in FEET]
    lowest = np.min(heights, axis=0) - 0.023
    assert np.abs(lowest).max() < 0.02
    assert np.ptp(drawn.qpos[:, 7:], axis=0).min() > 0.1
    # A range of one number is that number; turn rates and velocities differ.
    told = drawn.inputs["mocap_pos:command"]
    assert np.all(told[..., 1] == 0)
    assert np.all(np.ptp(told[:, 0], axis=0)[[0, 2]] > 0.5)


def test_standing_is_cheap_where_nothing_is_asked_for(task):
    x = start_features(task.model, task.layout, task.train)
    assert np.all(np.asarray(task.train.inputs["mocap_pos:command"])[0] == 0)
    u = task.train.ctrl
    cost = jax.vmap(lambda x, u: task.cost(x, u, 0))(x.astype(np.float32), u.astype(np.float32))
    assert cost[0] < 0.05
    assert np.all(np.asarray(cost[1:3]) > 1)  # one asks for a velocity of 1 m/s


def test_a_user_keeps_the_spec_as_it_was():
    spec = mujoco.MjSpec.from_string(TEXT)
    sites, bodies = len(spec.sites), len(spec.bodies)
    make(spec)
    assert (len(spec.sites), len(spec.bodies)) == (sites, bodies)


def test_feet_of_capsules_are_their_lower_ends():
    text = TEXT.replace(
        '<geom type="sphere" size="0.023" mass="0.06"', '<geom type="capsule" size="0.02 0.03"'
    )
    found = make(text, stance=[*STANCE[:2], 0.302, *STANCE[3:]])
    site = found.model.site(foot_site("FR_foot"))
    assert np.linalg.norm(site.pos - [0, 0, -0.213]) == pytest.approx(0.03)


SERVO = '<position name="FR_hip" joint="FR_hip" class="hip"/>'


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trunk": "turnk"}, "no body 'turnk' for a trunk.*did you mean trunk"),
        ({"trunk": "FR_hip"}, "body 'FR_hip' has no free joint"),
        ({"source": TEXT.replace('<freejoint name="root"/>', "")}, "'trunk' has no free joint"),
        ({"source": TEXT.replace('<freejoint name="root"/>', "<freejoint/>")}, "has no name"),
        ({"feet": ("FR_fot", *FEET[1:])}, "no geom 'FR_fot' for a foot.*did you mean FR_foot"),
        ({"feet": FEET[:2]}, "the gait has 4 feet and there are 2"),
        ({"feet": (*FEET[:3], FEET[0])}, "each foot has to be named once"),
        ({"feet": "FR_foot"}, "tuple of names of geoms"),
        ({"stance": "sit"}, "no keyframe 'sit'; it has: stand"),
        ({"stance": STANCE[:-1]}, r"stance has the shape \[18\]"),
        ({"stance": ["a"] * 19}, "it has to be numbers"),
        ({"stance": [*STANCE[:2], 0.8, *STANCE[3:]]}, "m above the floor in the stance"),
        ({"stance": [0, 0, 0.282, 0, 1, 0, 0, *STANCE[7:]]}, "does not point up in the stance"),
        ({"episodes": tasks.Episodes()}, "which commands there are"),
        ({"episodes": None}, "which commands there are"),
        ({"options": None}, "jgps.tasks.LeggedOptions"),
        ({"options": tasks.LeggedOptions(gait="trot")}, "jgps.costs.gait.trot"),
        ({"options": tasks.LeggedOptions(gait=gait.trot(20.0))}, "have a stride at least"),
        ({"options": tasks.LeggedOptions(control_dt=float("nan"))}, "control_dt is nan"),
        ({"options": tasks.LeggedOptions(horizon="x")}, "horizon is 'x'"),
        ({"options": tasks.LeggedOptions(train=[(1, 0)])}, r"has to be \[C, 3\]"),
        ({"options": tasks.LeggedOptions(test=[(2, 0, 0)])}, "beyond the range"),
        (
            {"source": TEXT.replace(SERVO, SERVO.replace("/>", ' gear="2"/>'))},
            "servo 'FR_hip' has a gear",
        ),
        ({"source": mujoco.MjModel.from_xml_string(TEXT)}, "compiled model gains no sites"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**changes)
