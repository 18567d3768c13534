"""Simulation of one task: by C MuJoCo's threads, by MJX, or by known dynamics."""

from jgps.simulation.conditions import (
    Conditions,
    Starts,
    check_conditions,
    concatenate_conditions,
    condition_models,
    initial_act,
)
from jgps.simulation.inputs import Inputs, mocap_bodies
from jgps.simulation.kinematics import site_position
from jgps.simulation.layout import StateLayout, load_model
from jgps.simulation.rollout import Backend, Sampler, make_sampler, resolve_backend
from jgps.simulation.sensing import Sensing
from jgps.simulation.source import Source
from jgps.simulation.system import (
    Policy,
    Shared,
    SimulationRollouts,
    StepFunction,
    System,
    num_threads,
)
from jgps.simulation.tangent import moved

__all__ = [
    "Backend",
    "Conditions",
    "Inputs",
    "Policy",
    "Sampler",
    "Sensing",
    "Shared",
    "SimulationRollouts",
    "Source",
    "Starts",
    "StateLayout",
    "StepFunction",
    "System",
    "check_conditions",
    "concatenate_conditions",
    "condition_models",
    "initial_act",
    "load_model",
    "mocap_bodies",
    "make_sampler",
    "moved",
    "num_threads",
    "resolve_backend",
    "site_position",
]
