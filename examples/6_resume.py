"""A run in a directory: saved, resumed, and evaluated later."""

import tempfile
from pathlib import Path

import jax
import numpy as np

import jgps


def main(directory: Path, iterations: int = 8) -> dict[str, np.ndarray]:
    """Costs per training condition: of a run in two parts, of one in one part, and as reloaded."""
    # The first half. Metrics, checkpoints and results are in the directory.
    out = directory / "in_two_parts"
    jgps.train("point_mass", "trajopt", iterations=iterations // 2, out=out)
    print(sorted(path.name for path in out.iterdir()))

    # The second half, perhaps tomorrow: all but the number of iterations is as before.
    resumed = jgps.train("point_mass", "trajopt", iterations=iterations, out=out, resume=True)

    # A run that was never interrupted comes to the same, to the last bit.
    whole = jgps.train("point_mass", "trajopt", iterations=iterations)

    # From the directory alone: the task, the algorithm's state, and so the policy.
    run = jgps.training.load(out)
    print(f"{run.task.name} after {run.iterations} iterations")
    evaluation = jgps.evaluate(run.task, run.state.policy, key=jax.random.key(0))
    return {
        "resumed": resumed.evaluation.train.cost,
        "whole": whole.evaluation.train.cost,
        "reloaded": evaluation.train.cost,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        # `jgps report DIR` draws figures and a video of such a run, `jgps evaluate DIR` prints its
        # success.
        for name, costs in main(Path(temporary)).items():
            print(name, costs)
