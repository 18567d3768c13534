"""Random linear-quadratic problems and an independent sparse solve of their KKT conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from jgps.core.types import Controller, Dynamics, Gaussian, QuadraticCost


def problem(seed, T, dX, dU, *, indefinite=0.0, dtype: type = np.float64):
    """Well-scaled, stable dynamics; H is convex where `indefinite` is 0."""
    rng = np.random.default_rng(seed)
    n = dX + dU
    F_x = 0.95 * np.linalg.qr(rng.normal(size=(T, dX, dX)))[0][1:]
    F_u = rng.normal(size=(T - 1, dX, dU)) / np.sqrt(dX)
    root = rng.normal(size=(T, n, n)) / np.sqrt(n)
    spread = rng.normal(size=(T - 1, dX, dX)) / np.sqrt(dX)

    def cast(a):
        return jnp.asarray(np.asarray(a, dtype))

    dynamics = Dynamics(
        F=cast(np.concatenate([F_x, F_u], axis=-1)),
        f=cast(0.3 * rng.normal(size=(T - 1, dX))),
        W=cast(0.02 * spread @ spread.transpose(0, 2, 1)),
    )
    H = root @ root.transpose(0, 2, 1) + (0.2 - indefinite) * np.eye(n)
    cost = QuadraticCost(H=cast(H), g=cast(rng.normal(size=(T, n))), h=cast(rng.normal(size=T)))
    noise = rng.normal(size=(T, dU, dU)) / np.sqrt(dU)
    previous = Controller(
        K=cast(0.1 * rng.normal(size=(T, dU, dX))),
        k=cast(0.3 * rng.normal(size=(T, dU))),
        C=cast(0.3 * noise @ noise.transpose(0, 2, 1) + 0.2 * np.eye(dU)),
    )
    initial = Gaussian(mean=cast(rng.normal(size=dX)), cov=cast(0.1 * np.eye(dX)))
    return dynamics, cost, previous, initial


def stack(*problems):
    """A batch of problems of one shape."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *problems)


def solve_kkt(dynamics, cost, start):
    """First gain and value of the deterministic problem from step `start`, by one sparse LU.

    Unknowns are all z and the multipliers of x_start = x and of the dynamics; the solution for
    x = 0 and for every unit x gives K, k and, from the multipliers, V_xx, v_x; the cost at x = 0
    gives v.
    """
    F, f = np.asarray(dynamics.F)[start:], np.asarray(dynamics.f)[start:]
    H, g, h = (np.asarray(a)[start:] for a in cost)
    T, n = g.shape
    dX = dynamics.F.shape[1]
    constraint = scipy.sparse.lil_matrix((T * dX, T * n))
    constraint[:dX, :dX] = np.eye(dX)
    for t in range(T - 1):
        row = slice((t + 1) * dX, (t + 2) * dX)
        constraint[row, t * n : (t + 1) * n] = -F[t]
        constraint[row, (t + 1) * n : (t + 1) * n + dX] = np.eye(dX)
    hessian = scipy.sparse.block_diag(list(H))
    matrix = scipy.sparse.bmat([[hessian, constraint.T], [constraint, None]]).tocsc()
    right = np.zeros((T * (n + dX), dX + 1))
    right[: T * n] = -g.reshape(-1, 1)
    right[T * n + dX :] = f.reshape(-1, 1)
    right[T * n : T * n + dX, 1:] = np.eye(dX)
    solution = scipy.sparse.linalg.splu(matrix).solve(right)
    u, multiplier = solution[dX:n], -solution[T * n : T * n + dX]
    z = solution[: T * n, 0].reshape(T, n)
    v = np.sum(0.5 * np.einsum("ti,tij,tj->t", z, H, z) + np.sum(g * z, axis=1) + h)
    return {
        "K": u[:, 1:] - u[:, :1],
        "k": u[:, 0],
        "V_xx": multiplier[:, 1:] - multiplier[:, :1],
        "v_x": multiplier[:, 0],
        "v": v,
    }
