"""MDGPS with rollouts from random initial states, in groups."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jgps
from jgps import tasks
from jgps.algorithms import MdgpsConfig, RandomStartsConfig, RegressionConfig, mdgps
from jgps.controllers import LqrHoldConfig, linear_gaussian
from jgps.core.types import OK, TOO_FEW_SAMPLES, Controller
from jgps.dynamics import MixturePriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.optimise.rollouts.random_starts import merge, pool, random_starts
from jgps.policies import DistilConfig, Supervision
from jgps.policies.learner import MlpConfig
from jgps.simulation import SimulationRollouts

M, G = 16, 3
STARTS = RandomStartsConfig(num_rollouts=M, num_groups=G)
CONFIG = MdgpsConfig(
    sampling="on_policy",
    linearisation=RegressionConfig(),
    rollouts=STARTS,
    policy=MlpConfig(distil=DistilConfig(steps=1000)),
)


def _point_mass():
    """Its random starts fail now and then: one coordinate is then NaN."""
    task = tasks.make("point_mass")
    draw = task.random_start
    assert draw is not None

    def random_start(key):
        start_key, fail_key = jax.random.split(key)
        qpos, qvel = draw(start_key)
        return jnp.where(jax.random.bernoulli(fail_key, 0.1), qpos.at[0].set(jnp.nan), qpos), qvel

    return dataclasses.replace(task, random_start=random_start)


def _arrays(tree):
    def numbers(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [numbers(leaf) for leaf in jax.tree.leaves(tree)]


def _assert_equal(one, other):
    for a, b in zip(_arrays(one), _arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def run():
    """The algorithm, and states and metrics of a few iterations."""
    algorithm = mdgps(_point_mass(), CONFIG, backend="native")
    states, metrics = [algorithm.init(jax.random.key(5))], []
    for _ in range(5):
        state, more = algorithm.step(states[-1])
        states.append(state)
        metrics.append(more)
    return algorithm, states, metrics


def test_network_succeeds_where_it_never_started(run):
    _, states, metrics = run
    result = jgps.evaluate(_point_mass(), states[-1].policy, key=jax.random.key(1))
    assert np.all(result.train.success) and np.all(result.test.success)
    costs = [float(m["noise_free_cost"].mean()) for m in metrics]
    assert costs[-1] < costs[0]


def test_starts_that_fail_are_left_out(run):
    _, states, metrics = run
    valid = np.array([m["samples_valid"].sum() for m in metrics])
    assert valid.min() < M and valid.min() >= M // 2
    for each in metrics:
        for name, value in each.items():
            assert np.isfinite(value).all(), name
        few = np.asarray(each["samples_valid"]) < 2
        np.testing.assert_array_equal(each["status"], np.where(few, TOO_FEW_SAMPLES, OK))
    assert all(np.isfinite(a).all() for a in _arrays((states[-1].newest, states[-1].controllers)))


def test_shapes_stay_and_rollouts_are_counted(run):
    algorithm, states, metrics = run
    assert jax.tree.map(jax.typeof, states[0]) == jax.tree.map(jax.typeof, states[1])
    assert algorithm.rollouts_per_step == M + 4
    assert states[0].history.x.shape == (CONFIG.linearisation.window, 1, M, 40, 4)
    assert metrics[0]["cost"].shape == (G,)


def test_the_step_size_is_not_adapted_to_costs_from_other_starts(run):
    _, _, metrics = run
    for each in metrics:
        np.testing.assert_array_equal(each["step_multiplier"], 1)


def test_same_seed_and_a_saved_state_give_the_same_run(run):
    algorithm, states, metrics = run
    again, metrics_again = algorithm.step(algorithm.init(jax.random.key(5)))
    _assert_equal((again, metrics_again), (states[1], metrics[0]))

    def reload(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(leaf))))
        return jnp.asarray(np.asarray(leaf))

    resumed, metrics_resumed = algorithm.step(jax.tree.map(reload, states[3]))
    _assert_equal((resumed, metrics_resumed), (states[4], metrics[3]))
    _, other = algorithm.step(algorithm.init(jax.random.key(6)))
    assert not np.array_equal(other["cost"], metrics[0]["cost"])


def test_later_rollouts_start_elsewhere_and_follow_the_network(run):
    algorithm, states, _ = run
    first, later = (pool(algorithm.inspect(states[i]).sampled) for i in (0, 3))
    assert not np.array_equal(first.x[0, :, 0], later.x[0, :, 0])
    reached = np.linalg.norm(np.asarray(later.x)[0][np.asarray(later.valid[0]), -1, :2], axis=-1)
    assert np.median(reached) < 0.2


def test_groups_partition_the_rollouts_by_their_starts(run):
    algorithm, states, _ = run
    sampled = algorithm.inspect(states[3]).sampled
    member = np.asarray(sampled.valid)
    assert (member.sum(axis=0) <= 1).all()
    x0 = np.asarray(sampled.x[0, :, 0, :2])
    used = member.any(axis=0)
    label = member.argmax(axis=0)
    scale = x0[used].std(axis=0)
    centre = np.stack([x0[used & (label == g)].mean(axis=0) for g in range(G)])
    nearest = np.linalg.norm((x0[used, None] - centre) / scale, axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest, label[used])


class _State(NamedTuple):
    """What source reads and writes."""

    iteration: Any
    controllers: Any
    groups: Any


def _rollouts(qpos, valid):
    """Of masses that stay where they are; NaN where they are not valid."""
    state = np.concatenate([qpos, np.zeros_like(qpos)], axis=-1)
    x = np.repeat(np.where(valid[:, None], state, np.nan)[None, :, None], 40, axis=2)
    x = jnp.asarray(x, jnp.float32)
    return SimulationRollouts(x=x, u=x[..., :2], valid=jnp.asarray(valid)[None], qpos=x, o=x)


def test_every_rollout_is_held_where_it_starts():
    """By an initial controller that makes next to no noise."""
    still = dataclasses.replace(tasks.make("point_mass"), initial=LqrHoldConfig(variance=1e-8))
    source = random_starts(still, dataclasses.replace(STARTS, noise_smoothing=0.0))

    def params_of(state):
        return jax.vmap(linear_gaussian.factor)(state.controllers)[0]

    def act(params, x, o, t, noise):
        return linear_gaussian.act(params, x, t, noise)

    sample = source.make_sample(act, params_of, "native")
    state = _State(jnp.zeros((), jnp.int32), None, None)
    sampled = sample(state, jax.random.key(2))
    x = np.asarray(sampled.x)
    assert x.shape == (1, M, 40, 4) and bool(sampled.valid.all())
    np.testing.assert_allclose(x[0, :, -1], x[0, :, 0], atol=1e-2)
    assert (np.abs(x[0, :, 0, :2]) <= 1).all() and (np.ptp(x[0, :, 0, :2], axis=0) > 1).all()
    other = sample(state, jax.random.key(3))
    assert not np.isclose(other.x[0, :, 0, 0], x[0, :, 0, 0]).any()


@pytest.mark.parametrize("group_by", ["start", "trajectory"])
def test_groups_hold_their_mean_start_at_first_and_keep_their_numbers(group_by):
    config = RandomStartsConfig(num_rollouts=8, num_groups=3, group_by=group_by)
    source = random_starts(tasks.make("point_mass"), config)
    centre = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]])
    offset = np.random.default_rng(0).uniform(-0.1, 0.1, size=(8, 2))
    owner, valid = np.array([0, 1, 2, 0, 1, 2, 0, 1]), np.arange(8) != 7
    zeros = Controller(jnp.zeros((3, 40, 2, 4)), jnp.zeros((3, 40, 2)), jnp.zeros((3, 40, 2, 2)))
    state = _State(jnp.zeros((), jnp.int32), zeros, source.init(jax.random.key(0)))
    state, first = source.share_out(state, _rollouts(centre[owner] + offset, valid))
    member = np.asarray(first.valid)
    assert member.sum(axis=0).tolist() == [1] * 7 + [0]
    for g in range(3):
        own = (centre[owner] + offset)[member[g]]
        assert len({int(c) for c in owner[member[g]]}) == 1
        # u = K (x - mean start) holds it there, on average.
        K, k = np.asarray(state.controllers.K[g, 0]), np.asarray(state.controllers.k[g, 0])
        np.testing.assert_allclose(K[:, :2] @ own.mean(axis=0) + k, 0, atol=1e-4)
        assert (np.diagonal(K) < 0).all()
    # Later, in another order: the same numbers, and no controller is touched.
    later = state._replace(iteration=jnp.ones((), jnp.int32))
    after, second = source.share_out(later, _rollouts((centre[owner] - offset)[::-1], valid))
    np.testing.assert_array_equal(second.valid[:, 1:7], first.valid[:, ::-1][:, 1:7])
    _assert_equal(after.controllers, state.controllers)
    # All rollouts once for the prior, whatever their groups.
    np.testing.assert_array_equal(pool(second).valid[0], valid)
    # Without any that is valid nothing is forgotten.
    none, _ = source.share_out(later, _rollouts(centre[owner], np.zeros(8, bool)))
    _assert_equal(none.groups, state.groups)


def test_every_rollout_is_supervised_by_its_own_group_and_none_by_a_group_of_one():
    rng = np.random.default_rng(1)
    owner, T = np.array([0, 2, 0, 1, 2, -1]), 3  # the last one is not valid
    member = owner == np.arange(3)[:, None]
    o, target = rng.normal(size=(3, 6, T, 4)), rng.normal(size=(3, 6, T, 2))
    precision, gain = rng.normal(size=(3, T, 2, 2)), rng.normal(size=(3, T, 2, 4))
    weight = np.where(member[..., None], rng.uniform(0.5, 1.0, size=(3, 6, T)), 0)
    merged = merge(Supervision(*(jnp.asarray(a) for a in (o, target, precision, weight, gain))))
    assert merged.o.shape == (6, 1, T, 4) and merged.weight.shape == (6, 1, T)
    assert merged.gain is not None
    for m, g in enumerate(owner):
        expected = weight[g, m] if g in (0, 2) else np.zeros(T)  # group 1 has one rollout
        np.testing.assert_allclose(merged.weight[m, 0], expected, rtol=1e-6)
        if g >= 0:
            np.testing.assert_allclose(merged.target[m, 0], target[g, m], rtol=1e-6)
            np.testing.assert_allclose(merged.o[m, 0], o[g, m], rtol=1e-6)
            np.testing.assert_allclose(merged.precision[m], precision[g], rtol=1e-6)
            np.testing.assert_allclose(merged.gain[m], gain[g], rtol=1e-6)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="num_groups is 5; it has to be at most num_rollouts = 4"):
        RandomStartsConfig(num_rollouts=4, num_groups=5)
    with pytest.raises(ValueError, match="num_rollouts is 1;"):
        RandomStartsConfig(num_rollouts=1, num_groups=1)
    with pytest.raises(ValueError, match="group_by is 'end'"):
        RandomStartsConfig(group_by="end")
    with pytest.raises(ValueError, match="has to be 'on_policy'"):
        MdgpsConfig(sampling="off_policy", rollouts=RandomStartsConfig())
    apart = MixturePriorConfig(shared=False, window=1)
    settings: dict[str, Any]
    for field, settings in (
        ("models.prior", {"models": FittedModelsConfig(prior=apart)}),
        (
            "linearisation.prior",
            {"linearisation": RegressionConfig(prior=apart)},
        ),
        ("observation_prior", {"observation_prior": apart}),
    ):
        with pytest.raises(ValueError, match=rf"MdgpsConfig\.{re.escape(field)}\.shared is False"):
            MdgpsConfig(
                sampling="on_policy",
                rollouts=RandomStartsConfig(),
                **{"linearisation": RegressionConfig(), **settings},
            )
    with pytest.raises(ValueError, match="'reacher' draws no random starts; give it a function"):
        mdgps(tasks.make("reacher"), CONFIG)


@pytest.mark.slow
def test_the_step_on_mjx_is_one_traceable_program():
    algorithm = mdgps(tasks.make("point_mass"), CONFIG, backend="mjx")
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    after, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), after
    )


@pytest.mark.slow
def test_pusher_learns_from_random_starts():
    task = tasks.make("pusher")
    settings = MdgpsConfig(
        sampling="on_policy", linearisation=RegressionConfig(), rollouts=RandomStartsConfig()
    )
    algorithm = mdgps(task, settings, backend="native")
    state = algorithm.init(jax.random.key(1))
    for _ in range(8):
        state, _ = algorithm.step(state)
    result = jgps.evaluate(task, state.policy, key=jax.random.key(1))
    assert result.train.success is not None and result.test.success is not None
    assert result.train.success.mean() >= 0.75 and result.test.success.mean() >= 0.8
