"""What an algorithm is made with is checked before anything is compiled or allocated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import algorithms, configs, tasks
from jgps.algorithms import ALGORITHMS
from jgps.core import memory
from jgps.core.checks import written_out
from jgps.optimise.factory import estimate

TASK = tasks.make("point_mass")
MANY = configs.FixedStartsConfig(num_samples=99999999999)


def _too_much(config_type):
    """Settings of more numbers than any machine holds."""
    names = {field.name for field in dataclasses.fields(config_type)}
    if "rollouts" in names:
        return config_type(rollouts=MANY)
    if "num_samples" in names:
        return config_type(num_samples=2_000_000_000)
    if "labels_kept" in names:
        return config_type(labels_kept=2_000_000_000)
    if "planner" in names:
        planner = configs.PredictiveSamplingConfig(samples=100_000)
        return config_type(planner=planner, horizon=100_000)
    return None  # its rollouts are as many as there are conditions


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_says_what_is_wrong_with_its_arguments(name):
    make, config_type = ALGORITHMS[name]
    with pytest.raises(ValueError, match=rf"{name} takes a task, as jgps.tasks.make\('point_mass'"):
        make("point_mass")
    other = configs.TrajoptConfig if name != "trajopt" else configs.MdgpsConfig
    with pytest.raises(ValueError, match=rf"config is a {other.__name__}; {name} takes"):
        make(TASK, other())
    with pytest.raises(ValueError, match=rf"<class.* takes a .*{config_type.__name__}\(\)"):
        make(TASK, config_type)
    own = "num_samples" if written_out(config_type, "num_samples") else "horizon"
    own = own if written_out(config_type, own) else "temperature"
    with pytest.raises(TypeError, match=rf"^{name} has no .*{own!r}.*{own}=...\)"):
        make(TASK, **{own: 8})
    with pytest.raises(TypeError, match=r"no argument 'confg'.*did you mean config\?"):
        make(TASK, confg=3)
    with pytest.raises(ValueError, match=r"unknown backend 'natve'.*did you mean native\?"):
        make(TASK, backend="natve")
    too_much = _too_much(config_type)
    if too_much is not None:
        with pytest.raises(ValueError, match=rf"^{name} on 'point_mass' would need .* GiB"):
            make(TASK, too_much)


def test_settings_are_written_out_where_they_belong():
    with pytest.raises(TypeError, match=r"config=MdgpsConfig\(step=LqrStepConfig\(kl_step=...\)\)"):
        algorithms.mdgps(TASK, kl_step=0.1)


def test_noise_is_not_smoothed_beyond_the_horizon():
    rollouts = configs.FixedStartsConfig(noise_smoothing=41)
    with pytest.raises(ValueError, match=r"rollouts.noise_smoothing is 41 steps; .*, 40 steps"):
        algorithms.pi2(TASK, configs.Pi2Config(rollouts=rollouts))


@pytest.mark.parametrize(
    "key", [0, None, np.zeros(2), jnp.zeros(3, jnp.uint32), jax.random.split(jax.random.key(0))]
)
def test_a_state_begins_with_a_random_key(key):
    algorithm = algorithms.pi2(TASK)
    with pytest.raises(ValueError, match=r"^key is .*; it has to be one random key, jax."):
        algorithm.init(key)


def test_a_number_that_is_no_key_is_made_one():
    with pytest.raises(ValueError, match=r"key is 7; .* jax.random.key\(7\)$"):
        algorithms.pi2(TASK).init(7)


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        (TASK, configs.MdgpsConfig(rollouts=MANY), "lower config.rollouts.num_samples"),
        (
            dataclasses.replace(TASK, horizon=10**9),
            configs.MdgpsConfig(),
            "for 80,000,000,000 points of .*; lower the task's horizon",
        ),
        (
            TASK,
            configs.MdgpsConfig(policy=configs.MlpConfig(hidden=(10**6, 10**6))),
            "14,901.3 of them for a network of 1,000,006,000,000 weights; .*config.policy.hidden",
        ),
    ],
)
def test_too_much_memory_is_said_before_it_is_taken(task, config, message):
    with pytest.raises(ValueError, match=rf"^mdgps on .* at least [\d,.]+ GiB of .*{message}"):
        algorithms.mdgps(task, config)


def test_more_memory_than_a_machine_has(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * 2**30)
    memory.require("it", {"a": 2**30, "b": 2**31}, "lower b")
    with pytest.raises(ValueError, match=r"it would need at least 3.0 GiB .*2.0 of them for b; 3"):
        memory.require("it", {"a": 2**30, "b": 2**31 + 1}, "lower b")


def test_what_is_available_is_plausible():
    assert 2**26 < memory.available() < 2**50


def test_estimates_stay_below_what_a_state_takes():
    """They are lower bounds: of a mixture's points the state holds all that is estimated."""
    algorithm = algorithms.trajopt(TASK)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.models))
    parts = estimate(TASK, configs.TrajoptConfig())
    points = next(size for name, size in parts.items() if name.endswith("points of the prior"))
    assert 0.5 * held < points <= held
