"""What the tasks of the robot at its bench share: the scene, the entries of state and observation.

The robot holds an object rigidly and brings it to a place that differs between conditions. The
optimiser sees where the object is relative to that place; a network sees the robot itself and what
its camera sees.
"""

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jgps.controllers import LqrHoldConfig
from jgps.simulation import Conditions
from jgps.tasks.policy_camera import VisionSpec
from jgps.tasks.task import EvaluationSets

ASSETS = Path(__file__).parent / "assets"
HEAD_CAMERA, SIDE_CAMERA = "head", "side"  # cameras: the robot's own, and one that watches it
JOINTS = (
    "shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll", "wrist_flex",
    "wrist_roll",
)  # fmt: skip
GAINS = (3.09, 1.08, 0.393, 0.674, 0.111, 0.152, 0.098)  # how strongly a torque moves each joint
GRIPPER_POINTS = ("gripper_tip", "gripper_left", "gripper_up")
CONFIGURATION = (
    *(f"qpos:{joint}" for joint in JOINTS),
    *(f"qvel:{joint}" for joint in JOINTS),
    *(f"site_pos:{point}" for point in GRIPPER_POINTS),
    *(f"site_vel:{point}" for point in GRIPPER_POINTS),
)  # what the robot knows of itself without a camera: 7 + 7 + 9 + 9 = 32 numbers
DISTRACTORS = ("distractor_0", "distractor_1", "distractor_2", "distractor_3")
CLUTTER = ("clutter_0", "clutter_1", "clutter_2", "clutter_3")
TABLE = -0.3  # height of the table's top, metres
# On the table, seen by the robot's camera, beside where the tasks take place; metres.
SPOTS = ((0.495, 0.185), (0.63, 0.195), (0.78, 0.15), (0.80, 0.03), (0.81, -0.08))


def bench(objects: str | Path, points: Sequence[str], goal: str) -> str:
    """MJCF of the robot at its bench with a task's objects.

    Args:
      objects: path of an MJCF file, or MJCF text. Its body `held` goes into the gripper, whose
        frame it is then relative to; its other bodies stand in the world. What else it has is
        added. Geoms of the default classes `held` and `fixture` touch each other.
      points: sites of what is held. Each gets a sensor `POINT_place`: where it is in the frame of
        the goal.
      goal: a site where the task is to be done.
    """
    root = ElementTree.parse(ASSETS / "pr2_bench.xml").getroot()
    text = objects.read_text() if isinstance(objects, Path) else objects
    added = ElementTree.fromstring(text)
    world, gripper = root.find("worldbody"), root.find(".//body[@name='gripper']")
    if world is None or gripper is None:
        raise ValueError("pr2_bench.xml has no worldbody with a body 'gripper'")
    for section in added:
        if section.tag != "worldbody":
            root.append(section)
            continue
        for element in section:
            (gripper if element.get("name") == "held" else world).append(element)
    sensors = ElementTree.SubElement(root, "sensor")
    for point in points:
        frames = {"objtype": "site", "objname": point, "reftype": "site", "refname": goal}
        ElementTree.SubElement(sensors, "framepos", {"name": f"{point}_place", **frames})
    root.set("model", added.get("model", "bench"))
    return ElementTree.tostring(root, encoding="unicode")


def places(points: Sequence[str]) -> tuple[str, ...]:
    """State entries of where points of what is held are in the goal's frame, 3 numbers each."""
    return tuple(f"sensor:{point}_place" for point in points)


def full_state(points: Sequence[str]) -> tuple[str, ...]:
    """State entries for the optimiser: joints, points of what is held by the goal, velocities."""
    return "qpos", "qvel", *places(points), *(f"site_vel:{point}" for point in points)


def conditions(start: Sequence[float], **changes: Sequence[Sequence[float]]) -> Conditions:
    """Conditions that all start at rest in one pose and differ in where bodies are.

    Args:
      start: joint positions [nq].
      changes: places [C, 3] or quaternions [C, 4] by `field__body`: `body_pos__held=...`.
    """
    rows = {key.replace("__", ":"): np.asarray(rows, float) for key, rows in changes.items()}
    num = len(next(iter(rows.values())))
    return Conditions(np.tile(start, (num, 1)), np.zeros((num, len(start))), rows)


def unseen_places(
    places: Sequence[tuple[float, float]], num: int, gap: float
) -> tuple[tuple[float, float], ...]:
    """Places spread evenly over the convex hull of some, to evaluate where nothing was trained.

    Args:
      places: (x, y) of three or more that are not on one line, metres.
      num: how many to find.
      gap: how far they stay from each of `places`, metres; small beside the distances of those.

    Raises:
      ValueError: if there are not so many.
    """
    corners = np.asarray(places)
    low, size = corners.min(axis=0), np.ptp(corners, axis=0)
    # The R2 sequence: Roberts (2018), "The unreasonable effectiveness of quasirandom sequences".
    steps = np.arange(1, 100 * num)[:, None] * (0.7548776662466927, 0.5698402909980532)
    found = low + size * (steps % 1)
    # What is in the hull is in the triangle of some three: there its weights are not negative.
    triples = np.asarray(list(itertools.combinations(np.c_[corners, np.ones(len(corners))], 3)))
    triples = triples[np.abs(np.linalg.det(triples)) > 1e-9]
    weights = np.c_[found, np.ones(len(found))] @ np.linalg.inv(triples)  # [triples, found, 3]
    inside = np.any(np.all(weights >= 0, axis=-1), axis=0)
    far = np.linalg.norm(found[:, None] - corners, axis=-1).min(axis=1) >= gap
    found = found[inside & far][:num]
    if len(found) < num:
        raise ValueError(
            f"{len(found)} of {num} places are in the hull of the {len(corners)} given ones and "
            f"{gap} m from each; lower num or gap, or give places that are not on one line"
        )
    return tuple((float(x), float(y)) for x, y in found)


def distracted(
    plain: Conditions, num: int, spots: Sequence[tuple[float, float]] = SPOTS
) -> Conditions:
    """The same conditions in turn with the distractors on the table, each time arranged otherwise.

    Args:
      plain: conditions of a task at the bench.
      num: how many there are to be, at most as many as there are ways to fill the spots.
      spots: places (x, y) on the table, at least as many as there are distractors.

    Raises:
      ValueError: if there are fewer arrangements than `num`.
    """
    on_table = np.asarray([(*spot, TABLE) for spot in spots])
    ways = np.asarray(list(itertools.permutations(range(len(spots)), len(DISTRACTORS))))
    if len(ways) < num:
        raise ValueError(
            f"{len(DISTRACTORS)} distractors on {len(spots)} spots have {len(ways)} arrangements, "
            f"fewer than {num}; lower num, or give more spots"
        )
    chosen = on_table[np.random.default_rng(0).permutation(ways)[:num]]  # [num, distractors, 3]
    moved = {f"body_pos:{name}": chosen[:, i] for i, name in enumerate(DISTRACTORS)}
    turn = np.arange(num) % plain.num
    repeated = plain.select(turn)
    return repeated._replace(changes={**repeated.changes, **moved})


def setting(
    points: Sequence[str],
    train: Conditions,
    test: Conditions,
    num_distracted: int,
    spots: Sequence[tuple[float, float]] = SPOTS,
) -> dict[str, Any]:
    """What all tasks at the bench pass to `from_mjcf`: entries, conditions, hold and cameras.

    Args:
      points: of what is held, see `full_state`.
      train, test: conditions.
      num_distracted: conditions with distractors, see `distracted`.
      spots: where those may stand.
    """
    return {
        "state": full_state(points),
        "observation": CONFIGURATION,
        "control_dt": 0.05,
        "qpos": train.qpos,
        "changes": train.changes,
        "test": EvaluationSets(test, distracted(train, num_distracted, spots)),
        "initial": LqrHoldConfig(gains=tuple(1 / gain for gain in GAINS)),
        "camera": SIDE_CAMERA,
        "vision": VisionSpec(HEAD_CAMERA, CLUTTER),
    }
