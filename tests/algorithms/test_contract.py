"""What holds for every algorithm, and what every task gives algorithms to work with."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations
from shared_algorithms import on_many_sets, springs, to_goal, with_other_numbers

from jgps import costs, tasks
from jgps.algorithms import ALGORITHMS
from jgps.controllers import linear_gaussian
from jgps.controllers.nearest import NearestController
from jgps.core.types import OK, TOO_FEW_SAMPLES
from jgps.dynamics import MixturePriorConfig, NoPriorConfig
from jgps.optimise.ilqg.solve import SearchConfig
from jgps.optimise.models import FittedModelsConfig, fitted_models
from jgps.optimise.rollouts import sampling
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.recipes.recipe import fits_models, trains_network
from jgps.tasks.start import initial_controllers, initial_states
from jgps.training import checkpoint

LOCAL = ("trajopt", "pi2", "pilqr")  # controllers alone, without a network
FEW_PLANS = {
    "horizon": 4,
    "first_iterations": 2,
    "planner": SearchConfig(iterations=1, step_sizes=3),
}
# Two iterations are to have everything in them that an algorithm does.
SEARCHED = {"trajectory_iterations": 0, "search": SearchConfig(iterations=3, step_sizes=4)}
SETTINGS = {
    "admm": SEARCHED,
    # In a second one its network has learned of all conditions; test_badmm.py has two.
    "badmm": {"inner_rounds": 1},
    "cgps": SEARCHED,
    "dagger": {"teacher_iterations": 1},
    "mpc": {"horizon": 5, "first_iterations": 2, "steps": 4},
    "ilqg": {"search": SearchConfig(step_sizes=4)},
    "plato": FEW_PLANS,
    "mpc_gps": FEW_PLANS,
    "mpc_dagger": {**FEW_PLANS, "episodes": 4, "steps": 4, "labels_kept": 32},
}
# Those that plan on the simulator: they draw nothing, and try nothing out without noise.
PLANNING = ("mpc",)
TRIALS = {"mpc": 0, "ilqg": 4}
# Of those that plan, tests/algorithms/test_plato.py and test_mpc_dagger.py break a condition: they
# have no sampler.
TEACHING = ("plato", "mpc_gps", "mpc_dagger")
NETWORKS = [name for name in ALGORITHMS if trains_network(name) and name not in TEACHING]
# Which settings each algorithm has, and with which it compiles and learns in little time.
SMALL = {
    "models": FittedModelsConfig(prior=NoPriorConfig()),
    "observation_prior": NoPriorConfig(),
    "policy": MlpConfig(hidden=(8,), distil=DistilConfig(steps=20)),
}
# Tasks that fit models with a prior as well: of MuJoCo, of a function, of contacts, of many joints.
WITH_PRIOR = ("point_mass", "pendulum", "peg_insertion", "swimmer")
# Algorithms whose conditions have a mixture each: a shared one sees the samples of all.
MIXTURES = (*LOCAL, "mdgps")
LONGEST = 150  # steps of the tasks that all have to have models
HORIZON = 12  # steps of the tests whose algorithms share programs
APART = FittedModelsConfig(prior=MixturePriorConfig(shared=False))


def _config(algorithm, **settings):
    """With those of the settings that the algorithm has."""
    _, config = ALGORITHMS[algorithm]
    names = {field.name for field in dataclasses.fields(config)}
    if not fits_models(algorithm):
        names -= {"models"}
    settings = {name: value for name, value in settings.items() if name in names}
    return config(**SETTINGS.get(algorithm, {}), **settings)


def _arrays(tree):
    """Leaves as NumPy arrays, keys included."""
    leaves = jax.tree.leaves(tree)
    return [
        np.asarray(jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a)
        for a in leaves
    ]


def _assert_contract(name, task, config, backend, directory):
    """Returns the algorithm that it holds for."""
    make, _ = ALGORITHMS[name]
    algorithm = make(task, config, backend=backend)
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
    for raised in ("ridge_raised", "ridge_added", "mixture_ridge_added"):
        assert not np.any(metrics.get(raised, 0))
    # One rollout per condition is the trial without noise; those that search try step sizes.
    trials = TRIALS.get(name, 1) * task.train.num
    assert metrics["samples_valid"].sum() + trials == algorithm.rollouts_per_step

    # What it drew can be had beforehand.
    drawn = algorithm.samples(start)
    assert drawn.x.shape[:2] == metrics["samples_valid"].shape + drawn.x.shape[1:2]
    total = np.asarray(costs.evaluate(task.cost, drawn.x, drawn.u)).sum(axis=-1)
    np.testing.assert_allclose(total.mean(axis=1), metrics["cost"], rtol=1e-4)

    # The same seed gives the same run, another seed another one.
    again, metrics_again = algorithm.step(algorithm.init(jax.random.key(3)))
    for one, other in zip(_arrays(state), _arrays(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for key in metrics:
        np.testing.assert_array_equal(metrics[key], metrics_again[key])
    _, other_seed = algorithm.step(algorithm.init(jax.random.key(4)))
    assert np.array_equal(metrics["cost"], other_seed["cost"]) == (name in PLANNING)

    # The second iteration compiles nothing, and goes on from a saved state as if never left.
    second, resumed = [], []
    assert count_compilations(lambda: second.extend(algorithm.step(state))) == 0
    checkpoint.save(directory, 1, state)
    _, restored = checkpoint.restore_newest(directory, jax.eval_shape(algorithm.init, start.key))
    assert count_compilations(lambda: resumed.extend(algorithm.step(restored))) == 0
    for one, other in zip(_arrays(second), _arrays(resumed), strict=True):
        np.testing.assert_array_equal(one, other)

    assert type(algorithm.newest(state)) is type(state.policy)
    assert algorithm.problem(start) is None
    inspection = algorithm.inspect(state)
    dim = task.state_dim + task.action_dim
    assert inspection.marginals.cov.shape == (task.train.num, task.horizon, dim, dim)
    assert inspection.sampled.x.shape[0] == task.train.num
    return algorithm


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_contract(algorithm, tmp_path):
    """On a task and with settings whose programs the tests below have use for, too."""
    config = _breakable_config(algorithm)
    made = _assert_contract(algorithm, to_goal(HORIZON), config, "native", tmp_path)
    _assert_a_second_object_compiles_nothing(algorithm, made, config, HORIZON, "native")


@pytest.mark.slow
def test_contract_as_one_program_on_mjx_with_all_settings_as_they_are(tmp_path):
    """Of the algorithm that has most parts: the others are made of these."""
    config = _config("mdgps")
    made = _assert_contract("mdgps", to_goal(6), config, "mjx", tmp_path)
    _assert_a_second_object_compiles_nothing("mdgps", made, config, 6, "mjx")


def _assert_a_second_object_compiles_nothing(algorithm, made, config, horizon, backend):
    """Equal settings on a task that differs in numbers alone: those are arguments of programs.

    Args:
      made: the first object, with the settings `config` on `to_goal(horizon)`.
    """

    def run(one):
        state = one.init(jax.random.key(0))
        for _ in range(2):
            state, _ = one.step(state)
        return state.mean if algorithm == "mpc_dagger" else state.controllers.k

    first, found = run(made), []
    make, _ = ALGORITHMS[algorithm]
    for task in (to_goal(horizon), with_other_numbers(horizon)):

        def again(task=task):
            found.append(run(make(task, config, backend=backend)))

        assert count_compilations(again) == 0
    np.testing.assert_array_equal(found[0], first)
    assert not np.array_equal(found[1], first)


def test_the_counter_of_compilations_counts():
    assert count_compilations(lambda: jax.jit(lambda x: x * 3.25 + 1.75)(jnp.ones(3))) > 0


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_controllers_rollouts_and_models(name):
    """All that an algorithm makes of a task, in its first and its last training condition."""
    task = tasks.make(name)
    both = jax.tree.map(lambda leaf: leaf[[0, -1]], task.train)
    # Long episodes are more of the same.
    task = dataclasses.replace(task, train=both, horizon=min(task.horizon, LONGEST))
    samples, horizon, dX, dU = 4, task.horizon, task.state_dim, task.action_dim
    x0 = initial_states(task, task.train)
    controllers = initial_controllers(task, x0)
    assert x0.shape == (2, dX)
    assert controllers.K.shape == (2, horizon, dU, dX) and controllers.k.shape == (2, horizon, dU)
    assert (np.linalg.eigvalsh(controllers.C) > 0).all()

    white = sampling.FixedStartsConfig(num_samples=samples, noise_smoothing=0)
    backend = "native" if task.dynamics is None else "analytic"
    sample = sampling.make_sample(task, NearestController.act, backend, white)
    params = jax.vmap(linear_gaussian.factor)(controllers)[0]
    noisy = sample(params, jax.random.key(0))
    assert noisy.x.shape == (2, samples, horizon, dX)
    assert noisy.o.shape == (2, samples, horizon, task.observation_dim)
    assert noisy.u.shape == (2, samples, horizon, dU)
    assert all(np.isfinite(leaf).all() for leaf in _arrays(noisy)) and bool(noisy.valid.all())
    starts = np.broadcast_to(np.asarray(x0)[:, None], noisy.x[:, :, 0].shape)
    np.testing.assert_allclose(noisy.x[:, :, 0], starts, atol=1e-5)
    for one, other in zip(_arrays(noisy), _arrays(sample(params, jax.random.key(0))), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(noisy.u, sample(params, jax.random.key(1)).u)

    # Nothing of the prior is the task's but sizes, and its mixture takes longest to compile.
    config = FittedModelsConfig() if name in WITH_PRIOR else SMALL["models"]
    learned = fitted_models(task, config, (2, samples))

    @jax.jit
    def fit(key, rollouts):
        return learned.fit(learned.init(key), rollouts, None)[1:]

    models, metrics = fit(jax.random.key(2), noisy.rollouts)
    assert models is not None and models.dynamics.F.shape == (2, horizon - 1, dX, dX + dU)
    assert models.cost.H.shape == (2, horizon, dX + dU, dX + dU)
    assert (models.status.code == OK).all()
    assert all(np.isfinite(leaf).all() for leaf in _arrays((models[:3], metrics)))
    curvature = np.linalg.eigvalsh(np.asarray(models.cost.H, np.float64))
    rounding = (dX + dU) * np.finfo(np.float32).eps * curvature.max(axis=-1)
    assert (curvature.min(axis=-1) > -np.maximum(1e-3, 2 * rounding)).all()
    assert metrics["samples_valid"].tolist() == [samples] * 2
    assert all(value.shape in ((), (1,), (2,)) for value in metrics.values())
    assert ("success" in metrics) == (task.success is not None)
    assert ("distance" in metrics) == (task.distance is not None)


def _breakable_config(algorithm):
    models = {"models": APART} if algorithm in MIXTURES else {}
    return _config(algorithm, **{**SMALL, **models})


@functools.cache
def _breakable(algorithm):
    """`run(stiffness, iterations)`: states and metrics; the spring breaks the last condition."""
    config = _breakable_config(algorithm)
    stiff = {stiffness: np.array([0, 0, 0, stiffness]) for stiffness in (0.0, 1e12, -1e12)}
    task = to_goal(HORIZON)
    return on_many_sets(ALGORITHMS[algorithm][0], task, config, springs(task, stiff))


@pytest.mark.parametrize("algorithm", LOCAL)
def test_a_condition_that_diverges_leaves_the_others_bit_identical(algorithm):
    """One condition's model is broken: it keeps its controller, the others don't notice."""
    run = _breakable(algorithm)
    before, _ = run(1e12, 1)
    state, metrics = run(1e12, 2)
    healthy_state, healthy_metrics = run(0.0, 2)
    assert metrics["samples_valid"].tolist() == [5, 5, 5, 0]
    assert healthy_metrics["samples_valid"].tolist() == [5, 5, 5, 5]
    assert metrics["status"].tolist() == [OK, OK, OK, TOO_FEW_SAMPLES]
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


@pytest.mark.parametrize("algorithm", NETWORKS)
def test_controllers_of_other_conditions_do_not_notice_a_broken_one(algorithm):
    """Until a network that learned from all of them is between them, to the last bit."""
    run = _breakable(algorithm)
    broken, broken_metrics = run(1e12, 1)
    healthy, healthy_metrics = run(0.0, 1)
    assert broken_metrics["samples_valid"].tolist() == [5, 5, 5, 0]
    assert healthy_metrics["samples_valid"].tolist() == [5, 5, 5, 5]
    for one, other in zip(_arrays(broken.controllers), _arrays(healthy.controllers), strict=True):
        np.testing.assert_array_equal(one[:3], other[:3])
    np.testing.assert_array_equal(broken_metrics["cost"][:3], healthy_metrics["cost"][:3])


@pytest.mark.parametrize("algorithm", NETWORKS)
def test_a_network_learns_the_same_whatever_a_broken_condition_holds(algorithm):
    """Two ways to break one condition: nothing of it reaches the others or the network."""
    run = _breakable(algorithm)
    states = []
    for stiffness in (1e12, -1e12):
        start, _ = run(stiffness, 0)
        for iteration in (1, 2):
            state, metrics = run(stiffness, iteration)
            assert metrics["samples_valid"].tolist()[3] == 0
        assert not np.array_equal(_arrays(start.newest)[0], _arrays(state.newest)[0])
        states.append(state)
    one, other = states
    for a, b in zip(_arrays(one.newest), _arrays(other.newest), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    for a, b in zip(_arrays(one.controllers), _arrays(other.controllers), strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
