"""One iteration of trajectory optimisation in plain NumPy and float64, one loop inside the other.

Written from the published formulas in the shape of the 2016 research code: Python loops over
conditions, samples, time steps and clusters. It is a peer to be faster than and an independent
reference to agree with; nothing here is shared with the JAX code.
"""

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Mixture(NamedTuple):
    """A Gaussian mixture in D dimensions with K clusters."""

    weights: Array  # [K]
    mean: Array  # [K, D]
    cov: Array  # [K, D, D]


def log_joint(mixture: Mixture, points: Array) -> Array:
    """log(weight_k N(point; k)), [K, n]."""
    dim = points.shape[1]
    result = np.zeros((len(mixture.weights), len(points)))
    for k, (weight, mean, cov) in enumerate(zip(*mixture, strict=True)):
        chol = np.linalg.cholesky(cov)
        white = np.linalg.solve(chol, (points - mean).T)
        log_norm = -0.5 * dim * np.log(2 * np.pi) - np.sum(np.log(np.diag(chol)))
        result[k] = np.log(weight) + log_norm - 0.5 * np.sum(white**2, axis=0)
    return result


def responsibilities(mixture: Mixture, points: Array) -> tuple[Array, float]:
    """Posterior cluster probabilities [K, n] and the mean log-likelihood per point."""
    joint = log_joint(mixture, points)
    largest = joint.max(axis=0)
    log_density = largest + np.log(np.sum(np.exp(joint - largest), axis=0))
    return np.exp(joint - log_density), float(np.mean(log_density))


def em_step(mixture: Mixture, points: Array, ridge: float) -> tuple[Mixture, float]:
    """One iteration of expectation maximisation; the log-likelihood is that before it."""
    share, log_likelihood = responsibilities(mixture, points)
    dim = points.shape[1]
    mean, cov = np.zeros_like(mixture.mean), np.zeros_like(mixture.cov)
    count = share.sum(axis=1)
    for k in range(len(count)):
        mean[k] = share[k] @ points / count[k]
        offset = points - mean[k]
        cov[k] = (share[k][:, None] * offset).T @ offset / count[k] + ridge * np.eye(dim)
    return Mixture(count / count.sum(), mean, cov), log_likelihood


def fit_mixture(points: Array, init: Mixture, iterations: int, ridge: float) -> Mixture:
    """Expectation maximisation on standardised points, back in task units."""
    centre, scale = points.mean(axis=0), points.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (points - centre) / scale
    mixture = Mixture(
        init.weights, (init.mean - centre) / scale, init.cov / np.multiply.outer(scale, scale)
    )
    for _ in range(iterations):
        mixture, _ = em_step(mixture, standard, ridge)
    return Mixture(
        mixture.weights,
        mixture.mean * scale + centre,
        mixture.cov * np.multiply.outer(scale, scale),
    )


def mixture_prior(mixture: Mixture, points: Array) -> tuple[Array, Array]:
    """Mean [D] and covariance [D, D] of the mixture as seen from the points of one time step."""
    share, _ = responsibilities(mixture, points)
    w = share.mean(axis=1)
    mean = w @ mixture.mean
    cov = np.zeros_like(mixture.cov[0])
    for k in range(len(w)):
        offset = mixture.mean[k] - mean
        cov += w[k] * (mixture.cov[k] + np.outer(offset, offset))
    return mean, cov


def fit_dynamics(
    x: Array, u: Array, mixture: Mixture, num_points: int, strength: float, ridge: float
) -> tuple[Array, Array, Array]:
    """Linear-Gaussian dynamics of one condition with a mixture prior.

    Args:
      x: [N, T, dX]. u: [N, T, dU].
      mixture: over [x; u; x'], fitted to `num_points` points.
      strength: samples that the prior is worth.
      ridge: on the [x; u] block, in units of each entry's variance over all samples and steps.
    """
    num, horizon, dX = x.shape
    z = np.concatenate([x, u], axis=2)
    dZ = z.shape[2]
    scale = z.reshape(-1, dZ).std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    F, f = np.zeros((horizon - 1, dX, dZ)), np.zeros((horizon - 1, dX))
    W = np.zeros((horizon - 1, dX, dX))
    for t in range(horizon - 1):
        y = np.concatenate([z[:, t], x[:, t + 1]], axis=1)
        mu0, Phi = mixture_prior(mixture, y)
        n0 = strength * max(num_points - 2 - y.shape[1], 0) / num_points
        mean = y.mean(axis=0)
        S = (y - mean).T @ (y - mean) / num
        gap = mean - mu0
        blend = num * strength / (num + strength)
        sigma = (num * S + strength * Phi + blend * np.outer(gap, gap)) / (num + n0)
        sigma[:dZ, :dZ] += ridge * np.diag(scale**2)
        F[t] = np.linalg.solve(sigma[:dZ, :dZ], sigma[:dZ, dZ:]).T
        f[t] = mean[dZ:] - F[t] @ mean[:dZ]
        W[t] = sigma[dZ:, dZ:] - F[t] @ sigma[:dZ, :dZ] @ F[t].T
        W[t] = 0.5 * (W[t] + W[t].T)
    return F, f, W


def backward(F: Array, f: Array, H: Array, g: Array, weight: float) -> tuple[Array, Array, Array]:
    """Riccati recursion: K [T, dU, dX], k [T, dU] and C = weight Q_uu^-1 [T, dU, dU].

    Raises:
      LinAlgError: if some Q_uu is not positive definite.
    """
    horizon, dZ = g.shape
    dX = F.shape[1]
    K, k = np.zeros((horizon, dZ - dX, dX)), np.zeros((horizon, dZ - dX))
    C = np.zeros((horizon, dZ - dX, dZ - dX))
    V, v = np.zeros((dX, dX)), np.zeros(dX)
    for t in range(horizon - 1, -1, -1):
        Q, q = H[t].copy(), g[t].copy()
        if t < horizon - 1:
            Q += F[t].T @ V @ F[t]
            q += F[t].T @ (v + V @ f[t])
        Q_uu, Q_ux = Q[dX:, dX:], Q[dX:, :dX]
        chol = np.linalg.cholesky(Q_uu)

        def solve(b, chol=chol):
            return np.linalg.solve(chol.T, np.linalg.solve(chol, b))

        K[t], k[t] = -solve(Q_ux), -solve(q[dX:])
        C[t] = weight * solve(np.eye(dZ - dX))
        V = Q[:dX, :dX] + Q_ux.T @ K[t]
        V = 0.5 * (V + V.T)
        v = q[:dX] + Q_ux.T @ k[t]
    return K, k, C


def forward(controller, dynamics, x0_mean: Array, x0_cov: Array) -> tuple[Array, Array]:
    """Mean [T, dX] and covariance [T, dX, dX] of the state under a controller."""
    (K, k, C), (F, f, W) = controller, dynamics
    horizon, dU, dX = K.shape
    mean, cov = np.zeros((horizon, dX)), np.zeros((horizon, dX, dX))
    mean[0], cov[0] = x0_mean, x0_cov
    for t in range(horizon - 1):
        z = np.concatenate([mean[t], K[t] @ mean[t] + k[t]])
        SK = cov[t] @ K[t].T
        joint = np.block([[cov[t], SK], [SK.T, K[t] @ SK + C[t]]])
        mean[t + 1] = F[t] @ z + f[t]
        cov[t + 1] = F[t] @ joint @ F[t].T + W[t]
    return mean, cov


def controller_kl(new, old, mean: Array, cov: Array) -> float:
    """Expected divergence of the new controller from the old one, nats, summed over time."""
    total = 0.0
    for t in range(len(mean)):
        (K, k, C), (K0, k0, C0) = (tuple(part[t] for part in c) for c in (new, old))
        P0 = np.linalg.inv(C0)
        dK = K - K0
        d = dK @ mean[t] + k - k0
        logs = np.linalg.slogdet(C0)[1] - np.linalg.slogdet(C)[1]
        of_cov = np.trace(P0 @ C) + np.trace(dK.T @ P0 @ dK @ cov[t])
        total += 0.5 * (of_cov + d @ P0 @ d - len(k) + logs)
    return total


def augment(H: Array, g: Array, old, eta: float) -> tuple[Array, Array]:
    """Adds -eta log old(u|x) to a quadratic cost."""
    H, g = H.copy(), g.copy()
    for t, (K, k, C) in enumerate(zip(*old, strict=True)):
        P = np.linalg.inv(C)
        A = np.concatenate([-K, np.eye(len(k))], axis=1)
        H[t] += eta * A.T @ P @ A
        g[t] -= eta * A.T @ P @ k
    return H, g


def solve_kl_constrained(dynamics, cost, old, x0, epsilon: float, eta: float, rounds: int = 20):
    """The controller with |KL - epsilon| < 0.1 epsilon, by bisection of log eta.

    Returns:
      The controller, eta, the divergence, and how many values of eta were tried.
    """
    (F, f, _), (H, g) = dynamics, cost
    low, high = 1e-8, 1e16
    new, kl, tried = old, 0.0, 0
    while tried < rounds:
        tried += 1
        try:
            new = backward(F, f, *augment(H, g, old, eta), eta)
        except np.linalg.LinAlgError:
            low, eta = eta, min(10 * eta, np.sqrt(eta * high))
            continue
        kl = controller_kl(new, old, *forward(new, dynamics, *x0))
        if abs(kl - epsilon) < 0.1 * epsilon or (kl < epsilon and eta <= 1.01e-8):
            break
        if kl > epsilon:
            low, eta = eta, min(10 * eta, np.sqrt(eta * high))
        else:
            high, eta = eta, max(0.1 * eta, np.sqrt(eta * low))
    return new, eta, kl, tried
