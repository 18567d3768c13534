"""Training a network on what local controllers do: regression weighted by their precision.

    minimise over theta   sum_i w_i / 2 (mu(o_i) - target_i)' P_i (mu(o_i) - target_i)

which is sum_i w_i KL(pi(. | o_i) || N(target_i, P_i^-1)) up to what the network cannot change;
the covariance that minimises the same sum has the closed form S^-1 = sum_i w_i P_i / sum_i w_i.
Where the targets' gains G_i are known, the network's derivative may be a second thing to learn:

    + gain_weight sum_i w_i / 2 tr(D_i' P_i D_i),    D_i = (dmu/do(o_i) - G_i) diag(spread of o)
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jgps.core import linalg
from jgps.core.checks import Config, OneOf, Range, refuse
from jgps.core.estimation.regression import divisor
from jgps.core.types import (
    NON_FINITE,
    NOT_PD,
    OK,
    TOO_FEW_SAMPLES,
    Status,
    first_failure,
    worst,
)
from jgps.policies import observation
from jgps.policies.observation import Observation
from jgps.policies.policy import NetworkPolicy, mean_action
from jgps.policies.supervision import DistilInfo, Supervision, check_shapes

ON_DIVERGENCE = ("continue", "stop")
FROZEN = ("none", "convolutions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilConfig(Config):
    """How a network is trained in one iteration.

    Attributes:
      steps: gradient steps, at least 1.
      batch_size: rows (time steps of rollouts) per gradient step, at least 1; more than there are
        takes all.
      learning_rate: of Adam, > 0; falls to zero along a cosine.
      weight_decay: decoupled (AdamW), >= 0, of the kernels.
      validation: fraction of the trajectories that are held out, to choose the best parameters;
        from 0 (none) to 0.5. With few trajectories training on all of them is better.
      input_noise: standard deviation of the noise on observations in training, as a fraction of
        each entry's spread, >= 0. The targets follow it by the controllers' gains, so that the
        network learns those too (Mordatch et al. 2015).
      gain_weight: what an error of the network's derivative by the observation counts beside one of
        its action, >= 0: that of the action which a change by one spread of each entry brings. The
        derivative is compared with the controllers' gains (Mordatch & Todorov 2014), in one random
        direction per row, which costs about as much as the actions do. 0 leaves it out.
      checks: how often during training the held-out loss is computed, from 1 to steps.
      max_gradient_norm: gradients are clipped to it, > 0.
      on_divergence: "continue" keeps the parameters before a training that diverged and goes on;
        "stop" ends the run then.
      frozen: "convolutions" leaves a network's trunk as it is: its features are computed once, and
        only the dense layers are trained on them.
      convolution_rate: learning rate of the trunk as a fraction of the dense layers', > 0.
    """

    steps: Annotated[int, Range(">= 1", "usually 400 to 5000")] = 450
    batch_size: Annotated[int, Range(">= 1")] = 256
    learning_rate: Annotated[float, Range("> 0", "usually 3e-3")] = 5e-3
    weight_decay: Annotated[float, Range(">= 0")] = 1e-4
    validation: Annotated[float, Range("[0, 0.5]")] = 0.0
    input_noise: Annotated[float, Range(">= 0")] = 0.1
    gain_weight: Annotated[float, Range(">= 0", "usually 0 or 0.01 to 1")] = 0.0
    checks: Annotated[int, Range(">= 1")] = 20
    max_gradient_norm: Annotated[float, Range("> 0")] = 10.0
    on_divergence: Annotated[str, OneOf(*ON_DIVERGENCE)] = "continue"
    frozen: Annotated[str, OneOf(*FROZEN)] = "none"
    convolution_rate: Annotated[float, Range("> 0", "usually 0.1 to 1")] = 1.0

    def __post_init__(self) -> None:
        if self.checks > self.steps:
            refuse(self, "checks", f"an integer and from 1 to steps = {self.steps}")


class _Data(NamedTuple):
    """Rows in one axis, safe to multiply."""

    o: Observation  # [M, dO], or named arrays [M, ...]; images as they came, uint8
    target: jax.Array  # [M, dU]
    root: jax.Array  # [M, dU, dU], R with R'R = P
    weight: jax.Array  # [M]
    gain: jax.Array  # [M, dU, dO] of any float, or [M, 0] where it is not known


@functools.partial(jax.jit, static_argnames="config")
@linalg.full_precision
def distil(
    policy: NetworkPolicy,
    supervision: Supervision,
    key: jax.Array,
    config: DistilConfig = DistilConfig(),
) -> tuple[NetworkPolicy, DistilInfo]:
    """Trains the policy from the parameters it has; the whole training is one scan.

    Inputs and outputs are standardised anew without changing the function (where the network has
    a method `standardised`). The parameters kept are the best on the held-out trajectories among
    those at every check, the last ones without any. Images become floats in their minibatch.

    Returns:
      The policy and how it went. The status is TOO_FEW_SAMPLES where no row has weight, NOT_PD
      where a precision is not positive definite, NON_FINITE where a row of positive weight, the
      loss or the parameters are not finite, or a weight is negative: the policy is then the given
      one.

    Raises:
      ValueError: while tracing, if shapes disagree, or if convolutions are frozen that the network
        or the observations don't have.

    Source: Levine et al. (2016), section 4.3; Montgomery & Levine (2016), section 4.
    """
    check_shapes(policy, supervision)
    if config.frozen == "convolutions":
        cached = observation.cache_features(policy.network, policy.variables, supervision.o)
        supervision = supervision._replace(o=cached)
    split_key, batch_key = jax.random.split(key)
    data, cov, status = _prepare(supervision, config)
    start = _standardise(policy, data, cov)
    train, held_out = _split(data, supervision.weight.shape, split_key, config)

    scale = observation.vector(observation.spreads(data.o, data.weight)[1])
    if supervision.known is not None:  # what nobody knows the gains of is left as it is
        scale = jnp.where(supervision.known, scale, 0)
    fixed, trainable = _divide(start["params"], data.o)

    def loss(params, rows):
        variables = {**start, "params": {**fixed, **params}}
        return _loss(policy.network, variables, rows, config.batch_size)

    def objective(params, rows, key):
        rows = _disturb(rows, config.input_noise * scale, key)
        if config.gain_weight == 0 or rows.gain.ndim != 3:
            return loss(params, rows)
        variables = {**start, "params": {**fixed, **params}}
        shape, key = observation.vector(rows.o).shape, jax.random.fold_in(key, 1)
        offset = scale * jax.random.rademacher(key, shape, scale.dtype)
        of_gains = _gain_loss(policy.network, variables, rows, offset)
        return loss(params, rows) + config.gain_weight * of_gains

    objectives = _Objectives(objective, loss)
    params, score, gradient_norm = _optimise(
        objectives, trainable, train, held_out, batch_key, config
    )
    before, after = loss(trainable, data), loss(params, data)
    # A training that diverged after its best parameters diverged all the same.
    finite = _all_finite(params) & jnp.isfinite(after) & jnp.isfinite(gradient_norm)
    status = worst(status, first_failure(~finite[None], NON_FINITE))
    variables = {**start, "params": {**fixed, **params}}
    trained = dataclasses.replace(policy, variables=variables, cov=cov)
    good = status.code == OK
    info = DistilInfo(
        loss_before=before,
        loss=after,
        loss_validation=score,
        gradient_norm=gradient_norm,
        status=status,
    )
    return jax.tree.map(lambda new, old: jnp.where(good, new, old), trained, policy), info


def _prepare(supervision: Supervision, config: DistilConfig) -> tuple[_Data, jax.Array, Status]:
    """Rows in one axis, the closed-form covariance of the actions, and what is wrong with them."""
    o, target, precision, weight = supervision[:4]
    num, samples, horizon, dU = target.shape
    weight = weight.astype(target.dtype)
    used = weight > 0
    finite = observation.finite(o) & jnp.isfinite(target).all(-1) & jnp.isfinite(weight)
    per_step = jnp.sum(jnp.where(used & jnp.isfinite(weight), weight, 0), axis=1)  # [C, T]
    counts = (per_step > 0)[..., None, None]
    eye = jnp.eye(dU, dtype=target.dtype)
    safe = jnp.where(counts & jnp.isfinite(precision), precision, eye)
    safe = linalg.symmetrise(safe)
    total = jnp.sum(jnp.where(counts, safe * per_step[..., None, None], 0), axis=(0, 1))
    mean_precision = total / divisor(jnp.sum(per_step))
    cov, _, cov_ok = linalg.inverse_psd(mean_precision)
    chol, ok = linalg.cholesky(safe)
    root = linalg.transpose(chol)[:, None]  # R = L' for P = L L'
    root = jnp.broadcast_to(root, (num, samples, horizon, dU, dU))
    keep = used & finite
    data = _Data(
        o=observation.flat(observation.keep_rows(o, keep)),
        target=jnp.where(keep[..., None], target, 0).reshape(-1, dU),
        root=root.reshape(-1, dU, dU),
        weight=jnp.where(keep, weight, 0).reshape(-1),
        gain=_rows_of(supervision),
    )
    bad_rows = jnp.any(used & ~finite) | ~jnp.all(weight >= 0)
    bad_rows |= jnp.any(counts & ~jnp.isfinite(precision))
    if supervision.gain is not None:
        counted = used[..., None, None] if supervision.gain.ndim == 5 else counts
        bad_rows |= jnp.any(counted & ~jnp.isfinite(supervision.gain))
    status = worst(
        first_failure(bad_rows[None], NON_FINITE),
        first_failure(~jnp.any(used)[None], TOO_FEW_SAMPLES),
        first_failure((jnp.any(~ok) | ~cov_ok)[None], NOT_PD),
    )
    return data, cov, status


def _rows_of(s: Supervision) -> jax.Array:
    """The gain of every row, [M, dU, dO]; [M, 0] where there is none."""
    num, samples, horizon = s.weight.shape
    if s.gain is None:
        return jnp.zeros((num * samples * horizon, 0), s.target.dtype)
    gain = jnp.where(jnp.isfinite(s.gain), s.gain, 0)
    gain = gain if gain.ndim == 5 else gain[:, None]
    return jnp.broadcast_to(gain, (num, samples, *gain.shape[2:])).reshape(-1, *gain.shape[3:])


def _standardise(policy: NetworkPolicy, data: _Data, cov: jax.Array) -> dict:
    """The policy's variables, its inputs and outputs scaled to the data."""
    standardised = getattr(policy.network, "standardised", None)
    if standardised is None:
        return policy.variables
    shift, scale = observation.spreads(data.o, data.weight)
    return standardised(policy.variables, shift, scale, jnp.sqrt(jnp.diagonal(cov)))


def _divide(params: dict, o: Observation) -> tuple[dict, dict]:
    """Parameters that stay as they are, and those to train: on features only the head's."""
    on_features = isinstance(o, Mapping) and "features" in o
    trained = {name: each for name, each in params.items() if name == "head" or not on_features}
    return {name: each for name, each in params.items() if name not in trained}, trained


def _split(
    data: _Data, shape: tuple[int, ...], key: jax.Array, config: DistilConfig
) -> tuple[_Data, _Data | None]:
    """Rows to train on and rows of held-out trajectories; weights tell them apart.

    Where too few trajectories are present, no held-out row has weight.
    """
    num, samples, horizon = shape
    trajectories = num * samples
    num_held_out = min(math.ceil(config.validation * trajectories), trajectories - 1)
    if num_held_out == 0:
        return data, None
    # Random among those of positive weight, so that an invalid one is not all there is to check.
    present = jnp.sum(data.weight.reshape(trajectories, horizon), axis=1) > 0
    order = jnp.argsort(jnp.where(present, jax.random.uniform(key, (trajectories,)), 2.0))
    rank = jnp.argsort(order)
    held_out = (rank < num_held_out) & (jnp.sum(present) > num_held_out)
    rows = jnp.repeat(held_out, horizon)
    train = data._replace(weight=jnp.where(rows, 0, data.weight))
    data = data._replace(weight=jnp.where(rows, data.weight, 0))
    if isinstance(data.o, Mapping):  # a network of pixels is not run where it does not count
        steps = order[:num_held_out, None] * horizon + jnp.arange(horizon)
        data = jax.tree.map(lambda leaf: leaf[steps.reshape(-1)], data)
    return train, data


def _disturb(rows: _Data, noise: jax.Array, key: jax.Array) -> _Data:
    """The rows at observations nearby, with the targets that the controllers have there."""
    if rows.gain.ndim != 3:
        return rows
    o = observation.vector(rows.o)
    offset = noise * jax.random.normal(key, o.shape, o.dtype)
    shift = jnp.einsum("mij,mj->mi", rows.gain.astype(offset.dtype), offset)
    return rows._replace(o=observation.with_vector(rows.o, o + offset), target=rows.target + shift)


def _loss(network: Any, variables: dict, rows: _Data, chunk: int) -> jax.Array:
    """Weighted mean over rows of 1/2 |R (mu(o) - target)|^2, nats.

    What a network of pixels makes of many rows is computed in chunks, which bounds the memory.
    """
    if isinstance(rows.o, Mapping) and rows.weight.shape[0] > chunk:
        mean = observation.in_chunks(lambda o: mean_action(network, variables, o), rows.o, chunk)
    else:
        mean = mean_action(network, variables, rows.o)
    residual = mean - rows.target
    distance = 0.5 * jnp.sum(jnp.square(jnp.einsum("mij,mj->mi", rows.root, residual)), axis=-1)
    return jnp.sum(rows.weight * distance) / divisor(jnp.sum(rows.weight))


def _gain_loss(network: Any, variables: dict, rows: _Data, offset: jax.Array) -> jax.Array:
    """Weighted mean over rows of 1/2 |R (dmu/do - gain) offset|^2, nats, of an offset [M, dO] each.

    With the spreads of o for lengths and random signs its mean is that of all directions.
    """
    o = observation.vector(rows.o)

    def mean(vector):
        return mean_action(network, variables, observation.with_vector(rows.o, vector))

    _, change = jax.jvp(mean, (o,), (offset,))
    residual = change - jnp.einsum("mij,mj->mi", rows.gain.astype(offset.dtype), offset)
    distance = 0.5 * jnp.sum(jnp.square(jnp.einsum("mij,mj->mi", rows.root, residual)), axis=-1)
    return jnp.sum(rows.weight * distance) / divisor(jnp.sum(rows.weight))


def _optimiser(config: DistilConfig) -> optax.GradientTransformation:
    parts = [
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adamw(
            optax.cosine_decay_schedule(config.learning_rate, config.steps),
            weight_decay=config.weight_decay,
            mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree),
        ),
    ]
    if config.convolution_rate != 1:

        def of_trunk(params: dict) -> dict[str, bool]:
            return {name: name == "trunk" for name in params}

        parts.append(optax.masked(optax.scale(config.convolution_rate), of_trunk))
    return optax.chain(*parts)


class _Objectives(NamedTuple):
    """What a gradient step descends on, and what the parameters are chosen by."""

    train: Callable[[Any, _Data, jax.Array], jax.Array]
    held_out: Callable[[Any, _Data], jax.Array]


def _optimise(
    objectives: _Objectives,
    params: Any,
    train: _Data,
    held_out: _Data | None,
    key: jax.Array,
    config: DistilConfig,
) -> tuple[Any, jax.Array, jax.Array]:
    """The parameters chosen, their held-out loss, and the largest norm of a gradient."""
    num_rows = train.weight.shape[0]
    batch_size = min(config.batch_size, num_rows)
    optimiser = _optimiser(config)

    def one_step(carry, key):
        params, moments = carry
        key, noise_key = jax.random.split(key)
        index = jax.random.randint(key, (batch_size,), 0, num_rows)
        rows = jax.tree.map(lambda leaf: leaf[index], train)
        gradient = jax.grad(objectives.train)(params, rows, noise_key)
        updates, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), optax.global_norm(gradient)

    def score_of(params):
        if held_out is None:
            return jnp.full((), jnp.nan, train.target.dtype)
        return jnp.where(
            jnp.any(held_out.weight > 0), objectives.held_out(params, held_out), jnp.nan
        )

    per_check, rest = config.steps // config.checks, config.steps % config.checks

    def some_steps(carry, round_number):
        state, best, best_score, norms = carry
        # Steps that do not divide among the checks come first, in a round without a check.
        last = rest + round_number * per_check
        first = jnp.where(round_number > 0, last - per_check, 0)

        def at(step, carry):
            state, norms = carry
            state, norm = one_step(state, keys[step])
            return state, norms.at[step].set(norm)

        state, norms = jax.lax.fori_loop(first, last, at, (state, norms))
        score = score_of(state[0])
        better = (score < best_score) | jnp.isnan(best_score)  # NaN: nothing is held out
        better &= round_number > 0
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state[0], best)
        return (state, best, jnp.where(better, score, best_score), norms), None

    # One loop, in which a step is compiled once.
    key, first_key = jax.random.split(key)
    keys = jax.random.split(key, config.checks * per_check)
    if rest:
        keys = jnp.concatenate([jax.random.split(first_key, rest), keys])
    state = params, optimiser.init(params)
    start = (state, params, score_of(params), jnp.zeros(config.steps, train.target.dtype))
    rounds = jnp.arange(0 if rest else 1, config.checks + 1)
    (_, best, score, norms), _ = jax.lax.scan(some_steps, start, rounds)
    return best, score, jnp.max(norms)


def _all_finite(tree: Any) -> jax.Array:
    checks = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, checks)
