"""What a failed iteration means and which setting to turn."""

from jgps.core.types import (
    NON_FINITE,
    NOT_CONVERGED,
    NOT_PD,
    OK,
    STATUS_TEXT,
    TOO_FEW_SAMPLES,
)
from jgps.training.metrics import Record

_REMEDY = {
    NOT_PD: "raise the fit's ridge (config.fit.ridge), or take more samples (config.num_samples)",
    NON_FINITE: "check that the task's cost is finite and twice differentiable at these states",
    NOT_CONVERGED: (
        "lower the step size (config.step_size.kl_step), or allow more rounds "
        "(config.trust_region.max_rounds)"
    ),
    TOO_FEW_SAMPLES: (
        "take more samples (config.num_samples), or explore less (the variance of the task's "
        "initial controller)"
    ),
}


def failed_conditions(record: Record) -> list[int]:
    """Conditions that kept their controller because their update failed."""
    return [c for c, code in enumerate(record.get("status", [])) if code != OK]


def describe_failures(record: Record) -> str:
    """One line on the failed conditions of an iteration and on rollouts left out; may be empty."""
    parts = []
    steps = record.get("status_step", [])
    for c in failed_conditions(record):
        where = f" at step {steps[c]}" if steps and steps[c] >= 0 else ""
        parts.append(
            f"condition {c} kept its controller ({STATUS_TEXT[record['status'][c]]}{where})"
        )
    return "; ".join(parts)


def explain_failure(record: Record) -> str | None:
    """Why training cannot go on after this iteration, with the knob to turn; None where it can."""
    valid = record.get("samples_valid")
    if valid and not any(valid):
        return (
            "every rollout of every condition was not finite: the simulation diverges; explore "
            "less (the variance of the task's initial controller), or lower the model's timestep"
        )
    codes = record.get("status", [])
    if not codes or len(failed_conditions(record)) < len(codes):
        return None
    return f"every condition failed ({describe_failures(record)}); {_REMEDY[codes[0]]}"
