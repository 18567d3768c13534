"""Single runs of the visuomotor tables. What a run found is kept on disk: none is done twice.

A run's place has a hash of everything that decides how it goes: settings, task, seed, backend and
versions. The code's revision is none of that, but is written beside the numbers.
"""

import dataclasses
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from jgps import policies, training
from jgps.algorithms import MdgpsConfig
from jgps.bench.measure import environment
from jgps.core.types import OK
from jgps.recipes import recipe
from jgps.simulation import resolve_backend
from jgps.tasks import Task
from jgps.training.description import describe
from jgps.training.files import write_bytes
from jgps.training.metrics import plain
from jgps.vision.camera import make_observers, pose_dim
from jgps.vision.config import VisualConfig
from jgps.vision.pretraining import draw_pretraining_data, pretrain

ALGORITHM = "mdgps"
SCALES = ("small", "full", "quick")
FULL_MORE_ITERATIONS = 4
FULL_SIDE, FULL_IMAGES = 240, 10_000
FULL_STEPS = dict(pretraining=12_000, dense=4000, end_to_end=600)
FULL_POSE_STEPS = 40_000
POSE_IMAGES = 1000
QUICK = dict(pretraining_images=40, dense_iterations=1)
QUICK_STEPS, QUICK_ITERATIONS = 20, 3
# On 297 images (the cube, seed 0) the rate of the others left this one at the mean pose.
POSE_RATES = {"dense": 1e-3}
# Of how policies are trained; poses don't depend on it.
POLICY_FIELDS = (
    "kind", "hidden", "learned_temperature", "interpolated", "interpolation_spread",
    "dense_iterations", "dense", "end_to_end",
)  # fmt: skip


def settings(task: str, policy: str, scale: str = "small") -> tuple[MdgpsConfig, int]:
    """Of the training of one policy, and how many iterations it takes.

    At the scale "small" they are those of `jgps train TASK --policy POLICY`; "quick" shows that
    everything runs, and learns nothing.
    """
    config, iterations = recipe(task, ALGORITHM, policy)
    vision = config.policy
    if scale == "small":
        return config, iterations
    if scale == "quick":
        return _quick(config), QUICK_ITERATIONS
    longer = {
        phase: dataclasses.replace(getattr(vision, phase), steps=steps)
        for phase, steps in FULL_STEPS.items()
    }
    vision = dataclasses.replace(
        vision, width=FULL_SIDE, height=FULL_SIDE, pretraining_images=FULL_IMAGES, **longer
    )
    return dataclasses.replace(config, policy=vision), iterations + FULL_MORE_ITERATIONS


def _quick(config: MdgpsConfig) -> MdgpsConfig:
    phases = {
        phase: dataclasses.replace(getattr(config.policy, phase), steps=QUICK_STEPS)
        for phase in FULL_STEPS
    }
    vision = dataclasses.replace(config.policy, **QUICK, **phases)
    return dataclasses.replace(config, policy=vision, trajectory_iterations=1)


def pose_settings(task: str, architecture: str, scale: str = "small") -> VisualConfig:
    """Of the pose regression: that of policies with half as many images, `full` with more steps."""
    vision = settings(task, "visuomotor", scale)[0].policy
    rate = POSE_RATES.get(architecture, vision.pretraining.learning_rate)
    steps = FULL_POSE_STEPS if scale == "full" else vision.pretraining.steps
    images = vision.pretraining_images if scale == "quick" else POSE_IMAGES
    pretraining = dataclasses.replace(vision.pretraining, steps=steps, learning_rate=rate)
    return dataclasses.replace(vision, pretraining=pretraining, pretraining_images=images)


def count_key(conditions: str) -> str:
    """Of the number of conditions that the share under `conditions` is of."""
    return f"{conditions}_conditions"


def cost_key(conditions: str) -> str:
    """Of the mean cost in the conditions."""
    return f"{conditions}_cost"


def success(
    task: Task, config: MdgpsConfig, iterations: int, backend: str, kept: Path, seed: int
) -> dict[str, Any]:
    """Success and mean cost of the result of one training, by set of conditions.

    The training is a run directory in `kept`, for `jgps report` too; one that was interrupted goes
    on from its last iteration.
    """
    chosen = resolve_backend(backend, task.system)
    what = describe(task, ALGORITHM, config, iterations, seed, chosen)
    directory = kept / f"{task.name}-{config.policy.kind}-seed{seed}-{_digest(what)}"

    def compute() -> dict[str, Any]:
        result = training.train(
            task, ALGORITHM, config=config, iterations=iterations, seed=seed, backend=backend,
            out=directory, resume=(directory / "config.json").is_file(),
            on_iteration=_announce(directory.name, iterations),
        )  # fmt: skip
        numbers = {"seconds": round(result.summary["wall_seconds"], 1)}  # of all sessions
        for conditions, found in result.evaluation.sets.items():
            assert found.success is not None
            numbers[conditions] = found.success_rate
            numbers[count_key(conditions)] = len(found.success)
            numbers[cost_key(conditions)] = found.cost.mean()
            numbers[f"{conditions}_by_condition"] = found.success
        numbers["pretraining_error"] = result.metrics[-1]["pose_error"]  # metres
        return numbers

    return _once(directory / "numbers.json", compute)


def pose_error(
    task: Task, architecture: str, config: VisualConfig, kept: Path, seed: int
) -> dict[str, Any]:
    """Mean error of points on the objects in images that were held out, cm.

    With the same seed all architectures see the same images in the same order.
    """
    steps = config.pretraining.steps
    what = describe(task, architecture, config, steps, seed, jax.default_backend())
    for name in POLICY_FIELDS:
        del what["config"][name]

    def compute() -> dict[str, Any]:
        trunk = policies.make_trunk(architecture, config.channels, config.conv_dtype)
        sizes = (task.configuration_dim, task.action_dim)
        network = policies.pose_prediction_policy(
            policies.PoseRegressor(trunk, pose_dim(task)), *sizes
        )
        init_key, scene_key, key = jax.random.split(jax.random.key(seed), 3)
        observe, _ = make_observers(task, config)
        image_size = (config.height, config.width)
        learner = policies.initialise(network, init_key, *sizes, jnp.float32, observe, image_size)
        scenes = draw_pretraining_data(task, config, scene_key)
        learn = jax.jit(lambda *arguments: pretrain(task, config, *arguments)[1])
        found = learn(learner, scenes, key)
        if int(found.status) != OK:
            raise RuntimeError(f"{architecture}, seed {seed}: pose regression diverged")
        return {"error": 100 * found.error, "error_constant": 100 * found.error_constant}

    name = f"pose-{task.name}-{architecture}-seed{seed}-{_digest(what)}.json"
    return _once(kept / name, compute)


def _once(path: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers in the file, or else those that are computed, which are left there."""
    console = Console(soft_wrap=True)
    if path.is_file():
        numbers = json.loads(path.read_text())
        console.print(f"{path}: kept, of revision {numbers['revision']}", highlight=False)
        return numbers
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    found = compute()
    machine = environment()
    numbers = {
        "seconds": round(time.perf_counter() - began, 1),
        **plain(found),
        "peak_memory_gib": peak_memory(),
        **{name: machine[name] for name in ("cpu", "cores", "accelerator", "revision", "time")},
    }
    write_bytes(path, (json.dumps(numbers, indent=2) + "\n").encode())
    # A process may map a limited number of pieces of memory, and every program takes some.
    jax.clear_caches()
    return numbers


def peak_memory() -> float:
    """Of this process up to now, not of an accelerator, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**30 if sys.platform == "darwin" else 2**20), 2)


def _digest(what: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _announce(name: str, iterations: int) -> Callable[[Mapping[str, Any]], None]:
    def announce(record: Mapping[str, Any]) -> None:
        done = record["iteration"] + 1
        print(f"{name}: {done} of {iterations} iterations, {record['wall_seconds']:.0f} s")

    return announce
