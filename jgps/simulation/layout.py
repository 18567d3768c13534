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
| `body_up:body` | 3, the direction up in the body's frame, which an IMU sees | - |
| `gyro:joint` | 3, angular velocity of a free joint's body in the body's frame | rad/s |
| `sensor:sensor` | the sensor's dimension | its own |
| `phase:period` | 2, cosine and sine of 2 pi time / period; `phase:0.5` is 0.5 s long | - |
| `ctrl` | one per control, those of the last control step, 0 at first; observation only | its own |
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
from jgps.simulation.entries import (
    SENSORS,
    WITH_SENSORS,
    add_sensors,
    periods_of,
    refuse_other_joints,
    sensor_name,
    split_all,
)
from jgps.simulation.features import (
    FeaturePlaces,
    feature_places,
    first_two_columns,
    phase,
    quaternion_addresses,
)
from jgps.simulation.requirements import (
    refuse_callbacks,
    refuse_ranges,
    refuse_user_sensor,
    set_flags,
)
from jgps.simulation.source import Source, parse


@dataclasses.dataclass(frozen=True, eq=False)
class StateLayout:
    """Where every entry lies in x, and how x is put together from simulator arrays.

    The layout of an observation is the same with o in place of x. Layouts compare by value, so that
    what is compiled for one serves an equal one.
    """

    slices: Mapping[str, slice]  # entry -> its place in x
    size: int  # dX
    index: np.ndarray  # [dX] into what `features` gives
    places: FeaturePlaces  # where the parts of `features` begin
    quaternions: np.ndarray  # [Q] qpos addresses of quaternions
    periods: tuple[float, ...]  # of the phases in `features`, seconds
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
            self.places,
            self.periods,
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
        self,
        qpos: Any,
        qvel: Any,
        act: Any,
        sensordata: Any,
        ctrl: Any,
        time: Any,
        xp: types.ModuleType = np,
    ) -> Any:
        """All that entries may name.

        That is [qpos, qvel, act, sensordata, rotations of the quaternions, phases, ctrl, image]. It
        is the same for the layouts of one model's state and observation.

        Args:
          qpos, qvel, act, sensordata: of the simulation, [..., nq], [..., nv] and so on.
          ctrl: the controls of the control step before, [..., nu].
          time: of the simulation, seconds: [...], or one number for all.
          xp: numpy or jax.numpy.
        """
        parts = [qpos, qvel, act, sensordata]
        for address in self.quaternions:
            parts.append(first_two_columns(qpos[..., address : address + 4], xp))
        if self.periods:
            time = xp.broadcast_to(xp.asarray(time), qpos.shape[:-1])
            parts += [phase(time, period, xp) for period in self.periods]
        features = xp.concatenate([*parts, ctrl], axis=-1)
        if self.drawn is None:
            return features
        image = self.drawn(features) if xp is jnp else draw_on_host(self.drawn, features)
        return xp.concatenate([features, image], axis=-1)

    def state(
        self,
        qpos: Any,
        qvel: Any,
        act: Any,
        sensordata: Any,
        ctrl: Any,
        time: Any,
        xp: types.ModuleType = np,
    ) -> Any:
        """Puts x [..., dX] together of what `features` takes."""
        return self.features(qpos, qvel, act, sensordata, ctrl, time, xp)[..., self.index]

    def of(self, data: mujoco.MjData) -> np.ndarray:
        """The x [dX] of a simulation on the host, whose sensors have to be those of its state."""
        numbers = (data.qpos, data.qvel, data.act, data.sensordata, data.ctrl, data.time)
        return self.state(*numbers)


def _layout_of(values: dict[str, Any]) -> StateLayout:
    return StateLayout(**{**values, "slices": types.MappingProxyType(values["slices"])})


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
    kinds = split_all(spec, entries, "state")
    observed = None if observation is None else split_all(spec, observation, "observation")
    named = (*kinds, *(observed or ()))
    if image_dim is None and ("image", "") in named:
        raise ValueError(
            "the entry 'image' needs a camera: pass image=jgps.tasks.StateImage(camera=...)"
        )
    for kind, name in (*named, *split_all(spec, poses or entries, "state")):
        if kind in SENSORS:
            add_sensors(spec, kind, name)
    try:
        model = spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"the model does not compile: {_one_line(error)}") from None
    if model.nu == 0:
        raise ValueError("the model has no actuator; add an <actuator> for every controlled joint")
    refuse_callbacks(model)
    refuse_ranges(model)
    periods = periods_of(named)
    layout, seen = _layout(model, dict(zip(entries, kinds, strict=True)), periods, image_dim), None
    if observation is not None and observed is not None:
        named = dict(zip(observation, observed, strict=True))
        seen = _layout(model, named, periods, image_dim, "observation")
    needed = layout.uses_sensors or (seen is not None and seen.uses_sensors) or bool(poses)
    set_flags(model, needed)
    return model, layout, seen


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _layout(
    model: mujoco.MjModel,
    entries: Mapping[str, tuple[str, str]],
    periods: tuple[float, ...],
    image_dim: int | None,
    what: str = "state",
) -> StateLayout:
    """The layout of entries, given with their kinds and names."""
    places = feature_places(model, len(periods))

    def sensor_index(name: str, entry: str) -> list[int]:
        sensor = model.sensor(name).id
        refuse_user_sensor(model, sensor, f"{what} entry {entry!r}")
        start = places.sensors + int(model.sensor_adr[sensor])
        return list(range(start, start + int(model.sensor_dim[sensor])))

    index: list[int] = []
    slices: dict[str, slice] = {}
    for entry, (kind, name) in entries.items():
        start = len(index)
        if kind in ("qpos", "qvel"):
            joints = [model.joint(name).id] if name else range(model.njnt)
            for joint in joints:
                index += _joint_index(model, places, kind, joint)
        elif kind == "act":
            if model.na == 0:
                raise ValueError(f"{what} entry 'act': no actuator of the model has an activation")
            index += range(places.act, places.sensors)
        elif kind == "sensor":
            index += sensor_index(name, entry)
        elif kind == "gyro":
            joint = model.joint(name).id
            refuse_other_joints(model, joint, f"{what} entry {entry!r}")
            index += _joint_index(model, places, "qvel", joint)[3:]
        elif kind == "phase":
            first = places.phases + 2 * periods.index(float(name))
            index += (first, first + 1)
        elif kind == "ctrl":
            index += range(places.ctrl, places.image)
        elif kind == "image":
            index += range(places.image, places.image + (image_dim or 0))
        else:
            for sensor in SENSORS[kind][1]:
                index += sensor_index(sensor_name(kind, sensor, name), entry)
        slices[entry] = slice(start, len(index))

    actuated = _actuated_joints(model, index)
    return StateLayout(
        slices=types.MappingProxyType(slices),
        size=len(index),
        index=np.asarray(index, np.int32),
        places=places,
        quaternions=np.asarray(quaternion_addresses(model), np.int32),
        periods=periods,
        positions=np.asarray([p for p, _ in actuated], np.int32),
        velocities=np.asarray([v for _, v in actuated], np.int32),
        uses_sensors=any(kind in WITH_SENSORS for kind, _ in entries.values()),
        what=what,
    )


def _joint_index(model: mujoco.MjModel, places: FeaturePlaces, kind: str, joint: int) -> list[int]:
    """Where the features of a joint's `qpos` or `qvel` lie."""
    free, ball = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
    joint_type = int(model.jnt_type[joint])
    if kind == "qvel":
        size = {free: 6, ball: 3}.get(joint_type, 1)
        start = places.qvel + int(model.jnt_dofadr[joint])
        return list(range(start, start + size))
    start = int(model.jnt_qposadr[joint])
    if joint_type not in (free, ball):
        return [start]
    positions = [start, start + 1, start + 2] if joint_type == free else []
    number = quaternion_addresses(model).index(start + len(positions))
    rotation = places.rotations + 6 * number
    return positions + list(range(rotation, rotation + 6))


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
