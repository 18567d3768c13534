"""A multilayer perceptron that standardises what it reads and what it returns."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jgps.core.names import unknown

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh}
STANDARDISATION = "standardisation"  # the collection of variables that training does not touch


class Mlp(nn.Module):
    """Mean action mu(o) = action_shift + action_scale * dense(phi(... (o - shift) / scale)).

    Attributes:
      action_dim: dU.
      hidden: widths of the hidden layers; () is a linear policy.
      activation: phi, what follows each of them, a name in `ACTIVATIONS`.
    """

    action_dim: int
    hidden: tuple[int, ...] = (40, 40)
    activation: str = "relu"

    @nn.compact
    def __call__(self, o: jax.Array) -> jax.Array:
        """Mean actions [..., dU] for observations [..., dO]."""

        def constant(name: str, size: int, value: float) -> jax.Array:
            return self.variable(STANDARDISATION, name, jnp.full, size, value, o.dtype).value

        h = (o - constant("shift", o.shape[-1], 0)) / constant("scale", o.shape[-1], 1)
        for number, width in enumerate(self.hidden):
            h = ACTIVATIONS[self.activation](nn.Dense(width, name=f"dense_{number}")(h))
        h = nn.Dense(self.action_dim, name="action")(h)
        scale = constant("action_scale", self.action_dim, 1)
        return h * scale + constant("action_shift", self.action_dim, 0)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the dense layers, input first."""
        return (*(f"dense_{number}" for number in range(len(self.hidden))), "action")

    def standardised(
        self, variables: dict, shift: jax.Array, scale: jax.Array, action_scale: jax.Array
    ) -> dict:
        """The same function of o, written with another standardisation.

        What the first layer reads is (o - shift) / scale from now on, and what the last returns is
        in units of action_scale, so that data that spread over new ranges remain well scaled.

        Args:
          variables: of this module.
          shift, scale: [dO], scale > 0.
          action_scale: [dU], > 0.
        """
        old, params = variables[STANDARDISATION], dict(variables["params"])
        first, last = self.layers[0], self.layers[-1]
        kernel, bias = params[first]["kernel"], params[first]["bias"]
        params[first] = {
            "kernel": kernel * (scale / old["scale"])[:, None],
            "bias": bias + ((shift - old["shift"]) / old["scale"]) @ kernel,
        }
        ratio = old["action_scale"] / action_scale
        params[last] = jax.tree.map(lambda leaf: leaf * ratio, params[last])
        new = {**old, "shift": shift, "scale": scale, "action_scale": action_scale}
        return {"params": params, STANDARDISATION: new}


def mlp(
    observation_dim: int,
    action_dim: int,
    hidden: tuple[int, ...] = (40, 40),
    activation: str = "relu",
) -> Mlp:
    """The network of a policy that reads a vector.

    Raises:
      ValueError: if a size is not a positive integer, or there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(unknown("activation", activation, ACTIVATIONS))
    sizes = (("observation_dim", observation_dim), ("action_dim", action_dim))
    for name, size in (*sizes, *(("hidden", width) for width in hidden)):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {size!r}; a layer has at least 1 unit, an integer")
    return Mlp(action_dim=action_dim, hidden=tuple(hidden), activation=activation)


def count_parameters(variables: dict) -> int:
    """How many numbers training may change."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
