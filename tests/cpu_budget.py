"""What a test may cost, in processor time: a busy machine makes none slower."""

import os

SECONDS = 45.0  # of all threads and child processes, in a test's set-up or its call
SECONDS_SLOW = 90.0  # where it is marked `slow`
# On a machine whose processor is slower: JGPS_TEST_BUDGET=2 allows twice as much, 0 any time.
SCALE = "JGPS_TEST_BUDGET"

# Files that take longest, in this order: two processes that share the files out then end together.
LONGEST = (
    "algorithms/test_contract.py",
    "benchmarks/test_reproduce_visuomotor.py",
    "vision/test_visual_policies.py",
    "algorithms/test_guided_path_integrals.py",
    "simulation/test_backends.py",
    "algorithms/test_mdgps.py",
    "cli/test_cli.py",
    "algorithms/test_path_integral_algorithms.py",
    "algorithms/test_badmm.py",
    "core/lqr/test_lqr.py",
    "test_settings.py",
    "optimise/test_random_starts.py",
    "rendering/test_view.py",
    "algorithms/test_trajopt.py",
    "reports/test_report.py",
    "optimise/test_known_models.py",
    "faults/test_disk_and_signals.py",
    "algorithms/test_known_agreement.py",
    "simulation/test_mjx_derivatives.py",
    "faults/test_kills.py",
    "rendering/test_raycast.py",
    "core/lqr/test_trust_region.py",
    "test_examples.py",
    "tasks/test_hammer_and_bottle.py",
    "tasks/test_state_image.py",
    "simulation/test_analytic.py",
    "optimise/test_mpc_run.py",
    "core/test_pilqr.py",
)


def spent() -> float:
    """Seconds of processor time that this process and the children it waited for took."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def complaint(seconds: float, slow: bool) -> str | None:
    """A sentence where that is too much for one test, else None."""
    budget = (SECONDS_SLOW if slow else SECONDS) * float(os.environ.get(SCALE, "1"))
    if budget == 0 or seconds <= budget:
        return None
    remedy = "share or shrink what it runs" + ("" if slow else ", or mark it `slow`")
    return (
        f"took {seconds:.0f} s of processor time, which may be {budget:.0f} s: {remedy}; on a slow "
        f"machine set {SCALE} to a factor"
    )
