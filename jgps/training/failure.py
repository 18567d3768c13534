"""What a failed iteration means and which setting to turn."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from jgps.core.types import (
    NON_FINITE,
    NOT_CONVERGED,
    NOT_PD,
    OK,
    STATUS_TEXT,
    TOO_FEW_SAMPLES,
)
from jgps.training.metrics import MAX_LISTED, NUM_WORST, Record, highest

_EXPLORE_LESS = "explore less (the variance or exploration of the task's initial controller)"
# Of each failure: what to do and the setting that does it, by the end of its dotted path.
_SETTINGS = {
    NOT_PD: (
        ("raise the fit's ridge", "fit.ridge"),
        ("take more samples", "num_samples"),
        ("take more rollouts", "num_rollouts"),
    ),
    NON_FINITE: (),
    NOT_CONVERGED: (
        ("lower the KL bound of a step", "kl_step"),
        ("allow more rounds", "max_rounds"),
        ("allow more rounds", "trust_region.rounds"),
    ),
    TOO_FEW_SAMPLES: (
        ("take more samples", "num_samples"),
        ("take more rollouts", "num_rollouts"),
        ("share them out among fewer groups", "num_groups"),
    ),
}
_WITHOUT_SETTING = {
    NON_FINITE: "check that the task's cost is finite and twice differentiable at these states",
    TOO_FEW_SAMPLES: _EXPLORE_LESS,
}


def failed_conditions(record: Record) -> list[int]:
    """Conditions that kept their controller because their update failed."""
    return [c for c, code in enumerate(record.get("status", [])) if code != OK]


def describe_policy(record: Record) -> str:
    """One line on a network whose training failed in an iteration; empty where it did not."""
    code = record.get("policy_status", OK)
    if code == OK:
        return ""
    return f"the network kept its parameters, because its training failed ({STATUS_TEXT[code]})"


# What the metrics of raised ridges begin with, and whose ridge that is.
_RIDGES = {
    "": "models.fit.ridge",
    "linearisation_": "models.fit.ridge, in the regression of the network,",
    "observation_": "models.fit.ridge, in the regression of the state on the observation,",
}


def describe_ridges(record: Record) -> str:
    """One line on ridges that were raised in an iteration; empty where none was."""
    parts = []
    for whose, name in _RIDGES.items():
        steps = record.get(f"{whose}ridge_raised", [])
        raised = sum(count > 0 for count in steps)
        if raised:
            added = record.get(f"{whose}ridge_added", [])
            most = max((each for each in added if each is not None), default=math.inf)
            parts.append(
                f"{name} was raised in {raised} of {len(steps)} conditions, at {sum(steps)} steps "
                f"and by up to {most:.2g}"
            )
    mixture = max((each or 0.0 for each in record.get("mixture_ridge_added", [])), default=0.0)
    if mixture > 0:
        parts.append(f"models.prior.em.ridge was raised by {mixture:.2g}")
    return f"{'; '.join(parts)}: rounding would hide it" if parts else ""


def describe_failures(record: Record) -> str:
    """One line on the failed conditions of an iteration; empty where none failed.

    Every failed condition gets a clause of its own, unless there are more than `NUM_WORST` of them
    among more than `MAX_LISTED` conditions: then the line counts them and their reasons, and names
    those with the highest cost.
    """
    failed = failed_conditions(record)
    if len(record.get("status", [])) > MAX_LISTED and len(failed) > NUM_WORST:
        return _summarise_failures(record, failed)
    parts = []
    steps = record.get("status_step", [])
    for c in failed:
        where = f" at step {steps[c]}" if steps and steps[c] >= 0 else ""
        parts.append(
            f"condition {c} kept its controller ({STATUS_TEXT[record['status'][c]]}{where})"
        )
    return "; ".join(parts)


def _summarise_failures(record: Record, failed: Sequence[int]) -> str:
    """One line on many failed conditions."""
    codes = record["status"]
    reasons = Counter(codes[c] for c in failed).most_common()
    counts = ", ".join(f"{STATUS_TEXT[code]}: {count}" for code, count in reasons)
    text = f"{len(failed)} of {len(codes)} conditions kept their controllers ({counts})"
    cost = record.get("cost")
    if not isinstance(cost, list) or len(cost) != len(codes):
        return f"{text}, the first of them {', '.join(str(c) for c in failed[:NUM_WORST])}"
    worst = [failed[i] for i in highest([cost[c] for c in failed])]
    return f"{text}, those of the highest cost {', '.join(str(c) for c in worst)}"


PATIENCE = 3  # iterations in a row in which no condition took a step


def explain_failure(
    records: Sequence[Record], config: Any, stop_on_divergence: bool = False
) -> str | None:
    """Why training cannot go on after the last of these iterations; None where it can.

    At once where no rollout is valid or nothing is finite: more of the same samples won't help;
    and where the training of the network failed, if `stop_on_divergence`. Otherwise after
    `PATIENCE` iterations in a row in which every condition failed, because the next iteration has
    other samples. Names the settings to turn, all of which `config` (the algorithm's) has.
    """
    record = records[-1]
    valid = record.get("samples_valid")
    if valid and not any(valid):
        return (
            "every rollout of every condition was not finite: the simulation diverges; "
            f"{_EXPLORE_LESS}, or lower the model's timestep"
        )
    if stop_on_divergence and describe_policy(record):
        trainings = _training_paths(config)
        rates = " and ".join(f"{path}.learning_rate" for path in trainings)
        switches = " and ".join(f"{path}.on_divergence" for path in trainings)
        return (
            f"{describe_policy(record)}; start anew with a lower learning rate ({rates}), or "
            f'resume with the parameters that it kept ("continue" as {switches})'
        )
    if not _all_failed(record):
        return None
    codes = record["status"]
    code = Counter(codes).most_common(1)[0][0]
    remedy = _remedy(code, config)
    text = f"every condition failed ({describe_failures(record)}){remedy and f'; {remedy}'}"
    if all(code == NON_FINITE for code in codes):
        return text
    last = records[-PATIENCE:]
    if len(last) < PATIENCE or not all(_all_failed(each) for each in last):
        return None
    return f"for {PATIENCE} iterations in a row {text}"


def _remedy(code: int, config: Any) -> str:
    """What to do about a failure, naming settings that the config has; empty where it has none."""
    paths = list(_settings(config))
    advice: dict[str, list[str]] = {}
    for what, end in _SETTINGS[code]:
        found = [path for path in paths if path.endswith(f".{end}")]
        if found:
            advice.setdefault(what, []).extend(found)
    parts = [f"{what} ({' and '.join(found)})" for what, found in advice.items()]
    parts += [_WITHOUT_SETTING[code]] if code in _WITHOUT_SETTING else []
    return ", or ".join(parts)


def _training_paths(config: Any) -> list[str]:
    """The dotted paths of the settings by which the network that the config asks for is trained."""
    policy = getattr(config, "policy", None)
    if policy is None:
        return []
    used = policy.trainings
    return [
        f"config.policy.{field.name}"
        for field in dataclasses.fields(policy)
        if any(getattr(policy, field.name) is each for each in used)
    ]


def _settings(config: Any, path: str = "config") -> Iterator[str]:
    """The dotted path of every setting in nested dataclasses."""
    for field in dataclasses.fields(config):
        value, inner = getattr(config, field.name), f"{path}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _settings(value, inner)
        else:
            yield inner


def _all_failed(record: Record) -> bool:
    codes = record.get("status", [])
    return bool(codes) and len(failed_conditions(record)) == len(codes)
