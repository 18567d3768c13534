"""What holds for every algorithm on every task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.core.types import OK
from jgps.dynamics import MixturePriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.training import checkpoint

# Every algorithm on the smallest task, and the default one on all: each pair compiles anew.
CASES = [(algorithm, "point_mass") for algorithm in ALGORITHMS]
CASES += [("mdgps", task) for task in tasks.names() if task != "point_mass"]
MOST = 4  # training conditions of a task here: enough for shapes, determinism and resuming
LOCAL = ("trajopt", "pi2", "pilqr")  # controllers alone, without a network
# Two iterations are to have everything in them that an algorithm does.
SETTINGS = {"dagger": {"teacher_iterations": 1}}


def _task(name):
    """With some of its training conditions, the first and the last among them."""
    task = tasks.make(name)
    some = np.linspace(0, task.train.num - 1, min(MOST, task.train.num)).round().astype(int)
    return dataclasses.replace(task, train=jax.tree.map(lambda leaf: leaf[some], task.train))


def _make(algorithm, task):
    make, config = ALGORITHMS[algorithm]
    return make(task, config(**SETTINGS.get(algorithm, {})), backend="native")


def _apart(config, **settings):
    """One mixture per condition: a shared one sees the samples of all."""
    if any(field.name == "models" for field in dataclasses.fields(config)):
        settings["models"] = FittedModelsConfig(prior=MixturePriorConfig(shared=False))
    return config(**settings)


def _arrays(tree):
    """Leaves as NumPy arrays, keys included."""
    leaves = jax.tree.leaves(tree)
    return [
        np.asarray(jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a)
        for a in leaves
    ]


@pytest.mark.parametrize(("algorithm", "task_name"), CASES)
def test_contract(algorithm, task_name, tmp_path):
    task, name = _task(task_name), algorithm
    algorithm = _make(algorithm, task)
    start = algorithm.init(jax.random.key(3))
    state, metrics = algorithm.step(start)

    # Shapes and types do not change, so that nothing is compiled again and states can be saved.
    abstract = jax.tree.map(jax.typeof, start)
    assert abstract == jax.tree.map(jax.typeof, state)
    for key, value in metrics.items():
        assert value.shape in ((), (1,), (task.train.num,)), key
        # NaN stands for what dagger does not do in this iteration.
        assert np.isfinite(value).all() or (name == "dagger" and key.startswith("policy")), key
    assert (metrics["status"] == OK).all()
    # One rollout per condition is the trial without noise.
    assert metrics["samples_valid"].sum() + task.train.num == algorithm.rollouts_per_step

    # The same seed gives the same run, another seed another one.
    again, metrics_again = algorithm.step(algorithm.init(jax.random.key(3)))
    for one, other in zip(_arrays(state), _arrays(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for key in metrics:
        np.testing.assert_array_equal(metrics[key], metrics_again[key])
    _, other_seed = algorithm.step(algorithm.init(jax.random.key(4)))
    assert not np.array_equal(metrics["cost"], other_seed["cost"])

    # The second iteration compiles nothing, and goes on from a saved state as if never left.
    second = []
    assert _count_compilations(lambda: second.extend(algorithm.step(state))) == 0
    checkpoint.save(tmp_path, 1, state)
    _, restored = checkpoint.restore_newest(tmp_path, jax.eval_shape(algorithm.init, start.key))
    for one, other in zip(_arrays(second), _arrays(algorithm.step(restored)), strict=True):
        np.testing.assert_array_equal(one, other)

    inspection = algorithm.inspect(state)
    dim = task.state_dim + task.action_dim
    assert inspection.marginals.cov.shape == (task.train.num, task.horizon, dim, dim)
    assert inspection.sampled.x.shape[0] == task.train.num


def _count_compilations(function) -> int:
    events = []

    def listen(name, duration, **kwargs):
        if name == "/jax/core/compile/backend_compile_duration":
            events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(function())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(events)


def test_the_counter_of_compilations_counts():
    assert _count_compilations(lambda: jax.jit(lambda x: x * 3.25 + 1.75)(jnp.ones(3))) > 0


@pytest.mark.parametrize("algorithm", LOCAL)
def test_a_condition_that_diverges_leaves_the_others_bit_identical(algorithm):
    """One condition's model is broken: it keeps its controller, the others don't notice."""
    make, config = ALGORITHMS[algorithm]
    settings = _apart(config)
    task = tasks.make("point_mass")
    broken = task.train._replace(changes={"jnt_stiffness:x": np.array([0, 0, 0, 1e12])})
    healthy = task.train._replace(changes={"jnt_stiffness:x": np.zeros(4)})
    runs = {}
    for name, conditions in (("broken", broken), ("healthy", healthy)):
        run = make(dataclasses.replace(task, train=conditions), settings, backend="native")
        state = run.init(jax.random.key(0))
        for _ in range(2):
            before = state
            state, metrics = run.step(state)
        runs[name] = (before, state, metrics)
    before, state, metrics = runs["broken"]
    _, healthy_state, healthy_metrics = runs["healthy"]
    assert metrics["samples_valid"].tolist() == [5, 5, 5, 0]
    assert metrics["status"][3] != OK and (metrics["status"][:3] == OK).all()
    for old, new in zip(_arrays(before.controllers), _arrays(state.controllers), strict=True):
        np.testing.assert_array_equal(old[3], new[3])
    for one, other in zip(
        _arrays(state.controllers), _arrays(healthy_state.controllers), strict=True
    ):
        np.testing.assert_array_equal(one[:3], other[:3])
    np.testing.assert_array_equal(metrics["cost"][:3], healthy_metrics["cost"][:3])
    assert np.isinf(state.policy_cost).tolist() == [False, False, False, True]
    known = state._replace(policy_cost=jnp.zeros(4))
    assert all(np.isfinite(a).all() for a in _arrays(known))


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in LOCAL])
def test_controllers_of_other_conditions_do_not_notice_a_broken_one(algorithm):
    """Until a network that learned from all of them is between them, to the last bit."""
    make, config = ALGORITHMS[algorithm]
    settings = _apart(config)
    task = tasks.make("point_mass")
    found = []
    for stiffness in (1e12, 0.0):
        changes = {"jnt_stiffness:x": np.array([0, 0, 0, stiffness])}
        condition = dataclasses.replace(task, train=task.train._replace(changes=changes))
        if algorithm == "badmm":  # its network learns within the first iteration
            settings = dataclasses.replace(settings, inner_rounds=1)
        run = make(condition, settings, backend="native")
        found.append(run.step(run.init(jax.random.key(0))))
    (broken, broken_metrics), (healthy, healthy_metrics) = found
    assert broken_metrics["samples_valid"].tolist()[3] == 0
    for one, other in zip(_arrays(broken.controllers), _arrays(healthy.controllers), strict=True):
        np.testing.assert_array_equal(one[:3], other[:3])
    np.testing.assert_array_equal(broken_metrics["cost"][:3], healthy_metrics["cost"][:3])


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in LOCAL])
def test_a_network_learns_the_same_whatever_a_broken_condition_holds(algorithm):
    """Two ways to break one condition: nothing of it reaches the others or the network."""
    make, config = ALGORITHMS[algorithm]
    settings = _apart(config, **SETTINGS.get(algorithm, {}))
    task = tasks.make("point_mass")
    states = []
    for stiffness in (1e12, -1e12):
        changes = {"jnt_stiffness:x": np.array([0, 0, 0, stiffness])}
        broken = dataclasses.replace(task, train=task.train._replace(changes=changes))
        run = make(broken, settings, backend="native")
        state = start = run.init(jax.random.key(0))
        for _ in range(2):
            state, metrics = run.step(state)
        assert metrics["samples_valid"].tolist()[3] == 0
        assert not np.array_equal(_arrays(start.learner)[0], _arrays(state.learner)[0])
        states.append(state)
    one, other = states
    for a, b in zip(_arrays(one.learner), _arrays(other.learner), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    for a, b in zip(_arrays(one.controllers), _arrays(other.controllers), strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
