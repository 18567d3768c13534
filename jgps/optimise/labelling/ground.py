"""What the episodes of one draw are made of: their dynamics, a planner, and where they start."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.core import linalg
from jgps.core.host import to_device
from jgps.core.lifted import shared_jit
from jgps.optimise.ilqg.system import KnownSystem
from jgps.optimise.ilqg.task_system import task_system
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.models import default_dtype
from jgps.optimise.mpc.planner import Planner, until_end
from jgps.optimise.mpc.receding import receding_ilqg
from jgps.simulation import Conditions, Inputs, condition_models
from jgps.simulation.native import Stepper
from jgps.simulation.observation_jacobian import ObservationJacobian
from jgps.tasks import Task, draw

LARGEST_GAIN = 6e4


class Ground(NamedTuple):
    """Of S episodes.

    Attributes:
      conditions: the episodes.
      system: what plans are made on.
      planner: of that system.
      stepper: what is acted in.
      starts: [S, nx], states of the simulator in which they begin.
      hold: [S, H, dU], controls from which the first search starts.
      inputs: what acts on them from outside; None for nothing.
      forces: places in a state of forces from outside, which plans don't know of.
      params: of the conditions, leaves [S, ...]; None where there are none.
      gains: `gains(states, K)`, feedback on the observation [S, dU, dO] of that on the state
        [S, dU, dS]; None where nobody learns them.
    """

    conditions: Conditions
    system: KnownSystem
    planner: Planner
    stepper: Stepper
    starts: Any
    hold: Any
    inputs: Inputs | None
    forces: Any
    params: Any
    gains: Callable[[Any, Any], Any] | None


def make_ground(task: Task, config: MpcDaggerConfig, seed: int) -> Ground:
    """Of the episodes that a seed draws, or of the training conditions in turn.

    Raises:
      ValueError: for a task whose state does not tell where its simulation is.
    """
    conditions = _episodes(task, config, seed)
    endless = dataclasses.replace(task, cost=until_end(task.cost, task.horizon - 1))
    # What acts from outside is written into the states that are planned from, and held there.
    still = conditions._replace(inputs={})
    known = task_system(endless, still, "native", derivatives=config.derivatives)
    models = condition_models(task.model, conditions)
    starts = np.asarray(known.begin.state)[:, 0]
    inputs = Inputs(task.model, conditions.inputs) if conditions.inputs else None
    gains = None
    if config.learns_gains:
        jacobian = ObservationJacobian(task.system)
        gains = functools.partial(_gains, jacobian, models)
    return Ground(
        conditions=conditions,
        system=known.system,
        planner=receding_ilqg(known.system, config.planner, config.horizon),
        stepper=Stepper(task.system, models),
        starts=starts,
        hold=np.repeat(np.asarray(known.begin.u)[:, :1], config.horizon, axis=1),
        inputs=inputs,
        forces=_forces(task.model),
        params=known.goal.params,
        gains=gains,
    )


def _episodes(task: Task, config: MpcDaggerConfig, seed: int) -> Conditions:
    if task.episodes is None:
        return task.train.select(np.arange(config.episodes) % task.train.num)
    return draw(task, seed, config.episodes)


def _forces(model: mujoco.MjModel) -> slice:
    """Where a state has the forces from outside."""
    state = mujoco.mjtState
    part = state.mjSTATE_XFRC_APPLIED
    first = mujoco.mj_stateSize(model, int(state.mjSTATE_INTEGRATION) & (int(part) - 1))
    return slice(first, first + mujoco.mj_stateSize(model, part))


def _gains(
    jacobian: ObservationJacobian, models: list[mujoco.MjModel], states: np.ndarray, K: Any
) -> np.ndarray:
    """Feedback on what is observed, of feedback on the state; float16 holds it."""
    J = to_device(jacobian(models, states), default_dtype())
    found = np.asarray(_on_observation(J, to_device(K, default_dtype())))
    # What half precision can't hold is no gain that a network could have.
    return np.clip(found, -LARGEST_GAIN, LARGEST_GAIN).astype(np.float16)


@shared_jit
@linalg.full_precision
def _on_observation(J: jax.Array, K: jax.Array) -> jax.Array:
    """K J^+ [S, dU, dO]: of all feedback that agrees with K on what o tells, the smallest."""
    gram = J @ linalg.transpose(J)
    size = jnp.trace(gram, axis1=-2, axis2=-1)[:, None, None] / gram.shape[-1]
    eye = jnp.eye(gram.shape[-1], dtype=gram.dtype)
    # What o tells twice, or never, has no inverse.
    inverse, _, ok = linalg.inverse_psd(gram + 1e-4 * size * eye)
    found = K @ linalg.transpose(J) @ inverse
    return jnp.where(ok[:, None, None] & jnp.isfinite(found), found, 0)
