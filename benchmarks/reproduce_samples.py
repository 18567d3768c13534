"""Rollouts that a task takes: trajectory optimisation against model-free search.

Rollouts are counted per condition, and all of them count, those without noise too, until the
policies succeed without noise in all training conditions. Of everything tried so far, each
condition's policy is the one that cost least. All methods begin with the task's initial controller;
what the model-free ones search is in `baselines/policy_search.py`. A method stops when it has
solved the task, but not before `FEW` rollouts.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from baselines import CemConfig, CmaConfig, PolicyConfig, RepsConfig, cem, cma, on_task, reps
from baselines.policy_search import num_parameters
from reproduce import SEEDS, Claim, Column, Results, Row, refuse, run_seeds, status

from jgps.algorithms import FixedStartsConfig, TrajoptConfig, trajopt
from jgps.dynamics import NoPriorConfig
from jgps.optimise.models import FittedModelsConfig
from jgps.tasks import Task
from jgps.tasks import make as make_task

PUBLISHED = (
    "5 samples per iteration suffice with the mixture prior, about 20 without it; guided policy "
    "search reaches the cost of optimisation on the known model at 100 to 400 samples, where CEM, "
    "RWR and REPS need thousands (Levine & Abbeel 2014): that cost, on their tasks, and not "
    "success on ours, is what the published numbers stand for."
)
TASKS, BUDGET = ("peg_insertion_round", "door_opening", "pusher"), 1000
CLAIMED = "peg_insertion_round"  # the task of the claims
MIXTURE = "mixture prior, 5 samples"
CEM, REPS = "CEM", "REPS"
POPULATIONS = (9, 19)  # candidates of the searches; their mean is tried too
FEW = 100  # rollouts per condition within which the mixture prior has to succeed


def main(
    seeds: tuple[int, ...] = SEEDS,
    tasks: tuple[str, ...] = TASKS,
    budget: int = BUDGET,
    backend: str = "auto",
    out: Path | None = None,
    quick: bool = False,
) -> int:
    """Rollouts per condition until success: mixture prior, no prior, CEM, REPS, CMA-ES.

    Args:
      seeds: one run of every method with each.
      tasks: all methods on each; with a success test.
      budget: rollouts per condition after which a method is given up.
      backend: "native", "mjx" or "auto".
      out: JSON file of the result, Markdown goes beside it; benchmarks/results/samples.json, or
        runs/samples.json where other settings are not the default ones.
      quick: show within a minute or two that the script runs: one seed, as little as it can do;
        no claim is judged, and the result goes to runs.
    """
    if quick:
        seeds, tasks, budget = seeds[:1], tasks[:1], FEW
    if budget < FEW:
        return refuse(f"--budget is {budget}; it has to be at least {FEW} rollouts per condition")
    result = run_seeds(
        "samples", [row for task in tasks for row in rows(task, budget, backend)], seeds,
        columns=(
            Column("rollouts", "rollouts", ".0f", f"> {budget}"),
            Column("success_few", f"solved at {FEW}", ".0%"),
            Column("cost_few", f"cost at {FEW}", ".1f"),
            Column("success", f"solved within {budget}", ".0%"),
        ),
        claims=claims() if CLAIMED in tasks and not quick else (), published=PUBLISHED, out=out,
        whole=(seeds, tasks, budget) == (SEEDS, TASKS, BUDGET),
    )  # fmt: skip
    return status(result)


def rows(task_name: str, budget: int, backend: str) -> list[Row]:
    """One for every method."""
    task: Task = make_task(task_name)

    def row(name: str, make: Any, config: Any, published: str) -> Row:
        compiled_once = functools.cache(make)
        return Row(
            name=row_name(task_name, name),
            run=functools.partial(rollouts_to_success, compiled_once, task.train.num, budget),
            published={"rollouts": published},
            settings=config,
        )

    def optimiser(name: str, config: TrajoptConfig, published: str) -> Row:
        return row(name, lambda: trajopt(task, config, backend), config, published)

    def baseline(name: str, search: Any, config: Any, published: str = "") -> Row:
        policy = PolicyConfig()
        make = functools.partial(on_task, task, search, policy, backend)
        return row(name, make, (config, policy), published)

    def population(name: str, num: int) -> str:
        return f"{name}, {num + 1} rollouts a time"

    few, many = (
        TrajoptConfig(),
        TrajoptConfig(
            rollouts=FixedStartsConfig(num_samples=20),
            models=FittedModelsConfig(prior=NoPriorConfig()),
        ),
    )
    without = TrajoptConfig(models=FittedModelsConfig(prior=NoPriorConfig()))
    size = num_parameters(task)
    found = [
        optimiser(MIXTURE, few, "100 to 400"),
        optimiser("no prior, 5 samples", without, ""),
        optimiser("no prior, 20 samples", many, ""),
    ]
    for num in POPULATIONS:
        searches = (
            (CEM, cem, CemConfig(num_samples=num), "thousands"),
            (REPS, reps, RepsConfig(num_samples=num), "thousands"),
            ("Sep-CMA-ES", functools.partial(cma, size=size), CmaConfig(num_samples=num), ""),
        )
        found += [
            baseline(population(name, num), search(config), config, published)
            for name, search, config, published in searches
        ]
    return found


def row_name(task: str, method: str) -> str:
    """What a method's row is called."""
    return f"{task}: {method}"


def rollouts_to_success(make: Any, num_conditions: int, budget: int, seed: int) -> dict[str, Any]:
    """Steps `make()` until all conditions are solved, but not before `FEW` rollouts.

    Args:
      make: returns an algorithm or a baseline that measures `noise_free_cost` and
        `noise_free_success`.
      num_conditions: C, of its task.
      budget: rollouts per condition at most.
      seed: of everything random.
    """
    algorithm = make()
    per_step = algorithm.rollouts_per_step // num_conditions
    state = algorithm.init(jax.random.key(seed))
    best_cost, best_success = np.full(num_conditions, np.inf), np.zeros(num_conditions)
    solved_at, at_few, curve = None, (0.0, float("inf")), []
    for used in range(per_step, budget + 1, per_step):
        state, metrics = algorithm.step(state)
        cost = np.asarray(metrics["noise_free_cost"], float)
        better = cost < best_cost
        best_cost = np.where(better, cost, best_cost)
        best_success = np.where(better, np.asarray(metrics["noise_free_success"]), best_success)
        now = float(best_success.mean()), float(best_cost.mean())
        curve.append([used, *now])
        if used <= FEW:
            at_few = now
        if now[0] == 1 and solved_at is None:
            solved_at = used
        if solved_at is not None and used + per_step > FEW:
            break
    return {
        "rollouts": solved_at,
        "success_few": at_few[0],
        "cost_few": at_few[1],
        "success": curve[-1][1],
        "curve": curve,  # rollouts per condition, fraction of conditions solved, mean cost
    }


def claims() -> tuple[Claim, ...]:
    """What has to show."""

    def few(results: Results, method: str) -> list[bool]:
        used = [
            each
            for row in results.names
            if row.startswith(row_name(CLAIMED, method))
            for each in results.values(row, "rollouts")
        ]
        return [each is not None and each <= FEW for each in used]

    return (
        Claim(
            f"{CLAIMED}: with the mixture prior all conditions succeed within {FEW} rollouts per "
            "condition, for every seed",
            lambda results: all(few(results, MIXTURE)),
        ),
        Claim(
            f"{CLAIMED}: CEM and REPS do not succeed in all conditions within {FEW} rollouts per "
            "condition, with any seed",
            lambda results: not any(few(results, CEM) + few(results, REPS)),
        ),
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
