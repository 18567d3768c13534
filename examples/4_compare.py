"""Two algorithms side by side, each with several seeds."""

from collections.abc import Sequence

import jax
import numpy as np

import jgps
from jgps.configs import FixedStartsConfig, Pi2Config


def learning_curve(algorithm: jgps.algorithms.Algorithm, seed: int, iterations: int) -> list[float]:
    """Cost of the samples of every iteration, mean over conditions."""
    # An algorithm makes a state (`init`) and improves it (`step`). All that is random follows from
    # this one key, and all that is learned is in the state.
    state = algorithm.init(jax.random.key(seed))
    curve = []
    for _ in range(iterations):
        state, metrics = algorithm.step(state)
        curve.append(float(np.mean(metrics["cost"])))
    return curve


def main(iterations: int = 8, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, np.ndarray]:
    """Curves [seeds, iterations] by algorithm."""
    task = jgps.tasks.make("point_mass")
    # Both sample as often: 5 rollouts per condition and iteration. trajopt fits models to them,
    # pi2 weights them by what they cost.
    algorithms = {
        "trajopt": jgps.algorithms.trajopt(task),
        "pi2": jgps.algorithms.pi2(task, Pi2Config(rollouts=FixedStartsConfig(num_samples=5))),
    }
    # Made once, an algorithm compiles once: further seeds are cheap.
    return {
        name: np.array([learning_curve(algorithm, seed, iterations) for seed in seeds])
        for name, algorithm in algorithms.items()
    }


if __name__ == "__main__":
    # Runs with a directory each (`out=`) are drawn side by side by `jgps report DIR DIR ...`.
    for name, curves in main().items():
        mean, spread = curves.mean(axis=0), curves.std(axis=0)
        print(name, ", ".join(f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True)))
