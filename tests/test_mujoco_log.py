"""MuJoCo's warnings stay off the terminal and write no file, wherever jgps calls it."""

import ast
import pathlib
import threading

import mujoco
import numpy as np
import pytest

from jgps.mujoco_log import quiet_mujoco

PACKAGE = pathlib.Path(__file__).parents[1] / "jgps"
# What never warns. Whatever else is called of MuJoCo has to be called quietly.
SILENT = {
    "mj_name2id", "mj_id2name", "mj_stateSize", "mj_getState", "mj_resetData", "mj_sizeModel",
    "mj_saveModel", "mj_kinematics", "mj_comPos", "mj_camlight", "mj_jacSite", "mj_jacBody",
    "mj_integratePos", "mj_solveM", "mj_fullM", "mj_mulM",
}  # fmt: skip
LOUD = {"from_xml_path", "from_xml_string", "from_file", "from_string", "put_model"}


def _is_loud(call):
    """`mujoco.mj_step(...)`, `mujoco.MjSpec.from_file(...)`, `spec.compile()`, `pool.rollout()`."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if owner == "mujoco" and name.startswith("mj_"):
        return name not in SILENT
    return name in LOUD or (owner, name) in (("spec", "compile"), ("pool", "rollout"))


def _loud_calls(node, quiet=False):
    """Calls in this piece of code that are neither in a quiet function nor in a quiet block."""
    if isinstance(node, ast.FunctionDef):
        quiet = any("quiet_mujoco" in ast.unparse(each) for each in node.decorator_list)
    elif isinstance(node, ast.With):
        quiet |= any("quiet_mujoco" in ast.unparse(each) for each in node.items)
    elif isinstance(node, ast.Call) and _is_loud(node) and not quiet:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _loud_calls(child, quiet)


def test_every_call_that_could_warn_is_quiet():
    loud = [
        f"{path.relative_to(PACKAGE)}:{call.lineno} {ast.unparse(call.func)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for call in _loud_calls(ast.parse(path.read_text()))
        if ast.unparse(call.func) not in IN_QUIET_CALLERS
    ]
    assert loud == []


# Called by load_model alone, which is quiet.
IN_QUIET_CALLERS = {"mujoco.MjSpec.from_string", "mujoco.MjSpec.from_file"}


def test_a_loud_call_would_be_found():
    source = """
@quiet_mujoco()
def quiet(m, d):
    mujoco.mj_step(m, d)
    def inner():
        mujoco.mj_forward(m, d)
    with quiet_mujoco():
        mujoco.mj_inverse(m, d)
mujoco.mj_kinematics(m, d)
mujoco.mj_setConst(m, d)
"""
    found = [ast.unparse(call.func) for call in _loud_calls(ast.parse(source))]
    assert found == ["mujoco.mj_forward", "mujoco.mj_setConst"]


def _diverge():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint/><geom size='1'/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    data.qvel[0] = np.nan
    mujoco.mj_step(model, data)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_mujoco_is_as_before_after_the_last_of_overlapping_uses(capfd, tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def other_thread():
        with quiet_mujoco():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other_thread)
    with quiet_mujoco(), quiet_mujoco():
        thread.start()
        inside.wait()
        _diverge()
    _diverge()  # while the thread is inside
    leave.set()
    thread.join()
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())
    _diverge()
    assert "Nan, Inf" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["MUJOCO_LOG.TXT"]


def test_an_error_inside_restores_it_too_and_a_handler_is_still_called():
    heard = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        with pytest.raises(ValueError), quiet_mujoco():
            _diverge()
            raise ValueError
    finally:
        mujoco.set_mju_user_warning(before)
    assert len(heard) == 1
    config = mujoco.MjLogConfig.get()
    assert config.logto_console and config.logto_file
