"""The smallest readers of settings: from a config to fingerprints of what is made of it.

Every function is a `Program` of tests/setting_programs.py; sizes are as small as they can be.
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
from setting_programs import Fingerprints, digest, traced, traced_for
from shared_algorithms import to_goal

from jgps import controllers, costs, dynamics, policies, tasks
from jgps.algorithms import ALGORITHMS, MdgpsConfig, ilqg, mpc
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
from jgps.policies import DistilConfig, Supervision, observation
from jgps.policies.learner import MlpConfig
from jgps.rendering import make_view, randomise
from jgps.simulation import Conditions, System, load_model, mjx_derivatives
from jgps.simulation.derivatives import (
    DerivativesConfig,
    Differentiator,
    MjxDerivativesConfig,
)
from jgps.simulation.mjx_derivatives import MjxDynamics
from jgps.tasks import start
from jgps.training import checkpoint
from jgps.training.setup import Options, set_up
from jgps.vision.camera import make_observers, make_policy_view
from jgps.vision.config import VisualConfig
from jgps.vision.domain_randomisation import make_randomise_scene
from jgps.vision.learner import make_learner, make_network
from jgps.vision.pose_regression import regress_pose

C, N, T, DX, DU = 2, 3, 4, 3, 2  # conditions, samples, steps, sizes of state and action
KEY = jax.random.key(0)
MESH = """
<mujoco>
  <asset><mesh name="tetrahedron" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset>
  <worldbody>
    <camera name="eye" pos="0 0 3"/>
    <light pos="0 0 3"/>
    <geom type="mesh" mesh="tetrahedron"/>
    <geom type="plane" size="1 1 0.1"/>
  </worldbody>
</mujoco>
"""
MOTOR_AND_SERVO = """
<mujoco>
  <worldbody><body><joint name="a"/><geom size=".1"/>
    <body pos="1 0 0"><joint name="b"/><geom size=".1"/></body></body></worldbody>
  <actuator><motor joint="a"/><position joint="b" kp="9"/></actuator>
</mujoco>
"""


def _shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _rollouts(*lead: int) -> Rollouts:
    valid = _shape(*lead, dtype=jnp.bool_)
    return Rollouts(x=_shape(*lead, T, DX), u=_shape(*lead, T, DU), valid=valid)


def _controller() -> Controller:
    return Controller(K=_shape(C, T, DU, DX), k=_shape(C, T, DU), C=_shape(C, T, DU, DU))


def _models() -> LocalModels:
    d, code = DX + DU, _shape(C, dtype=jnp.int32)
    return LocalModels(
        dynamics=Dynamics(_shape(C, T - 1, DX, d), _shape(C, T - 1, DX), _shape(C, T - 1, DX, DX)),
        cost=QuadraticCost(_shape(C, T, d, d), _shape(C, T, d), _shape(C, T)),
        initial=Gaussian(_shape(C, DX), _shape(C, DX, DX)),
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
    yield traced(planner.plan, memory, _shape(C, 1), goal, KEY)


def of_mpc(config: Any) -> Fingerprints:
    """Two iterations on a small task: physics is computed, of a few steps."""
    algorithm = mpc(to_goal(6), config, "native")
    state = algorithm.init(KEY)
    yield digest(state)
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
    x = _shape(2, T, 1)
    begin = Paths(x, x, x, _shape(2))
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
    prior = Dynamics(_shape(DX, DX + DU), _shape(DX), _shape(DX, DX))
    yield traced(adaptation.update, state, prior, _shape(DX), _shape(DU), _shape(DX))
    yield traced(adaptation.evaluate, state, prior)


def of_models(config: Any) -> Fingerprints:
    """Local models, fitted to rollouts of the smallest task."""
    shape, small = (C, N), task()
    models = fitted_models(small, config, shape)
    rollouts = Rollouts(
        x=_shape(*shape, small.horizon, small.state_dim),
        u=_shape(*shape, small.horizon, small.action_dim),
        valid=_shape(*shape, dtype=jnp.bool_),
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
        _shape(C),
        _shape(dtype=jnp.int32),
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

    yield traced(step, _shape(C, T), _shape(C, T), _shape(dtype=jnp.int32))


def of_pi2_step(config: Any) -> Fingerprints:
    """The path-integral step."""
    yield from _of_step(pi2_step(config))


def of_pilqr_step(config: Any) -> Fingerprints:
    """LQR and path integrals in a row."""
    yield from _of_step(pilqr_step(T, config))


def of_policy(task: tasks.Task) -> Callable[[Any], Fingerprints]:
    """A policy: what it is made from, how it is made, acts and learns."""
    dO, dU = task.observation_dim, task.action_dim
    supervision = Supervision(
        o=_shape(C, N, T, dO),
        target=_shape(C, N, T, dU),
        precision=_shape(C, T, dU, dU),
        weight=_shape(C, N, T),
        gain=_shape(C, T, dU, task.configuration_dim),
    )

    def program(config: MlpConfig | VisualConfig) -> Fingerprints:
        learner = make_learner(task, config)
        prepared = None if learner.prepare is None else learner.prepare(KEY)
        yield digest(prepared)
        initial, (policy, _) = traced_for(learner.init, KEY, prepared)
        yield initial
        yield traced(learner.train, policy, supervision, _shape(dtype=jnp.int32), KEY)
        yield traced(learner.mean, policy, _shape(dO), _shape(dtype=jnp.bool_))

    return program


def of_training(config: DistilConfig) -> Fingerprints:
    """The training of a network that sees, and what its failure means for the run."""
    seen = task()
    vision = pointer.small_vision(4, 4, width=29, height=29)
    network, size = make_network(seen, vision), seen.configuration_dim
    observe, _ = make_observers(seen, vision)
    policy = jax.eval_shape(
        lambda: policies.initialise(network, KEY, size, 1, jnp.float32, observe)
    )
    image = _shape(C, N, T, vision.height, vision.width, 3, dtype=jnp.uint8)
    supervision = Supervision(
        o={"image": image, observation.VECTOR: _shape(C, N, T, size)},
        target=_shape(C, N, T, 1),
        precision=_shape(C, T, 1, 1),
        weight=_shape(C, N, T),
        gain=_shape(C, T, 1, size),
    )
    yield traced(lambda *args: policies.distil(*args, config), policy, supervision, KEY)
    options = Options(
        task=seen, algorithm="mdgps", config=MdgpsConfig(policy=MlpConfig(distil=config)),
        policy=None, prior=None, random_starts=False, sampling=None, iterations=1,
        seed=0, backend="native",
        start_from=None, keep_samples=False, out=None, resume=False, overwrite=False,
        evaluate_every=0, checkpoint=None, on_start=None, on_iteration=None,
    )  # fmt: skip
    yield set_up(options).stop_on_divergence


def of_pose_regression(config: Any) -> Fingerprints:
    """The pretraining of convolutions on images."""
    trunk = policies.make_trunk("feature_points", (2, 2, 2))
    network = policies.PoseRegressor(trunk, 3)
    images, pose = _shape(8, 29, 29, 3, dtype=jnp.uint8), _shape(8, 3)
    yield traced(lambda *args: regress_pose(network, *args, config), images, pose, KEY)


def of_randomised_scenes(config: Any) -> Fingerprints:
    """Scenes as a network learns from them."""
    seen, vision = task(), VisualConfig()
    scene = make_randomise_scene(seen, make_policy_view(seen, vision), config)
    num = seen.model.nbody
    yield traced(scene, KEY, _shape(num, 3), _shape(num, 3, 3))


def of_random_looks(config: Any) -> Fingerprints:
    """Random appearances."""
    look = make_view(task().model, "eye").appearance
    yield traced(lambda key: randomise(key, look, config), KEY)


def of_images(config: Any) -> Fingerprints:
    """Images of a scene with a mesh of four triangles, or that it is refused."""
    model = mujoco.MjModel.from_xml_string(MESH)
    try:
        view = make_view(model, "eye", width=4, height=4, config=config)
    except ValueError as error:
        yield str(error)
        return
    yield traced(view.draw_rgb, _shape(3, model.nbody, 3), _shape(3, model.nbody, 3, 3))


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
    given = dynamics.simulations, _shape(1, T, 6), _shape(1, T, 2)
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
