"""What an entry of a state or an observation says, and the sensors that it needs in the model."""

import math
from collections.abc import Sequence

import mujoco

from jgps.core.names import did_you_mean
from jgps.simulation.source import Compiled

SENSORS = {
    # kind: (object type, kinds of sensors that together make the entry)
    "site_pos": ("site", ("FRAMEPOS",)),
    "site_vel": ("site", ("FRAMELINVEL",)),
    "body_pos": ("body", ("FRAMEPOS",)),
    "body_rot": ("body", ("FRAMEXAXIS", "FRAMEYAXIS")),
    "body_vel": ("body", ("FRAMELINVEL", "FRAMEANGVEL")),
    "body_up": ("body", ("FRAMEZAXIS",)),  # of the world in the body's frame
}
WITH_SENSORS = (*SENSORS, "sensor")
_KINDS = ("qpos", "qvel", "act", "gyro", *SENSORS, "sensor", "phase", "ctrl", "image")
_ALONE = {
    "act": "activations come together",
    "ctrl": "controls come together",
    "image": "a state has one image",
}
_OBJECT = {"site": mujoco.mjtObj.mjOBJ_SITE, "body": mujoco.mjtObj.mjOBJ_XBODY}


def split_all(
    spec: mujoco.MjSpec | Compiled, entries: Sequence[str], what: str
) -> list[tuple[str, str]]:
    """Kind and name of every entry; the name is empty where it has none.

    Args:
      spec: the model, whose objects may be named.
      entries: of the state or the observation.
      what: "state" or "observation".

    Raises:
      ValueError: if there are none, one comes twice, or one names what there is not.
    """
    kinds = [_split(spec, entry, what) for entry in entries]
    if len(set(entries)) != len(entries) or not entries:
        raise ValueError(
            f"{what} entries have to be distinct and at least one; got {list(entries)}"
        )
    return kinds


def periods_of(kinds: Sequence[tuple[str, str]]) -> tuple[float, ...]:
    """Periods of all phases, in seconds, each once."""
    return tuple(dict.fromkeys(float(name) for kind, name in kinds if kind == "phase"))


def _split(spec: mujoco.MjSpec | Compiled, entry: str, what: str) -> tuple[str, str]:
    kind, _, name = entry.partition(":")
    if kind not in _KINDS:
        meant = did_you_mean(kind, _KINDS)
        raise ValueError(f"unknown {what} entry {entry!r}; kinds: {', '.join(_KINDS)}{meant}")
    if kind in _ALONE and name:
        raise ValueError(f"{what} entry {entry!r}: {_ALONE[kind]}; write {kind!r}")
    if kind == "ctrl" and what == "state":
        raise ValueError(
            "state entry 'ctrl': a state cannot hold what is decided in it; name 'ctrl' in the "
            "observation"
        )
    if kind == "phase":
        _check_period(entry, name, what)
    if kind in (*_ALONE, "phase") or (kind in ("qpos", "qvel") and not name):
        return kind, name
    if kind in ("qpos", "qvel", "gyro"):
        kind_of_object, available = "joint", [joint.name for joint in spec.joints]
    elif kind == "sensor":
        kind_of_object, available = "sensor", [sensor.name for sensor in spec.sensors]
    else:
        kind_of_object = SENSORS[kind][0]
        objects = spec.sites if kind_of_object == "site" else spec.bodies
        available = [each.name for each in objects]
    if not name or name not in available:
        listed = ", ".join(each for each in available if each) or "none with a name"
        raise ValueError(
            f"{what} entry {entry!r}: the model has no {kind_of_object} {name!r}; it has: {listed}"
            f"{did_you_mean(name, available)}"
        )
    return kind, name


def _check_period(entry: str, period: str, what: str) -> None:
    try:
        seconds = float(period)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"{what} entry {entry!r}: a phase has a period in seconds, a number above 0, as in "
            "'phase:0.5'"
        )


def refuse_other_joints(model: mujoco.MjModel, joint: int, what: str) -> None:
    """Refuses a gyro of a joint that is not free.

    Raises:
      ValueError: names the joint, and `what` asked for it.
    """
    kind = mujoco.mjtJoint(int(model.jnt_type[joint]))
    if kind != mujoco.mjtJoint.mjJNT_FREE:
        raise ValueError(
            f"{what}: joint {model.joint(joint).name!r} is a {kind.name[6:].lower()} joint, and a "
            "gyro is that of a free joint's body; for another body add a <gyro> to the model's "
            "sensors and name 'sensor:' and its name"
        )


def sensor_name(kind: str, sensor: str, name: str) -> str:
    """What a sensor is called that the model gets for an entry."""
    return f"jgps/{kind}/{sensor}/{name}"


def add_sensors(spec: mujoco.MjSpec | Compiled, kind: str, name: str) -> None:
    """Gives the model the sensors of an entry that it does not have yet.

    Raises:
      ValueError: if it is compiled already and lacks one.
    """
    kind_of_object, sensors = SENSORS[kind]
    object_type = _OBJECT[kind_of_object]
    seen = {"objtype": object_type, "objname": name}
    if kind == "body_up":
        seen = {"objtype": object_type, "objname": "world", "reftype": object_type, "refname": name}
    present = {sensor.name for sensor in spec.sensors}
    for sensor in sensors:
        added = sensor_name(kind, sensor, name)
        if added not in present:
            spec.add_sensor(name=added, type=getattr(mujoco.mjtSensor, f"mjSENS_{sensor}"), **seen)
