"""Dynamics adapted online: a prior model, and how the last steps deviate from it.

A prior model says x' ~ N(F_t z + f_t, W_t) with z = [x; u]: a simulator's derivatives, a fit, or
what a mixture prior gives. What it gets wrong at every step, r = x' - F_t z - f_t, is regressed on
z by recursive least squares with exponential forgetting, and the deviation is added to it:

    mean <- mean + d / n,    S <- a S + (a n_old / n) d d',    n = a n_old + 1
    d = y - mean_old,    y = [z; r],    a = forgetting^max(1, (miss / surprise)^2)
    dF = S_rz (S_zz + s Phi)^-1,    df = n / (n + s) mean_r - dF mean_z

with a normal-inverse-Wishart prior of strength s that says: r is zero, whatever z is, and z spreads
by Phi. It is added where a model is asked for and no part of what is forgotten, so it does not
wash out: without excitation S decays to zero and the model to the prior. The miss is that of the
adapted model's own prediction, in standard deviations: what was learned of another mass is wrong
after a change, and a weighted sum of both is right about neither.

Why so, and not as P <- (P - P z z'P / (forgetting + z'P z)) / forgetting: there P grows without
bound in every direction that is not excited. With a constant input it is indefinite in float32
after 170 steps and has overflowed after 842 (forgetting 0.9; 900 and 2,429 at 0.98). Here all that
is kept is a mean and a sum of squares about it, at most 1 / (1 - forgetting) times the largest one,
as a triangular factor, S = L L', which rotations update: no step can fail, and covariances made of
it are positive definite by construction.

Source: Fu, Levine & Abbeel (2016), "One-shot learning of manipulation skills with online dynamics
adaptation and neural network priors" (moving averages of moments and a prior of this kind, there of
[z; x'] itself); Mordatch et al. (2016), "Combining model-based policy search with
online model learning for control of physical humanoids"; Fortescue, Kershenbaum & Ydstie (1981),
"Implementation of self-tuning regulators with variable forgetting factors".

Moments of r instead of x' keep what a nonlinear nominal model knows.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jgps.core import linalg
from jgps.core.checks import Config, Range
from jgps.core.estimation.regression import (
    FitInfo,
    NormalInverseWishart,
    divisor,
    factor_with_ridge,
)
from jgps.core.one_program import one_program
from jgps.core.types import NON_FINITE, NOT_PD, Dynamics, Status, first_failure, worst


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptationConfig(Config):
    """How a model of the dynamics follows what it sees (`jgps.dynamics.make_adaptation`).

    Attributes:
      forgetting: by what the weight of every earlier step is multiplied in a step.
      strength: samples that the prior model is worth against those that are remembered. For
        ever it keeps about strength x (1 - forgetting) of the prior's mistake where entries vary by
        `spread`, and more where they vary less: more than the noise where that is small.
      spread: by what these samples would vary, task units: one number for all entries of [x; u], or
        dX + dU of them. The local deviation of an entry, such as radians over a few steps; where
        what is seen varies much less, the model hardly moves from the prior.
      surprise: by how many of its standard deviations the adapted model may miss an entry of the
        next state before more is forgotten than `forgetting` says; None: however many, which is
        better where what is rare and large, such as an impact, changes nothing for long.
    """

    forgetting: Annotated[
        float,
        Range(
            "(0, 0.999]",
            "usually 0.9 to 0.98: about 1 / (1 - forgetting) steps are remembered, and float32 "
            "is exact for up to 1,000",
        ),
    ] = 0.9
    strength: Annotated[
        float, Range("> 0", "usually 0.01; less follows what is seen more, more the prior model")
    ] = 0.01
    spread: Annotated[float | tuple[float, ...], Range("> 0")] = 1.0
    surprise: Annotated[float | None, Range("> 0", "usually 3")] = 3.0


class AdaptationState(NamedTuple):
    """What is remembered: weighted moments of y = [z / spread; r], D = 2 dX + dU."""

    mean: jax.Array  # [D]
    factor: jax.Array  # [D, D], lower triangular, L with L L' the scatter about the mean
    count: jax.Array  # [], how many steps that is worth, at most 1 / (1 - forgetting)
    skipped: jax.Array  # [] int32, steps that were left out because they were not finite


class Adaptation(NamedTuple):
    """Pure functions of a model that is adapted online, each of one state; callers `vmap`.

    init() -> state
    update(state, prior, x [dX], u [dU], x_next [dX]) -> state, with the prior model of this step: a
      Dynamics without an axis of time. A step that is not finite, or so far off that float32 can't
      hold the squares (from about 1e15), leaves what is remembered as it is and is counted; all
      others are believed.
    evaluate(state, prior) -> (Dynamics, FitInfo): the prior model of one step, or of as many as it
      has, [S, ...], with the deviation added. Its W is symmetric and positive definite where the
      prior's is. The status is NON_FINITE with the first step whose prior is not finite, NOT_PD
      where no ridge helps, and then the prior is returned as it is; ridge_added is what the prior's
      own strength was raised by, per sample and in squared spreads, where rounding would hide it.

    States are coordinates that can be subtracted: where a model has quaternions, tangent ones.

    Raises:
      ValueError: shapes disagree, or a prior that is known while tracing is not finite.
    """

    init: Callable[[], AdaptationState]
    update: Callable[[AdaptationState, Dynamics, Any, Any, Any], AdaptationState]
    evaluate: Callable[[AdaptationState, Dynamics], tuple[Dynamics, FitInfo]]


def make_adaptation(
    config: AdaptationConfig, dX: int, dU: int, dtype: Any = jnp.float32
) -> Adaptation:
    """The functions by which a prior model of x [dX] and u [dU] is adapted online.

    Raises:
      ValueError: the spread has entries, and not dX + dU of them; there is no state or action.
    """
    if min(dX, dU) < 1:
        raise ValueError(f"dX and dU have to be at least 1, got {dX} and {dU}")
    entries = config.spread
    if isinstance(entries, tuple) and len(entries) != dX + dU:
        raise ValueError(
            f"AdaptationConfig.spread has {len(entries)} entries; it has to be one number or "
            f"dX + dU = {dX + dU} of them"
        )
    dim = 2 * dX + dU

    def init() -> AdaptationState:
        return AdaptationState(
            mean=jnp.zeros(dim, dtype),
            factor=jnp.zeros((dim, dim), dtype),
            count=jnp.zeros((), dtype),
            skipped=jnp.zeros((), jnp.int32),
        )

    def update(state, prior, x, u, x_next) -> AdaptationState:
        _check_prior(prior, dX, dU, with_time=False)
        x, u, x_next = (jnp.asarray(each, dtype) for each in (x, u, x_next))
        for name, each, size in (("x", x, dX), ("u", u, dU), ("x_next", x_next, dX)):
            if each.shape != (size,):
                raise ValueError(
                    f"{name} must be [{size}] of one state, got {each.shape}; use jax.vmap for "
                    "batches"
                )
        return _update(state, _in(prior, dtype), x, u, x_next, config)

    def evaluate(state, prior) -> tuple[Dynamics, FitInfo]:
        _check_prior(prior, dX, dU, with_time=prior.F.ndim == 3)
        return _evaluate(state, _in(prior, dtype), config)

    return Adaptation(init=init, update=update, evaluate=evaluate)


@one_program("dX")
@linalg.full_precision
def prior_model(prior: NormalInverseWishart, dX: int) -> tuple[Dynamics, Status]:
    """The dynamics that a prior over y = [x; u; x'] expects, such as a mixture seen from a point.

    Args:
      prior: of one step, or with leading axes, [..., D] with D = 2 dX + dU; its strength counts
        samples and has to be > 0.
      dX: entries of the state.

    Returns:
      Dynamics with the prior's leading axes, W symmetric positive definite, and a status: NOT_PD
      with the first step whose covariance is not positive definite (an empty mixture's is not),
      NON_FINITE where the prior is not finite. The dynamics are NaN there.

    Raises:
      ValueError: while tracing, if the prior is not over two states and an action.
    """
    dim = prior.mean.shape[-1]
    if prior.scatter.shape[-2:] != (dim, dim) or not 1 <= dX < dim / 2:
        raise ValueError(
            f"prior must have mean [2 dX + dU] and scatter [2 dX + dU, 2 dX + dU] with dX = {dX} "
            f"and dU >= 1, got {prior.mean.shape} and {prior.scatter.shape}"
        )
    given = dim - dX
    cov = linalg.symmetrise(prior.scatter) / divisor(prior.strength)[..., None, None]
    scale = jnp.sqrt(jnp.abs(jnp.diagonal(cov, axis1=-2, axis2=-1)))
    scale = divisor(scale)
    # The factor of the whole holds F and that of W, which is then positive definite by itself.
    L, ok = linalg.cholesky(cov / (scale[..., None] * scale[..., None, :]))
    inverse = linalg.inverse_triangular(L[..., :given, :given])
    in_scale, out_scale = scale[..., :given], scale[..., given:]
    F = (L[..., given:, :given] @ inverse) * (out_scale[..., None] / in_scale[..., None, :])
    f = prior.mean[..., given:] - jnp.einsum("...ij,...j->...i", F, prior.mean[..., :given])
    root = out_scale[..., None] * L[..., given:, given:]
    W = linalg.symmetrise(root @ linalg.transpose(root))
    finite = jnp.isfinite(prior.strength) & jnp.all(jnp.isfinite(prior.mean), axis=-1)
    finite = finite & jnp.all(jnp.isfinite(prior.scatter), axis=(-2, -1))
    ok = ok & (prior.strength > 0) & finite
    model = Dynamics(F=F, f=f, W=W)
    model = jax.tree.map(
        lambda leaf: jnp.where(ok.reshape(ok.shape + (1,) * (leaf.ndim - ok.ndim)), leaf, jnp.nan),
        model,
    )
    status = worst(
        first_failure(~finite.reshape(-1), NON_FINITE), first_failure(~ok.reshape(-1), NOT_PD)
    )
    return model, status


@one_program("config")
@linalg.full_precision
def _update(
    state: AdaptationState,
    prior: Dynamics,
    x: jax.Array,
    u: jax.Array,
    x_next: jax.Array,
    config: AdaptationConfig,
) -> AdaptationState:
    z = jnp.concatenate([x, u])
    residual = x_next - prior.F @ z - prior.f
    y = jnp.concatenate([z / _spread(config, z), residual])
    offset = y - state.mean
    keep = jnp.asarray(config.forgetting, y.dtype)
    if config.surprise is not None:
        # Below what rounding makes of a prediction nothing is a surprise.
        rounding = jnp.finfo(y.dtype).eps * (jnp.abs(prior.F) @ jnp.abs(z) + jnp.abs(x_next))
        miss = _miss(state, prior, y, 4 * rounding, config)
        keep = keep ** jnp.maximum(1, jnp.square(miss / config.surprise))
    count = keep * state.count + 1
    # The weight of the new square is 0 in the first step, whose mean is the sample.
    weight = jnp.sqrt(keep * state.count / count)
    new = AdaptationState(
        mean=state.mean + offset / count,
        factor=_add_square(jnp.sqrt(keep) * state.factor, weight * offset),
        count=count,
        skipped=state.skipped,
    )
    # So that all sums of squares, now and later, are finite too.
    limits = jnp.finfo(y.dtype)
    finite = jnp.sum(jnp.square(y)) < limits.eps * limits.max
    finite = finite & jnp.all(_finite_steps(prior))
    kept = state._replace(skipped=state.skipped + 1)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, kept)


def _miss(
    state: AdaptationState,
    prior: Dynamics,
    y: jax.Array,
    rounding: jax.Array,
    config: AdaptationConfig,
) -> jax.Array:
    """How far y = [z / spread; r] is from what is expected at z, [] in standard deviations.

    Of the entry that is farthest; the variance is that of a new sample, with what the regression
    itself does not know.
    """
    found = _regress(state, y.shape[0] - prior.f.shape[0], config)
    dX = prior.f.shape[0]
    inputs, outputs = y[:-dX] - state.mean[:-dX], y[-dX:]
    error = outputs - found.mean - found.gain @ inputs
    unsure = 1 + (1 + jnp.sum(jnp.square(found.whiten @ inputs))) / found.total
    variance = unsure * jnp.diagonal(found.W + config.strength / found.total * prior.W)
    miss = jnp.max(jnp.abs(error) / jnp.sqrt(divisor(variance + jnp.square(rounding))))
    # A memory that predicts nothing finite is forgotten, and does not keep new steps out.
    return jnp.where(jnp.isnan(miss), jnp.inf, miss)


def _add_square(factor: jax.Array, vector: jax.Array) -> jax.Array:
    """The lower factor of L L' + v v', by one rotation per column; L may be singular."""
    entries = jnp.arange(vector.shape[0])

    def rotate(rest: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        j, column = step
        diagonal, entry = column[j], rest[j]
        radius = jnp.hypot(diagonal, entry)
        known = divisor(radius)
        cos, sin = jnp.where(radius > 0, diagonal / known, 1), entry / known
        rotated = jnp.where(entries >= j, cos * column + sin * rest, 0)
        return jnp.where(entries > j, cos * rest - sin * column, 0), rotated

    _, columns = jax.lax.scan(rotate, vector, (entries, factor.T))
    return columns.T


class _Regression(NamedTuple):
    """What is remembered as a distribution of r given z / spread, without the prior's own noise."""

    gain: jax.Array  # [dX, dX+dU]
    mean: jax.Array  # [dX], of r at the mean of z
    W: jax.Array  # [dX, dX]
    total: jax.Array  # [], steps and the prior's strength
    whiten: jax.Array  # [dX+dU, dX+dU], inverse factor of the inputs' covariance with the ridge
    ridge: jax.Array  # [], the prior's share, or more where rounding hides that
    ok: jax.Array  # [] bool, whether there is such a factor


def _regress(state: AdaptationState, num_inputs: int, config: AdaptationConfig) -> _Regression:
    total = state.count + config.strength
    L = state.factor / jnp.sqrt(total)
    inputs, outputs = L[:num_inputs], L[num_inputs:]
    chol, ridge, ok = factor_with_ridge(inputs @ inputs.T, config.strength / total)
    whiten = linalg.inverse_triangular(chol)
    gain = outputs @ (whiten @ inputs).T @ whiten
    # A sum of squares, in which what the regression explains does not cancel.
    left = outputs - gain @ inputs
    mean = state.mean[num_inputs:]
    bias = jnp.sqrt(state.count * config.strength) / total * mean
    W = left @ left.T + ridge * gain @ gain.T + bias[:, None] * bias
    return _Regression(gain, state.count / total * mean, W, total, whiten, ridge, ok)


@one_program("config")
@linalg.full_precision
def _evaluate(
    state: AdaptationState, prior: Dynamics, config: AdaptationConfig
) -> tuple[Dynamics, FitInfo]:
    num_inputs = prior.F.shape[-1]
    found = _regress(state, num_inputs, config)
    given = config.strength / found.total
    dF = found.gain / _spread(config, found.gain[0])
    df = found.mean - found.gain @ state.mean[:num_inputs]
    finite = jnp.all(jnp.isfinite(found.W)) & jnp.all(jnp.isfinite(dF)) & jnp.all(jnp.isfinite(df))
    sound = found.ok & finite
    W = linalg.symmetrise(found.W + given * prior.W)
    adapted = Dynamics(F=prior.F + dF, f=prior.f + df, W=W)
    model = jax.tree.map(lambda a, b: jnp.where(sound, a, b), adapted, prior)
    status = worst(
        first_failure(~_finite_steps(prior), NON_FINITE),
        first_failure(~found.ok[None], NOT_PD),
        first_failure(~finite[None], NON_FINITE),
    )
    return model, FitInfo(status=status, ridge_added=jnp.where(sound, found.ridge - given, 0))


def _finite_steps(model: Dynamics) -> jax.Array:
    """Whether a model is finite, [S] of its steps, [1] of a model of one step."""
    lead = model.f.shape[:-1]
    leaves = [jnp.isfinite(leaf).reshape(*lead, -1) for leaf in model]
    return jnp.all(jnp.concatenate(leaves, axis=-1), axis=-1).reshape(-1)


def _spread(config: AdaptationConfig, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(config.spread, like.dtype), like.shape)


def _in(prior: Dynamics, dtype: Any) -> Dynamics:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), prior)


def _check_prior(prior: Dynamics, dX: int, dU: int, with_time: bool) -> None:
    """Refuses a prior of other sizes, and one that is known and not finite."""
    lead = prior.F.shape[:1] if with_time else ()
    shapes = {"F": (*lead, dX, dX + dU), "f": (*lead, dX), "W": (*lead, dX, dX)}
    for name, shape in shapes.items():
        leaf = getattr(prior, name)
        if leaf.shape != shape:
            steps = "of all its steps" if with_time else "of one step"
            raise ValueError(
                f"prior.{name} must be {list(shape)} {steps}, got {leaf.shape}; use jax.vmap for "
                "batches"
            )
        if isinstance(leaf, Tracer):
            continue
        finite = np.isfinite(np.asarray(leaf)).reshape(*lead, -1).all(axis=-1)
        if not finite.all():
            place = f" at step {int(np.argmin(finite))}" if with_time else ""
            raise ValueError(
                f"prior.{name} is not finite{place}; the model to adapt has to be finite numbers"
            )
