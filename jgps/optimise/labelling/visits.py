"""Episodes in which a network acts, or plans, and plans say in every state what is right.

every step:      o_t <- what is seen;  label_t <- what the plan does there, and its gain
u_t <- the network's action, or the plan's in some of the episodes, plus noise
every few steps: all plans anew from where the episodes are, each from the one before
at a fall:       the episode goes on from where it began
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from jgps.optimise.ilqg.system import Goal
from jgps.optimise.labelling.config import MpcDaggerConfig
from jgps.optimise.labelling.ground import Ground
from jgps.optimise.mpc.planner import Plan, follow, where
from jgps.optimise.mpc.receding import first_memory
from jgps.simulation import Sensing
from jgps.simulation.state_jacobian import tangent_dim
from jgps.tasks import Task


class Slots(NamedTuple):
    """Where S episodes are; leaves [S, ...] but for the first two."""

    draw: Any  # [] int32, which draw of episodes it is
    step: Any  # [] int32, control steps done in them
    states: Any  # [S, nx] of the simulator
    since: Any  # [S] int32, steps since the start or the last fall
    past: Any  # [S, L, dO], what was observed in the last steps, the newest first
    memory: Any  # the planner's
    plan: Plan  # the last one


class Script(NamedTuple):
    """What is decided before."""

    by_plan: Any  # [S] bool, in which episodes the plan acts
    noise: Any  # [n, S, dU], in units of the controls
    key: jax.Array  # for planners that draw


class Visited(NamedTuple):
    """What happened in n steps; leaves [S, n, ...]."""

    x: Any  # [S, n, dX]
    o: Any  # [S, n, dO], what was seen
    u: Any  # [S, n, dU], what was done
    qpos: Any  # [S, n, nq]
    label: Any  # [S, n, dU]
    gain: Any  # [S, n, dU, dO]; [S, n, dU, 0] where nobody learns them
    taught: Any  # [S, n] bool, whether the label is to be learned from
    fell: Any  # [S, n] bool
    sound: Any  # [S, n] bool, whether the simulation was
    plan_cost: Any  # [S, n]
    curvature: Any  # [dU, dU], of the cost by the controls, summed over all that is taught


def nowhere(task: Task, config: MpcDaggerConfig, latency: int, dtype: Any) -> Slots:
    """Before any draw: episodes that are over, so that the first step begins those of draw 0."""
    S, H, dO = config.episodes, config.horizon, task.observation_dim
    states = np.zeros((S, mujoco.mj_stateSize(task.model, mujoco.mjtState.mjSTATE_INTEGRATION)))
    sizes = task.state_dim, tangent_dim(task.model)
    u, goal = np.zeros((S, H, task.action_dim)), Goal(np.zeros(S, np.int32))
    memory, plan = first_memory(config.planner, sizes, states, u, goal)
    return Slots(
        draw=np.asarray(-1, np.int32),
        step=np.asarray(task.horizon, np.int32),
        states=states,
        since=np.zeros(S, np.int32),
        past=np.zeros((S, latency + 1, dO), dtype),
        memory=memory,
        plan=plan,
    )


def begin(ground: Ground, draw: int, latency: int, dtype: Any) -> Slots:
    """Before the first step of the episodes of a draw."""
    S = len(ground.starts)
    goal = Goal(np.zeros(S, np.int32), ground.params)
    memory, plan = ground.planner.init(ground.starts, ground.hold, goal)
    _, o = ground.stepper.resume(ground.starts)
    return Slots(
        draw=np.asarray(draw, np.int32),
        step=np.zeros((), np.int32),
        states=np.array(ground.starts),
        since=np.zeros(S, np.int32),
        past=np.zeros((S, latency + 1, o.shape[1]), dtype),
        memory=memory,
        plan=plan,
    )


class Visit(NamedTuple):
    """How episodes go on.

    Attributes:
      config: of the loop.
      fall: `fall(params, x [S, dX]) -> [S]` bool of the host, or None.
      mean: `mean(o [S, dO]) -> [S, dU]`, what the network does.
    """

    config: MpcDaggerConfig
    fall: Callable[[Any, Any], Any] | None
    mean: Callable[[Any], Any]


def advance(visit: Visit, ground: Ground, slots: Slots, script: Script) -> tuple[Slots, Visited]:
    """As many steps as the script has noise for; they don't go beyond the episodes' end."""
    rows, curvature = [], 0.0
    for noise in script.noise:
        slots, row, found = _step(visit, ground, slots, script._replace(noise=noise))
        rows.append(row)
        curvature = curvature + found
    stacked = {
        name: np.stack([getattr(row, name) for row in rows], axis=1)
        for name in Visited._fields
        if name != "curvature"
    }
    return slots, Visited(**stacked, curvature=curvature)


def _step(visit: Visit, ground: Ground, slots: Slots, script: Script) -> tuple[Slots, Visited, Any]:
    config, t, S = visit.config, int(slots.step), len(ground.starts)
    states = np.array(slots.states)
    if ground.inputs is not None:
        ground.inputs.write(states, t)
    x, o = ground.stepper.resume(states)
    slots, seen = _seen(slots, o, ground.conditions.sensing)
    unforced = np.array(states)
    unforced[:, ground.forces] = 0  # nobody plans for a push
    slots = _replanned(config, ground, slots._replace(states=states), unforced, script.key)
    plan, age = slots.plan, np.full(S, t - int(slots.plan.first[0]))
    each = np.arange(S)
    label = np.asarray(follow(ground.system, plan, age, unforced))
    mean = np.asarray(visit.mean(seen))
    settling = slots.since < config.first_iterations * config.replan_every
    settling &= slots.since < t  # where it fell before
    planned = np.isfinite(np.asarray(plan.cost)) & np.isfinite(label).all(axis=-1)
    acts = (script.by_plan | settling) & planned
    lower, upper = (np.asarray(a) for a in ground.system.limits)
    u = np.clip(np.where(acts[:, None], label, mean) + script.noise, lower, upper)
    usable = np.isfinite(u).all(axis=-1)
    u = np.where(usable[:, None], u, ground.hold[:, 0])
    Quu = np.asarray(plan.Quu)[each, age]
    taught = planned & ~settling & np.isfinite(Quu).all(axis=(1, 2))
    gain = np.zeros((S, u.shape[1], 0), np.float16)
    if ground.gains is not None:
        gain = ground.gains(unforced, np.asarray(plan.K)[each, age])
    qpos = np.array(ground.stepper.qpos)
    after_x, _ = ground.stepper.step(u, np.ones(S, bool))
    after, sound = np.array(ground.stepper.states), ground.stepper.sound() & usable
    fell = np.zeros(S, bool)
    if visit.fall is not None:
        fell = np.asarray(visit.fall(ground.params, after_x)) & sound
    row = Visited(
        x=x, o=seen, u=u, qpos=qpos, label=label, gain=gain, taught=taught & sound,
        fell=fell, sound=sound, plan_cost=np.asarray(plan.cost), curvature=None,
    )  # fmt: skip
    slots = slots._replace(step=np.asarray(t + 1, np.int32), states=after, since=slots.since + 1)
    return _again(ground, slots, fell | ~sound), row, Quu[row.taught].sum(axis=0)


def _seen(slots: Slots, o: Any, sensing: Sensing | None) -> tuple[Slots, Any]:
    """What is seen now, and what is remembered of it for later."""
    o = o.astype(slots.past.dtype)
    past = np.concatenate([o[:, None], slots.past[:, :-1]], axis=1)
    past = np.where(slots.since[:, None, None] == 0, o[:, None], past)
    slots = slots._replace(past=past)
    if sensing is None:
        return slots, o
    seen = o if sensing.latency is None else past[np.arange(len(o)), sensing.latency]
    if sensing.noise is not None:
        seen = seen + sensing.noise[:, int(slots.step) % sensing.noise.shape[1]].astype(o.dtype)
    return slots, seen


def _replanned(
    config: MpcDaggerConfig, ground: Ground, slots: Slots, states: Any, key: jax.Array
) -> Slots:
    """The same with plans that are made anew where it is time."""
    t = int(slots.step)
    if t % config.replan_every:
        return slots
    goal = Goal(np.full(len(states), t, np.int32), ground.params)
    memory, plan = slots.memory, slots.plan
    for i in range(config.first_iterations if t == 0 else 1):
        own = jax.random.fold_in(jax.random.fold_in(key, t), i)
        memory, plan = ground.planner.plan(memory, states, goal, own)
    return slots._replace(memory=memory, plan=plan)


def _again(ground: Ground, slots: Slots, ended: Any) -> Slots:
    """Episodes that ended begin again, with the first search of plans."""
    if not ended.any():
        return slots
    goal = Goal(np.full(len(ended), slots.step, np.int32), ground.params)
    memory, _ = ground.planner.init(ground.starts, ground.hold, goal)
    # Until plans are made anew it holds: the last one says nothing of where it is now.
    plan = slots.plan._replace(
        u=where(ended, ground.hold, slots.plan.u), K=where(ended, 0 * slots.plan.K, slots.plan.K)
    )
    return slots._replace(
        states=np.where(ended[:, None], ground.starts, slots.states),
        since=np.where(ended, 0, slots.since).astype(np.int32),
        memory=where(ended, memory, slots.memory),
        plan=plan,
    )
