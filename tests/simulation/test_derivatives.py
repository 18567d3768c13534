"""Derivatives of control steps against central differences of plain stepping."""

import mujoco
import numpy as np
import pytest
from plain_stepping import (
    ENTRIES,
    ROBOT,
    STATE,
    T,
    by_hand,
    chosen_derivatives,
    difference,
    legs,
    make_system,
    trajectories,
)

from jgps.simulation import System, load_model
from jgps.simulation import differences as methods
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    interpolated,
    key_steps,
)
from jgps.simulation.state_jacobian import tangent_dim

CASES = [
    ("Euler", "chained"), ("Euler", "copies"), ("implicit", "copies"), ("RK4", "copies"),
    ("implicit without muscle", "chained"), ("implicitfast without muscle", "chained"),
]  # fmt: skip


@pytest.mark.parametrize(("integrator", "method"), CASES)
def test_without_contact_to_a_millionth(integrator, method):
    integrator, _, without = integrator.partition(" ")
    source = ROBOT.replace("muscle tendon", "motor tendon") if without else ROBOT
    source = source.replace('lengthrange=".1 2" force="20"', "") if without else source
    system = make_system(source, integrator=integrator)
    model = system.model
    states, control = trajectories(system, [model])
    dS = tangent_dim(model)
    for centred, tolerance in ((True, 1e-6), (False, 3e-5)):
        config = DerivativesConfig(method=method, centred=centred)
        found = Differentiator(system, [model], config)(states, control)
        assert found.F.shape == (1, T - 1, dS, dS + model.nu)
        assert found.G.shape == (1, T, system.layout.size, dS)
        for t in range(T):
            F, G = by_hand(system, model, states[0, t], control[0, t])
            assert difference(found.G[0, t], G) < tolerance
            if t < T - 1:
                assert difference(found.F[0, t], F) < tolerance


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
    system = make_system(source, integrator=integrator)
    model = system.model
    states, control = trajectories(system, [model])
    found = Differentiator(system, [model], DerivativesConfig(centred=True))(states, control)
    for t in range(T - 1):
        F, _ = by_hand(system, model, states[0, t], control[0, t])
        assert difference(found.F[0, t], F) < 1e-6
    with pytest.raises(ValueError, match=f"not right for {why}; choose 'copies' or 'auto'$"):
        Differentiator(system, [model], DerivativesConfig(method="chained"))


@pytest.mark.parametrize(("iterations", "substeps"), [(1, 1), (3, 1), (100, 2)])
def test_with_contact_under_the_warm_start_of_the_nominal_step(iterations, substeps):
    system = make_system(legs(iterations), ("qpos", "qvel"), substeps)
    model = system.model
    states, control = trajectories(system, [model], settle=100)
    expected = [
        by_hand(system, model, *at, size=1e-6) for at in zip(states[0], control[0], strict=True)
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
            assert difference(found[t], expected[t][0]) < 1e-5
        if iterations == 1:
            assert difference(other[0], expected[0][0]) > 1e-3


@pytest.mark.parametrize("method", ["chained", "copies"])
@pytest.mark.parametrize("centred", [False, True])
def test_controls_at_their_limits_are_moved_inwards(method, centred):
    system = make_system(substeps=2)
    states, control = trajectories(system, [system.model])
    control[0, :3, 0] = 1.0, -1.0, 0.3
    inside = control.copy()
    inside[0, :2, 0] = 1 - 1e-4, -1 + 1e-4
    differentiate = chosen_derivatives(system, [system.model], method=method, centred=centred)
    at, near = differentiate(states, control).F[0], differentiate(states, inside).F[0]
    column = tangent_dim(system.model)  # of the limited motor
    for t in range(T - 1):
        assert np.abs(at[t, :, column]).max() > 1e-4
        assert difference(at[t, :, column], near[t, :, column]) < 1e-3
    system.model.actuator_ctrlrange[0] = 0.3, 0.3
    control[0, :, 0] = 0.3
    nowhere = chosen_derivatives(system, [system.model], method=method, centred=centred)(
        states, control
    )
    assert np.isfinite(nowhere.F).all()
    np.testing.assert_array_equal(nowhere.F[0, ..., column], 0)


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_a_row_depends_neither_on_threads_nor_on_others(method, monkeypatch):
    """Nor on a model of another's, nor on what was differentiated before, nor on NaN elsewhere."""
    system = make_system(substeps=2)
    heavy, _, _ = load_model(ROBOT.replace("{integrator}", "Euler"), ENTRIES)
    heavy.body_mass[2] *= 3
    mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
    models = [system.model, heavy, system.model, heavy, system.model]
    states, control = trajectories(system, models)
    monkeypatch.setattr(methods, "_MOST_COPIES", 200)  # some items at once

    def of(rows, threads, states=states):
        monkeypatch.setattr(methods, "num_threads", lambda: threads)
        differentiate = chosen_derivatives(system, [models[row] for row in rows], method=method)
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
    system = make_system(substeps=2)
    states, control = trajectories(system, [system.model] * 2)
    whole = chosen_derivatives(system, [system.model] * 2, method=method)(states, control)
    far = states.copy()
    far[1, 1, 1 + system.model.nq :][: system.model.nv] = 1e200  # squares are infinite
    found = chosen_derivatives(system, [system.model] * 2, method=method)(far, control)
    np.testing.assert_array_equal(found.F[0], whole.F[0])
    assert np.isnan(found.F[1, 1]).all()
    np.testing.assert_array_equal(found.F[1, [0, 2]], whole.F[1, [0, 2]])


def test_key_steps_are_exact_and_linear_in_between():
    np.testing.assert_array_equal(key_steps(9, 3), [0, 3, 6, 8])
    np.testing.assert_array_equal(key_steps(1, 3), [0])
    system = make_system(substeps=1)
    states, control = trajectories(system, [system.model])
    whole = chosen_derivatives(system, [system.model])(states, control)
    found = chosen_derivatives(system, [system.model], key_steps=2)(states, control)
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
    system = make_system(legs(100), ("qpos", "qvel", "sensor:height"), 1)
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
    whole = chosen_derivatives(system, models)(states, control)
    differentiate = chosen_derivatives(system, models, key_steps=8, key_tolerance=0.2)
    asked, inner = [], differentiate._at

    def watched(method, rows, *at):
        asked.extend(rows)
        return inner(method, rows, *at)

    differentiate._at = watched
    found = differentiate(states, control)
    assert 3 < asked.count(1) < asked.count(0) < num
    away = [
        np.sqrt(np.square(each.F - whole.F).sum((2, 3)) / np.square(whole.F).sum((2, 3))).max()
        for each in (found, chosen_derivatives(system, models, key_steps=8)(states, control))
    ]
    assert away[0] < 0.2 < away[1]
    alone = chosen_derivatives(system, models[:1], key_steps=8, key_tolerance=0.2)(
        states[:1], control[:1]
    )
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_the_first_physics_step_stands_for_all_of_a_control_step(method):
    """That is exact for a linear system, and for others what comes of its first step n times."""
    system = make_system(substeps=3)
    states, control = trajectories(system, [system.model])
    chosen = {"method": method, "physics_steps": "first"}
    found = chosen_derivatives(system, [system.model], **chosen)(states, control)
    step = chosen_derivatives(system._replace(substeps=1), [system.model], method=method)(
        states, control
    )
    dS = tangent_dim(system.model)
    A, B = step.F[0, ..., :dS], step.F[0, ..., dS:]
    expected = np.concatenate([A @ A @ A, A @ A @ B + A @ B + B], axis=-1)
    np.testing.assert_allclose(found.F[0], expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(found.G, step.G)
    whole = chosen_derivatives(system, [system.model], method=method)(states, control)
    assert difference(found.F, whole.F) > 1e-4
    linear = make_system(
        """<mujoco><option integrator="implicitfast"/><worldbody><body>
        <joint name="a" type="slide" axis="1 0 0" stiffness="9" damping="2"/><geom size=".1"/>
        </body></worldbody><actuator><motor joint="a"/></actuator></mujoco>""",
        ("qpos", "qvel"),
    )
    states, control = trajectories(linear, [linear.model])
    pair = [
        chosen_derivatives(linear, [linear.model], method=method, physics_steps=each)(
            states, control
        ).F
        for each in ("first", "all")
    ]
    assert difference(*pair) < 1e-6


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
    system = make_system(source, ("qpos", "qvel", entry))
    with pytest.raises(ValueError, match=f"^state entry '{entry}' {why}.*in the observation"):
        Differentiator(system, [system.model])


def test_plugins():
    """Those without a state of their own are differentiated; others refused in a sentence."""
    source = """<mujoco><extension><plugin plugin="mujoco.pid"><instance name="pid">
      <config key="kp" value="4"/></instance></plugin></extension>
      <worldbody><body><joint name="a"/><geom size=".1"/></body>
      </worldbody><actuator><plugin joint="a" plugin="mujoco.pid" instance="pid"/>
      <motor joint="a"/></actuator></mujoco>"""
    system = make_system(source, ("qpos", "qvel"))
    states, control = trajectories(system, [system.model])
    found = chosen_derivatives(system, [system.model], centred=True)(states, control)
    expected, _ = by_hand(system, system.model, states[0, 0], control[0, 0])
    assert difference(found.F[0, 0], expected) < 1e-6
    system.model.plugin_statenum[0] = 1
    with pytest.raises(ValueError, match="a plugin that keeps a state of its own"):
        Differentiator(system, [system.model])


def test_shapes_that_do_not_fit_and_models_that_cannot_be_stepped_are_refused():
    system = make_system()
    states, control = trajectories(system, [system.model])
    differentiate = Differentiator(system, [system.model])
    for wrong in (
        (states[:, :1], control[:, :1]),
        (states, control[:, :-1]),
        (states[[0, 0]],) * 2,
    ):
        with pytest.raises(ValueError, match="they have to be"):
            differentiate(*wrong)
    for method in ("chained", "copies"):
        small = legs(1).replace("<worldbody>", '<size memory="8K"/><worldbody>')
        model, layout, _ = load_model(small, ("qpos", "qvel"))
        states = np.zeros((1, 2, mujoco.mj_stateSize(model, STATE)))
        mujoco.mj_getState(model, mujoco.MjData(model), states[0, 0], STATE)
        states[0, 1] = states[0, 0]
        with pytest.raises(ValueError, match=r"MuJoCo can't differentiate this model: .*"):
            chosen_derivatives(System(model, layout, 2, 2), [model], method=method)(
                states, np.zeros((1, 2, 4))
            )


@pytest.mark.parametrize("method", ["chained", "copies"])
def test_what_is_known_from_the_last_call_is_not_computed_again(method, monkeypatch):
    system = make_system(substeps=1)
    heavy, _, _ = load_model(ROBOT.replace("{integrator}", "Euler"), ENTRIES)
    heavy.body_mass[2] *= 3
    models = [system.model, heavy]
    states, control = trajectories(system, models)
    differentiate = chosen_derivatives(system, models, method=method)
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
