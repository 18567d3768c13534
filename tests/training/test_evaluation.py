"""Evaluation of policies, during training and after it."""

import dataclasses

import jax
import numpy as np
import pytest
from small_runs import train, train_network, without_seconds

import jgps
from jgps.tasks import Task
from jgps.training import TrainingResult, make_evaluator
from jgps.training.metrics import CompileClock

pytestmark = pytest.mark.usefixtures("made_once")

MEASURED = {"success_train", "success_test", "cost_train_policy", "cost_test_policy"}


def test_evaluation_with_noise(task: Task, result: TrainingResult):
    policy = result.state.policy
    noisy = jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=4)
    again = jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=4)
    assert noisy.train.rollouts.x.shape[:2] == (4, 4)
    assert noisy.test.rollouts.x.shape[:2] == (6, 4)
    np.testing.assert_array_equal(noisy.train.cost, again.train.cost)
    assert np.all(noisy.train.cost != result.evaluation.train.cost)
    with pytest.raises(ValueError, match="num_samples is 0"):
        jgps.evaluate(task, policy, key=jax.random.key(3), num_samples=0)


def test_what_cannot_be_evaluated_is_named(task: Task, result: TrainingResult):
    policy, key = result.state.policy, jax.random.key(3)
    for arguments, message in [
        ((task, result), r"^policy is a TrainingResult; pass its state.policy: jgps.evaluate"),
        ((task, result.state), r"^policy is a LocalState; pass its policy: jgps.evaluate"),
        ((task, "mdgps"), "^policy is a str; pass an algorithm's state.policy"),
        (("point_mass", policy), r"^task is 'point_mass'; jgps.evaluate takes a task, as jgps.tas"),
    ]:
        with pytest.raises(ValueError, match=message):
            jgps.evaluate(*arguments, key=key)
    with pytest.raises(ValueError, match=r"^key is 0; it has to be one random key"):
        jgps.evaluate(task, policy, key=0)
    for number, message in [
        (2.5, "^num_samples is 2.5; it has to be an integer and"),
        (10**12, r"^evaluating 'point_mass' would need at least .* GiB .*; lower num_samples$"),
    ]:
        with pytest.raises(ValueError, match=message):
            jgps.evaluate(task, policy, key=key, num_samples=number)


def test_an_evaluator_compiles_once_for_all_policies(task: Task, result: TrainingResult):
    policy, key = result.state.policy, jax.random.key(0)
    evaluator = make_evaluator(task, policy.act)
    params_for = jax.jit(lambda policy, x0: policy.params_for(x0))
    first = evaluator(lambda x0: params_for(policy, x0), key)
    np.testing.assert_array_equal(first.test.cost, result.evaluation.test.cost)
    weaker = policy._replace(controllers=jax.tree.map(lambda leaf: 0.5 * leaf, policy.controllers))
    with CompileClock() as clock:
        second = evaluator(lambda x0: params_for(weaker, x0), key)
        assert clock.take() == 0
    assert np.all(second.test.cost != first.test.cost)


def test_every_iteration_records_how_the_policy_does(result: TrainingResult):
    assert all(set(record) >= MEASURED for record in result.metrics)
    last = result.metrics[-1]
    evaluation = result.evaluation
    assert last["success_train"] == evaluation.train.success_rate
    assert last["success_test"] == evaluation.test.success_rate
    assert last["cost_train_policy"] == pytest.approx(np.mean(evaluation.train.cost))
    assert last["cost_test_policy"] == pytest.approx(np.mean(evaluation.test.cost))
    spent = sum(record["evaluation_seconds"] for record in result.metrics)
    assert 0 < spent < result.summary["evaluation_seconds"] < result.summary["wall_seconds"]


@pytest.mark.parametrize(("every", "evaluated"), [(0, []), (3, [2])])
def test_evaluation_now_and_then_changes_nothing_else(
    task: Task, result: TrainingResult, every: int, evaluated: list[int]
):
    again = train(task, iterations=4, seed=1, evaluate_every=every)
    seen = [record["iteration"] for record in again.metrics if set(record) & MEASURED]
    assert seen == evaluated
    for record, reference in zip(
        without_seconds(again.metrics), without_seconds(result.metrics), strict=True
    ):
        if record["iteration"] not in evaluated:
            reference = {k: v for k, v in reference.items() if k not in MEASURED}
        assert record == reference
    assert again.summary["rollouts_total"] == result.summary["rollouts_total"]
    assert again.summary["success_test"] == result.summary["success_test"]


def test_curves_show_the_newest_network_and_the_result_is_the_best(task: Task):
    result = train_network(task, iterations=3, seed=1)
    key = jax.random.key(0)
    newest = jgps.evaluate(task, result.state.newest, key=key)
    best = jgps.evaluate(task, result.state.policy, key=key)
    assert result.metrics[-1]["cost_test_policy"] == pytest.approx(np.mean(newest.test.cost))
    np.testing.assert_array_equal(result.evaluation.test.cost, best.test.cost)
    trials = [np.mean(record["noise_free_cost"]) for record in result.metrics]
    np.testing.assert_allclose(np.mean(best.train.cost), min(trials), rtol=1e-5)


def test_distracted_conditions_are_a_third_set(task: Task, result: TrainingResult):
    # Where only some conditions move a body, it stays where the model has it in the others.
    place = np.tile(task.model.body("mass").pos, (task.train.num, 1))
    same = task.train._replace(changes={**task.train.changes, "body_pos:mass": place})
    distracted = dataclasses.replace(task, distracted=same)
    again = train(distracted, iterations=4, seed=1)
    assert result.evaluation.distracted is None
    assert list(again.evaluation.sets) == ["train", "test", "distracted"]
    for name, found in again.evaluation.sets.items():
        expected = result.evaluation.sets["train" if name == "distracted" else name]
        np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-5)
    assert again.summary["success_distracted"] == again.summary["success_train"]
    extra = set(again.metrics[-1]) - set(result.metrics[-1])
    assert extra == {"success_distracted", "cost_distracted_policy"}
    # What cannot be moved back is judged apart.
    heavy = task.train._replace(changes={"body_mass:mass": np.full((task.train.num, 1), 1.1)})
    apart = jgps.evaluate(
        dataclasses.replace(task, distracted=heavy), result.state.policy, key=jax.random.key(0)
    )
    np.testing.assert_array_equal(apart.test.cost, result.evaluation.test.cost)
    assert apart.distracted is not None and np.all(apart.distracted.cost != apart.train.cost)


@pytest.mark.parametrize(
    ("train", "test", "warned"),
    [(1.0, 0.75, True), (0.8, 0.5, True), (1.0, 0.875, False), (0.5, 0.0, False)],
)
def test_a_policy_that_learned_its_training_conditions_alone_is_told_of(
    result: TrainingResult, train: float, test: float, warned: bool
):
    evaluation = result.evaluation._replace(
        train=result.evaluation.train._replace(success=np.array([train])),
        test=result.evaluation.test._replace(success=np.array([test])),
    )
    assert bool(evaluation.advice) == warned
    if warned:
        assert f"{train:.0%} of the training" in evaluation.advice
        assert "more of them" in evaluation.advice
    undefined = evaluation._replace(test=evaluation.test._replace(success=None))
    assert undefined.advice == ""
