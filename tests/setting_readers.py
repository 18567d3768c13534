"""The smallest readers of settings: from a config to fingerprints of what is made of it.

Every function is a `Program` of tests/setting_programs.py; sizes are as small as they can be. Those
of networks and images are in tests/setting_network_readers.py.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import ablate_known
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pointer
from setting_programs import Fingerprints, digest, struct, traced, traced_for
from shared_algorithms import to_goal

from jgps import controllers, costs, dynamics, tasks
from jgps.algorithms import ALGORITHMS, ilqg, mpc, mpc_dagger
from jgps.core.types import Controller, Dynamics, Gaussian, QuadraticCost, Rollouts, Status
from jgps.optimise.guided.weight_rules import next_weights
from jgps.optimise.ilqg import solve
from jgps.optimise.ilqg.system import Goal, Paths, analytic
from jgps.optimise.known_models import known_models
from jgps.optimise.models import LocalModels, fitted_models
from jgps.optimise.mpc.sampling import sampling_planner
from jgps.optimise.steps.ilqg import solve_within_limits
from jgps.optimise.steps.lqr import lqr_step, solve_without_limits
from jgps.optimise.steps.pi2 import pi2_step
from jgps.optimise.steps.pilqr import pilqr_step
from jgps.optimise.steps.step import StepInputs, TrajectoryStep
from jgps.simulation import Conditions, System, load_model, mjx_derivatives
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    MjxDerivativesConfig,
)
from jgps.simulation.mjx_derivatives import MjxDynamics
from jgps.tasks import start
from jgps.training import checkpoint

C, N, T, DX, DU = 2, 3, 4, 3, 2  # conditions, samples, steps, sizes of state and action
KEY = jax.random.key(0)
MOTOR_AND_SERVO = """
<mujoco>
  <worldbody><body><joint name="a"/><geom size=".1"/>
    <body pos="1 0 0"><joint name="b"/><geom size=".1"/></body></body></worldbody>
  <actuator><motor joint="a"/><position joint="b" kp="9"/></actuator>
</mujoco>
"""


def _rollouts(*lead: int) -> Rollouts:
    valid = struct(*lead, dtype=jnp.bool_)
    return Rollouts(x=struct(*lead, T, DX), u=struct(*lead, T, DU), valid=valid)


def _controller() -> Controller:
    return Controller(K=struct(C, T, DU, DX), k=struct(C, T, DU), C=struct(C, T, DU, DU))


def _models() -> LocalModels:
    d, code = DX + DU, struct(C, dtype=jnp.int32)
    return LocalModels(
        dynamics=Dynamics(struct(C, T - 1, DX, d), struct(C, T - 1, DX), struct(C, T - 1, DX, DX)),
        cost=QuadraticCost(struct(C, T, d, d), struct(C, T, d), struct(C, T)),
        initial=Gaussian(struct(C, DX), struct(C, DX, DX)),
        status=Status(code, code),
    )


def _cost(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.sum(jnp.cos(x)) + jnp.sum(u**2)


def task(**settings: Any) -> tasks.Task:
    """A task on which every setting counts: it has a camera, clutter, and starts at random."""
    return pointer.make_task(
        source=pointer.with_body("thing"),
        clutter=("thing",),
        random_start=lambda key: (jax.random.normal(key, (1,)), jnp.zeros(1)),
        horizon=5,
        **settings,
    )


def known_task() -> tasks.Task:
    """One with dynamics of its own, whose network observes the state."""
    return ablate_known.make_task(horizon=5)


def of_fit(config: Any) -> Fingerprints:
    """The regression of dynamics."""
    yield traced(lambda r: dynamics.fit(r, None, config), _rollouts(N))


def of_expansion(config: Any) -> Fingerprints:
    """The expansion of a cost that is not convex."""
    yield traced(lambda r: costs.expand(_cost, r, config), _rollouts(N))


def of_sampling_planner(config: Any) -> Fingerprints:
    """A planner that draws samples, on a mass that is pushed."""
    horizon = 5

    def step(x: jax.Array, u: jax.Array, t: jax.Array) -> jax.Array:
        return x + u

    system = analytic(step, _cost, 1, [[-1.0], [1.0]])
    planner = sampling_planner(system, config, horizon, C)
    goal = Goal(jnp.zeros(C, jnp.int32))
    memory, plan = planner.init(jnp.zeros((C, 1)), jnp.zeros((C, horizon, 1)), goal)
    yield digest((memory, plan))
    yield traced(planner.plan, memory, struct(C, 1), goal, KEY)


def of_mpc(config: Any) -> Fingerprints:
    """Two iterations on a small task: physics is computed, of a few steps."""
    algorithm = mpc(to_goal(6), config, "native")
    state = algorithm.init(KEY)
    yield digest(state)
    for _ in range(2):
        state, metrics = algorithm.step(state)
    yield digest((state, metrics))


def of_labelling(config: Any) -> Fingerprints:
    """The state, what is visited first, and two iterations on a small task."""
    algorithm = mpc_dagger(to_goal(6), config, "native")
    state = algorithm.init(KEY)
    yield digest(state)
    yield digest(algorithm.samples(state))
    for _ in range(2):
        state, metrics = algorithm.step(state)
    yield digest((state, metrics))


def of_ilqg(config: Any) -> Fingerprints:
    """Two iterations on a small task, and on one whose dynamics are a function."""
    simulated = dataclasses.replace(config, second_order=None)
    known = dataclasses.replace(config, derivatives=None)
    for task, settings, backend in (
        (to_goal(4), simulated, "native"),
        (known_task(), known, "analytic"),
    ):
        algorithm = ilqg(task, settings, backend)
        state = algorithm.init(KEY)
        for _ in range(2):
            state, metrics = algorithm.step(state)
        yield digest((state, metrics))


def of_search(config: Any) -> Fingerprints:
    """The search for trajectories of a small function, and into how many chunks more are cut."""
    limits = np.ones((2, 1))
    system = analytic(
        lambda x, u, t: x + u, lambda x, u, t: x @ x + u @ u, 1, limits, second_order=True
    )
    x = struct(2, T, 1)
    begin = Paths(x, x, x, struct(2))
    first = jax.ShapeDtypeStruct((2,), jnp.int32)
    yield traced(solve.make_chunk_solve(system, config), begin, Goal(first))
    yield digest(solve.chunks(7, config.chunk))


def of_known_models(config: Any) -> Fingerprints:
    """Local models by derivatives on a small task."""
    task = dataclasses.replace(to_goal(4), cost=lambda x, u, t: u @ u - x @ x)
    rollouts = Rollouts(
        jax.random.normal(KEY, (4, 3, 4, 4)).at[:, :, 0].set(0.5),
        jax.random.normal(KEY, (4, 3, 4, 2)), jnp.ones((4, 3), bool),
    )  # fmt: skip
    yield digest(known_models(task, config, (4, 3), "native").fit((), rollouts, None))
    yield digest(config.fit.ridge)  # of the regressions beside the dynamics


def of_teaching(name: str) -> Callable[[Any], Fingerprints]:
    """The state and the whole iteration of an algorithm whose plans teach, on known dynamics."""
    make, _ = ALGORITHMS[name]
    place = tasks.from_mjcf(
        "<mujoco><worldbody><body><joint name='a' type='slide'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='a' ctrlrange='-1 1'/></actuator></mujoco>",
        cost=lambda s: _cost, dynamics=lambda s: lambda x, u, t: x + u, state=("qpos",), horizon=5,
    )  # fmt: skip

    def program(config: Any) -> Fingerprints:
        algorithm = make(place, config)
        initial, state = traced_for(algorithm.init, jax.random.key(0))
        yield initial
        yield traced(algorithm.step, state)

    return program


def of_prior(config: Any) -> Fingerprints:
    """A prior of dynamics: what it remembers, how it learns, what it says."""
    prior = dynamics.make_prior(config, DX, DU, C, N, T)
    initial, state = traced_for(prior.init, KEY)
    rollouts = _rollouts(C, N)
    yield initial
    yield traced(prior.evaluate, state, rollouts)
    yield traced(prior.update, state, rollouts)


def of_adaptation(config: Any) -> Fingerprints:
    """A model that is adapted online: what it remembers, how it learns, what it says."""
    adaptation = dynamics.make_adaptation(config, DX, DU)
    state = jax.eval_shape(adaptation.init)
    prior = Dynamics(struct(DX, DX + DU), struct(DX), struct(DX, DX))
    yield traced(adaptation.update, state, prior, struct(DX), struct(DU), struct(DX))
    yield traced(adaptation.evaluate, state, prior)


def of_models(config: Any) -> Fingerprints:
    """Local models, fitted to rollouts of the smallest task."""
    shape, small = (C, N), task()
    models = fitted_models(small, config, shape)
    rollouts = Rollouts(
        x=struct(*shape, small.horizon, small.state_dim),
        u=struct(*shape, small.horizon, small.action_dim),
        valid=struct(*shape, dtype=jnp.bool_),
    )
    initial, memory = traced_for(models.init, KEY)
    yield initial
    yield traced(lambda *args: models.fit(*args, None), memory, rollouts)


def _of_step(step: TrajectoryStep) -> Fingerprints:
    def improve(
        memory: Any, models: Any, rollouts: Any, controller: Any, cost_now: Any, iteration: Any
    ) -> Any:
        sampled_costs = costs.evaluate(_cost, rollouts.x, rollouts.u)
        inputs = StepInputs(
            models,
            rollouts,
            sampled_costs,
            controller,
            controller,
            controller,
            cost_now,
            True,
            iteration,
        )
        return step.improve(memory, inputs)

    memory = jax.eval_shape(lambda: step.init(C))
    yield traced(
        improve,
        memory,
        _models(),
        _rollouts(C, N),
        _controller(),
        struct(C),
        struct(dtype=jnp.int32),
    )


def of_lqr_step(config: Any) -> Fingerprints:
    """The KL-constrained LQR step."""
    yield from _of_step(lqr_step(config, functools.partial(solve_without_limits, config)))


def of_ilqg_step(config: Any) -> Fingerprints:
    """The same within limits."""
    limits = jnp.stack([-jnp.ones((C, DU)), jnp.ones((C, DU))])
    yield from _of_step(lqr_step(config, functools.partial(solve_within_limits, config, limits)))


def of_weight_rule(config: Any) -> Fingerprints:
    """How the weight of the agreement in BADMM follows the divergence."""

    def step(weights: Any, kl: Any, iteration: Any) -> Any:
        return next_weights(weights, kl, config, iteration)

    yield traced(step, struct(C, T), struct(C, T), struct(dtype=jnp.int32))


def of_pi2_step(config: Any) -> Fingerprints:
    """The path-integral step."""
    yield from _of_step(pi2_step(config))


def of_pilqr_step(config: Any) -> Fingerprints:
    """LQR and path integrals in a row."""
    yield from _of_step(pilqr_step(T, config))


def of_derivatives(config: DerivativesConfig) -> Fingerprints:
    """Those along a trajectory in which nothing is constant."""
    model, layout, _ = load_model(MOTOR_AND_SERVO, ("qpos", "qvel"))
    system = System(model, layout, T, 2)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
    states = np.zeros((1, T, size))
    states[..., 1 : 1 + model.nq + model.nv] = np.sin(np.arange(4.0 * T)).reshape(1, T, 4)
    yield digest(Differentiator(system, [model], config)(states, np.ones((1, T, 2))))


def of_mjx_derivatives(config: MjxDerivativesConfig) -> Fingerprints:
    """Their program, with physics that take no time to trace."""
    model, layout, _ = load_model(MOTOR_AND_SERVO, ("qpos", "qvel"))
    conditions = Conditions(model.qpos0[None], model.qpos0[None])
    dynamics = MjxDynamics(System(model, layout, T, 1), conditions, config)
    given = dynamics.simulations, struct(1, T, 6), struct(1, T, 2)
    with mock.patch.object(
        mjx_derivatives.mjx, "step", lambda _, data: data.replace(qvel=data.qvel + data.ctrl)
    ):
        program = traced(dynamics.derivatives, *given)
    yield program


def of_first_controller(config: Any) -> Fingerprints:
    """The controller that a task starts with."""
    x0, joints = jnp.arange(4.0), (slice(0, 2), slice(2, 4))
    if isinstance(config, controllers.LqrHoldConfig):
        yield digest(controllers.lqr_hold(x0, *joints, 2, T, 0.1, config))
    elif isinstance(config, controllers.HoldConfig):
        task = tasks.from_mjcf(MOTOR_AND_SERVO, cost=lambda s: lambda x, u, t: u @ u, horizon=T)
        held = dataclasses.replace(task, initial=config)
        yield digest(start.initial_controllers(held, start.initial_states(task, task.train)))
    elif isinstance(config, controllers.PdHoldConfig):
        yield digest(controllers.pd_hold(x0, *joints, 2, T, config))
    else:
        yield digest(controllers.pure_noise(x0, 2, T, config))


def of_checkpoints(config: Any) -> Fingerprints:
    """After how many iterations, and seconds, a checkpoint is due, and which of six stay."""
    clock = mock.Mock(return_value=0.0)
    with mock.patch.object(checkpoint.time, "monotonic", clock):
        saving = checkpoint.Checkpoints(None, config, 0)
        by_iterations = [saving.due(iteration) for iteration in range(10)]
        by_seconds = []
        for clock.return_value in range(30):
            by_seconds.append(saving.due(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(checkpoint, "_checkpointer_save", lambda path, leaves: path.mkdir()),
    ):
        saving = checkpoint.Checkpoints(Path(folder), config, 0)
        for iteration in range(6):
            saving.save(iteration, ())
        stay = checkpoint.iterations(Path(folder))
    yield tuple(by_iterations), tuple(by_seconds), tuple(stay)
