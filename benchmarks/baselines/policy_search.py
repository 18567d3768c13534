"""A search on a task: every condition's own open-loop actions on top of its initial controller.

    repeat: draw N candidates in every condition; roll each out once, and the distribution's mean;
            refit the distribution to what they cost

A candidate is a policy u = K x + k + L (features(t) theta): the gains, the bias and the deviation
L L' = C of the controller that trajectory optimisation begins with too, and a few weights of radial
basis functions of time for every actuator. At first theta ~ N(0, scale^2 I). One policy per
condition is what trajectory optimisation learns as well; a network for all of them would need far
more rollouts.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from baselines.search import Search
from jgps import costs
from jgps.controllers.nearest import NearestController
from jgps.core.checks import Config, Range
from jgps.simulation import make_sampler, resolve_backend
from jgps.tasks import Task
from jgps.tasks.start import initial_controllers, initial_states


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyConfig(Config):
    """Which policies are searched.

    Attributes:
      num_basis: radial basis functions of time per actuator.
      scale: first deviation of their weights, in deviations of the task's initial controller.
    """

    num_basis: Annotated[int, Range(">= 1")] = 8
    scale: Annotated[float, Range("> 0")] = 1.0


class BaselineState(NamedTuple):
    """What the next iteration needs."""

    key: jax.Array
    search: Any  # leaves [C, ...]


class Baseline(NamedTuple):
    """`state = init(key)`, then `state, metrics = step(state)`, like an algorithm of jgps.

    The metrics `noise_free_cost` [C], infinite where all failed, and `noise_free_success` [C] are
    of the iteration's best candidate, the mean included: every candidate is a policy without
    noise, as the noise-free rollouts of trajectory optimisation are.
    """

    init: Callable[[jax.Array], BaselineState]
    step: Callable[[BaselineState], tuple[BaselineState, dict[str, jax.Array]]]
    rollouts_per_step: int


def num_parameters(task: Task, config: PolicyConfig = PolicyConfig()) -> int:
    """Size D of theta."""
    return config.num_basis * task.action_dim


def on_task(
    task: Task, search: Search, config: PolicyConfig = PolicyConfig(), backend: str = "auto"
) -> Baseline:
    """The search on a task that has a success test.

    Raises:
      ValueError: where the task defines no success, or for an unknown backend.
    """
    num, size = task.train.num, num_parameters(task, config)
    evaluate = _make_evaluate(task, config, backend)
    ask, tell = jax.jit(jax.vmap(search.ask)), jax.jit(jax.vmap(search.tell))
    mean = jax.jit(jax.vmap(search.mean))

    @jax.jit
    def init(key: jax.Array) -> BaselineState:
        return BaselineState(key=key, search=jax.vmap(search.init)(jnp.zeros((num, size))))

    def step(state: BaselineState) -> tuple[BaselineState, dict[str, jax.Array]]:
        key, draw_key = jax.random.split(state.key)
        candidates, asked = ask(state.search, jax.random.split(draw_key, num))
        tried = jnp.concatenate([candidates, mean(asked)[:, None]], axis=1)
        cost, success = evaluate(tried)
        best = jnp.argmin(cost, axis=1)[:, None]
        metrics = {
            "noise_free_cost": jnp.take_along_axis(cost, best, axis=1)[:, 0],
            "noise_free_success": jnp.take_along_axis(success, best, axis=1)[:, 0],
        }
        return BaselineState(key=key, search=tell(asked, candidates, cost[:, :-1])), metrics

    return Baseline(init=init, step=step, rollouts_per_step=num * (search.num_samples + 1))


def _make_evaluate(
    task: Task, config: PolicyConfig, backend: str
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """From theta [C, N, D] to what it costs [C, N], infinite where it failed, and success [C, N].

    The initial controller's noise is its actions' deviation, so that is where the candidates go.
    """
    chosen = resolve_backend(backend, task.system)
    sampler = make_sampler(task.system, task.train, NearestController.act, chosen)
    sample = jax.jit(sampler.sample) if sampler.jittable else sampler.sample
    x0 = initial_states(task, task.train)
    initial = NearestController(controllers=initial_controllers(task, x0), x0=x0)
    params = jax.jit(initial.params_for)(x0)
    features = jnp.asarray(config.scale * basis(task.horizon, config.num_basis), x0.dtype)
    if task.success is None:
        raise ValueError(f"the task {task.name!r} defines no success, which is compared here")
    succeeded = jax.vmap(jax.vmap(task.success))

    @jax.jit
    def to_noise(theta: jax.Array) -> jax.Array:
        weights = theta.reshape(*theta.shape[:2], config.num_basis, task.action_dim)
        return jnp.einsum("tb,cnbu->cntu", features, weights, precision="highest")

    @jax.jit
    def judge(x: jax.Array, u: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        cost = jnp.sum(costs.evaluate(task.cost, x, u), axis=-1)
        good = valid & jnp.isfinite(cost)
        return jnp.where(good, cost, jnp.inf), succeeded(x, u) & good

    def evaluate(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        sampled = sample(params, to_noise(theta))
        return judge(sampled.x, sampled.u, sampled.valid)

    return evaluate


def basis(horizon: int, num: int) -> np.ndarray:
    """Radial basis functions of time [T, num]; the squares sum to one at every step.

    So weights of unit variance make actions of unit variance. The centres spread over the horizon,
    as far apart as a function is wide.
    """
    centres = np.linspace(0, horizon - 1, num) if num > 1 else np.array([(horizon - 1) / 2])
    width = (horizon - 1) / max(num - 1, 1)
    values = np.exp(-0.5 * np.square((np.arange(horizon)[:, None] - centres) / width))
    return values / np.linalg.norm(values, axis=1, keepdims=True)
