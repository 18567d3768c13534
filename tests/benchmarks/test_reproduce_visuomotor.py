"""The visuomotor tables: tiny runs that are kept, and what the tables claim."""

import dataclasses
import json
import shutil
import warnings

import mediapy
import numpy as np
import pytest
import visuomotor_runs
from made_runs import draw_roughly
from pointer import SHOWN, conditions, make_task, shown_task, small_vision
from reproduce import Results
from reproduce_visuomotor import (
    BASELINE,
    END_TO_END,
    ENTRIES,
    POLICIES,
    POSE_NAMES,
    SETS,
    TASKS,
    claims,
    main,
    pose_claims,
    pose_row,
    row_name,
    success_row,
)
from visuomotor_runs import cost_key, count_key, pose_error, pose_settings, settings, success

from jgps import tasks
from jgps.algorithms import FixedStartsConfig
from jgps.policies import ARCHITECTURES
from jgps.reports.report import write_report

VISION = small_vision(
    5, 5, batch_size=8, width=36, height=36, channels=(2, 2, 2), pretraining_images=20
)


@pytest.fixture(scope="module")
def task() -> tasks.Task:
    return make_task(
        (-0.6, 0.0, 0.6), (-0.3, 0.3), horizon=6, name="custom", distracted=conditions((0.1,))
    )


@pytest.fixture(scope="module", autouse=True)
def _programs_are_kept():
    """Memory that runs of full size take is let go of between them, with all that is traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visuomotor_runs.jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A training of all phases, what `success` found, and where it is kept."""
    kept, task = tmp_path_factory.mktemp("kept"), shown_task()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the policy succeeds in")  # it trains for 3 iterations
        return task, success(task, SHOWN, 3, "native", kept, seed=0), kept


@pytest.mark.slow
def test_a_finished_training_is_not_done_again(finished, tmp_path, monkeypatch):
    task, found, kept = finished
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    assert [found[count_key(key)] for key in SETS] == [2, 3, 2]
    for key in SETS:
        assert found[key] == np.mean(found[f"{key}_by_condition"])
    assert found["seconds"] > 0 and 0.1 < found["peak_memory_gib"] < 100
    (directory,) = tmp_path.iterdir()
    assert directory.name.startswith(f"{task.name}-visuomotor-seed0-")
    assert json.loads((directory / "numbers.json").read_text()) == found
    summary = json.loads((directory / "summary.json").read_text())
    for key in SETS:
        np.testing.assert_allclose(found[cost_key(key)], np.mean(summary[f"cost_{key}"]), rtol=1e-5)

    class TrainedError(Exception):
        pass

    def train(*_, resume, **__):
        raise TrainedError(resume)

    monkeypatch.setattr(visuomotor_runs.training, "train", train)
    assert success(task, SHOWN, 3, "native", tmp_path, seed=0) == found
    for other in (
        dict(seed=1),
        dict(config=dataclasses.replace(SHOWN, rollouts=FixedStartsConfig(num_samples=4))),
    ):
        with pytest.raises(TrainedError, match="False"):
            success(**{**dict(task=task, config=SHOWN, iterations=3, backend="native",
                              kept=tmp_path, seed=0), **other})  # fmt: skip
    (directory / "numbers.json").unlink()  # as if it had been interrupted
    with pytest.raises(TrainedError, match="True"):
        success(task, SHOWN, 3, "native", tmp_path, seed=0)


@pytest.mark.slow
def test_a_report_of_it_shows_what_the_policy_sees(finished, tmp_path, monkeypatch):
    draw_roughly(monkeypatch)
    task, _, kept = finished
    (directory,) = kept.iterdir()
    out = tmp_path / "run"
    shutil.copytree(directory, out)
    with np.load(out / "trajectories.npz") as arrays:
        assert arrays["distracted_qpos"].shape == (2, task.horizon, 1)
    said = []
    written = [path.name for path in write_report(out, task, say=said.append)]
    assert written[-3:] == ["feature_points.png", "final.mp4", "final.png"] and not said
    image = mediapy.read_image(out / "figures" / "feature_points.png")
    assert image.shape[1] == 1200 and image.std() > 20
    # Without its checkpoints all else is drawn.
    shutil.rmtree(out / "checkpoints")
    written = [path.name for path in write_report(out, task, say=said.append)]
    assert "feature_points.png" not in written and written[-1] == "final.png"
    assert len(said) == 1 and "no whole checkpoint" in said[0]


@pytest.mark.slow
def test_poses_are_told_of_images_that_only_the_seed_decides(task, tmp_path):
    config = dataclasses.replace(VISION, width=64, height=52)

    def error(architecture, seed=0):
        return pose_error(task, architecture, config, tmp_path, seed)

    softmax, pooled, other = error("feature_points"), error("max_pool_dense"), error("dense", 1)
    assert 0 < softmax["error"] < 100 and softmax["error"] != pooled["error"]
    assert softmax["error_constant"] == pooled["error_constant"] != other["error_constant"]
    assert 1 < softmax["error_constant"] < 20  # cm: places are within 40
    assert error("feature_points") == softmax
    config = dataclasses.replace(config, dense_iterations=99)  # of policies
    assert error("feature_points") == softmax
    assert len(list(tmp_path.iterdir())) == 3


def test_small_settings_are_those_of_the_command_line():
    config, iterations = settings("hanger", "visuomotor")
    assert (config.policy.kind, iterations) == ("visuomotor", 17)
    assert (config.policy.width, config.step.max_multiplier, config.linearisation.agreement) == (
        64,
        1,
        0.5,
    )
    hammer, fewer = settings("hammer", "visuomotor")
    gone = config.trajectory_iterations - hammer.trajectory_iterations
    assert gone == iterations - fewer == 5
    large, longer = settings("hanger", "pose_features", "full")
    assert (large.policy.kind, large.policy.width, large.policy.height) == (
        "pose_features",
        240,
        240,
    )
    assert longer > iterations and large.policy.dense.frozen == "convolutions"
    assert large.policy.end_to_end.steps > config.policy.end_to_end.steps
    softmax, dense = (pose_settings("hanger", each) for each in ("feature_points", "dense"))
    assert softmax.pretraining == config.policy.pretraining
    assert softmax.pretraining_images == 1000
    assert dense.pretraining.learning_rate == 1e-3
    longest = pose_settings("hanger", "dense", "full").pretraining.steps
    assert longest > large.policy.pretraining.steps > softmax.pretraining.steps


def test_rows_are_beside_the_published_values(tmp_path):
    row = success_row("hammer", BASELINE, "small", "native", tmp_path)
    assert row.name == "hammer, pose features" and row.settings.policy.kind == BASELINE
    assert row.published == {"train": 0.62, "test": 0.75, "distracted": 0.53}
    assert success_row("hammer", "pose_prediction", "small", "native", tmp_path).published == {}
    errors = [pose_row(each, "hanger", "small", tmp_path).published for each in ARCHITECTURES]
    assert [each["error"] for each in errors] == [1.30, 2.59, 4.75, 3.71]


def _successes(ours, baseline):
    def run(values):
        return [dict(zip(SETS, values, strict=True))]

    return Results({row_name("hanger", END_TO_END): run(ours),
                    row_name("hanger", BASELINE): run(baseline)})  # fmt: skip


def test_claims_are_on_every_set_and_on_the_baseline():
    reaches, above = claims(("hanger",), POLICIES)
    least = ENTRIES["hanger"].least
    assert reaches.holds(_successes(least, least)) and not above.holds(_successes(least, least))
    for index in range(3):
        less = [value - 0.05 * (index == which) for which, value in enumerate(least)]
        assert not reaches.holds(_successes(less, least))
        assert above.holds(_successes(least, less)) and not above.holds(_successes(less, least))
    assert len(claims(TASKS, POLICIES)) == 8
    assert len(claims(TASKS, (END_TO_END,))) == 4 and not claims(TASKS, (BASELINE,))


def test_the_claim_on_poses_is_on_all_architectures():
    (claim,) = pose_claims()
    for last, holds in ((2.0, True), (1.0, False)):
        errors = dict(zip(POSE_NAMES.values(), (1.0, 2.0, 3.0, last), strict=True))
        rows = {name: [{"error": value}] for name, value in errors.items()}
        assert claim.holds(Results(rows)) == holds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(tasks=("cube",)), "--tasks is cube; it has to name some of shape_sorting_cube"),
        (dict(policies=()), "--policies is "),
        (dict(pose_task="reacher"), "--pose-task is reacher"),
    ],
)
def test_unknown_names_are_refused(arguments, sentence, capsys):
    assert main(**arguments) == 2
    assert sentence in capsys.readouterr().err
