"""Episodes that are drawn: commands, pushes, other physics, what sensors show; and falls."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps.simulation import Conditions, condition_models, make_sampler
from jgps.tasks import Episodes, Pushes, draw, from_mjcf
from jgps.tasks.functions import fallen, succeeded

MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" pos="0 0 -1" friction="0.7 0.005 0.0001"/>
    <body name="cart"><joint name="x" type="slide" axis="1 0 0"/>
      <geom name="box" size="0.1" mass="2"/>
      <body name="load" pos="0 0 0.2"><joint name="turn"/>
        <geom name="ghost" size="0.1" mass="1" contype="0" conaffinity="0"/></body></body>
  </worldbody>
  <actuator><motor joint="x" gear="5"/><position joint="turn" kp="8" forcerange="-4 4"/></actuator>
</mujoco>
"""
COMMAND = ((-1.0, 2.0), (0.5, 0.5), (-0.3, 0.1))
PUSHES = Pushes(body="load", force=(3.0, 4.0), duration=0.1, every=(0.2, 0.5))
DT, NUM, STEPS = 0.05, 40, 60


def _task(episodes=None, **settings):
    told = getattr(episodes, "command", None) is not None and settings.pop("told", True)
    return from_mjcf(
        settings.pop("model", MODEL), cost=lambda s: lambda x, u, t: u @ u, horizon=STEPS,
        state=("qpos", "qvel", *(("sensor:command",) if told else ())), episodes=episodes,
        observation=settings.pop("observation", ("qvel", "qpos:x")), control_dt=DT, **settings,
    )  # fmt: skip


def _drawn(seed=0, num=NUM, horizon=None, **settings):
    return draw(_task(Episodes(**settings)), seed, num, horizon)


def test_the_same_seed_draws_the_same_episodes():
    task = _task(
        Episodes(
            command=COMMAND, pushes=PUSHES, friction=(0.4, 1.2), mass=(0.8, 1.2),
            strength=(0.9, 1.1), noise={"qvel": 0.1}, latency=(0.0, 0.1),
        ),
        random_start=lambda key: (jax.random.normal(key, (2,)), jnp.zeros(2)),
    )  # fmt: skip
    one, same, other = (jax.tree.leaves(draw(task, seed, 4)) for seed in (3, 3, 4))
    assert len(one) == len(same) == len(other) > 8
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(not np.array_equal(a, b) for a, b in zip(one, other, strict=True)) > 8
    assert np.ptp(draw(task, 3, 4).qpos, axis=0).min() > 0  # of the random start


def test_commands_keep_their_ranges_and_hold_for_a_while():
    settings = {"command": COMMAND, "command_every": (0.2, 0.4)}
    found = _drawn(**settings).inputs["mocap_pos:command"]
    low, high = np.array(COMMAND).T
    assert found.shape == (NUM, STEPS, 3)
    assert (found >= low).all() and (found <= high).all()
    assert np.ptp(found[..., 0]) > 2.5 and (found[..., 1] == 0.5).all()
    changes = np.any(found[:, 1:] != found[:, :-1], axis=-1)
    for row in changes:
        assert np.isin(np.diff(np.flatnonzero(row)), range(4, 9)).all()
    assert changes.sum(axis=1).min() >= STEPS // 8 - 1
    longer = _drawn(horizon=100, **settings).inputs["mocap_pos:command"]
    assert longer.shape == (NUM, 100, 3)


def test_some_commands_are_to_stand_still_where_that_is_in_the_ranges():
    around = ((-1.0, 1.0), (0.0, 0.0), (-1.0, 1.0))

    def standing(command, share):
        found = _drawn(command=command, standing=share, num=200, horizon=1)
        return np.mean(np.all(found.inputs["mocap_pos:command"] == 0, axis=-1))

    assert standing(around, 0.0) == 0 and standing(around, 1.0) == 1
    assert standing(around, 0.3) == pytest.approx(0.3, abs=0.1)
    assert standing(COMMAND, 1.0) == 0  # 0.5 m/s to the left is all there is


def test_commands_are_what_the_state_shows():
    """In the first state and all along a rollout."""
    task = _task(Episodes(command=COMMAND, command_every=(0.1, 0.2)))
    drawn = draw(task, 0, 2)
    sample = make_sampler(task.system, drawn, lambda p, x, o, t, noise: noise, "native").sample
    x = sample((), jnp.zeros((2, 1, STEPS, 2))).x[:, 0]
    np.testing.assert_allclose(x[..., -3:], drawn.inputs["mocap_pos:command"], atol=1e-6)


def test_pushes_keep_their_ranges_of_size_time_and_direction():
    found = _drawn(pushes=PUSHES).inputs["xfrc_applied:load"]
    assert found.shape == (NUM, STEPS, 6) and not found[..., 2:].any()
    size = np.linalg.norm(found, axis=-1)
    on = size > 0
    assert size[on].min() >= 3 and size[on].max() <= 4 and np.ptp(size[on]) > 0.8
    for row in on:
        begins = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int)])) == 1)
        assert 4 <= begins[0] <= 10 and np.isin(np.diff(begins), range(4, 11)).all()
        lengths = np.add.reduceat(row.astype(int), begins)
        assert (lengths[:-1] == 2).all()  # 0.1 s
    angle = np.arctan2(found[on][:, 1], found[on][:, 0])
    assert np.histogram(angle, 4, (-np.pi, np.pi))[0].min() > 0.15 * len(angle)


@pytest.mark.parametrize(("direction", "axis"), [("x", 0), ("y", 1)])
def test_pushes_along_an_axis_go_both_ways(direction, axis):
    pushes = dataclasses.replace(PUSHES, direction=direction)
    found = _drawn(pushes=pushes).inputs["xfrc_applied:load"]
    assert found[..., axis].max() > 3 and found[..., axis].min() < -3
    assert np.abs(np.delete(found, axis, axis=-1)).max() < 1e-12


def test_masses_friction_and_strength_are_as_drawn():
    settings = {"mass": (0.5, 2.0), "friction": (0.4, 1.2), "strength": (0.8, 1.25)}
    task = _task(Episodes(**settings))
    plain, drawn = task.model, draw(task, 0, NUM)
    factors = {"mass": [], "friction": [], "strength": []}
    for model in condition_models(plain, drawn):
        mass = model.body_mass[1:] / plain.body_mass[1:]
        inertia = model.body_inertia[1:] / plain.body_inertia[1:]
        np.testing.assert_allclose(mass, mass[0])
        np.testing.assert_allclose(inertia, mass[0])
        factors["mass"].append(mass[0])
        sliding = model.geom_friction[:, 0]
        assert sliding[0] == sliding[1]  # of the floor and the box, which collide
        assert sliding[2] == plain.geom_friction[2, 0]
        np.testing.assert_array_equal(model.geom_friction[:, 1:], plain.geom_friction[:, 1:])
        factors["friction"].append(sliding[0])
        strength = model.actuator_gainprm[0, 0] / plain.actuator_gainprm[0, 0]
        for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
            expected = strength * getattr(plain, field)
            np.testing.assert_allclose(getattr(model, field), expected, rtol=1e-12)
        factors["strength"].append(strength)
    for name, (low, high) in settings.items():
        assert low <= min(factors[name]) and max(factors[name]) <= high
        assert np.ptp(factors[name]) > 0.7 * (high - low), name


def test_noise_and_latency_are_of_what_is_observed():
    sensing = _drawn(noise={"qvel": 0.2}, latency=(0.05, 0.15)).sensing
    assert sensing.noise.shape == (NUM, STEPS, 3)
    assert not sensing.noise[..., 2].any()  # of qpos:x
    np.testing.assert_allclose(sensing.noise[..., :2].std(axis=(0, 1)), 0.2, rtol=0.1)
    assert sorted(set(np.asarray(sensing.latency).tolist())) == [1, 2, 3]
    assert _drawn(friction=(0.5, 1.0)).sensing is None


def test_episodes_start_as_training_conditions_do():
    """With their params, and with nothing that acts on these from outside."""
    task = _task(
        Episodes(mass=(0.5, 2.0)), qpos=[[0.1, 0.2], [0.3, 0.4]],
        inputs={"xfrc_applied:cart": np.ones((2, 1, 6))},
        changes={"dof_damping:x": np.array([1.0, 2.0])},
    )  # fmt: skip
    drawn = draw(task, 0, 12)
    damping = [model.dof_damping[0] for model in condition_models(task.model, drawn)]
    expected = [[0.1, 0.2] if d == 1 else [0.3, 0.4] for d in damping]
    np.testing.assert_array_equal(drawn.qpos, expected)
    assert set(damping) == {1, 2} and not drawn.inputs


def _replaced(**settings):
    return lambda: Pushes(**{"body": "cart", "force": (1.0, 2.0), **settings})


COMPILED = mujoco.MjModel.from_xml_string(MODEL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Episodes(friction=(1.2, 0.4)), "friction is from 1.2 to 0.4; low has to be at"),
        (lambda: Episodes(mass=(0.0, 1.0)), "Episodes.mass is 0.0; it has to be"),
        (lambda: Episodes(strength=1.0), r"Episodes.strength is 1.0; it has to be a pair \(low, h"),
        (lambda: Episodes(latency=(-0.1, 0.1)), "Episodes.latency is -0.1; it has to be"),
        (lambda: Episodes(command_every=(0.0, 1.0)), "Episodes.command_every is 0.0; it has to be"),
        (lambda: Episodes(standing=1.5), "Episodes.standing is 1.5; it has to be"),
        (lambda: Episodes(noise={"qvel": -1.0}), r"Episodes.noise\['qvel'\] is -1.0; it has to be"),
        (lambda: Episodes(pushes=300.0), r"pushes is 300.0; it has to be jgps.tasks.Pushes"),
        (lambda: Episodes(command=(0.0, 1.0)), r"command is .*; it has to be three \(low, high\)"),
        (
            lambda: Episodes(command=((0, 1), (1, -1), (0, 0))),
            "the velocity to the left, is from 1 to -1; low has to be at most high",
        ),
        (lambda: Episodes(command=((1, 1), (0, 0), (0, 0))), "ranges of zero width: every episode"),
        (_replaced(force=(400.0, 300.0)), "Pushes.force is from 400 to 300; low has to be at most"),
        (_replaced(force=(-1.0, 1.0)), "Pushes.force is -1.0; it has to be"),
        (_replaced(duration=0.0), "Pushes.duration is 0.0; it has to be"),
        (_replaced(every=(0.1, 1.0)), "may follow each other after 0.1 s; they have to be over by"),
        (_replaced(direction="z"), "Pushes.direction is 'z'; it has to be one of any, x, y"),
        (lambda: _task({"mass": (1, 2)}), r"episodes is .*; it has to be jgps.tasks.Episodes"),
        (
            lambda: _task(Episodes(pushes=_replaced(body="crat")())),
            "Pushes.body is 'crat'; the model has: cart, load.*did you mean cart",
        ),
        (
            lambda: _task(Episodes(pushes=_replaced(duration=0.12)())),
            "Pushes.duration is 0.12 s, which is not a multiple of the control step of 0.05 s; ta",
        ),
        (
            lambda: _task(Episodes(latency=(0.0, 0.02))),
            "Episodes.latency is 0.02 s, which is not a multiple of the control step of 0.05 s",
        ),
        (lambda: _task(Episodes(noise={"qpos:y": 0.1})), "qpos:y"),
        (
            lambda: _task(Episodes(noise={"qvel": 0.1}), observation=None),
            "Episodes.noise is about what a network observes, and this task observes its state",
        ),
        (
            lambda: _task(Episodes(latency=(0.0, 0.05)), observation=None),
            "Episodes.latency is about what a network observes",
        ),
        (
            lambda: _task(Episodes(command=COMMAND), model=COMPILED, observation=None, told=False),
            "Episodes.command needs a mocap body 'command', and the model has none; pass MJCF",
        ),
        (lambda: draw(_task(), 0, 1), "task 'custom' draws no episodes; pass from_mjcf episodes="),
        (
            lambda: _task(fall=lambda s: lambda x: x[0] < 0.5, qpos=[[1.0, 0.0], [0.2, 0.0]]),
            "fall is true where training condition 1 starts, so that nothing would count",
        ),
        (
            lambda: _task(
                fall=lambda s: lambda x: x[0] < 0.5, qpos=[[1.0, 0.0]],
                test=Conditions(qpos=[[0.0, 0.0]], qvel=np.zeros((1, 2))),
            ),
            "fall is true where test condition 0 starts",
        ),
        (lambda: _task(fall=lambda s: lambda x: x[0]), "fall has to return a bool"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_robot_that_has_fallen_stays_so_and_succeeds_no_more():
    x = jnp.asarray([[[1.0, 0.2, 1.0], [1.0, 0.9, 0.8]], [[0.1, 1, 1], [1, 1, 1]]])[..., None]
    u, limits = jnp.zeros((2, 2, 3, 1)), jnp.asarray([0.5, 0.3])

    def fall(x, limit):
        return x[0] < limit

    def success(x, u, limit):
        return x[-1, 0] > 0.9

    found = fallen(limits, fall, x)
    assert found.tolist() == [
        [[False, True, True], [False, False, False]],
        [[True, True, True], [False, False, False]],
    ]
    assert succeeded(limits, success, None, x, u).tolist() == [[True, False], [True, True]]
    assert succeeded(limits, success, fall, x, u).tolist() == [[False, False], [False, True]]
