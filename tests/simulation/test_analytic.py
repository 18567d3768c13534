"""Rollouts of known dynamics in place of MuJoCo's physics (seed 0 throughout)."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import count_compilations
from small_runs import CONFIG, NETWORK_CONFIG

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.configs import FixedStartsConfig, TrajoptConfig
from jgps.core.types import OK
from jgps.simulation import Shared, Starts, make_sampler, resolve_backend
from jgps.tasks import StateImage
from jgps.training.description import describe

# A cart with a lamp on it, a motor that lags, and a ball whose state no function tells.
MODEL = """
<mujoco>
  <option timestep="0.05"/>
  <worldbody>
    <camera name="eye" pos="0 -3 1"/>
    <body name="cart">
      <joint name="rail" type="slide" axis="1 0 0"/><geom name="cart" size="0.1" mass="1"/>
      <body name="lamp" pos="0 0 0.3"><joint name="lamp" axis="0 1 0"/><geom size="0.05"/></body>
    </body>
    <body name="ball" pos="0 1 0.5"><joint name="ball" type="ball"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><general name="drive" joint="rail" dyntype="filter" dynprm="0.1" gainprm="2"
    ctrlrange="-1 1"/></actuator>
</mujoco>
"""
STATE = ("qvel:rail", "qpos:rail", "act")
C, N, T = 2, 3, 5
PUSH = np.array([1.5, -0.5])
TURNED = (0.6, 0.0, 0.8, 0.0)
QPOS = np.array([[0.1, 0.7, *TURNED], [-0.2, 0.3, 1, 0, 0, 0]])
CHANGES = {"actuator_ctrlrange:drive": np.array([[-1.0, 1.0], [-0.2, 0.3]])}


def next_state(x, u, t, params, xp=jnp):
    """Works on arrays of JAX and of NumPy."""
    v, p, a = x
    force = params["push"] * a + 0.01 * t
    return xp.stack([v + 0.1 * force * xp.cos(p), p + 0.1 * v, a + 0.5 * (u[0] - a)])


def dynamics(s):
    assert s["act"] == slice(2, 3)
    return next_state


def cost(s):
    return lambda x, u, t, params: jnp.sum(x**2) + jnp.sum(u**2) + params["push"] ** 2


def make_task(**arguments):
    settings = {
        "cost": cost, "dynamics": dynamics, "state": STATE, "horizon": T, "qpos": QPOS,
        "qvel": np.array([[0.2, 0, 0, 0, 0], [-0.3, 0, 0, 0, 0]]), "act": [[0.1], [0.0]],
        "params": {"push": PUSH}, "changes": CHANGES, **arguments,
    }  # fmt: skip
    return tasks.from_mjcf(MODEL, **settings)


def policy(params, x, o, t, noise):
    return params * x[1:2] - 0.5 * o[:1] + 0.1 * t + noise


def sampler_of(task, act=policy, conditions=None):
    conditions = task.train if conditions is None else conditions
    return make_sampler(task.system, conditions, act, "analytic")


def noise():
    return jax.random.normal(jax.random.key(0), (C, N, T, 1))


def by_hand(gain, starts):
    """The loop that a rollout is: x [C, N, T, 3], u [C, N, T, 1], with o = [lamp, rail's speed]."""
    x, u = np.zeros((C, N, T, 3)), np.zeros((C, N, T, 1))
    for c in range(C):
        for n in range(N):
            now = np.array([starts.qvel[c, n, 0], starts.qpos[c, n, 0], starts.act[c, n, 0]])
            for t in range(T):
                x[c, n, t] = now
                o = np.array([starts.qpos[c, n, 1], now[0]])
                wanted = gain[c] * now[1:2] - 0.5 * o[:1] + 0.1 * t + np.asarray(noise())[c, n, t]
                u[c, n, t] = np.clip(wanted, *CHANGES["actuator_ctrlrange:drive"][c])
                now = next_state(now, u[c, n, t], t, {"push": PUSH[c]}, np)
    return x, u


def as_starts(task):
    """The conditions' own poses as starts of every rollout."""
    train = task.train
    poses = (train.qpos, train.qvel, train.act)
    return Starts(*(np.repeat(np.asarray(each)[:, None], N, axis=1) for each in poses))


def test_rollouts_are_those_of_a_loop_over_the_function():
    """Per condition: params, limits, start, gain. What the state lacks stays where it starts."""
    task = make_task(observation=("qpos:lamp", "qvel:rail", "qpos:ball"))
    gain = np.array([0.4, -0.7])
    sample = sampler_of(task).sample
    sampled = sample(jnp.asarray(gain)[:, None], noise())
    x, u = by_hand(gain, as_starts(task))
    assert bool(sampled.valid.all())
    np.testing.assert_allclose(sampled.x, x, atol=1e-6)
    np.testing.assert_allclose(sampled.u, u, atol=1e-6)
    assert np.ptp(u[1]) == pytest.approx(0.5)  # this condition's own range counted
    np.testing.assert_allclose(sampled.qpos[..., 0], x[..., 1], atol=1e-6)
    kept = np.broadcast_to(QPOS[:, None, None, 1:], (C, N, T, 5))
    np.testing.assert_allclose(sampled.qpos[..., 1:], kept, atol=1e-6)
    np.testing.assert_allclose(sampled.o[..., 0], kept[..., 0], atol=1e-6)
    np.testing.assert_allclose(sampled.o[..., 1], x[..., 0], atol=1e-6)
    rotation = [-0.28, 0, -0.96, 0, 1, 0]  # the ball's, its quaternion written out
    np.testing.assert_allclose(sampled.o[0, :, :, 2:], np.tile(rotation, (N, T, 1)), atol=1e-6)

    # Starts of their own, with params that all conditions share.
    rng, own = np.random.default_rng(0), as_starts(task)
    own = Starts(own.qpos, own.qvel + rng.normal(size=(C, N, 5)), own.act + 0.3)
    shifted = sample(Shared(jnp.float32(0.4)), noise(), own)
    x, u = by_hand((0.4, 0.4), own)
    np.testing.assert_allclose(shifted.x, x, atol=1e-5)
    np.testing.assert_allclose(shifted.u, u, atol=1e-5)


def test_a_rollout_that_is_not_finite_leaves_the_others_bit_identical():
    task, gain = make_task(), jnp.zeros((C, 1))
    sample, starts = sampler_of(task).sample, as_starts(task)
    clean = sample(gain, noise(), starts)
    qvel = starts.qvel.copy()
    qvel[0, 1, 0] = np.nan
    for bad in (
        sample(gain, noise().at[0, 1, 3].set(np.nan), starts),
        sample(gain, noise().at[0, 1, T - 1].set(np.inf), starts),  # which limits would clip
        sample(gain, noise(), starts._replace(qvel=qvel)),
    ):
        np.testing.assert_array_equal(bad.valid, [[True, False, True], [True] * 3])
        for field in ("x", "u", "qpos", "o"):
            good, now = np.array(getattr(clean, field)), np.array(getattr(bad, field))
            assert np.isnan(now[0, 1]).all()
            good[0, 1] = now[0, 1] = 0
            np.testing.assert_array_equal(now, good)


def test_equal_functions_with_other_numbers_share_a_program():
    def task_of(stiffness):
        spring = np.full(3, stiffness, np.float32)

        def made(s):
            return lambda x, u, t, params: next_state(x, u, t, params) - 0.1 * spring * x

        return make_task(dynamics=made)

    gain = jnp.zeros((C, 1))
    first = sampler_of(task_of(1.0)).sample(gain, noise()).x
    other, found = sampler_of(task_of(2.0)), []
    assert count_compilations(lambda: found.append(other.sample(gain, noise()).x)) == 0
    assert not np.array_equal(first, found[0])


def test_auto_takes_the_function_where_a_task_has_one():
    known, without = make_task().system, make_task(dynamics=None).system
    assert resolve_backend("auto", known) == "analytic"
    assert resolve_backend("auto", without) == resolve_backend("auto") != "analytic"
    for name in ("native", "mjx", "analytic"):
        assert resolve_backend(name, known) == resolve_backend(name) == name
    with pytest.raises(ValueError, match="computes the known dynamics of a task, and this task ha"):
        resolve_backend("analytic", without)
    weak = tasks.from_mjcf(
        MODEL.replace('gainprm="2"', 'gainprm="0"'), cost=cost, dynamics=dynamics, state=STATE,
        params={"push": PUSH[:1]},
    )  # fmt: skip
    assert resolve_backend("auto", weak.system) == "analytic"
    with pytest.raises(ValueError, match="backend is 'native', but no actuator of this task's mo"):
        resolve_backend("native", weak.system)


def test_numbers_of_the_physics_are_refused_where_the_function_cannot_know_them():
    task, seen = make_task(), {"geom_rgba:cart": np.tile([1, 0, 0, 1.0], (C, 1))}
    sampler_of(task, conditions=task.train._replace(changes=seen))
    heavy = task.train._replace(changes={"body_mass:cart": np.array([1.0, 2.0])})
    dataclasses.replace(task, train=heavy)  # for MuJoCo's physics to simulate
    with pytest.raises(ValueError, match=r"'body_mass:cart' in changes is .* params of the condit"):
        sampler_of(task, conditions=heavy)


def by_floor(x, u, t, params):
    return jax.pure_callback(np.floor, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, u, t, p: x[:2], r"has to return the next state \[3\]; it returns shape \(2,\)"),
        (lambda x, u, t, p: (x[0], x[1], x[2]), "one array .3.; it returns a tuple: .* jnp.stack"),
        (lambda x, u, t, p: x > 0, "to return floating-point numbers; it returns bool"),
        (lambda x, u, t, p: x if x[0] > 0 else -x, "able to trace dynamics; it cannot: Attempted"),
        (lambda x, u, t, p: np.sin(x), "able to trace dynamics; it cannot: The numpy.ndarray"),
        (by_floor, "able to differentiate dynamics twice by x and u; it cannot: Pure callbacks"),
        (lambda x, u, t, p: x + x[3], "reads what its arguments don't have: x has 3 entries along"),
        (lambda x, u, t: x, "is called as dynamics.x .3., u .1., t, params., whose last argument"),
        (3, "dynamics.layout. has to return a function; it returns 3"),
    ],
)
def test_functions_that_are_no_dynamics_get_one_sentence(function, message):
    with pytest.raises(ValueError, match=message) as error:
        make_task(dynamics=lambda s: function)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": (*STATE, "body_pos:cart")}, "the state has the entry 'body_pos:cart'; with dy"),
        ({"state": (*STATE, "qpos:ball")}, "the state has the entry 'qpos:ball'; .* of hinges and"),
        ({"observation": ("act", "body_vel:cart")}, "observation has the entry 'body_vel:cart'"),
        ({"observation": ("act", "body_up:ball")}, "observation has the entry 'body_up:ball'; wi"),
        ({"observation": ("act", "phase:2")}, "the observation has the entry 'phase:2'; with dyn"),
        ({"state": (*STATE, "phase:2")}, "the state has the entry 'phase:2'; with dynamics"),
        ({"observation": ("act", "ctrl")}, "the observation has the entry 'ctrl'; with dynamics"),
        (
            {"observation": ("qpos", "image"), "image": StateImage("eye")},
            "the observation has the entry 'image'",
        ),
        ({"dynamics": next_state}, "dynamics has to be a function of the layout that returns the"),
    ],
)
def test_what_is_no_state_of_known_dynamics_gets_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_task(**arguments)


def test_replaced_dynamics_are_checked_too():
    task = make_task()
    with pytest.raises(ValueError, match=r"it returns shape \(1,\)"):
        dataclasses.replace(task, dynamics=lambda x, u, t, p: x[:1])
    with pytest.raises(ValueError, match=r"dynamics is 3; it has to be a function of x \[dX\]"):
        dataclasses.replace(task, dynamics=3)


def test_dynamics_belong_to_what_a_run_is_and_to_a_pickled_task():
    task = make_task()
    other = dataclasses.replace(task, dynamics=lambda x, u, t, p: 0.9 * next_state(x, u, t, p))
    found = [describe(each, "trajopt", TrajoptConfig(), 1, 0, "analytic") for each in (task, other)]
    assert found[0]["functions"]["dynamics"] != found[1]["functions"]["dynamics"]
    without = describe(make_task(dynamics=None), "trajopt", TrajoptConfig(), 1, 0, "native")
    assert "dynamics" not in without["functions"]
    kept = dataclasses.replace(task, cost=module_cost)
    assert pickle.loads(pickle.dumps(kept)).dynamics is next_state
    with pytest.raises(TypeError, match="its dynamics can't be"):
        pickle.dumps(dataclasses.replace(other, cost=module_cost))


def module_cost(x, u, t, params):
    return jnp.sum(x**2) + params["push"]


@pytest.mark.parametrize("name", ["trajopt", "mdgps"])
def test_algorithms_learn_on_known_dynamics_as_on_any_other(name):
    """Two iterations in one program, on the backend that is chosen by itself."""
    config = dataclasses.replace(
        CONFIG if name == "trajopt" else NETWORK_CONFIG, rollouts=FixedStartsConfig(num_samples=4)
    )
    algorithm = ALGORITHMS[name][0](make_task(), config)
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert np.all(np.asarray(metrics["status"]) == OK)
    found = []
    assert count_compilations(lambda: found.append(algorithm.step(state))) == 0
    assert np.isfinite(np.asarray(found[0][1]["cost"])).all()
