"""Plans that teach a network: who acts, what labels are, and that broken conditions stay alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.algorithms import MpcGpsConfig, PlatoConfig, SearchConfig, mpc_gps, plato
from jgps.core.types import OK
from jgps.optimise.ilqg.system import quadratic_of
from jgps.optimise.teaching.near import Near, make_see, with_learner
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig
from jgps.simulation import make_sampler
from jgps.tasks import from_mjcf

MODEL = """
<mujoco>
  <worldbody><body>
    <joint name="rail" type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/>
    <body><joint name="spin" axis="0 0 1"/><geom size="0.05" mass="0.1"/></body>
  </body></worldbody>
  <actuator><motor joint="rail" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
T = 6


def _next(x, u, t, params):
    return x + 0.2 * jnp.stack([x[1], u[0] - params["stiff"] * x[0]])


class _Cost:
    @staticmethod
    def residual(x, u, t, params):
        return jnp.concatenate([x, 0.3 * u])

    def __call__(self, x, u, t, params):
        return 0.5 * jnp.sum(jnp.square(self.residual(x, u, t, params)))


def _task(stiff=0.0, **settings):
    """A mass that goes to zero, in three conditions; the last one has a spring."""
    return from_mjcf(
        MODEL, cost=lambda s: _Cost(), dynamics=lambda s: _next, state=("qpos:rail", "qvel:rail"),
        qpos=[[0.4, 0.1], [-0.3, 0.2], [0.2, 0.3]], qvel=np.zeros((3, 2)), horizon=T,
        params={"stiff": np.array([0.0, 0.0, stiff])}, **settings,
    )  # fmt: skip


SMALL = {
    "horizon": 5, "first_iterations": 2, "planner": SearchConfig(iterations=1, step_sizes=3),
    "num_samples": 2, "iterations_kept": 2,
    "policy": MlpConfig(hidden=(6,), distil=DistilConfig(steps=30, input_noise=0.0)),
}  # fmt: skip


@functools.cache
def _made(config_type, **settings):
    make = {PlatoConfig: plato, MpcGpsConfig: mpc_gps}[config_type]
    return make, config_type(**{**SMALL, **settings})


def _run(iterations=2, stiff=0.0, config_type=PlatoConfig, **settings):
    make, config = _made(config_type, **settings)
    algorithm = make(_task(stiff), config)
    state, metrics = algorithm.init(jax.random.key(0)), {}
    for _ in range(iterations):
        before = state
        state, metrics = algorithm.step(state)
    return before, state, metrics


QUIET = 1e-9  # temperature at which there is as good as no noise


def test_a_weight_beyond_all_costs_acts_as_the_network_and_labels_stay_the_teachers():
    """The network acts within the limits; what is best alone is unlike it, and is the label."""
    before, state, metrics = _run(divergence_weight=1e6, temperature=QUIET)
    done = state.episodes
    assert (metrics["status"] == OK).all() and bool(done.valid.all())
    wanted = jnp.clip(before.newest.mean(done.x), -1, 1)
    np.testing.assert_allclose(done.u, wanted, atol=2e-3)
    label = np.asarray(state.lessons.label[1])
    assert np.abs(label - wanted).max() > 0.02
    assert float(metrics["divergence_weight"]) == 1e6


def test_without_weight_the_teacher_acts_as_it_labels():
    _, state, metrics = _run(divergence_weight=0.0, temperature=QUIET)
    np.testing.assert_allclose(state.episodes.u, state.lessons.label[1], atol=1e-3)
    assert np.all(np.asarray(metrics["divergence"]) > 0)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_of_a_mixture_plan_or_network_acts(beta):
    settings = {"acting": "mixture", "beta": (1.0, beta), "temperature": QUIET}
    before, state, _ = _run(**settings)
    done, label = state.episodes, np.asarray(state.lessons.label[1])
    wanted = label if beta else jnp.clip(before.newest.mean(done.x), -1, 1)
    np.testing.assert_allclose(done.u, wanted, atol=1e-3)


@pytest.mark.parametrize("config_type", [PlatoConfig, MpcGpsConfig])
def test_a_condition_that_diverges_leaves_the_others_alone(config_type):
    """A spring that throws the mass out of all numbers: to the last bit before there is a network
    that learned from the others, and none of it in what the network learns from."""
    _, broken, metrics = _run(1, 1e30, config_type)
    _, healthy, healthy_metrics = _run(1, 0.0, config_type)
    assert metrics["samples_valid"].tolist() == [2, 2, 0]
    assert healthy_metrics["samples_valid"].tolist() == [2, 2, 2]
    assert metrics["status"][2] != OK and (metrics["status"][:2] == OK).all()
    np.testing.assert_array_equal(metrics["cost"][:2], healthy_metrics["cost"][:2])
    np.testing.assert_array_equal(broken.episodes.u[:2], healthy.episodes.u[:2])
    np.testing.assert_array_equal(broken.lessons.o[0][2], 0)
    for leaf in jax.tree.leaves((broken.newest, broken.lessons, broken.controllers)):
        assert np.isfinite(leaf).all()
    assert int(metrics["policy_status"]) == OK


def test_multipliers_bring_plans_and_network_together():
    """The shift is the sum of what differed, and labels are what was done moved by it."""
    settings = {"config_type": MpcGpsConfig, "temperature": QUIET, "divergence_weight": 1e-9}
    before, state, _ = _run(3, dual_rate=0.5, **settings)
    assert np.abs(before.shift).max() > 0
    done, slot = state.episodes, 2 % SMALL["iterations_kept"]
    mean = before.newest.mean(done.x)
    acted = state.lessons.label[slot] - before.shift[:, None]
    np.testing.assert_allclose(jnp.clip(acted, -1, 1), done.u, atol=1e-3)
    moved = before.shift + 0.5 * jnp.mean(acted - mean, axis=1)
    np.testing.assert_allclose(state.shift, moved, atol=1e-5)


def _act(params, x, o, t, noise):
    return params.variables @ jnp.concatenate([o, o[:1] ** 3])[: params.variables.shape[1]] + noise


def test_the_term_is_the_divergence_with_the_network_linearised():
    """Value, gradient and curvature against those of the Gaussian, in NumPy."""
    rng = np.random.default_rng(0)
    W, root = rng.normal(size=(2, 3)), np.triu(rng.normal(size=(2, 2)))
    x, u, shift = rng.normal(size=3), rng.normal(size=2), rng.normal(size=(4, 2))
    weight, mean = 0.7, rng.normal(size=2)
    near = Near(*map(jnp.asarray, (weight, root, shift, 3, mean, W, np.zeros(0))))

    def plain(x, u, t):
        return jnp.sum(x**2)

    plain.residual = lambda x, u, t: jnp.sqrt(2.0) * x
    whole = with_learner(plain, _act, lambda x, frozen: x)
    P, gap = root.T @ root, u - W @ x + shift[3]
    with jax.default_matmul_precision("highest"):
        found = whole(x, u, 9, (None, near))  # beyond the end what held there
        H, g = quadratic_of(whole, (None, near))(jnp.asarray(x), jnp.asarray(u), 9)
    np.testing.assert_allclose(found, x @ x + 0.5 * weight * gap @ P @ gap, rtol=1e-5)
    J = np.concatenate([-W, np.eye(2)], axis=1)
    own = np.diag([2.0, 2, 2, 0, 0])
    np.testing.assert_allclose(H, own + weight * J.T @ P @ J, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        g, own @ np.concatenate([x, u]) + weight * J.T @ P @ gap, rtol=1e-4, atol=1e-5
    )

    first = with_learner(plain, _act, None)
    gap = u - mean + shift[3]
    assert float(first(x, u, 2, (None, near))) == pytest.approx(x @ x, rel=1e-6)
    expected = x @ x + 0.5 * weight * gap @ P @ gap
    assert float(first(x, u, 3, (None, near))) == pytest.approx(expected, rel=1e-5)


def test_what_is_seen_of_a_state_is_what_rollouts_show():
    """Entries that the dynamics leave alone included, each as its condition starts."""
    task = _task(observation=("qpos:spin", "qvel:rail"))
    see, frozen = make_see(task, task.train, "analytic")
    sample = make_sampler(task.system, task.train, lambda p, x, o, t, n: n, "analytic").sample
    found = sample((), 0.1 * jnp.ones((3, 1, T, 1)))
    seen = jax.vmap(jax.vmap(see, in_axes=(0, None)))(found.x[:, 0], jnp.asarray(frozen))
    np.testing.assert_allclose(seen, found.o[:, 0], atol=1e-6)


def test_an_observation_that_no_state_tells_takes_the_next_step_alone():
    """On native threads, where a spinning wheel is seen and not in the state."""
    task = dataclasses.replace(_task(observation=("qpos:spin", "qvel:rail")), dynamics=None)
    assert make_see(task, task.train, "native") == (None, None)
    with pytest.raises(ValueError, match="take near='first'"):
        plato(task, PlatoConfig(**SMALL), "native")
    inside = dataclasses.replace(_task(observation=("qvel:rail",)), dynamics=None)
    see, _ = make_see(inside, inside.train, "native")
    assert see(jnp.array([0.3, 0.7]), None).tolist() == pytest.approx([0.7])


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValueError, match="replan_every"):
        PlatoConfig(horizon=4, replan_every=4)
    with pytest.raises(ValueError, match="beta"):
        PlatoConfig(beta=())
