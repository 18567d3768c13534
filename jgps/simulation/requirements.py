"""What a model may not have, so that a rollout is what MuJoCo does with it on many threads."""

import mujoco
import numpy as np


def refuse_callbacks(model: mujoco.MjModel) -> None:
    """Refuses actuators for which MuJoCo calls functions back.

    Raises:
      ValueError: naming the first one, and what of it is of type user.
    """
    kinds = {"dyn": mujoco.mjtDyn.mjDYN_USER, "gain": mujoco.mjtGain.mjGAIN_USER,
             "bias": mujoco.mjtBias.mjBIAS_USER}  # fmt: skip
    for kind, user in kinds.items():
        found = np.flatnonzero(getattr(model, f"actuator_{kind}type") == int(user))
        if len(found):
            name = model.actuator(int(found[0])).name
            raise ValueError(
                f'actuator {name!r} has {kind}type="user", for which MuJoCo calls a function back; '
                "rollouts, which run on many threads, call none; choose one of MuJoCo's own types"
            )


def refuse_ranges(model: mujoco.MjModel) -> None:
    """Refuses ranges of controls that end before they begin, which MuJoCo takes for no range.

    Raises:
      ValueError: naming the first one.
    """
    ranges, limited = model.actuator_ctrlrange, model.actuator_ctrllimited.astype(bool)
    given = limited | ranges.any(axis=1)
    for control in np.flatnonzero(given & ~(ranges[:, 0] < ranges[:, 1])):
        low, high = ranges[control]
        actuator = int(np.searchsorted(model.actuator_ctrladr, control, side="right")) - 1
        raise ValueError(
            f"actuator {model.actuator(actuator).name!r} has the control range {low:g} to "
            f"{high:g}; it has to begin below its end"
        )


def refuse_user_sensor(model: mujoco.MjModel, sensor: int, what: str) -> None:
    """Refuses a sensor whose numbers a callback computes.

    Raises:
      ValueError: naming `what` asked for it.
    """
    if int(model.sensor_type[sensor]) == int(mujoco.mjtSensor.mjSENS_USER):
        raise ValueError(
            f"{what}: the sensor is of type user, whose numbers a callback computes; rollouts call "
            "none"
        )


def set_flags(model: mujoco.MjModel, uses_sensors: bool) -> None:
    """Sets the flags that rollouts rely on, and refuses those that they can't do with.

    Whatever else a model switches off is its physics: contacts, limits, gravity, the range of
    controls (`clampctrl`), the solver's warm start.

    Raises:
      ValueError: naming the flag.
    """
    disable, enable = mujoco.mjtDisableBit, mujoco.mjtEnableBit
    for present, flag, why in (
        (model.opt.disableflags & disable.mjDSBL_ACTUATION, 'actuation="disable"',
         "with which no control has an effect"),
        (model.opt.enableflags & enable.mjENBL_SLEEP, 'sleep="enable"',
         "with which what happens next does not follow from the state alone"),
        (model.opt.enableflags & enable.mjENBL_IPC, 'ipc="enable"',
         "with which what happens next does not follow from the state alone"),
    ):  # fmt: skip
        if present:
            raise ValueError(f"the model has <flag {flag}/>, {why}; take it out")
    # A diverging simulation has to be seen, not silently put back to its start.
    model.opt.disableflags |= disable.mjDSBL_AUTORESET
    if uses_sensors:  # x and o are made of them
        model.opt.disableflags &= ~int(disable.mjDSBL_SENSOR)
