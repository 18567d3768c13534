"""Local controllers as one policy: each condition takes the one that was made nearest to it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.controllers import linear_gaussian
from jgps.controllers.linear_gaussian import FactoredController
from jgps.core.one_program import one_program
from jgps.core.types import Controller


class NearestController(NamedTuple):
    """A bank of local controllers, chosen by what tells conditions apart."""

    controllers: Controller  # leaves [C, T, ...]
    x0: jax.Array  # [C, D], where each of them starts; behind it the params of its condition

    @one_program()
    def params_for(self, x0: jax.Array) -> FactoredController:
        """What `act` needs in conditions that start at x0 [C', D]: leaves [C', T, ...].

        Distance is measured with every entry scaled by its spread over `self.x0`;
        entries that are the same in all conditions don't count.
        """
        spread = jnp.std(self.x0, axis=0)
        # Rounding must not turn an entry that never varies into the one that decides.
        varies = spread > 1e-5 * (1 + jnp.max(jnp.abs(self.x0), axis=0))
        scale = jnp.where(varies, 1 / jnp.where(varies, spread, 1), 0)
        difference = (x0[:, None, :] - self.x0[None, :, :]) * scale
        nearest = jnp.argmin(jnp.sum(jnp.square(difference), axis=-1), axis=1)
        chosen = jax.tree.map(lambda leaf: leaf[nearest], self.controllers)
        factored, _ = jax.vmap(linear_gaussian.factor)(chosen)
        return factored

    @staticmethod
    def act(
        params: FactoredController,
        x: jax.Array,
        o: jax.Array,
        t: jax.Array | int,
        noise: jax.Array,
    ) -> jax.Array:
        """Action of one condition's controller, see `linear_gaussian.act`; it reads x, not o."""
        del o
        return linear_gaussian.act(params, x, t, noise)
