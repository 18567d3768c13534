"""The outer loop around an algorithm: training, checkpoints, metrics, evaluation."""

from jgps.training.checkpoint import CheckpointConfig
from jgps.training.errors import TrainingError, UsageError
from jgps.training.evaluate import (
    ConditionsResult,
    EvaluationResult,
    evaluate,
    make_evaluator,
)
from jgps.training.load import Run, load
from jgps.training.run import TrainingResult, train
from jgps.training.setup import StartFrom

__all__ = [
    "CheckpointConfig",
    "ConditionsResult",
    "EvaluationResult",
    "Run",
    "StartFrom",
    "TrainingError",
    "TrainingResult",
    "UsageError",
    "evaluate",
    "load",
    "make_evaluator",
    "train",
]
