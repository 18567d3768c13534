"""Every warning points at the line of the caller, from whatever depth it comes."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import faults
import jax
import pytest

import jgps
from jgps import tasks, training
from jgps.reports.report import compare, write_report
from jgps.reports.run_data import read_run
from jgps.training import EvaluationResult

PACKAGE = Path(jgps.__file__).parent
MUSCLE = """
<mujoco><worldbody><body><joint name="slide" type="slide"/><geom size="0.1"/></body></worldbody>
<actuator><general joint="slide" dyntype="integrator" actlimited="true" actrange="-1 1"/></actuator>
</mujoco>"""
DAMPER = """
<mujoco><worldbody>
<body><joint name="hinge" axis="0 1 0"/><geom size="0.1" pos="0.3 0 0"/></body></worldbody>
<actuator><damper joint="hinge" kv="1" ctrlrange="0 1"/></actuator></mujoco>"""
ADVICE = "more of them, please"


class EnoughError(Exception):
    """The run has been read."""


def train(run: Path) -> None:
    jgps.train("point_mass", "trajopt", config=faults.CONFIG, iterations=4, seed=1, out=run,
               resume=True)  # fmt: skip


def load(run: Path) -> None:
    training.load(run)


def read(run: Path) -> None:
    read_run(run)


def report(run: Path) -> None:
    with contextlib.suppress(EnoughError):
        write_report(run)


def comparison(run: Path) -> None:
    with contextlib.suppress(EnoughError):
        compare([run], run / "comparison")


def from_mjcf(_: Path) -> None:
    tasks.from_mjcf(MUSCLE, cost=lambda s: lambda x, u, t: x @ x, horizon=5)


def init(_: Path) -> None:
    task = tasks.from_mjcf(DAMPER, cost=lambda s: lambda x, u, t: x @ x, horizon=5)
    jgps.algorithms.trajopt(task).init(jax.random.key(0))


def nothing(_: Path) -> None:
    pass


def break_checkpoint(run: Path) -> None:
    (run / "checkpoints/000004.json").write_text("{}")


def lose_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").glob("*.json"):
        path.write_text("{}")


def break_metrics(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"iteration": 1', b'"iteration": 9', 1))


def break_summary(run: Path) -> None:
    (run / "summary.json").write_text("[]")


def move_to_another_machine(run: Path) -> None:
    path = run / "config.json"
    text = re.sub(r',\s*"checksum": "[0-9a-f]{16}"', "", path.read_text())
    path.write_text(re.sub(r'"cores": [0-9]+', '"cores": 4096', text))


@pytest.mark.parametrize(
    ("spoil", "call", "message"),
    [
        (nothing, train, ADVICE),
        (break_metrics, train, "cannot be read"),
        (break_checkpoint, train, "the one before, after 3 iterations, is used"),
        (lose_checkpoints, train, "no whole checkpoint"),
        (move_to_another_machine, train, "4096 before"),
        (break_checkpoint, load, "the one before, after 3 iterations, is used"),
        (break_metrics, read, "cannot be read"),
        (break_summary, read, "summary.json"),
        (break_summary, report, "summary.json"),
        (break_summary, comparison, "summary.json"),
        (nothing, init, "is a damper, which exerts no force at rest"),
        (nothing, from_mjcf, "1 activation states that are not in the state"),
    ],
)
def test_warnings_point_at_the_caller(
    run: Path, spoil: Callable[[Path], None], call: Callable[[Path], None], message: str,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    def stop(*_: object) -> None:
        raise EnoughError

    monkeypatch.setattr(EvaluationResult, "advice", ADVICE)
    monkeypatch.setattr("jgps.reports.report.draw_learning_curve", stop)
    monkeypatch.setattr("jgps.reports.report.group_runs", stop)
    spoil(run)
    with pytest.warns(UserWarning) as warned:
        call(run)
    assert any(message in str(each.message) for each in warned)
    first = call.__code__.co_firstlineno
    for each in warned:
        assert each.filename == __file__
        assert first < each.lineno <= first + 3


def test_nothing_counts_frames_but_the_one_function():
    counting = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "stacklevel" in path.read_text()
    }
    assert counting <= {"core/warn.py"}
