"""Where local models come from: fitted to rollouts, or known. The type of the settings decides."""

from jgps.optimise.known_models import KnownModelsConfig, known_models
from jgps.optimise.models import FittedModelsConfig, Models, fitted_models
from jgps.tasks import Task

ModelsConfig = FittedModelsConfig | KnownModelsConfig


def make_models(task: Task, config: ModelsConfig, shape: tuple[int, int], backend: str) -> Models:
    """What the settings ask for, of rollouts with leading axes `shape`.

    Raises:
      ValueError: where the task or its rollouts can't have known models.
    """
    if isinstance(config, KnownModelsConfig):
        return known_models(task, config, shape, backend)
    return fitted_models(task, config, shape)
