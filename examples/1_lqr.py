"""The maths alone: an optimal controller of a linear system, without any simulator."""

import jax.numpy as jnp

import jgps


def main(horizon: int = 50, dt: float = 0.1) -> dict[str, float]:
    """Brings a double integrator to rest at the origin; returns where it ends, and costs."""
    # The state is (position, velocity), the action a force. x[t+1] ~ N(F [x; u] + f, W), for every
    # step but the last: T steps have T - 1 transitions.
    F = jnp.array([[1.0, dt, 0.0], [0.0, 1.0, dt]])
    dynamics = jgps.Dynamics(
        F=jnp.tile(F, (horizon - 1, 1, 1)),
        f=jnp.zeros((horizon - 1, 2)),
        W=jnp.tile(1e-4 * jnp.eye(2), (horizon - 1, 1, 1)),
    )
    # Every step costs 1/2 [x; u]' H [x; u] + g' [x; u] + h.
    H = jnp.diag(jnp.array([1.0, 0.1, 0.01]))
    cost = jgps.QuadraticCost(
        H=jnp.tile(H, (horizon, 1, 1)), g=jnp.zeros((horizon, 3)), h=jnp.zeros(horizon)
    )

    # Backward in time: the best controller u = K x + k, and whether all went well (0 is yes).
    controller, _, status = jgps.lqr.backward(dynamics, cost)
    assert status.code == 0

    # Forward in time: how states and actions are distributed under it, and what that costs.
    start = jgps.Gaussian(mean=jnp.array([1.0, 0.0]), cov=1e-4 * jnp.eye(2))
    marginals = jgps.lqr.forward(controller, dynamics, start)
    expected = jgps.lqr.expected_cost(marginals, cost).sum()

    # The same system under a controller that does nothing.
    idle = controller._replace(K=0 * controller.K, k=0 * controller.k)
    idle_cost = jgps.lqr.expected_cost(jgps.lqr.forward(idle, dynamics, start), cost).sum()
    return {
        "position_last": float(marginals.mean[-1, 0]),
        "cost": float(expected),
        "cost_idle": float(idle_cost),
    }


if __name__ == "__main__":
    print(main())
