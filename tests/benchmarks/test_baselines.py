"""Model-free searches: against the formulas in NumPy and SciPy, and on problems they can solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from baselines import CemConfig, CmaConfig, PolicyConfig, RepsConfig, cem, cma, policy_search, reps
from baselines.reps import temperature, weights
from baselines.search import DiagonalGaussian

from jgps import tasks
from jgps.tasks.simple.point_mass import MODEL

TARGET = jnp.array([0.7, -1.2, 0.4, 0.1])
SCALES = jnp.array([1.0, 4.0, 0.5, 2.0])


def minimise(search, num_iterations: int) -> tuple[float, float]:
    """A quadratic's value at the mean of the search, at first and at the end; seed 0."""

    def quadratic(theta):
        return jnp.sum(SCALES * jnp.square(theta - TARGET), axis=-1)

    def iterate(state, key):
        candidates, state = search.ask(state, key)
        state = search.tell(state, candidates, quadratic(candidates))
        return state, quadratic(search.mean(state))

    start = search.init(jnp.zeros(4))
    keys = jax.random.split(jax.random.key(0), num_iterations)
    _, values = jax.jit(lambda s: jax.lax.scan(iterate, s, keys))(start)
    return float(quadratic(jnp.zeros(4))), float(values[-1])


@pytest.mark.parametrize("search", [cem(), reps()], ids=["cem", "reps"])
def test_minimises_a_quadratic(search):
    first, last = minimise(search, 40)
    assert last < 1e-3 * first


def test_evosax_minimises_a_quadratic():
    pytest.importorskip("evosax")
    first, last = minimise(cma(CmaConfig(), 4), 40)
    assert last < 1e-3 * first


def test_cem_refits_to_the_elite(rng):
    candidates, costs = rng.normal(size=(10, 3)), rng.normal(size=10)
    costs[[2, 5]] = np.nan, -np.inf  # failures, whatever they seem to cost
    state = DiagonalGaussian(mean=jnp.full(3, 2.0), std=jnp.full(3, 3.0))
    search = cem(CemConfig(num_samples=10, elite_fraction=0.4, smoothing=0.25))
    new = search.tell(state, jnp.asarray(candidates), jnp.asarray(costs))
    finite = np.flatnonzero(np.isfinite(costs))
    elite = candidates[finite[np.argsort(costs[finite])[:4]]]
    np.testing.assert_allclose(new.mean, 0.75 * elite.mean(0) + 0.25 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(new.std, 0.75 * elite.std(0, ddof=1) + 0.25 * 3.0, rtol=1e-5)


@pytest.mark.parametrize("make", [cem, reps])
def test_keeps_its_distribution_where_all_fail(make):
    search = make()
    state = DiagonalGaussian(mean=jnp.arange(3.0), std=jnp.full(3, 0.5))
    candidates = jnp.ones((search.num_samples, 3))
    new = search.tell(state, candidates, jnp.full(search.num_samples, jnp.inf))
    np.testing.assert_array_equal(new.mean, state.mean)
    np.testing.assert_array_equal(new.std, state.std)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0])
def test_reps_minimises_the_dual_and_keeps_the_bound(rng, epsilon, scale):
    costs = scale * (rng.normal(size=20) + 100)
    costs[3] = np.inf
    given = jnp.asarray(costs)
    eta = float(temperature(given, epsilon))
    finite = costs[np.isfinite(costs)]

    def dual(log_eta):
        x = np.exp(log_eta)
        shifted = np.mean(np.exp(-(finite - finite.min()) / x))
        return (x * epsilon - finite.min() + x * np.log(shifted)) / scale

    bracket = np.log(scale) + np.array([-8.0, 8.0])
    best = scipy.optimize.minimize_scalar(dual, bounds=bracket, method="bounded")
    assert dual(np.log(eta)) <= best.fun + 1e-5
    w = np.asarray(weights(given, jnp.asarray(eta)), float)
    assert w[3] == 0
    np.testing.assert_allclose(w.sum(), 1, rtol=1e-5)
    w = w[w > 0]
    divergence = np.sum(w * np.log(w * len(finite)))
    assert 0.99 * epsilon < divergence <= epsilon + 1e-3


def test_reps_may_take_the_best_alone():
    costs = jnp.array([3.0, 1.0, 2.0])  # no weights of three are farther than log 3 from uniform
    w = weights(costs, temperature(costs, 2.0))
    np.testing.assert_allclose(w, [0, 1, 0], atol=1e-6)


def test_equal_costs_weigh_the_same():
    costs = jnp.full(4, 7.0)
    np.testing.assert_allclose(weights(costs, temperature(costs, 1.0)), 0.25, rtol=1e-6)


def test_actions_have_the_initial_controllers_deviation():
    features = policy_search.basis(30, 6)
    np.testing.assert_allclose(np.sum(np.square(features), axis=1), 1, rtol=1e-12)
    assert features.shape == (30, 6) and np.all(np.diff(np.argmax(features, axis=1)) >= 0)


@pytest.mark.parametrize("make", [cem, reps])
def test_solves_point_mass(make):
    task = tasks.make("point_mass")
    baseline = policy_search.on_task(task, make(), PolicyConfig(), "native")
    state = baseline.init(jax.random.key(0))
    assert baseline.rollouts_per_step == task.train.num * (make().num_samples + 1)
    costs, solved = [], np.zeros(task.train.num, bool)
    for _ in range(40):
        state, metrics = baseline.step(state)
        costs.append(np.asarray(metrics["noise_free_cost"]))
        solved |= np.asarray(metrics["noise_free_success"])
    assert solved.all()
    assert np.all(np.min(costs, axis=0) < 0.8 * costs[0])


def test_same_seed_same_costs():
    baseline = policy_search.on_task(tasks.make("point_mass"), reps(), backend="native")

    def costs():
        state, _ = baseline.step(baseline.init(jax.random.key(3)))
        return baseline.step(state)[1]["noise_free_cost"]

    np.testing.assert_array_equal(costs(), costs())


def test_refuses_a_task_without_success():
    task = tasks.from_mjcf(MODEL, cost=lambda s: lambda x, u, t: x @ x, horizon=3)
    with pytest.raises(ValueError, match="'custom' defines no success"):
        policy_search.on_task(task, cem())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CemConfig(elite_fraction=0.0), "CemConfig.elite_fraction is 0.0"),
        (lambda: RepsConfig(epsilon=-1.0), "RepsConfig.epsilon is -1.0"),
        (lambda: CmaConfig(num_samples=1), "CmaConfig.num_samples is 1"),
        (lambda: PolicyConfig(num_basis=0), "PolicyConfig.num_basis is 0"),
    ],
)
def test_configs_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
