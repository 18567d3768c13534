"""What the figures draw, against numbers (seed 0)."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jgps import costs, tasks
from jgps.reports.plots.curves import over_conditions
from jgps.reports.plots.paths import (
    Point,
    _actuator,
    _control_limits,
    _ellipse,
    _ellipses_show,
    find_points,
    find_target,
)
from jgps.reports.plots.style import scale_y

MODEL = """
<mujoco><worldbody>
<body><freejoint name="root"/><geom size="0.1"/><site name="tip"/></body>
</worldbody><actuator><motor joint="root" gear="1 0 0 0 0 0"/></actuator></mujoco>
"""


def make_task(distance, state=("qvel", "site_pos:tip")):
    return tasks.from_mjcf(
        MODEL,
        cost=lambda s: costs.action(1.0),
        state=state,
        horizon=3,
        control_dt=0.1,
        distance=distance,
    )


def test_target_is_where_the_distance_of_a_point_is_zero():
    target = np.array([0.3, -0.2, 0.7])
    task = make_task(lambda s: lambda x: jnp.linalg.norm(x[-1, s["site_pos:tip"]] - target))
    x = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32)
    found = find_target(task, x)
    assert found is not None
    np.testing.assert_allclose(found[6:], target, atol=1e-5)
    np.testing.assert_array_equal(found[:6], x[-1, :6])


@pytest.mark.parametrize(
    "distance",
    [
        None,
        lambda s: lambda x: jnp.sum(jnp.square(x[-1, s["site_pos:tip"]])),  # not a distance
        lambda s: lambda x: 1 + jnp.linalg.norm(x[-1, s["site_pos:tip"]]),  # never zero
    ],
)
def test_no_target_where_there_is_none(distance):
    x = np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32)
    assert find_target(make_task(distance), x) is None


def test_points_come_from_the_task_or_are_the_first_entries():
    (tip,) = find_points(make_task(None), 9)
    assert tip.name == "tip"
    np.testing.assert_array_equal(tip.entries, [6, 7, 8])
    (state,) = find_points(make_task(None, state=("qvel",)), 6)
    assert state.axes == ("qvel[0]", "qvel[1]")
    np.testing.assert_array_equal(find_points(None, 1)[0].entries, [0])


LIMITED = """
<mujoco><worldbody><body><joint name="slide_x" type="slide"/><joint name="turn"/><geom size="0.1"/>
</body></worldbody><actuator>
<motor name="push" joint="slide_x" ctrlrange="-2 3" ctrllimited="true"/><motor joint="turn"/>
</actuator></mujoco>
"""


def test_actuators_have_names_and_limits():
    task = tasks.from_mjcf(
        LIMITED, cost=lambda s: costs.action(1.0), horizon=3, control_dt=0.1,
        changes={"actuator_ctrlrange:push": [[-2, 3], [-1, 1]]},
    )  # fmt: skip
    assert [_actuator(task, i) for i in (0, 1)] == ["push", "turn"]
    assert _actuator(None, 1) == "action 1"
    limits = _control_limits(task, 2, 2)
    np.testing.assert_array_equal(limits[:, :, 0].T, [[-2, 3], [-1, 1]])
    assert not np.isfinite(limits[:, :, 1]).any()
    assert not np.isfinite(_control_limits(None, 2, 2)).any()


@pytest.mark.parametrize(("variance", "shown"), [(1e-8, False), (1e-4, True), (np.nan, False)])
def test_ellipses_below_a_pixel_are_not_spoken_of(variance, shown):
    data = {"cov": np.broadcast_to(variance * np.eye(3), (1, 4, 3, 3))}
    point = Point("state", np.array([0, 1]), ("x", "y"))
    limits = [[np.array([0, 1]), np.array([0, 1])]]  # 1e-8 is 0.16 pixels wide
    assert _ellipses_show(data, 1, [point], [(0, 1)], limits, 400.0) is shown


def test_ellipse_is_where_the_mahalanobis_distance_is_two():
    factor = np.random.default_rng(0).normal(size=(2, 2))
    mean, cov = np.array([1.0, -2.0]), factor @ factor.T
    ellipse = _ellipse(mean, cov, "#000000")
    unit_circle = np.asarray(ellipse.get_path().vertices)[:-1:3]
    points = ellipse.get_patch_transform().transform(unit_circle) - mean
    np.testing.assert_allclose(
        np.einsum("ni,ij,nj->n", points, np.linalg.inv(cov), points), 4.0, rtol=1e-6
    )


def test_reductions_ignore_what_is_missing_without_a_warning():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan], [1.0, np.inf, 5.0]])
    np.testing.assert_array_equal(over_conditions(np.nanmean, values), [2.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 30.0], "log"),
        ([1.0, 15.0], "linear"),
        ([-1.0, 1000.0], "linear"),
        ([0.0, 1000.0], "linear"),
        ([np.nan], "linear"),
    ],
)
def test_scale_is_logarithmic_where_it_helps(values, scale):
    ax = Figure().subplots()
    ax.plot(values)
    scale_y(ax, np.array(values))
    assert ax.get_yscale() == scale
