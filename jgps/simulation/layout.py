"""Which quantities of a MuJoCo model make up the state vector x, or the observation vector o.

Entries are strings, `"kind"` or `"kind:name"`:

| entry | numbers | unit |
| --- | --- | --- |
| `qpos`, `qpos:joint` | hinge and slide: 1; ball: 6; free: 3 + 6 | rad, m |
| `act` | one per activation state of the actuators | - |
| `qvel`, `qvel:joint` | hinge and slide: 1; ball: 3; free: 3 + 3 | rad/s, m/s |
| `site_pos:site`, `site_vel:site` | 3, world frame | m, m/s |
| `body_pos:body` | 3, world frame | m |
| `body_rot:body` | 6, see below | - |
| `body_vel:body` | 3 linear + 3 angular, world frame | m/s, rad/s |
| `sensor:sensor` | the sensor's dimension | its own |
| `image` | as many as are made of what a camera sees, see `jgps.tasks.StateImage` | - |

Orientations enter as the first two columns of the rotation matrix (6 numbers). Unlike a quaternion
this is continuous and unique, so that a linear-Gaussian model of nearby orientations is well
defined (Zhou et al. 2019, "On the continuity of rotation representations in neural networks").
"""

import dataclasses
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core.names import did_you_mean
from jgps.mujoco_log import quiet_mujoco
from jgps.simulation.drawn import Drawn, draw_on_host
from jgps.simulation.requirements import (
    refuse_callbacks,
    refuse_ranges,
    refuse_user_sensor,
    set_flags,
)
from jgps.simulation.source import Compiled, Source, parse

_SENSORS = {
    # kind: (object type, kinds of sensors that together make the entry)
    "site_pos": ("site", ("FRAMEPOS",)),
    "site_vel": ("site", ("FRAMELINVEL",)),
    "body_pos": ("body", ("FRAMEPOS",)),
    "body_rot": ("body", ("FRAMEXAXIS", "FRAMEYAXIS")),
    "body_vel": ("body", ("FRAMELINVEL", "FRAMEANGVEL")),
}
_KINDS = ("qpos", "qvel", "act", *_SENSORS, "sensor", "image")
_OBJECT = {"site": mujoco.mjtObj.mjOBJ_SITE, "body": mujoco.mjtObj.mjOBJ_XBODY}


@dataclasses.dataclass(frozen=True, eq=False)
class StateLayout:
    """Where every entry lies in x, and how x is put together from simulator arrays.

    The layout of an observation is the same with o in place of x. Layouts compare by value, so that
    what is compiled for one serves an equal one.
    """

    slices: Mapping[str, slice]  # entry -> its place in x
    size: int  # dX
    index: np.ndarray  # [dX] into what `features` gives
    quaternions: np.ndarray  # [Q] qpos addresses of quaternions
    positions: np.ndarray  # [dU] places in x of the position of every actuator's joint, or [0]
    velocities: np.ndarray  # [dU] the same of its velocity; empty if some actuator has none in x
    uses_sensors: bool
    what: str = "state"  # or "observation"
    drawn: Drawn | None = None  # of the model: layouts without the entry have it, too

    @functools.cached_property
    def _key(self) -> tuple[Any, ...]:
        arrays = (self.index, self.quaternions, self.positions, self.velocities)
        return (
            self.what,
            self.size,
            self.uses_sensors,
            self.drawn,
            *((entry, place.start, place.stop) for entry, place in self.slices.items()),
            *(tuple(array.tolist()) for array in arrays),
        )

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, StateLayout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping that nobody can change can't be pickled or copied either.
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _layout_of, ({**values, "slices": dict(self.slices)},)

    def __getitem__(self, entry: str) -> slice:
        if entry not in self.slices:
            raise ValueError(
                f"{self.what} entry {entry!r} is not in the {self.what}; "
                f"entries: {', '.join(self.slices)}{did_you_mean(entry, self.slices)}"
            )
        return self.slices[entry]

    @property
    def reads(self) -> np.ndarray:
        """Places in `features` of all that is read, what an image is drawn from included."""
        return self.index if self.drawn is None else np.concatenate([self.index, self.drawn.reads])

    def features(
        self, qpos: Any, qvel: Any, act: Any, sensordata: Any, xp: types.ModuleType = np
    ) -> Any:
        """All that entries may name.

        That is [qpos, qvel, act, sensordata, rotations of the quaternions, image]. It is the same
        for every layout of one model; `xp` is numpy or jax.numpy.
        """
        parts = [qpos, qvel, act, sensordata]
        for address in self.quaternions:
            parts.append(_first_two_columns(qpos[..., address : address + 4], xp))
        features = xp.concatenate(parts, axis=-1)
        if self.drawn is None:
            return features
        image = self.drawn(features) if xp is jnp else draw_on_host(self.drawn, features)
        return xp.concatenate([features, image], axis=-1)

    def state(
        self, qpos: Any, qvel: Any, act: Any, sensordata: Any, xp: types.ModuleType = np
    ) -> Any:
        """Puts x [..., dX] together; `xp` is numpy or jax.numpy."""
        return self.features(qpos, qvel, act, sensordata, xp)[..., self.index]


def _layout_of(values: dict[str, Any]) -> StateLayout:
    return StateLayout(**{**values, "slices": types.MappingProxyType(values["slices"])})


def _first_two_columns(quat: Any, xp: types.ModuleType) -> Any:
    """Columns x and y of the rotation matrix of a quaternion (w, x, y, z): [..., 4] -> [..., 6]."""
    w, x, y, z = (quat[..., i] for i in range(4))
    columns = (
        w * w + x * x - y * y - z * z,
        2 * (x * y + w * z),
        2 * (x * z - w * y),
        2 * (x * y - w * z),
        w * w - x * x + y * y - z * z,
        2 * (y * z + w * x),
    )
    return xp.stack(columns, axis=-1)


@quiet_mujoco()
def load_model(
    source: Source,
    entries: Sequence[str],
    observation: Sequence[str] | None = None,
    poses: Sequence[str] = (),
    image_dim: int | None = None,
) -> tuple[mujoco.MjModel, StateLayout, StateLayout | None]:
    """Compiles a model together with the sensors that the state and the observation need.

    Args:
      source: path of an MJCF file, MJCF as text or bytes, a MuJoCo spec (which gains sensors), or a
        compiled model, which is copied and has to have the sensors already.
      entries: state entries, see above, in the order in which they make up x.
      observation: entries of the observation in the order of o; None where it is the state.
      poses: entries whose sensors the model gets as well, for an image.
      image_dim: how many numbers the entry `image` has; None where there is none. What draws them
        is put into the layouts afterwards.

    Returns:
      The model, the layout of the state, and that of the observation (None where it is the state).

    Raises:
      ValueError: if the model does not parse, has no actuator or a flag that rollouts can't do
        with, or lacks a named object.
    """
    spec = parse(source)
    kinds = _split_all(spec, entries, "state")
    observed = None if observation is None else _split_all(spec, observation, "observation")
    named = (*kinds, *(observed or ()))
    if image_dim is None and ("image", "") in named:
        raise ValueError(
            "the entry 'image' needs a camera: pass image=jgps.tasks.StateImage(camera=...)"
        )
    for kind, name in (*named, *_split_all(spec, poses or entries, "state")):
        if kind in _SENSORS:
            _add_sensors(spec, kind, name)
    try:
        model = spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"the model does not compile: {_one_line(error)}") from None
    if model.nu == 0:
        raise ValueError("the model has no actuator; add an <actuator> for every controlled joint")
    refuse_callbacks(model)
    refuse_ranges(model)
    layout, seen = _layout(model, entries, kinds, "state", image_dim), None
    if observation is not None and observed is not None:
        seen = _layout(model, observation, observed, "observation", image_dim)
    needed = layout.uses_sensors or (seen is not None and seen.uses_sensors) or bool(poses)
    set_flags(model, needed)
    return model, layout, seen


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _split_all(
    spec: mujoco.MjSpec | Compiled, entries: Sequence[str], what: str
) -> list[tuple[str, str]]:
    kinds = [_split(spec, entry, what) for entry in entries]
    if len(set(entries)) != len(entries) or not entries:
        raise ValueError(
            f"{what} entries have to be distinct and at least one; got {list(entries)}"
        )
    return kinds


def _split(spec: mujoco.MjSpec | Compiled, entry: str, what: str) -> tuple[str, str]:
    kind, _, name = entry.partition(":")
    if kind not in _KINDS:
        meant = did_you_mean(kind, _KINDS)
        raise ValueError(f"unknown {what} entry {entry!r}; kinds: {', '.join(_KINDS)}{meant}")
    if kind in ("act", "image") and not name:
        return kind, name
    if kind == "image":
        raise ValueError(f"{what} entry {entry!r}: a state has one image; write 'image'")
    if kind == "act":
        raise ValueError(f"{what} entry {entry!r}: activations come together; write 'act'")
    if kind in ("qpos", "qvel"):
        kind_of_object, available = "joint", [joint.name for joint in spec.joints]
        if not name:
            return kind, name
    elif kind == "sensor":
        kind_of_object, available = "sensor", [sensor.name for sensor in spec.sensors]
    else:
        kind_of_object = _SENSORS[kind][0]
        objects = spec.sites if kind_of_object == "site" else spec.bodies
        available = [each.name for each in objects]
    if not name or name not in available:
        listed = ", ".join(each for each in available if each) or "none with a name"
        raise ValueError(
            f"{what} entry {entry!r}: the model has no {kind_of_object} {name!r}; it has: {listed}"
            f"{did_you_mean(name, available)}"
        )
    return kind, name


def _sensor_name(kind: str, sensor: str, name: str) -> str:
    return f"jgps/{kind}/{sensor}/{name}"


def _add_sensors(spec: mujoco.MjSpec | Compiled, kind: str, name: str) -> None:
    kind_of_object, sensors = _SENSORS[kind]
    present = {sensor.name for sensor in spec.sensors}
    for sensor in sensors:
        sensor_name = _sensor_name(kind, sensor, name)
        if sensor_name not in present:
            spec.add_sensor(
                name=sensor_name,
                type=getattr(mujoco.mjtSensor, f"mjSENS_{sensor}"),
                objtype=_OBJECT[kind_of_object],
                objname=name,
            )


def quaternion_addresses(model: mujoco.MjModel) -> list[int]:
    """Where in qpos the quaternions of free and ball joints begin."""
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    return [
        int(model.jnt_qposadr[j]) + (3 if int(model.jnt_type[j]) == free else 0)
        for j in range(model.njnt)
        if int(model.jnt_type[j]) in (free, ball)
    ]


def unit_quaternions(model: mujoco.MjModel, qpos: Any, xp: types.ModuleType = np) -> Any:
    """The same qpos [..., nq] with quaternions of free and ball joints at unit length.

    Those that are, up to rounding, stay as they are to the last bit.
    """
    for address in quaternion_addresses(model):
        end = address + 4
        quat = qpos[..., address:end]
        length = xp.sqrt(xp.sum(quat * quat, axis=-1, keepdims=True))
        rounding = 8 * float(xp.finfo(length.dtype).eps)
        quat = quat / xp.where(xp.abs(length - 1) <= rounding, 1, length)
        qpos = xp.concatenate([qpos[..., :address], quat, qpos[..., end:]], axis=-1)
    return qpos


def _layout(
    model: mujoco.MjModel,
    entries: Sequence[str],
    kinds: Sequence[tuple[str, str]],
    what: str,
    image_dim: int | None = None,
) -> StateLayout:
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    quaternions = quaternion_addresses(model)
    offset_activations = model.nq + model.nv
    offset_sensors = offset_activations + model.na
    offset_rotations = offset_sensors + model.nsensordata
    offset_image = offset_rotations + 6 * len(quaternions)

    def joint_index(kind: str, joint: int) -> list[int]:
        joint_type = int(model.jnt_type[joint])
        if kind == "qvel":
            size = {free: 6, ball: 3}.get(joint_type, 1)
            start = model.nq + int(model.jnt_dofadr[joint])
            return list(range(start, start + size))
        start = int(model.jnt_qposadr[joint])
        if joint_type not in (free, ball):
            return [start]
        positions = [start, start + 1, start + 2] if joint_type == free else []
        rotation = offset_rotations + 6 * quaternions.index(start + len(positions))
        return positions + list(range(rotation, rotation + 6))

    def sensor_index(sensor_name: str) -> list[int]:
        sensor = model.sensor(sensor_name).id
        refuse_user_sensor(model, sensor, f"{what} entry 'sensor:{sensor_name}'")
        start = offset_sensors + int(model.sensor_adr[sensor])
        return list(range(start, start + int(model.sensor_dim[sensor])))

    index: list[int] = []
    slices: dict[str, slice] = {}
    for entry, (kind, name) in zip(entries, kinds, strict=True):
        start = len(index)
        if kind in ("qpos", "qvel"):
            joints = [model.joint(name).id] if name else range(model.njnt)
            for joint in joints:
                index += joint_index(kind, joint)
        elif kind == "act":
            if model.na == 0:
                raise ValueError(f"{what} entry 'act': no actuator of the model has an activation")
            index += range(offset_activations, offset_sensors)
        elif kind == "sensor":
            index += sensor_index(name)
        elif kind == "image":
            index += range(offset_image, offset_image + (image_dim or 0))
        else:
            for sensor in _SENSORS[kind][1]:
                index += sensor_index(_sensor_name(kind, sensor, name))
        slices[entry] = slice(start, len(index))

    actuated = _actuated_joints(model, index)
    return StateLayout(
        slices=types.MappingProxyType(slices),
        size=len(index),
        index=np.asarray(index, np.int32),
        quaternions=np.asarray(quaternions, np.int32),
        positions=np.asarray([p for p, _ in actuated], np.int32),
        velocities=np.asarray([v for _, v in actuated], np.int32),
        uses_sensors=any(kind not in ("qpos", "qvel", "act", "image") for kind, _ in kinds),
        what=what,
    )


def _actuated_joints(model: mujoco.MjModel, index: list[int]) -> list[tuple[int, int]]:
    """Places in x of every actuator's joint (position, velocity); none if one has no such joint."""
    pairs = []
    if model.nactuator != model.nu:  # some have several controls, and no joint of one number
        return []
    for actuator in range(model.nu):
        joint = int(model.actuator_trnid[actuator, 0])
        on_joint = int(model.actuator_trntype[actuator]) in (
            int(mujoco.mjtTrn.mjTRN_JOINT),
            int(mujoco.mjtTrn.mjTRN_JOINTINPARENT),
        )
        scalar = on_joint and int(model.jnt_type[joint]) in (
            int(mujoco.mjtJoint.mjJNT_HINGE),
            int(mujoco.mjtJoint.mjJNT_SLIDE),
        )
        if not scalar:
            return []
        position = int(model.jnt_qposadr[joint])
        velocity = model.nq + int(model.jnt_dofadr[joint])
        if position not in index or velocity not in index:
            return []
        pairs.append((index.index(position), index.index(velocity)))
    return pairs if len(set(pairs)) == len(pairs) else []
