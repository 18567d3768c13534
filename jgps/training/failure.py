"""What a failed iteration means and which setting to turn."""

from collections import Counter
from collections.abc import Sequence

from jgps.core.types import (
    NON_FINITE,
    NOT_CONVERGED,
    NOT_PD,
    OK,
    STATUS_TEXT,
    TOO_FEW_SAMPLES,
)
from jgps.training.metrics import MAX_LISTED, NUM_WORST, Record, highest

_REMEDY = {
    NOT_PD: (
        "raise the fit's ridge (config.models.fit.ridge), or take more samples (config.num_samples)"
    ),
    NON_FINITE: "check that the task's cost is finite and twice differentiable at these states",
    NOT_CONVERGED: (
        "lower the step size (config.step.kl_step), or allow more rounds "
        "(config.step.trust_region.max_rounds)"
    ),
    TOO_FEW_SAMPLES: (
        "take more samples (config.num_samples), or explore less (the variance of the task's "
        "initial controller)"
    ),
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


def explain_failure(records: Sequence[Record], stop_on_divergence: bool = False) -> str | None:
    """Why training cannot go on after the last of these iterations; None where it can.

    At once where no rollout is valid or nothing is finite: more of the same samples won't help;
    and where the training of the network failed, if `stop_on_divergence`. Otherwise after
    `PATIENCE` iterations in a row in which every condition failed, because the next iteration has
    other samples. Names the setting to turn.
    """
    record = records[-1]
    valid = record.get("samples_valid")
    if valid and not any(valid):
        return (
            "every rollout of every condition was not finite: the simulation diverges; explore "
            "less (the variance of the task's initial controller), or lower the model's timestep"
        )
    if stop_on_divergence and describe_policy(record):
        return (
            f"{describe_policy(record)}; start anew with a lower learning rate "
            "(config.distil.learning_rate; of a network that sees, those of config.vision.head "
            "and config.vision.end_to_end), or resume with the parameters that it kept "
            '(on_divergence "continue" there)'
        )
    if not _all_failed(record):
        return None
    codes = record["status"]
    text = f"every condition failed ({describe_failures(record)}); {_REMEDY[codes[0]]}"
    if all(code == NON_FINITE for code in codes):
        return text
    last = records[-PATIENCE:]
    if len(last) < PATIENCE or not all(_all_failed(each) for each in last):
        return None
    return f"for {PATIENCE} iterations in a row {text}"


def _all_failed(record: Record) -> bool:
    codes = record.get("status", [])
    return bool(codes) and len(failed_conditions(record)) == len(codes)
