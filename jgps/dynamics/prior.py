"""Priors for the fitted dynamics: none, constant, or a mixture over recent samples."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jgps.core.checks import Config, Range, refuse
from jgps.core.estimation import mixture as gmm
from jgps.core.estimation.regression import NormalInverseWishart
from jgps.core.types import OK, Rollouts

STRENGTH = "usually 1: it counts samples, 0 ignores the prior"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPriorConfig(Config):
    """Every step is fitted to its own samples alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantPriorConfig(Config):
    """The same prior at every step, condition and iteration.

    Attributes:
      mean: mean of the vector that the prior is over, task units; one number for all of its
        entries, or one each: 2 dX + dU of [x; u; x'] in `FittedModelsConfig`, dX + dU of [x; u] in
        `RegressionConfig`, and as many as o and x have together in `observation_prior`.
      variance: variances of these entries, which are independent; as many.
      strength: samples that the prior is worth.
    """

    mean: Annotated[float | tuple[float, ...], Range()] = 0.0
    variance: Annotated[float | tuple[float, ...], Range("> 0")] = 1.0
    strength: Annotated[float, Range(">= 0", STRENGTH)] = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixturePriorConfig(Config):
    """A Gaussian mixture of the vectors of all steps of recent iterations.

    Attributes:
      strength: samples that the prior is worth.
      max_clusters, min_clusters, points_per_cluster: the number of clusters is the number of
        valid trajectories in the window times T / points_per_cluster, within these bounds. Where
        points have more than twice as many dimensions, 2 dX + dU, as points_per_cluster, those
        take its place: a cluster of fewer points knows next to nothing of most directions.
      shared: one mixture for all conditions, or one for each.
      window: how many recent iterations it sees.
      em: how EM runs in every update; the first starts from k-means++, later ones from the last
        mixture. More than the two steps of the default made no better predictions on arm-like data.
    """

    strength: Annotated[float, Range(">= 0", STRENGTH)] = 1.0
    max_clusters: Annotated[int, Range(">= 1")] = 20
    min_clusters: Annotated[int, Range(">= 1")] = 2
    points_per_cluster: Annotated[
        int, Range(">= 1", "usually 40: more points make fewer clusters")
    ] = 40
    shared: bool = True
    window: Annotated[int, Range(">= 1", "usually 4: the current iteration counts")] = 4
    em: gmm.MixtureConfig = dataclasses.field(
        default_factory=lambda: gmm.MixtureConfig(max_iterations=2)
    )

    def __post_init__(self) -> None:
        if self.min_clusters > self.max_clusters:
            refuse(self, "min_clusters", f"at most max_clusters = {self.max_clusters}, usually 2")


PriorConfig = NoPriorConfig | ConstantPriorConfig | MixturePriorConfig


class Prior(NamedTuple):
    """Pure functions of a prior over [x; u; x'].

    init(key) -> state
    update(state, rollouts [C, N, T, ...]) -> (state, metrics), a dict of arrays; trajectories that
      are not valid or not finite are left out
    evaluate(state, rollouts [C, N, T, ...]) -> NormalInverseWishart with leaves [C, T-1, ...], or
      None where there is no prior
    """

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, Rollouts], tuple[Any, dict[str, jax.Array]]]
    evaluate: Callable[[Any, Rollouts], NormalInverseWishart | None]


class PointsPrior(NamedTuple):
    """Pure functions of a prior over any points, [C, N, S, D] of S steps; valid is [C, N]."""

    init: Callable[[jax.Array], Any]
    update: Callable[[Any, jax.Array, jax.Array], tuple[Any, dict[str, jax.Array]]]
    evaluate: Callable[[Any, jax.Array, jax.Array], NormalInverseWishart | None]


class MixturePriorState(NamedTuple):
    """G mixtures: one, or one per condition. `points` is a ring of the last iterations."""

    points: jax.Array  # [window, C, N, S, D], zero where there is none
    valid: jax.Array  # [window, C, N] bool
    num_updates: jax.Array  # [] int32; the next goes to slot num_updates % window
    mixture: gmm.Mixture  # leaves [G, ...]
    key: jax.Array  # seeds the first mixture


def make_prior(
    config: PriorConfig,
    dX: int,
    dU: int,
    num_conditions: int,
    num_samples: int,
    horizon: int,
    dtype: Any = jnp.float32,
) -> Prior:
    """The functions of the prior that `config` describes, for rollouts [C, N, T, ...].

    Raises:
      ValueError: on anything but one of the three configs, or entries that do not fit dX and dU.
    """
    of_points = make_points_prior(
        config, 2 * dX + dU, num_conditions, num_samples, horizon - 1, dtype
    )

    def checked(rollouts: Rollouts, leading: tuple[int, int] | None) -> tuple[jax.Array, jax.Array]:
        x, u, valid = rollouts
        lead = x.shape[:2] if leading is None else leading
        if x.shape != (*lead, horizon, dX) or u.shape != (*lead, horizon, dU):
            raise ValueError(
                f"this prior was made for x {(*lead, horizon, dX)} and u {(*lead, horizon, dU)}, "
                f"got {x.shape} and {u.shape}"
            )
        if valid.shape != lead:
            raise ValueError(f"rollouts.valid must be {lead}, got {valid.shape}")
        return _points(rollouts, dtype), valid

    return Prior(
        init=of_points.init,
        update=lambda state, rollouts: of_points.update(
            state, *checked(rollouts, (num_conditions, num_samples))
        ),
        evaluate=lambda state, rollouts: of_points.evaluate(state, *checked(rollouts, None)),
    )


def make_points_prior(
    config: PriorConfig,
    dim: int,
    num_conditions: int,
    num_samples: int,
    num_steps: int,
    dtype: Any = jnp.float32,
) -> PointsPrior:
    """The functions of the prior that `config` describes, updated with points [C, N, S, D].

    It can be evaluated at any numbers of conditions (unless each has its own mixture) and samples.

    Raises:
      ValueError: on anything but one of the three configs, or entries that do not fit `dim`.
    """
    shape = (num_conditions, num_samples, num_steps, dim)
    if min(shape) < 1:
        raise ValueError(
            f"a prior has to be over at least one condition, sample, step and entry; got {shape} "
            "of them"
        )
    if isinstance(config, NoPriorConfig):
        return _no_prior()
    if isinstance(config, ConstantPriorConfig):
        return _constant_prior(config, shape, dtype)
    if isinstance(config, MixturePriorConfig):
        return _mixture_prior(config, shape, dtype)
    raise ValueError(
        f"the prior's config is {config!r}; it has to be a NoPriorConfig, ConstantPriorConfig or "
        "MixturePriorConfig"
    )


def _no_prior() -> PointsPrior:
    return PointsPrior(
        init=lambda key: (),
        update=lambda state, points, valid: (state, {}),
        evaluate=lambda state, points, valid: None,
    )


def _constant_prior(config: ConstantPriorConfig, shape: tuple[int, ...], dtype) -> PointsPrior:
    _, _, num_steps, dim = shape
    entries = {"mean": config.mean, "variance": config.variance}
    for name, value in entries.items():
        if isinstance(value, tuple) and len(value) != dim:
            raise ValueError(
                f"ConstantPriorConfig.{name} has {len(value)} entries; it has to be one number "
                f"or 2 dX + dU = {dim} of them"
            )

    def evaluate(state, points, valid):
        steps = (points.shape[0], num_steps)
        strength = jnp.full(steps, config.strength, dtype)
        variance = jnp.broadcast_to(jnp.asarray(config.variance, dtype), (dim,))
        return NormalInverseWishart(
            mean=jnp.broadcast_to(jnp.asarray(config.mean, dtype), (*steps, dim)),
            scatter=strength[..., None, None] * jnp.diag(variance),
            dof=strength,
            strength=strength,
        )

    return PointsPrior(
        init=lambda key: (),
        update=lambda state, points, valid: (state, {}),
        evaluate=evaluate,
    )


def _mixture_prior(config: MixturePriorConfig, shape: tuple[int, ...], dtype) -> PointsPrior:
    num_conditions, num_samples, num_steps, dim = shape
    groups = 1 if config.shared else num_conditions
    ring = (config.window, num_conditions, num_samples)

    def init(key):
        blank = gmm.empty(config.max_clusters, dim, dtype)
        return MixturePriorState(
            points=jnp.zeros((*ring, num_steps, dim), dtype),
            valid=jnp.zeros(ring, bool),
            num_updates=jnp.zeros((), jnp.int32),
            mixture=jax.tree.map(lambda leaf: jnp.stack([leaf] * groups), blank),
            key=key,
        )

    def update(state, points, valid):
        slot = state.num_updates % config.window
        # Kept in the ring, one bad point would stop every update of the window.
        valid = valid.astype(bool) & jnp.all(jnp.isfinite(points), axis=(-2, -1))
        points = jnp.where(valid[..., None, None], points, 0.0)
        state = state._replace(
            points=state.points.at[slot].set(points),
            valid=state.valid.at[slot].set(valid),
            num_updates=state.num_updates + 1,
        )
        fitted, info, num_active = _fit_groups(config, state)
        mixture = _select(info.status.code == OK, fitted, state.mixture)
        return state._replace(mixture=mixture), _metrics(info, num_active)

    def evaluate(state, points, valid):
        points = jnp.moveaxis(points, 2, 1)  # [C, S, N, D]
        weights = valid.astype(bool).astype(dtype)
        at_steps = jax.vmap(gmm.to_prior, in_axes=(None, 0, None, None))
        if config.shared:
            mixture = jax.tree.map(lambda leaf: leaf[0], state.mixture)
            at_conditions = jax.vmap(at_steps, in_axes=(None, 0, 0, None))
        else:
            mixture = state.mixture
            at_conditions = jax.vmap(at_steps, in_axes=(0, 0, 0, None))
        return at_conditions(mixture, points, weights, config.strength)

    return PointsPrior(init=init, update=update, evaluate=evaluate)


def _fit_groups(config: MixturePriorConfig, state: MixturePriorState):
    """Mixtures [G] of the window, how the fits went, and their numbers of clusters."""
    groups, _, dim = state.mixture.mean.shape
    num_steps = state.points.shape[3]
    data = jnp.moveaxis(state.points, 1, 0).reshape(groups, -1, dim)
    valid = jnp.moveaxis(state.valid, 1, 0).reshape(groups, -1)
    weights = jnp.repeat(valid.astype(data.dtype), num_steps, axis=1)
    num_active = _num_clusters(config, dim, jnp.sum(valid, axis=1) * (num_steps + 1))
    keys = jax.random.split(state.key, groups)
    is_new = state.mixture.count == 0

    def initialise_group(group):
        key, data, weights, num_active = group
        return gmm.initialise(key, data, weights, num_active, config.max_clusters, config.em.ridge)

    def initialise(mixture):
        fresh = jax.lax.map(initialise_group, (keys, data, weights, num_active))
        return _select(is_new, fresh, mixture)

    def fit_group(group):
        data, weights, start, num_active = group
        return gmm.fit(data, weights, start, num_active, config.em)

    start = jax.lax.cond(jnp.any(is_new), initialise, lambda mixture: mixture, state.mixture)
    # One after the other, so that each mixture stops when it has converged.
    fitted, info = jax.lax.map(fit_group, (data, weights, start, num_active))
    return fitted, info, num_active


def _num_clusters(config: MixturePriorConfig, dim: int, num_points: jax.Array) -> jax.Array:
    """As many clusters as so many points of `dim` dimensions make."""
    few = config.points_per_cluster
    each = few if dim <= 2 * few else dim
    return jnp.clip(num_points // each, config.min_clusters, config.max_clusters)


def _metrics(info: gmm.MixtureInfo, num_active: jax.Array) -> dict[str, jax.Array]:
    """Per mixture, [G]; a status that is not 0 means that the mixture before was kept."""
    return {
        "mixture_log_likelihood": info.log_likelihood,
        "mixture_iterations": info.iterations,
        "mixture_converged": info.converged,
        "mixture_reseeded": info.reseeded,
        "mixture_ridge_added": info.ridge_added,
        "mixture_clusters": num_active.astype(jnp.int32),
        "mixture_status": info.status.code,
    }


def _points(rollouts: Rollouts, dtype) -> jax.Array:
    """[x; u; x'] of every step, [C, N, T-1, D]."""
    x, u = rollouts.x.astype(dtype), rollouts.u.astype(dtype)
    return jnp.concatenate([x[..., :-1, :], u[..., :-1, :], x[..., 1:, :]], axis=-1)


def _select(flags: jax.Array, new, old):
    """Leaves [G, ...] of `new` where `flags` [G], of `old` elsewhere."""

    def select(new_leaf, old_leaf):
        column = flags.reshape(flags.shape + (1,) * (new_leaf.ndim - flags.ndim))
        return jnp.where(column, new_leaf, old_leaf)

    return jax.tree.map(select, new, old)
