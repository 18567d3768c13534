"""Model-free searches to compare jgps with; for the benchmarks only."""

from baselines.cem import CemConfig, cem
from baselines.cma import CmaConfig, cma
from baselines.policy_search import Baseline, BaselineState, PolicyConfig, on_task
from baselines.reps import RepsConfig, reps
from baselines.search import Search

__all__ = [
    "Baseline",
    "BaselineState",
    "CemConfig",
    "CmaConfig",
    "PolicyConfig",
    "RepsConfig",
    "Search",
    "cem",
    "cma",
    "on_task",
    "reps",
]
