import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jgps import controllers
from jgps.controllers import LqrHoldConfig, PdHoldConfig
from jgps.core import lqr
from jgps.core.types import Dynamics, QuadraticCost

DX, DU, T, DT = 9, 2, 60, 0.05
Q, QDOT = slice(1, 3), (5, 4)  # actuator 0 drives x[1], whose velocity is x[5]
GAINS = (2.0, 0.5)
X0 = np.random.default_rng(0).normal(size=DX)
CONFIG = LqrHoldConfig(gains=GAINS, final_weight=50.0)


def lqr_hold(config=CONFIG, x0=X0, dtype=jnp.float32, T=T):
    return controllers.lqr_hold(jnp.asarray(x0, dtype), Q, QDOT, DU, T, DT, config)


def reference_lqr(config, T):
    """The 2016 recursion over all joints at once, [q - q0, qdot, u], in NumPy float64."""
    eye, zero, gains = np.eye(DU), np.zeros((DU, DU)), np.diag(GAINS)
    F = np.block([[eye, DT * eye, DT**2 * gains], [zero, eye, DT * gains]])
    a = np.full(DU, config.acceleration)
    f = np.concatenate([DT**2 * a, DT * a])
    state = config.stiffness * np.repeat([1.0, config.velocity_stiffness], DU)
    K, k, C = np.zeros((T, DU, 2 * DU)), np.zeros((T, DU)), np.zeros((T, DU, DU))
    V, v = np.zeros((2 * DU, 2 * DU)), np.zeros(2 * DU)
    x, u = slice(0, 2 * DU), slice(2 * DU, 3 * DU)
    for t in reversed(range(T)):
        weight = config.final_weight if t == T - 1 else 1.0
        H = np.diag(np.concatenate([weight * state, np.ones(DU)])) / config.variance
        S = H + F.T @ V @ F
        s = F.T @ (V @ f + v)
        C[t] = np.linalg.inv(S[u, u])
        K[t], k[t] = -C[t] @ S[u, x], -C[t] @ s[u]
        V, v = S[x, x] + S[x, u] @ K[t], s[x] + S[x, u] @ k[t]
    return K, k, C


@pytest.mark.parametrize(
    "config",
    [CONFIG, LqrHoldConfig(gains=GAINS, variance=4.0, stiffness=3.0, acceleration=-9.81)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-9), (jnp.float32, 2e-4)])
def test_lqr_hold_equals_the_joint_recursion(config, dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        got = lqr_hold(config, dtype=dtype)
        assert got.K.dtype == got.k.dtype == got.C.dtype == dtype
    K, k, C = reference_lqr(config, T)
    columns = np.concatenate([np.arange(DX)[Q], QDOT])
    np.testing.assert_allclose(got.K[:, :, columns], K, atol=tolerance * np.abs(K).max())
    others = np.setdiff1d(np.arange(DX), columns)
    np.testing.assert_array_equal(got.K[:, :, others], 0)
    np.testing.assert_allclose(got.C, C, atol=tolerance * config.variance)
    k = k - K[:, :, :DU] @ X0[Q]
    np.testing.assert_allclose(got.k, k, atol=tolerance * max(1, np.abs(k).max()))


def test_lqr_hold_is_the_controller_of_the_backward_pass():
    """One joint, through `jgps.core`."""
    T = 30
    config = LqrHoldConfig(gains=2.0, variance=0.5, stiffness=3.0, final_weight=5.0)
    H = np.tile(np.diag([3.0, 1.5, 1.0]) / 0.5, (T, 1, 1))
    H[-1, :2, :2] *= 5.0
    F = np.array([[1, DT, 2 * DT**2], [0, 1, 2 * DT]])
    expected, _, _ = lqr.backward(
        Dynamics(
            F=jnp.asarray(np.tile(F, (T - 1, 1, 1)), jnp.float32),
            f=jnp.zeros((T - 1, 2)),
            W=jnp.zeros((T - 1, 2, 2)),
        ),
        QuadraticCost(H=jnp.asarray(H, jnp.float32), g=jnp.zeros((T, 3)), h=jnp.zeros(T)),
    )
    got = controllers.lqr_hold(jnp.zeros(2), (0,), (1,), 1, T, DT, config)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_far_from_the_end_lqr_hold_has_the_stationary_gain_of_scipy():
    got = lqr_hold(LqrHoldConfig(stiffness=2.0), T=400)
    A, B = np.array([[1, DT], [0, 1]]), np.array([[DT**2], [DT]])
    P = scipy.linalg.solve_discrete_are(A, B, np.diag([2.0, 1.0]), np.eye(1))
    gain = np.linalg.solve(1 + B.T @ P @ B, B.T @ P @ A)[0]
    np.testing.assert_allclose([-got.K[0, 0, 1], -got.K[0, 0, 5]], gain, rtol=1e-3)


def test_lqr_hold_stabilises_a_double_integrator_and_holds_the_pose():
    p = jax.tree.map(np.asarray, lqr_hold())
    start = X0.copy()
    start[list(QDOT)] = 0
    np.testing.assert_allclose(p.K @ start + p.k, 0, atol=1e-5)
    x = start.copy()
    x[Q] += 0.5
    x[list(QDOT)] = [0.4, -0.4]
    for t in range(T):
        u = p.K[t] @ x + p.k[t]
        x[list(QDOT)] += DT * np.array(GAINS) * u
        x[Q] += DT * x[list(QDOT)]
    assert np.abs(x[Q] - start[Q]).max() < 0.2
    assert np.abs(x[list(QDOT)]).max() < 0.2


def test_lqr_hold_explores_with_about_its_variance():
    C = np.asarray(lqr_hold(LqrHoldConfig(gains=GAINS, variance=1.0)).C)
    np.testing.assert_allclose(C[-1], np.eye(DU), atol=1e-6)
    diagonal = np.diagonal(C, axis1=1, axis2=2)
    assert np.all(diagonal > 0.7) and np.all(diagonal <= 1 + 1e-6)


def test_gravity_like_acceleration_is_cancelled():
    p = jax.tree.map(np.asarray, lqr_hold(LqrHoldConfig(gains=GAINS, acceleration=0.8), T=400))
    start = X0.copy()
    start[list(QDOT)] = 0
    u = p.K[0] @ start + p.k[0]
    assert np.all(u < 0), "has to push against the acceleration"


def test_lqr_hold_may_be_mapped_over_conditions_and_jitted():
    starts = np.stack([X0, X0 + 1.0])
    batched = jax.jit(jax.vmap(lambda x0: lqr_hold(x0=x0)))(jnp.asarray(starts, jnp.float32))
    for index, x0 in enumerate(starts):
        one = lqr_hold(x0=x0)
        for got, expected in zip(batched, one, strict=True):
            np.testing.assert_allclose(got[index], expected, rtol=1e-5, atol=1e-6)


def test_one_step_is_enough_for_both():
    for p in (lqr_hold(T=1), controllers.pd_hold(jnp.asarray(X0), Q, QDOT, DU, 1)):
        assert p.K.shape == (1, DU, DX) and p.C.shape == (1, DU, DU)
        assert all(np.all(np.isfinite(a)) for a in p)


def test_pd_hold_is_its_formula():
    config = PdHoldConfig(position_gain=(3.0, 4.0), velocity_gain=0.2, variance=(0.5, 2.0))
    p = controllers.pd_hold(jnp.asarray(X0, jnp.float32), Q, QDOT, DU, T, config)
    x = np.random.default_rng(1).normal(size=DX)
    expected = -np.array([3.0, 4.0]) * (x[Q] - X0[Q]) - 0.2 * x[list(QDOT)]
    for t in (0, T - 1):
        u = controllers.act(p, jnp.asarray(x, jnp.float32), t, jnp.zeros(DU))
        np.testing.assert_allclose(u, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(p.C[t], np.diag([0.5, 2.0]))
    assert p.K.shape == (T, DU, DX) and p.k.shape == (T, DU) and p.C.shape == (T, DU, DU)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LqrHoldConfig(variance=0.0), "LqrHoldConfig.variance is 0.0; .*finite and > 0"),
        (lambda: LqrHoldConfig(stiffness=-1.0), "LqrHoldConfig.stiffness is -1.0; .*>= 0"),
        (lambda: LqrHoldConfig(final_weight=np.inf), "LqrHoldConfig.final_weight is inf"),
        (lambda: LqrHoldConfig(gains=(1.0, 0.0)), r"LqrHoldConfig.gains is \(1.0, 0.0\); .*!= 0"),
        (lambda: LqrHoldConfig(acceleration=np.nan), "LqrHoldConfig.acceleration is nan"),
        (lambda: PdHoldConfig(position_gain=-1.0), "PdHoldConfig.position_gain is -1.0"),
        (lambda: PdHoldConfig(variance=0.0), "PdHoldConfig.variance is 0.0; .*> 0"),
        (lambda: lqr_hold(LqrHoldConfig(gains=(1.0, 2.0, 3.0))), "gains has 3 numbers for 2"),
        (
            lambda: lqr_hold(
                LqrHoldConfig(
                    stiffness=1e18,
                    velocity_stiffness=1e18,
                    final_weight=1e18,
                    acceleration=1e18,
                    gains=1e-27,
                )
            ),
            "no controller in float32",
        ),
    ],
)
def test_invalid_settings_name_field_value_and_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": slice(0, 3)}, r"positions is slice\(0, 3, None\); .*dU = 2 entries"),
        ({"positions": slice(8, 10)}, "positions is .*a state of 9"),
        ({"velocities": (3, 9)}, r"velocities is \(3, 9\)"),
        ({"velocities": (2, 4)}, "overlap or repeat"),
        ({"dU": 0}, "dU is 0; .*>= 1"),
        ({"T": 0}, "T is 0; .*>= 1"),
        ({"dt": -0.1}, "dt is -0.1; .*> 0, the control step in seconds"),
        ({"x0": jnp.zeros((2, 9))}, r"x0 has shape \(2, 9\).*vmap"),
        ({"x0": jnp.zeros(9, jnp.int32)}, "int32; .*floating-point"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    valid = {"x0": jnp.zeros(9), "positions": Q, "velocities": QDOT, "dU": DU, "T": T, "dt": DT}
    with pytest.raises(ValueError, match=message):
        controllers.lqr_hold(**(valid | arguments))
