"""Every shipped task keeps the contract; a user's own model becomes a task."""

import dataclasses
import operator
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import jgps
from jgps import costs, tasks
from jgps.controllers import HoldConfig, NoiseConfig
from jgps.controllers.nearest import NearestController
from jgps.simulation import Starts, condition_models, make_sampler
from jgps.tasks.functions import params_of, with_params
from jgps.tasks.hold import resting_controls
from jgps.tasks.start import hold_from_model, initial_controllers, initial_states

ARM = """
<mujoco model="three_links">
  <option timestep="0.01" gravity="0 0 0"/>
  <default><joint axis="0 0 1" damping="0.2" armature="0.02"/></default>
  <worldbody>
    <body><joint name="a"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <body pos=".3 0 0"><joint name="b"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
        <body pos=".3 0 0"><joint name="c"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
          <site name="tip" pos=".3 0 0"/></body></body></body>
  </worldbody>
  <actuator><motor joint="a"/><motor joint="b"/><motor joint="c"/></actuator>
</mujoco>
"""


STAYING = ("biped_push",)  # which succeeds where it does not fall
WITHOUT_DISTANCE = ("quadruped_velocity", "biped_push")
FALLING = ("walker_policy", "quadruped_velocity", "biped_push")


def _reach(s):
    return costs.distance(s["site_pos:tip"], (0.5, 0.5, 0))


@pytest.mark.parametrize("name", tasks.names())
def test_contract(name):
    task = tasks.make(name)
    assert task.name == name and tasks.describe(name)
    assert task.substeps * task.model.opt.timestep == pytest.approx(task.control_dt)
    x0 = initial_states(task, task.train)
    assert x0.shape == (task.train.num, task.state_dim) and x0.dtype == jnp.float32
    unseen, seen = _told_apart_by(task, task.test), _told_apart_by(task, task.train)
    gaps = np.linalg.norm(unseen[:, None] - seen[None], axis=-1)
    assert gaps.min() > 1e-3, "a test condition is a training condition"
    controllers = initial_controllers(task, x0)
    assert controllers.K.shape == (task.train.num, task.horizon, task.action_dim, task.state_dim)
    # It holds the pose: at rest in the initial state it bears the load, where there is one.
    at_rest = np.einsum("ctij,cj->cti", controllers.K, x0) + controllers.k
    load = np.zeros((1, 1, task.action_dim))
    if not isinstance(task.initial, NoiseConfig):
        held = resting_controls(task.model, task.train) if task.ctrl is None else task.ctrl
        load = held[:, None]
    np.testing.assert_allclose(at_rest, np.broadcast_to(load, at_rest.shape), atol=1e-3)
    np.linalg.cholesky(np.asarray(controllers.C, np.float64))
    # Robots that are told where to go, and to stand still in the first condition.
    c = -1 if task.name in WITHOUT_DISTANCE else 0
    x = np.tile(x0[c], (task.horizon, 1))
    u = np.zeros((task.horizon, task.action_dim), np.float32)
    params = jax.tree.map(lambda leaf: leaf[c], params_of(task.train))
    cost, success, distance, fall = (
        f if f is None else with_params(f, params)
        for f in (task.cost, task.success, task.distance, task.fall)
    )

    @jax.jit
    def measure(x, u):
        left = None if distance is None else distance(x)
        return costs.evaluate(cost, x, u), success(x, u), left, fall and fall(x[0])

    values, solved, left, fallen = measure(x, u)
    assert values.shape == (task.horizon,)
    assert bool(solved) == (name in STAYING), "the task is solved before it begins"
    assert (left is None) == (name in WITHOUT_DISTANCE) and (left is None or float(left) > 0.05)
    assert (fallen is None) == (name not in FALLING) and not fallen


def _told_apart_by(task, conditions):
    """Where conditions start, and what acts on them over time, [C, ...]."""
    acting = [each.reshape(conditions.num, -1) for each in conditions.inputs.values()]
    return np.concatenate([np.asarray(initial_states(task, conditions)), *acting], axis=1)


@pytest.mark.parametrize("name", ["peg_insertion", "peg_insertion_round"])
def test_peg_insertion_is_the_published_one(name):
    task = tasks.make(name)
    assert (task.state_dim, task.action_dim, task.horizon) == (26, 7, 100)
    assert (task.control_dt, task.substeps, task.train.num, task.test.num) == (0.05, 5, 4, 20)
    x0 = np.asarray(initial_states(task, task.train), np.float64)
    offsets = task.train.changes["body_pos:arm"][:, 1] + 0.188
    np.testing.assert_allclose(offsets, [-0.2, -0.1, 0.1, 0.2])
    # The tip moves with the arm's base; the cost there, from its formula.
    tips = x0[:, task.layout["site_pos:tip"]]
    np.testing.assert_allclose(tips[:, 1] - offsets, tips[0, 1] - offsets[0], atol=1e-6)
    u = np.linspace(-1, 1, 7)
    gains = np.array([3.09, 1.08, 0.393, 0.674, 0.111, 0.152, 0.098])
    d = x0[0, 14:20] - [0, 0.3, -0.5, 0, 0.3, -0.2]
    expected = 0.5 * np.sum(5e-5 / gains * u**2) + 5 * d @ d + 0.05 * np.log(1e-5 + d @ d)
    got = task.cost(jnp.asarray(x0[0], jnp.float32), jnp.asarray(u, jnp.float32), 3)
    assert float(got) == pytest.approx(expected, rel=1e-5)
    # The pegs end lies as far from the slot's bottom as the two sites say.
    peg = condition_models(task.model, task.train)[0].geom("peg")
    flat = name == "peg_insertion"
    kinds = mujoco.mjtGeom
    assert peg.type[0] == (kinds.mjGEOM_CYLINDER if flat else kinds.mjGEOM_CAPSULE)
    assert peg.size[0] == 0.028
    assert peg.size[1] * 2 + (0 if flat else 2 * 0.028) == pytest.approx(0.3)


def test_the_prism_for_mjx_reaches_as_far_as_the_cylinder_and_its_margin():
    task = tasks.make("peg_insertion")
    cylinder, prism = task.model, task.mjx_model
    assert (prism.geom_margin == 0).all()
    margin = cylinder.geom("peg").margin[0] + cylinder.geom("slot_left").margin[0]
    reach = np.abs(prism.mesh_vert).max(axis=0)  # in the order of its inertia's axes
    wide = 0.028 + margin
    np.testing.assert_allclose(np.sort(reach), [wide, wide, 0.15 + margin], rtol=1e-5)
    for field in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "dof_M0"):
        np.testing.assert_array_equal(getattr(prism, field), getattr(cylinder, field))


def test_unknown_task_lists_the_known():
    with pytest.raises(ValueError, match="unknown task 'peg'; tasks: point_mass, reacher, peg"):
        tasks.make("peg")


def test_what_messages_tell_a_user_to_call_exists():
    """Such as `jgps.from_mjcf(..., vision=CAMERA)`."""
    package, called = Path(jgps.__file__).parent, set()
    for path in package.rglob("*.py"):
        called |= set(re.findall(r"\bjgps\.([\w.]+)\(", path.read_text()))
    assert "from_mjcf" in called
    for name in called:
        assert callable(operator.attrgetter(name)(jgps)), name


def test_conditions_of_a_custom_task():
    task = tasks.from_mjcf(
        ARM,
        state=("qpos", "qvel", "site_pos:tip"),
        cost=_reach,
        qpos=[[0, 0, 0], [0.1, 0.2, 0.3]],
        changes={"dof_damping:b": np.array([0.1, 0.4])},
    )
    assert task.train.num == 2 and task.success is None and task.points == ("site_pos:tip",)
    models = condition_models(task.model, task.train)
    assert [m.dof_damping[1] for m in models] == [0.1, 0.4]
    assert [m.dof_damping[0] for m in models] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 1}, "horizon is 1; it has to be at least 2"),
        ({"horizon": 20.0}, "horizon is 20.0; it has to be at least 2 control steps, an integer"),
        ({"state": "qpos"}, "state is the string 'qpos'; pass a sequence"),
        ({"cost": lambda x, u, t: 0.0}, "cost has to be a function of the layout that returns"),
        ({"cost": 3}, "cost has to be a function of the layout"),
        ({"cost": lambda s: None}, r"cost\(layout\) has to return a function; it returns None"),
        ({"cost": lambda s: lambda x, u, t: float(x[0])}, "JAX has to be able to trace cost"),
        ({"cost": lambda s: lambda x, u, t: jnp.int32(1)}, "floating-point number; it returns int"),
        ({"control_dt": 0.015}, "control_dt is 0.015 s, which is not a multiple of the model's"),
        ({"control_dt": 0.0}, "control_dt is 0.0"),
        ({"qpos": [[0, 0]]}, r"qpos has shape \(1, 2\), expected \(1, 3\)"),
        ({"qpos": [[0, 0, np.nan]]}, "qpos has values that are not finite"),
        ({"qpos": np.zeros((2, 3)), "qvel": np.zeros((3, 3))}, "qvel has shape"),
        ({"camera": "front"}, "no camera 'front'; it has: none"),
        ({"cost": lambda s: lambda x, u, t: x}, r"cost has to return a scalar; it returns shape"),
        ({"cost": lambda s: s["site_pos:hand"]}, "'site_pos:hand' is not"),
        ({"success": lambda s: lambda x, u: x[:, 0] > 0}, "success has to return a scalar"),
        ({"distance": lambda s: lambda x: x[0]}, "distance has to return a scalar"),
        ({"observation": ("qpos", "site_pos:eye")}, "^observation entry 'site_pos:eye': .* it has"),
        ({"observation": ("camera:front",)}, "^unknown observation entry 'camera:front'; kinds: q"),
        ({"observation": "qpos"}, "observation is the string 'qpos'; pass a sequence"),
        ({"observation": ()}, "observation entries have to be distinct and at least one"),
        ({"random_start": 3}, r"random_start has to be a function of a key .* it is 3"),
        ({"random_start": lambda: 0}, r"called with a key it says: too many positional"),
        ({"random_start": lambda key: jnp.zeros(3)}, r"returns \(qpos \[3\], qvel \[3\]\); it"),
        ({"random_start": lambda key: (jnp.zeros(3), jnp.zeros(2))}, r"its qvel has shape \(2,\)"),
        ({"random_start": lambda key: (0.0, jnp.zeros(3))}, r"its qpos has shape"),
        ({"random_start": lambda key: (jnp.zeros(3, int), jnp.zeros(3))}, "its qpos is of int32"),
        ({"random_start": lambda key: (np.random.normal(size=3) * float(jax.random.normal(key)),
                                       jnp.zeros(3))}, "has to be able to trace random_start"),
    ],
)  # fmt: skip
def test_mistakes_in_a_custom_task(changes, message):
    settings = {"state": ("qpos", "qvel", "site_pos:tip"), "cost": _reach, **changes}
    with pytest.raises(ValueError, match=message):
        tasks.from_mjcf(ARM, **settings)


def test_a_task_may_show_networks_less_than_the_state():
    task = tasks.from_mjcf(
        ARM, state=("qpos", "qvel", "site_pos:tip"), cost=_reach, observation=("qvel:b", "qpos")
    )
    assert (task.state_dim, task.observation_dim) == (9, 4)
    assert task.observation is not None and task.observation["qpos"] == slice(1, 4)
    sampler = make_sampler(task.system, task.train, lambda p, x, o, t, e: e, "native")
    noise = jax.random.normal(jax.random.key(0), (1, 2, task.horizon, 3))
    sampled = sampler.sample(jnp.zeros(1), noise)
    x = np.asarray(sampled.x)
    expected = np.concatenate([x[..., 4:5], x[..., :3]], axis=-1)
    np.testing.assert_array_equal(sampled.o, expected)
    everything = tasks.from_mjcf(ARM, state=("qpos", "site_pos:tip"), cost=_reach)
    assert everything.observation is None and everything.observation_dim == 6


def test_a_task_may_start_anywhere():
    def draw(key):
        return jax.random.uniform(key, (3,), minval=-1, maxval=1), jnp.zeros(3)

    settings = {"state": ("qpos", "qvel", "site_pos:tip"), "cost": _reach}
    task = tasks.from_mjcf(ARM, **settings, random_start=draw)
    assert task.random_start is draw
    assert tasks.from_mjcf(ARM, **settings).random_start is None
    keys = jax.random.split(jax.random.key(1), (1, 4))
    starts = Starts(*jax.vmap(jax.vmap(draw))(keys))
    sampler = make_sampler(task.system, task.train, lambda p, x, o, t, e: e, "native")
    sampled = sampler.sample(jnp.zeros(1), jnp.zeros((1, 4, task.horizon, 3)), starts)
    np.testing.assert_allclose(sampled.x[:, :, 0, :3], starts.qpos, atol=1e-7)
    assert len(np.unique(sampled.x[0, :, 0, 0])) == 4


def test_the_default_hold_knows_the_inertia():
    task = tasks.from_mjcf(ARM, state=("qpos", "qvel", "site_pos:tip"), cost=_reach)
    config = hold_from_model(task.model, task.train)
    # Independent: finite difference of the acceleration in each control.
    for joint in range(3):
        data = mujoco.MjData(task.model)
        data.ctrl[joint] = 1
        mujoco.mj_forward(task.model, data)
        assert config.gains[joint] == pytest.approx(data.qacc[joint], rel=1e-6)
    assert config.variance == 1


def test_strong_motors_are_held_softly():
    """Otherwise the hold takes back within a step what exploration does."""
    task = tasks.from_mjcf(ARM, state=("qpos", "qvel", "site_pos:tip"), cost=_reach)
    gains = np.abs(hold_from_model(task.model, task.train).gains)
    step = np.sqrt(0.24 / gains.max())
    assert hold_from_model(task.model, task.train, step) == hold_from_model(task.model, task.train)
    step = np.sqrt(1.0 / gains.max())
    stiffness = np.asarray(hold_from_model(task.model, task.train, step).stiffness)
    strong = gains * step**2 > 0.25
    assert strong.any()
    np.testing.assert_allclose(stiffness[strong], (0.1 / (gains * step**2)[strong]) ** 2)
    np.testing.assert_array_equal(stiffness[~strong], 1)


def test_actuators_without_a_joint_in_the_state_need_another_start():
    task = tasks.from_mjcf(ARM, state=("qpos", "site_pos:tip"), cost=_reach)
    x0 = initial_states(task, task.train)
    with pytest.raises(ValueError, match=r"pass initial=jgps.controllers.HoldConfig\(\)"):
        initial_controllers(task, x0)
    balanced = dataclasses.replace(task, initial=HoldConfig())  # as the message says
    np.testing.assert_array_equal(initial_controllers(balanced, x0).K, 0)
    task = tasks.from_mjcf(
        ARM, state=("qpos", "site_pos:tip"), cost=_reach, initial=NoiseConfig(variance=0.25)
    )
    controllers = initial_controllers(task, x0)
    np.testing.assert_array_equal(controllers.C[0, 0], 0.25 * np.eye(3))
    with pytest.raises(ValueError, match=r"NoiseConfig\.variance is -1"):
        NoiseConfig(variance=-1)
    with pytest.raises(ValueError, match=r"NoiseConfig\.variance has 2 numbers for 3"):
        initial_controllers(
            tasks.from_mjcf(
                ARM, cost=lambda s: lambda x, u, t: u @ u, initial=NoiseConfig(variance=(1.0, 2.0))
            ),
            x0[:, :6],
        )


SERVO = ARM.replace('<motor joint="a"/>', '<position name="servo" joint="a" kp="50"/>')


def test_an_lqr_hold_of_motors_refuses_servos():
    task = tasks.from_mjcf(SERVO, state=("qpos", "qvel", "site_pos:tip"), cost=_reach)
    with pytest.raises(ValueError, match=r"'servo' is a servo, .*jgps.controllers.HoldConfig\(\)"):
        hold_from_model(task.model, task.train)


def test_the_default_hold_holds_against_gravity():
    hanging = ARM.replace('gravity="0 0 0"', 'gravity="0 -9.81 0"')
    task = tasks.from_mjcf(
        hanging, state=("qpos", "qvel", "site_pos:tip"), cost=_reach, qpos=[0.3, 0.2, 0.1]
    )
    x0 = initial_states(task, task.train)
    controllers = initial_controllers(task, x0)
    sampler = make_sampler(task.system, task.train, NearestController.act, "native")
    policy = NearestController(controllers=controllers, x0=x0)
    noise = jnp.zeros((1, 1, task.horizon, 3))
    x = sampler.sample(policy.params_for(x0), noise).x[0, 0, :, :3]
    assert float(jnp.abs(x[20] - x[0]).max()) < 0.15  # it would swing by a radian and more


def test_hidden_activations_are_warned_of():
    filtered = ARM.replace(
        '<motor joint="a"/>', '<general joint="a" dyntype="filter" dynprm="0.1"/>'
    )
    with pytest.warns(UserWarning, match="1 activation states that are not in the state"):
        tasks.from_mjcf(filtered, state=("qpos", "qvel", "site_pos:tip"), cost=_reach)
