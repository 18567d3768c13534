"""The tasks that jgps ships, by name."""

from collections.abc import Callable

from jgps.core.names import unknown
from jgps.tasks.arm.door_opening import door_opening
from jgps.tasks.arm.peg_insertion import (
    blind_peg_insertion,
    peg_insertion,
    peg_insertion_round,
)
from jgps.tasks.arm.pusher import pusher
from jgps.tasks.bench.bottle import bottle
from jgps.tasks.bench.hammer import hammer
from jgps.tasks.bench.hanger import hanger
from jgps.tasks.bench.shape_sorting_cube import shape_sorting_cube
from jgps.tasks.known.acrobot import acrobot
from jgps.tasks.known.car import car
from jgps.tasks.known.cartpole import cartpole
from jgps.tasks.known.pendulum import pendulum
from jgps.tasks.locomotion.biped_push import biped_push
from jgps.tasks.locomotion.quadruped_velocity import quadruped_velocity
from jgps.tasks.locomotion.swimmer import swimmer, swimmer_policy
from jgps.tasks.locomotion.walker import walker, walker_policy
from jgps.tasks.simple.disc_point_mass import disc_point_mass
from jgps.tasks.simple.point_mass import point_mass
from jgps.tasks.simple.reacher import reacher
from jgps.tasks.task import Task

_TASKS: dict[str, Callable[[], Task]] = {
    "point_mass": point_mass,
    "reacher": reacher,
    "peg_insertion": peg_insertion,
    "peg_insertion_round": peg_insertion_round,
    "blind_peg_insertion": blind_peg_insertion,
    "disc_point_mass": disc_point_mass,
    "pusher": pusher,
    "door_opening": door_opening,
    "shape_sorting_cube": shape_sorting_cube,
    "hanger": hanger,
    "hammer": hammer,
    "bottle": bottle,
    "pendulum": pendulum,
    "cartpole": cartpole,
    "acrobot": acrobot,
    "car": car,
    "walker": walker,
    "swimmer": swimmer,
    "swimmer_policy": swimmer_policy,
    "walker_policy": walker_policy,
    "quadruped_velocity": quadruped_velocity,
    "biped_push": biped_push,
}
VISUAL = ("shape_sorting_cube", "hanger", "hammer", "bottle")


def names() -> tuple[str, ...]:
    """Names of all tasks."""
    return tuple(_TASKS)


def with_vision() -> tuple[str, ...]:
    """Names of the tasks that a policy may look at through a camera."""
    return VISUAL


def describe(name: str) -> str:
    """One line on a task."""
    return (_TASKS[name].__doc__ or "").strip().partition("\n")[0]  # without with python -OO


def make(name: str) -> Task:
    """The task of that name.

    Raises:
      ValueError: for an unknown name; lists the known ones.
    """
    if not isinstance(name, str) or name not in _TASKS:
        raise ValueError(unknown("task", name, _TASKS))
    return _TASKS[name]()
