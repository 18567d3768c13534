"""Tasks: a model, its state, what it costs, where it starts, and when it has succeeded."""

from jgps.tasks.episodes import Episodes, Pushes, draw
from jgps.tasks.locomotion.legged import LeggedOptions, LeggedWeights, legged
from jgps.tasks.policy_camera import VisionSpec
from jgps.tasks.registry import describe, make, names, with_vision
from jgps.tasks.state_image import StateImage
from jgps.tasks.task import EvaluationSets, Task, from_mjcf

__all__ = [
    "Episodes",
    "EvaluationSets",
    "LeggedOptions",
    "LeggedWeights",
    "Pushes",
    "StateImage",
    "Task",
    "VisionSpec",
    "describe",
    "draw",
    "from_mjcf",
    "legged",
    "make",
    "names",
    "with_vision",
]
