import copy
import pickle

import mujoco
import numpy as np
import pytest

from jgps import tasks

MJCF = """<mujoco><worldbody><body name="b"><joint name="j"/><geom size=".1"/>
  <site name="s"/></body></worldbody><actuator><motor joint="j"/></actuator>
<sensor><framepos name="where" objtype="site" objname="s"/></sensor></mujoco>"""


def _task(source, **settings):
    return tasks.from_mjcf(source, cost=lambda s: lambda x, u, t: u @ u, **settings)


@pytest.mark.parametrize(
    "source",
    [
        MJCF.encode(),
        "\ufeff" + MJCF,
        ("\ufeff" + MJCF).encode(),
        MJCF.encode("utf-16"),
        mujoco.MjSpec.from_string(MJCF),
        mujoco.MjModel.from_xml_string(MJCF),
    ],
)
def test_a_model_may_come_as_bytes_and_compiled(source):
    task = _task(source, state=("qpos", "qvel", "sensor:where"))
    assert (task.state_dim, task.action_dim) == (5, 1)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "model.xml"
    path.write_bytes(("\ufeff" + MJCF).encode())
    assert _task(path).state_dim == 2


def test_a_compiled_model_is_copied_and_gains_no_sensors():
    model = mujoco.MjModel.from_xml_string(MJCF)
    task = _task(model)
    task.model.body_mass[:] = 7
    assert model.body_mass[1] != 7
    with pytest.raises(ValueError, match=r"an MjModel is compiled already .* pass its MJCF"):
        _task(model, state=("qpos", "site_pos:s"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"\xff<mujoco/>", "bytes that are not UTF-8 "),
        (MJCF.encode("utf-16")[:-1], "bytes that are not UTF-16 "),
        ("<mujoco model='\udcff'/>", "holds halves of characters, which are no text in UTF-8"),
        (7, "the model is int; it has to be"),
        (b"<mujoco", "the MJCF does not parse"),
        ("\ufeffnowhere.xml", "model file 'nowhere.xml' does not exist"),
    ],
)
def test_what_is_no_model(source, message):
    with pytest.raises(ValueError, match=message):
        _task(source)


def test_tasks_are_copied_and_pickled_where_their_functions_are():
    task = _task(MJCF)
    other = copy.deepcopy(task)
    assert other.model is not task.model and other.layout == task.layout
    other.train.qpos[:] = 3
    assert task.train.qpos[0, 0] == 0
    with pytest.raises(TypeError, match=r"'custom' can't be pickled, because its cost .* anew"):
        pickle.dumps(task)
    plain = tasks.from_mjcf(MJCF, cost=_make_cost)
    again = pickle.loads(pickle.dumps(plain))
    assert again.layout == plain.layout and again.cost is plain.cost
    np.testing.assert_array_equal(again.model.body_mass, plain.model.body_mass)


def _make_cost(layout):
    return _effort


def _effort(x, u, t):
    return u @ u
