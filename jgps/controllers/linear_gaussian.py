"""Acting with a time-varying linear-Gaussian controller, u ~ N(K_t x + k_t, C_t)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.core import linalg
from jgps.core.one_program import one_program
from jgps.core.types import NOT_PD, Controller, Status, first_failure


class FactoredController(NamedTuple):
    """A controller with its noise factored once, so that a closed loop only multiplies."""

    K: jax.Array  # [T, dU, dX]
    k: jax.Array  # [T, dU]
    L: jax.Array  # [T, dU, dU], lower triangular, C = L L'


@one_program()
def act(
    controller: Controller | FactoredController, x: jax.Array, t: jax.Array | int, noise: jax.Array
) -> jax.Array:
    """Action u = K_t x + k_t + L_t noise, with L_t the Cholesky factor of C_t.

    Args:
      controller: factored (see `factor`) where it acts many times; otherwise C_t is factored here.
      x: state, [dX].
      t: step, 0 <= t < T; others are not refused but clipped.
      noise: [dU]; standard normal for the controller's own distribution, zero for its mean.

    Returns:
      Action, [dU]; NaN where C_t is not positive semi-definite.
    """
    with jax.default_matmul_precision("highest"):
        if isinstance(controller, FactoredController):
            chol = controller.L[t]
        else:
            chol, _ = _factor(controller.C[t])
        return controller.K[t] @ x + controller.k[t] + chol @ noise


@one_program()
def factor(controller: Controller) -> tuple[FactoredController, Status]:
    """Factors the noise of every step. Actuators without noise (zero rows of C) are allowed.

    Returns:
      The factored controller, and a status that is NOT_PD at the first step whose C is not positive
      semi-definite; L is NaN there.
    """
    L, ok = _factor(controller.C)
    return FactoredController(K=controller.K, k=controller.k, L=L), first_failure(~ok, NOT_PD)


def mean_controller(controller: Controller) -> Controller:
    """The same controller without noise, C = 0."""
    return controller._replace(C=jnp.zeros_like(controller.C))


def _factor(C: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor of C [..., n, n], zero rows allowed, NaN where there is none; ok [...]."""
    silent = jnp.diagonal(C, axis1=-2, axis2=-1) == 0
    # A unit on the diagonal of silent actuators makes the factorisation go through.
    filled = C + jnp.where(silent[..., None], jnp.eye(C.shape[-1], dtype=C.dtype), 0)
    L, ok = linalg.cholesky(filled)
    coupled = jnp.any(silent[..., None] & (C != 0), axis=(-2, -1))
    ok = ok & ~coupled
    L = jnp.where(silent[..., None], 0, L)
    return jnp.where(ok[..., None, None], L, jnp.nan), ok
