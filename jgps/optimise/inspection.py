"""What figures show of controllers: their samples, and a Gaussian model of those."""

from collections.abc import Callable

import jax

from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core.lifted import shared_jit
from jgps.core.types import Controller
from jgps.optimise.algorithm import Inspection, inspection_key
from jgps.optimise.models import FittedModelsConfig, fitted_models, predict
from jgps.optimise.rollouts.sampling import FixedStartsConfig, make_sample, rollouts_each
from jgps.tasks import Task


def make_inspect(task: Task, backend: str) -> Callable[[jax.Array, Controller], Inspection]:
    """`inspect(key, controllers)` of an algorithm that fits no models: they are for figures alone.

    It draws with a state's key what no step draws with it.
    """
    settings = FixedStartsConfig()
    roll_out = make_sample(task, NearestController.act, backend, settings)
    shape = task.train.num, rollouts_each(task, settings)
    models = fitted_models(task, FittedModelsConfig(), shape)
    factor, fit = shared_jit(jax.vmap(linear_gaussian.factor)), shared_jit(models.fit)

    def inspect(key: jax.Array, controllers: Controller) -> Inspection:
        sample_key, models_key = jax.random.split(inspection_key(key))
        sampled = roll_out(factor(controllers)[0], sample_key)
        _, fitted, _ = fit(models.init(models_key), sampled.rollouts, None)
        assert fitted is not None
        return Inspection(sampled, predict(controllers, fitted), controllers)

    return inspect
