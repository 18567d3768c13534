"""Figures do not touch the random numbers of training."""

import jax
import pytest

from jgps import tasks
from jgps.algorithms import ALGORITHMS, MdgpsConfig, MlpConfig, TrajoptConfig
from jgps.dynamics import NoPriorConfig
from jgps.optimise import local_loop
from jgps.optimise.algorithm import inspection_key
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.rollouts import conditions
from jgps.policies import DistilConfig

MODELS = FittedModelsConfig(prior=NoPriorConfig())
CONFIGS = {
    "trajopt": TrajoptConfig(models=MODELS),
    "mdgps": MdgpsConfig(
        models=MODELS,
        policy=MlpConfig(hidden=(4,), distil=DistilConfig(steps=5, checks=1)),
    ),
}


def _numbers(key: jax.Array) -> tuple[int, ...]:
    return tuple(jax.random.key_data(key).tolist())


@pytest.mark.parametrize("seed", [0, 7])
def test_the_key_is_none_that_a_split_gives(seed: int):
    key = jax.random.key(seed)
    taken = [_numbers(each) for num in (2, 6, 1000) for each in jax.random.split(key, num)]
    assert _numbers(inspection_key(key)) not in [*taken, _numbers(key)]


@pytest.mark.parametrize("name", CONFIGS)
def test_figures_are_sampled_with_another_key_than_the_next_step(name, monkeypatch):
    used = []

    def recorded(make):
        def make_sample(*arguments, **options):
            sample = make(*arguments, **options)
            if arguments[3] is None:  # without noise, which draws nothing
                return sample

            def run(params, key):
                used.append(_numbers(key))
                return sample(params, key)

            return run

        return make_sample

    for module in (local_loop, conditions):
        monkeypatch.setattr(module, "make_sample", recorded(module.make_sample))
    make, _ = ALGORITHMS[name]
    algorithm = make(tasks.make("point_mass"), CONFIGS[name], "native")
    state = algorithm.init(jax.random.key(0))
    algorithm.inspect(state)
    algorithm.step(state)
    for_figures, for_training = used
    assert for_figures not in (for_training, _numbers(state.key))
