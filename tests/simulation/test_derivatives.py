"""Derivatives of control steps against central differences of plain stepping."""

import mujoco
import numpy as np
import pytest

from jgps.simulation import System, load_model
from jgps.simulation import differences as methods
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    interpolated,
    key_steps,
)
from jgps.simulation.state_jacobian import tangent_dim
from jgps.simulation.tangent import moved

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
T = 4
# A free, a ball, a hinge and a slide joint; a tendon, activations with and without limits, a mocap
# body that pulls, an actuator of every kind.
ROBOT = """
<mujoco>
  <option timestep="0.004" integrator="{integrator}"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0 0.3 1"><site name="hand"/></body>
    <body name="torso" pos="0 0 2"><freejoint name="root"/><geom size=".1 .2 .1" type="box"/>
      <body pos=".3 0 0"><joint name="ball" type="ball" damping=".1"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/><site name="tip" pos=".3 0 0"/>
        <body pos=".3 0 0"><joint name="hinge" axis="0 1 0" damping=".1"/>
          <geom type="capsule" fromto="0 0 0 0 0 .3" size=".03"/>
          <body><joint name="slide" type="slide" axis="1 0 0" stiffness="3"/><geom size=".05"/>
    </body></body></body></body>
  </worldbody>
  <contact><exclude body1="torso" body2="world"/></contact>
  <tendon><spatial name="rope" stiffness="20" springlength=".2"><site site="hand"/>
    <site site="tip"/></spatial></tendon>
  <actuator>
    <motor name="strong" joint="hinge" ctrllimited="true" ctrlrange="-1 1"/>
    <general joint="slide" dyntype="filterexact" dynprm=".1" gainprm="2"/>
    <intvelocity joint="hinge" kp="5" actrange="-1 1"/>
    <muscle tendon="rope" lengthrange=".1 2" force="20"/>
    <motor joint="ball" gear="0 1 1"/>
  </actuator>
  <sensor><framelinvel name="speed" objtype="site" objname="tip"/>
    <accelerometer name="felt" site="tip"/></sensor>
</mujoco>
"""
ENTRIES = (
    *("qpos", "qvel", "act", "phase:0.03", "gyro:root"),
    *("site_pos:tip", "sensor:speed", "body_up:torso"),
)
LEG = """<body pos="{x} {y} 0"><joint name="h{i}" axis="0 1 0" damping=".5"/>
  <geom type="capsule" fromto="0 0 0 0 0 -.2" size=".02" mass=".3"/></body>"""
LEGS = "".join(LEG.format(i=i, x=0.2 - 0.4 * (i // 2), y=0.1 - 0.2 * (i % 2)) for i in range(4))
SERVOS = "".join(f'<position joint="h{i}" kp="40"/>' for i in range(4))


def _legs(iterations):
    """A box on four legs that lie on the ground; with few iterations the warm start counts."""
    return f"""<mujoco><option timestep="0.004" iterations="{iterations}" ls_iterations="5"/>
      <worldbody><geom type="plane" size="5 5 .1"/><body name="torso" pos="0 0 .215"><freejoint/>
      <geom type="box" size=".2 .1 .05" mass="5"/>{LEGS}</body></worldbody>
      <actuator>{SERVOS}</actuator>
      <sensor><framepos name="height" objtype="body" objname="torso"/></sensor></mujoco>"""


def _system(source=ROBOT, entries=ENTRIES, substeps=3, integrator="Euler"):
    model, layout, _ = load_model(source.replace("{integrator}", integrator), entries)
    return System(model, layout, T, substeps)


def _trajectories(system, models, settle=0, seed=0):
    """States [B, T, nstate] and controls [B, T, dU] of plain stepping."""
    rng = np.random.default_rng(seed)
    size = mujoco.mj_stateSize(system.model, STATE)
    states = np.empty((len(models), T, size))
    control = rng.uniform(-0.9, 0.9, (len(models), T, system.model.nu))
    for row, model in enumerate(models):
        data = mujoco.MjData(model)
        data.qpos[:] = moved(model, data.qpos, 0.05 * rng.normal(size=model.nv), np)
        data.qvel[:] = 0.3 * rng.normal(size=model.nv)
        data.act[:] = 0.3 * rng.uniform(size=model.na)
        data.ctrl[:] = 0.2
        mujoco.mj_step(model, data, nstep=settle)
        for t in range(T):
            mujoco.mj_getState(model, data, states[row, t], STATE)
            data.ctrl[:] = control[row, t]
            mujoco.mj_step(model, data, nstep=system.substeps)
    return states, control


def _by_hand(system, model, state, control, size=1e-5):
    """F and G of central differences."""
    data, dS = mujoco.MjData(model), tangent_dim(model)
    nv, columns, seen = model.nv, [], []

    def after(change):
        mujoco.mj_setState(model, data, state, STATE)
        mujoco.mj_integratePos(model, data.qpos, np.ascontiguousarray(change[:nv]), 1.0)
        data.qvel += change[nv : 2 * nv]
        data.act += change[2 * nv : dS]
        warm = data.qacc_warmstart.copy()
        mujoco.mj_forward(model, data)
        x = system.layout.of(data)
        data.qacc_warmstart[:] = warm
        data.ctrl[:] = control + change[dS:]
        mujoco.mj_step(model, data, nstep=system.substeps)
        return data.qpos.copy(), data.qvel.copy(), data.act.copy(), x

    for change in size * np.eye(dS + model.nu):
        high, low = after(change), after(-change)
        turned = np.empty(nv)
        mujoco.mj_differentiatePos(model, turned, 1.0, low[0], high[0])
        columns.append(np.r_[turned, high[1] - low[1], high[2] - low[2]] / (2 * size))
        seen.append((high[3] - low[3]) / (2 * size))
    return np.array(columns).T, np.array(seen[:dS]).T


def _difference(found, expected):
    """Largest difference beside the largest number."""
    return np.abs(found - expected).max() / np.abs(expected).max()


CASES = [
    ("Euler", "chained"), ("Euler", "copies"), ("implicit", "copies"), ("RK4", "copies"),
    ("implicit without muscle", "chained"), ("implicitfast without muscle", "chained"),
]  # fmt: skip


@pytest.mark.parametrize(("integrator", "method"), CASES)
def test_without_contact_to_a_millionth(integrator, method):
    integrator, _, without = integrator.partition(" ")
    source = ROBOT.replace("muscle tendon", "motor tendon") if without else ROBOT
    source = source.replace('lengthrange=".1 2" force="20"', "") if without else source
    system = _system(source, integrator=integrator)
    model = system.model
    states, control = _trajectories(system, [model])
    dS = tangent_dim(model)
    for centred, tolerance in ((True, 1e-6), (False, 3e-5)):
        config = DerivativesConfig(method=method, centred=centred)
        found = Differentiator(system, [model], config)(states, control)
        assert found.F.shape == (1, T - 1, dS, dS + model.nu)
        assert found.G.shape == (1, T, system.layout.size, dS)
        for t in range(T):
            F, G = _by_hand(system, model, states[0, t], control[0, t])
            assert _difference(found.G[0, t], G) < tolerance
            if t < T - 1:
                assert _difference(found.F[0, t], F) < tolerance


DELAYED = ROBOT.replace('name="strong"', 'name="strong" delay=".008" nsample="5" interp="linear"')
CURVED = ROBOT.replace('type="ball" damping=".1"', 'type="ball" damping=".1 .5 .2"')


@pytest.mark.parametrize(
    ("source", "integrator", "why"),
    [
        (ROBOT, "RK4", "the integrator RK4"),
        (DELAYED, "Euler", "delays"),
        (CURVED, "Euler", "damping that is not linear, in Euler's integrator"),
        (ROBOT, "implicit", "actuators whose gain has damping, in an implicit integrator"),
    ],
)
def test_copies_where_a_chain_is_not_right(source, integrator, why):
    system = _system(source, integrator=integrator)
    model = system.model
    states, control = _trajectories(system, [model])
    found = Differentiator(system, [model], DerivativesConfig(centred=True))(states, control)
    for t in range(T - 1):
        F, _ = _by_hand(system, model, states[0, t], control[0, t])
        assert _difference(found.F[0, t], F) < 1e-6
    with pytest.raises(ValueError, match=f"not right for {why}; choose 'copies' or 'auto'$"):
        Differentiator(system, [model], DerivativesConfig(method="chained"))


@pytest.mark.parametrize(("iterations", "substeps"), [(1, 1), (3, 1), (100, 2)])
def test_with_contact_under_the_warm_start_of_the_nominal_step(iterations, substeps):
    system = _system(_legs(iterations), ("qpos", "qvel"), substeps)
    model = system.model
    states, control = _trajectories(system, [model], settle=100)
    expected = [
        _by_hand(system, model, *at, size=1e-6) for at in zip(states[0], control[0], strict=True)
    ]
    cold = states.copy()
    first = 1 + model.nq + model.nv
    cold[..., first : first + model.nv] = 0  # qacc_warmstart
    for method in ("chained", "copies"):
        differentiate = Differentiator(
            system, [model], DerivativesConfig(method=method, centred=True)
        )
        found, other = (differentiate(each, control).F[0] for each in (states, cold))
        for t in range(T - 1):
            assert _difference(found[t], expected[t][0]) < 1e-5
        if iterations == 1:
            assert _difference(other[0], expected[0][0]) > 1e-3


def _chosen(system, models, **settings):
    return Differentiator(system, models, DerivativesConfig(**settings))


@pytest.mark.parametrize("method", ["chained", "copies"])
@pytest.mark.parametrize("centred", [False, True])
def test_controls_at_their_limits_are_moved_inwards(method, centred):
    system = _system(substeps=2)
    states, control = _trajectories(system, [system.model])
    control[0, :3, 0] = 1.0, -1.0, 0.3
    inside = control.copy()
    inside[0, :2, 0] = 1 - 1e-4, -1 + 1e-4
    differentiate = _chosen(system, [system.model], method=method, centred=centred)
    at, near = differentiate(states, control).F[0], differentiate(states, inside).F[0]
    column = tangent_dim(system.model)  # of the limited motor
    for t in range(T - 1):
        assert np.abs(at[t, :, column]).max() > 1e-4
        assert _difference(at[t, :, column], near[t, :, column]) < 1e-3
    system.model.actuator_ctrlrange[0] = 0.3, 0.3
    control[0, :, 0] = 0.3
    nowhere = _chosen(system, [system.model], method=method, centred=centred)(states, control)
    assert np.isfinite(nowhere.F).all()
    np.testing.assert_array_equal(nowhere.F[0, ..., column], 0)


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_a_row_depends_neither_on_threads_nor_on_others(method, monkeypatch):
    """Nor on a model of another's, nor on what was differentiated before, nor on NaN elsewhere."""
    system = _system(substeps=2)
    heavy, _, _ = load_model(ROBOT.replace("{integrator}", "Euler"), ENTRIES)
    heavy.body_mass[2] *= 3
    mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
    models = [system.model, heavy, system.model, heavy, system.model]
    states, control = _trajectories(system, models)
    monkeypatch.setattr(methods, "_MOST_COPIES", 200)  # some items at once

    def of(rows, threads, states=states):
        monkeypatch.setattr(methods, "num_threads", lambda: threads)
        differentiate = _chosen(system, [models[row] for row in rows], method=method)
        differentiate(states[rows[::-1]], control[rows])  # of something else
        return differentiate(states[rows], control[rows])

    everything = np.arange(5)
    whole = of(everything, 3)
    assert np.isfinite(whole.F).all() and np.isfinite(whole.G).all()
    assert np.abs(whole.F[0] - whole.F[1]).max() > 1e-3
    for rows, threads in ((everything, 1), (everything[::-1], 2), (everything[3:4], 2)):
        found = of(rows, threads)
        np.testing.assert_array_equal(found.F, whole.F[rows])
        np.testing.assert_array_equal(found.G, whole.G[rows])
    broken = states.copy()
    broken[2, 1, 5] = np.nan
    found = of(everything, 2, broken)
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(found.F[others], whole.F[others])
    np.testing.assert_array_equal(found.G[others], whole.G[others])
    assert np.isnan(found.F[2, 1]).all() and np.isnan(found.G[2, 1]).any()
    np.testing.assert_array_equal(found.F[2, [0, 2]], whole.F[2, [0, 2]])


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_what_diverges_is_nan_in_its_row_alone(method):
    system = _system(substeps=2)
    states, control = _trajectories(system, [system.model] * 2)
    whole = _chosen(system, [system.model] * 2, method=method)(states, control)
    far = states.copy()
    far[1, 1, 1 + system.model.nq :][: system.model.nv] = 1e200  # squares are infinite
    found = _chosen(system, [system.model] * 2, method=method)(far, control)
    np.testing.assert_array_equal(found.F[0], whole.F[0])
    assert np.isnan(found.F[1, 1]).all()
    np.testing.assert_array_equal(found.F[1, [0, 2]], whole.F[1, [0, 2]])


def test_key_steps_are_exact_and_linear_in_between():
    np.testing.assert_array_equal(key_steps(9, 3), [0, 3, 6, 8])
    np.testing.assert_array_equal(key_steps(1, 3), [0])
    system = _system(substeps=1)
    states, control = _trajectories(system, [system.model])
    whole = _chosen(system, [system.model])(states, control)
    found = _chosen(system, [system.model], key_steps=2)(states, control)
    sensors = slice(system.layout["sensor:speed"].start, system.layout.size)
    np.testing.assert_array_equal(found.F[0, [0, 2]], whole.F[0, [0, 2]])
    np.testing.assert_array_equal(found.G[0, [0, 2, 3]], whole.G[0, [0, 2, 3]])
    np.testing.assert_allclose(found.F[0, 1], 0.5 * (whole.F[0, 0] + whole.F[0, 2]), atol=1e-12)
    # What needs no simulation is exact everywhere.
    np.testing.assert_array_equal(
        found.G[0, 1, : sensors.start - 3], whole.G[0, 1, : sensors.start - 3]
    )
    between = 0.5 * (whole.G[0, 0, sensors] + whole.G[0, 2, sensors])
    np.testing.assert_allclose(found.G[0, 1, sensors], between, atol=1e-12)
    values, known = np.array([0.0, 7.0, np.nan, 3.0]), np.array([True, False, True, True])
    np.testing.assert_array_equal(interpolated(values, known), [0, np.nan, np.nan, 3])


def test_key_steps_are_closer_where_derivatives_differ():
    system = _system(_legs(100), ("qpos", "qvel", "sensor:height"), 1)
    model, num = system.model, 17
    # One trajectory falls onto the ground and one hangs in the air.
    data = [mujoco.MjData(model) for _ in range(2)]
    data[0].qpos[2] += 0.02
    data[1].qpos[2] += 2
    states = np.empty((2, num, mujoco.mj_stateSize(model, STATE)))
    control = np.zeros((2, num, model.nu))
    for row in range(2):
        for t in range(num):
            mujoco.mj_getState(model, data[row], states[row, t], STATE)
            mujoco.mj_step(model, data[row], nstep=2)
    models = [model, model]
    whole = _chosen(system, models)(states, control)
    differentiate = _chosen(system, models, key_steps=8, key_tolerance=0.2)
    asked, inner = [], differentiate._at

    def watched(method, rows, *at):
        asked.extend(rows)
        return inner(method, rows, *at)

    differentiate._at = watched
    found = differentiate(states, control)
    assert 3 < asked.count(1) < asked.count(0) < num
    away = [
        np.sqrt(np.square(each.F - whole.F).sum((2, 3)) / np.square(whole.F).sum((2, 3))).max()
        for each in (found, _chosen(system, models, key_steps=8)(states, control))
    ]
    assert away[0] < 0.2 < away[1]
    alone = _chosen(system, models[:1], key_steps=8, key_tolerance=0.2)(states[:1], control[:1])
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_the_first_physics_step_stands_for_all_of_a_control_step(method):
    """That is exact for a linear system, and for others what comes of its first step n times."""
    system = _system(substeps=3)
    states, control = _trajectories(system, [system.model])
    chosen = {"method": method, "physics_steps": "first"}
    found = _chosen(system, [system.model], **chosen)(states, control)
    step = _chosen(system._replace(substeps=1), [system.model], method=method)(states, control)
    dS = tangent_dim(system.model)
    A, B = step.F[0, ..., :dS], step.F[0, ..., dS:]
    expected = np.concatenate([A @ A @ A, A @ A @ B + A @ B + B], axis=-1)
    np.testing.assert_allclose(found.F[0], expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(found.G, step.G)
    whole = _chosen(system, [system.model], method=method)(states, control)
    assert _difference(found.F, whole.F) > 1e-4
    linear = _system(
        """<mujoco><option integrator="implicitfast"/><worldbody><body>
        <joint name="a" type="slide" axis="1 0 0" stiffness="9" damping="2"/><geom size=".1"/>
        </body></worldbody><actuator><motor joint="a"/></actuator></mujoco>""",
        ("qpos", "qvel"),
    )
    states, control = _trajectories(linear, [linear.model])
    pair = [
        _chosen(linear, [linear.model], method=method, physics_steps=each)(states, control).F
        for each in ("first", "all")
    ]
    assert _difference(*pair) < 1e-6


@pytest.mark.parametrize(
    ("source", "entry", "why"),
    [
        (ROBOT, "sensor:felt", "is a sensor of accelerations or forces, which follow the control"),
        (
            ROBOT.replace("<framelinvel", '<framelinvel delay=".02" nsample="8"'),
            "sensor:speed",
            "is a sensor that shows what was before",
        ),
        (
            ROBOT.replace("<framelinvel", '<framelinvel interval=".02" nsample="8"'),
            "sensor:speed",
            "is a sensor that shows what was before",
        ),
    ],
)
def test_entries_that_do_not_follow_from_the_state_are_refused(source, entry, why):
    system = _system(source, ("qpos", "qvel", entry))
    with pytest.raises(ValueError, match=f"^state entry '{entry}' {why}.*in the observation"):
        Differentiator(system, [system.model])


def test_plugins():
    """Those without a state of their own are differentiated; others refused in a sentence."""
    source = """<mujoco><extension><plugin plugin="mujoco.pid"><instance name="pid">
      <config key="kp" value="4"/></instance></plugin></extension>
      <worldbody><body><joint name="a"/><geom size=".1"/></body>
      </worldbody><actuator><plugin joint="a" plugin="mujoco.pid" instance="pid"/>
      <motor joint="a"/></actuator></mujoco>"""
    system = _system(source, ("qpos", "qvel"))
    states, control = _trajectories(system, [system.model])
    found = _chosen(system, [system.model], centred=True)(states, control)
    expected, _ = _by_hand(system, system.model, states[0, 0], control[0, 0])
    assert _difference(found.F[0, 0], expected) < 1e-6
    system.model.plugin_statenum[0] = 1
    with pytest.raises(ValueError, match="a plugin that keeps a state of its own"):
        Differentiator(system, [system.model])


def test_shapes_that_do_not_fit_and_models_that_cannot_be_stepped_are_refused():
    system = _system()
    states, control = _trajectories(system, [system.model])
    differentiate = Differentiator(system, [system.model])
    for wrong in (
        (states[:, :1], control[:, :1]),
        (states, control[:, :-1]),
        (states[[0, 0]],) * 2,
    ):
        with pytest.raises(ValueError, match="they have to be"):
            differentiate(*wrong)
    for method in ("chained", "copies"):
        small = _legs(1).replace("<worldbody>", '<size memory="8K"/><worldbody>')
        model, layout, _ = load_model(small, ("qpos", "qvel"))
        states = np.zeros((1, 2, mujoco.mj_stateSize(model, STATE)))
        mujoco.mj_getState(model, mujoco.MjData(model), states[0, 0], STATE)
        states[0, 1] = states[0, 0]
        with pytest.raises(ValueError, match=r"MuJoCo can't differentiate this model: .*"):
            _chosen(System(model, layout, 2, 2), [model], method=method)(
                states, np.zeros((1, 2, 4))
            )


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_what_is_known_from_the_last_call_is_not_computed_again(method, monkeypatch):
    system = _system(substeps=1)
    heavy, _, _ = load_model(ROBOT.replace("{integrator}", "Euler"), ENTRIES)
    heavy.body_mass[2] *= 3
    models = [system.model, heavy]
    states, control = _trajectories(system, models)
    differentiate = _chosen(system, models, method=method)
    inner, asked = differentiate._method.method, []

    def watched(items, found):
        asked.append(len(items.states))
        return inner(items, found)

    monkeypatch.setattr(differentiate._method, "method", watched)
    first = differentiate(states, control)
    again = differentiate(states, control)
    moved_on = differentiate(states[:, 1:], control[:, 1:])
    states[1] += 1e-9  # another trajectory of one of them
    changed = differentiate(states[:, 1:], control[:, 1:])
    other = differentiate(states[::-1, 1:], control[::-1, 1:])  # in the other's model
    assert asked == [2 * T, T - 1, 2 * (T - 1)]
    for one, same in zip(again, first, strict=True):
        np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(moved_on.F, first.F[:, 1:])
    np.testing.assert_array_equal(moved_on.G, first.G[:, 1:])
    np.testing.assert_array_equal(changed.F[0], first.F[0, 1:])
    assert np.abs(changed.F[1] - first.F[1, 1:]).max() > 0
    assert np.abs(other.F[::-1] - changed.F).max() > 1e-3
    monkeypatch.setattr(methods, "_MOST_BYTES", 0)
    differentiate(states, control), differentiate(states, control)
    assert asked[3:] == [2 * T, 2 * T]
