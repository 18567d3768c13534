"""What is wrong with a task is said when it is made, whatever it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jgps
from jgps import configs, tasks
from jgps.simulation import Conditions
from jgps.tasks.indices import OutsideError, check_index, watched

SLIDE = """
<mujoco><worldbody><body><joint name="slide" type="slide"/><joint name="turn" type="hinge"/>
<geom size="0.1"/></body><site name="tip"/></worldbody>
<actuator><motor name="m" joint="slide" ctrlrange="-1 1"/></actuator></mujoco>"""  # dX = 4, dU = 1


ROWS = jnp.array([[0, 1], [1, 2], [2, 3]])


def add_up(read, turns):
    return jax.lax.scan(lambda total, i: (total + read(i), None), 0.0, jnp.arange(turns))[0]


def cost(s):
    return lambda x, u, t: jnp.sum(x**2) + jnp.sum(u**2)


def costs_that(read):
    return {"cost": lambda s: lambda x, u, t: jnp.sum(read(x, u, t))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": {"qpos", "qvel"}}, r"^state is \{'q.*it has to be a tuple .* order"),
        ({"state": (n for n in ("qpos", "qvel"))}, "^state is <generator .*it has to be a tuple"),
        ({"state": {"qpos": 1}}, r"^state is \{'qpos': 1\}; it has to be a tuple"),
        ({"state": ("qpos", 3)}, "^state has the entry 3; it has to be a name"),
        ({"state": 3}, "^state is 3; it has to be a tuple"),
        ({"state": ("qpso",)}, r"^unknown state entry 'qpso'; .*did you mean qpos\?$"),
        ({"state": ("qpos", "site_pos:top")}, r"has no site 'top'; it has: tip.*did you mean tip"),
        ({"observation": {"qpos"}}, "^observation is .*it has to be a tuple"),
        ({"initial": "pd"}, r"^initial is 'pd'; .*did you mean PdHoldConfig\(\)\?$"),
        ({"initial": "lqr_hold"}, r"did you mean LqrHoldConfig\(\)\?$"),
        ({"initial": configs.NoiseConfig}, r"^initial is <class .*did you mean NoiseConfig\(\)\?$"),
        ({"initial": 3}, "^initial is 3; it has to be jgps.configs.HoldConfig.* the model$"),
        ({"control_dt": "x"}, "^control_dt is 'x'; it has to be finite and > 0"),
        ({"control_dt": np.nan}, "^control_dt is nan; it has to be finite and > 0"),
        ({"control_dt": None}, "^control_dt is None; it has to be finite and > 0"),
        ({"horizon": True}, "^horizon is True; it has to be at least 2 control steps, an integer"),
        ({"horizon": 2**31}, r"^horizon is 2147483648; .* below 2\^31"),
        ({"name": "n" * 300}, r"^name is 'nnn.*\(302 characters\); it has to be a printable"),
        ({"name": ""}, "^name is ''; it has to be a printable string of 1 to 100"),
        ({"name": " a"}, "^name is ' a'; .* without spaces or dots at its ends"),
        ({"changes": [1]}, r"^changes is \[1\]; it has to be a mapping of keys"),
        ({"changes": {3: [1.0]}}, "^changes has the key 3; it has to be a mapping of keys"),
        ({"name": "a/b"}, "^name is 'a/b'; .* without slashes"),
        ({"name": 3}, "^name is 3; it has to be a printable string"),
        ({"test": Conditions(np.zeros((0, 2)), np.zeros((0, 2)))}, "^test has 0 conditions; give"),
        ({"test": [[0.0, 0.0]]}, "^test is .*; it has to be jgps.simulation.Conditions"),
        ({"qpos": np.zeros((0, 2))}, "^qpos has 0 conditions; give at least one"),
        ({"success": lambda s: lambda x, u: x[-1, 0]}, "^success has to return a bool.*float32"),
        ({"cost": lambda s: lambda x, u: 0.0}, r"^cost is called as cost\(x \[4\], u \[1\], t\); "),
        ({"cost": lambda s: lambda x, u, t, w: 0.0}, "signature differs: missing .* 'w'"),
        ({"success": lambda s: lambda x: True}, r"success\(x \[9, 4\], u \[9, 1\]\); its"),
        ({"distance": lambda s: lambda: 0.0}, r"^distance is called as distance\(x \[9, 4\]\)"),
        (costs_that(lambda x, u, t: x @ jnp.ones(3)), r"^cost\(.*\) fails with a TypeError: dot_g"),
        (costs_that(lambda x, u, t: x["qpos"]), r"^cost\(.*\) fails with a TypeError"),
        (costs_that(lambda x, u, t: {}["a"]), r"^cost\(.*\) fails with a KeyError: 'a'"),
        (costs_that(lambda x, u, t: x[7]), r"^cost\(.*x has 4 entries along axis 0, and index 7"),
        (costs_that(lambda x, u, t: x[-5]), "index -5 is read"),
        (costs_that(lambda x, u, t: x[2:9]), "x has 4 entries .* and the slice 2:9 is read"),
        (costs_that(lambda x, u, t: x[6:]), "and the slice 6: is read"),
        (costs_that(lambda x, u, t: x[jnp.array([0, 4])]), r"an array \[4\] is read at 4"),
        (costs_that(lambda x, u, t: x[jnp.array([[0], [4]])]), r"an array \[4\] is read at 4"),
        (costs_that(lambda x, u, t: u[1]), "u has 1 entries along axis 0, and index 1 is read"),
        (costs_that(lambda x, u, t: (2.0 * x)[4]), r"an array \[4\] is read at 4 along axis 0"),
        (costs_that(lambda x, u, t: jnp.sin(x)[-5]), r"\[4\] is read at -1"),
        (costs_that(lambda x, u, t: jnp.outer(x, x)[1, 4]), r"\[4, 4\] is read at 4 along axis 1"),
        (costs_that(lambda x, u, t: jnp.sin(x)[jnp.array([1, 4])]), r"\[4\] is read at 4"),
        (costs_that(lambda x, u, t: jnp.sin(x)[np.array([1, 4])]), r"\[4\] is read at 4"),
        (costs_that(lambda x, u, t: jax.jit(lambda y: jnp.sin(y)[5])(x)), r"\[4\] is read at 5"),
        (costs_that(lambda x, u, t: jax.lax.cond(t > 0, lambda y: y[1], lambda y: (-y)[5], x)),
         r"\[4\] is read at 5"),
        (costs_that(lambda x, u, t: jax.lax.map(lambda row: x[row], ROWS + 1)), r"is read at 4"),
        (costs_that(lambda x, u, t: jax.lax.map(lambda row: x[row[1]], ROWS + 1)), r"is read at 4"),
        (costs_that(lambda x, u, t: add_up(lambda i: x[i + 1], 4)), r"\[4\] is read at 4"),
        (costs_that(lambda x, u, t: jax.lax.fori_loop(0, 5, lambda i, s: s + x[i], 0.0)),
         r"\[4\] is read at 4"),
        (costs_that(lambda x, u, t: jax.lax.cond(t > 0, lambda i: x[i], lambda i: x[i - 1], 4)),
         r"\[4\] is read at 4"),
        (costs_that(lambda x, u, t: x[:2][2]), "x has 2 entries along axis 0, and index 2 is read"),
        ({"success": lambda s: lambda x, u: x[-1, 4] > 0}, "x has 4 entries along axis 1"),
        ({"success": lambda s: lambda x, u: x[-20:, 4].all() > 0}, "along axis 1, and index 4"),
        ({"success": lambda s: lambda x, u: x[-20:][9, 0] > 0}, "axis 0, and index 9 is read"),
        ({"success": lambda s: lambda x, u: x[-1][:9].any() > 0}, "axis 0, and the slice :9 is"),
        ({"success": lambda s: lambda x, u: x[9, 0] > 0}, "x has 9 entries along axis 0.* index 9"),
        ({"success": lambda s: lambda x, u: x[..., 4].any()}, "along axis 1, and index 4"),
        ({"distance": lambda s: lambda x: x[:, 2:5].sum()}, "along axis 1, and the slice 2:5"),
        ({"qpos": "home"}, "^qpos: the model has no keyframe 'home'; it has: none"),
        ({"qvel": [[0.0], [0.0, 1.0]]}, r"^qvel is \[\[0.0\], \[0.0, 1.0\]\]; it has"),
        ({"changes": {"body_mass": "a"}}, r"^changes\['body_mass'\] is 'a'; it has to be numbers"),
        ({"camera": "eye"}, "no camera 'eye'; it has: none"),
    ],
)  # fmt: skip
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.from_mjcf(SLIDE, **{"cost": cost, "horizon": 9, **arguments})


def test_arguments_that_there_are_not():
    with pytest.raises(TypeError, match=r"from_mjcf has no argument 'horizn'.*mean horizon\?$"):
        tasks.from_mjcf(SLIDE, cost=cost, horizn=9)
    with pytest.raises(TypeError, match=r"train has no argument 'iteratons'.*mean iterations\?$"):
        jgps.train("point_mass", iteratons=9)
    with pytest.raises(TypeError, match=r"evaluate has no argument 'sample'.*num_samples\?$"):
        jgps.evaluate(None, None, key=None, sample=9)


def test_a_timestep_of_zero_is_named():
    still = SLIDE.replace("<mujoco>", '<mujoco><option timestep="0"/>')
    with pytest.raises(ValueError, match=r"the model's timestep is 0.0 s; it has to be .* > 0"):
        tasks.from_mjcf(still, cost=cost)


def test_numbers_of_numpy_and_lists_are_taken():
    task = tasks.from_mjcf(
        SLIDE, cost=cost, state=["qpos", "qvel"], horizon=np.int64(9), control_dt=np.float64(0.05)
    )
    assert (task.horizon, task.control_dt, task.state_dim) == (9, 0.05, 4)
    assert type(task.horizon) is int and type(task.control_dt) is float


@pytest.mark.parametrize(
    "read",
    [
        lambda x, u, t: x[3] + x[-4] + x[:4] + x[4:].sum() + x[None, -4:][0],
        lambda x, u, t: x[jnp.array([0, -1])] + x[np.array([True, False, True, False])].sum(),
        lambda x, u, t: (
            jnp.ones(9)[t] + x.at[0].set(0.0) + jax.jit(jnp.square)(x)[::-1] + jnp.sin(x)[t]
        ),
        lambda x, u, t: jnp.sin(x).at[9].get(mode="clip") + jnp.sin(x)[jnp.array([3, -4])],
        lambda x, u, t: jax.vmap(lambda each: each * x[0])(x) + jax.grad(lambda y: y[0] ** 2)(x),
        lambda x, u, t: jax.lax.cond(t > 0, lambda y: y[1], lambda y: y[2], x) * abs(-x)[..., 0],
    ],
)
def test_what_is_right_is_taken(read):
    tasks.from_mjcf(SLIDE, horizon=9, **costs_that(read))


def greater(a, b):
    return jnp.where(a > b, a, b)


@pytest.mark.parametrize(
    "read",
    [
        lambda x, u, t: jax.lax.map(lambda row: x[row[0]] * x[row[1]], ROWS),
        lambda x, u, t: jax.lax.map(lambda row: jnp.prod(x[row]), ROWS),
        lambda x, u, t: add_up(lambda i: x[i] * jnp.sin(x)[3 - i] + x[(i + 1) % 4], 4),
        lambda x, u, t: jax.lax.scan(
            lambda left, i: (left - 1, x[left] * x[i]), 3, jnp.arange(4), reverse=True
        )[1],
        lambda x, u, t: jax.lax.fori_loop(0, 4, lambda i, s: s + x[i], 0.0),
        lambda x, u, t: add_up(lambda i: x[i] * i, 4),
        lambda x, u, t: add_up(lambda i: x[i.astype(jnp.int8)], 4),
        lambda x, u, t: jnp.sum(jax.lax.map(lambda i: x[i] * i, jnp.arange(4))),
        lambda x, u, t: x[
            jax.lax.reduce(
                jnp.array([1, 2]), jnp.int32(0), lambda a, b: jnp.where(a > b, a, b), (0,)
            )
        ],
        lambda x, u, t: jax.lax.fori_loop(0, 10**9, lambda i, s: s + x[i // 10**9], 0.0),
        lambda x, u, t: jax.lax.while_loop(
            lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] + x[s[0]]), (9, 0.0)
        )[1],
        lambda x, u, t: jax.lax.scan(lambda c, i: (c + x[i], None), 0.0, jnp.arange(9)[:0])[0],
        lambda x, u, t: jax.lax.switch(1, [lambda i: x[i], lambda i: x[i - 4]], 7),
        lambda x, u, t: jax.vmap(lambda i: x[i])(jnp.arange(4)).reshape(2, 2),
    ],
)
def test_loops_over_indices_are_taken(read):
    tasks.from_mjcf(SLIDE, horizon=9, **costs_that(read))


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[-20:, 0].max(),
        lambda x: x[:20][..., 3].max() + x[-20:][None, :99, 1].max(),
        lambda x: x[None][:, -20:].max() + x[:, 0][-20:].max() + x[:, None, 2][:50].max(),
        lambda x: x[-20:][-20:][::2].max() + x[jnp.array([0, 8])][:3].max(),
    ],
)
def test_slices_longer_than_the_horizon_are_taken_as_python_does(read):
    tasks.from_mjcf(
        SLIDE,
        horizon=9,
        cost=cost,
        success=lambda s: lambda x, u: (read(x) > 0) & (u[-20:] > 0).all(),
        distance=lambda s: read,
    )


def test_all_shipped_tasks_have_a_success_that_is_a_bool():
    """`from_mjcf`, which makes all of them, refuses another one; this is its message."""
    with pytest.raises(ValueError, match=r"success has to return a bool, as x\[-1, 0\] < 0.1 is"):
        tasks.from_mjcf(SLIDE, cost=cost, success=lambda s: lambda x, u: jnp.int32(1))


@pytest.mark.parametrize("index", [5, (0, 3), (Ellipsis, 3), slice(0, 4), (None, 2, 3), [0, 6]])
def test_outside_of_three_by_three(index):
    with pytest.raises(OutsideError):
        check_index("x", (3, 3), index)


@pytest.mark.parametrize(
    "index", [2, (2, -3), (Ellipsis, 2), slice(-3, 3), (None, 2, None, 2), np.eye(3) > 0, True, ()]
)
def test_inside_of_three_by_three(index):
    check_index("x", (3, 3), index)


def test_a_watched_array_is_the_same_to_jax():
    traced = jax.make_jaxpr(lambda x: jnp.sin(watched("x", x)[1]) + (x * 2)[0])(jnp.zeros(3))
    assert str(traced) == str(jax.make_jaxpr(lambda x: jnp.sin(x[1]) + (x * 2)[0])(jnp.zeros(3)))
