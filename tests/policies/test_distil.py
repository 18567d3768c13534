"""Training a network, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.core.types import NON_FINITE, NOT_PD, OK, TOO_FEW_SAMPLES
from jgps.policies import DistilConfig, Supervision, distil, initialise, mlp
from jgps.policies.networks.mlp import count_parameters

C, N, T, DO, DU = 2, 4, 5, 3, 2
PLAIN = DistilConfig(
    steps=2000, batch_size=C * N * T, learning_rate=0.03, weight_decay=0.0, input_noise=0.0
)
SHORT = DistilConfig(steps=30, batch_size=16, checks=5)


def _policy(hidden=(), dtype=jnp.float32):
    return initialise(mlp(DO, DU, hidden), jax.random.key(2), DO, DU, dtype)


def _precisions(rng):
    roots = rng.normal(size=(C, T, DU, DU))
    return roots @ roots.swapaxes(-1, -2) + 0.3 * np.eye(DU)


def _supervision(rng, *, noise=0.0, dtype=jnp.float32):
    """Rows of one linear controller, u = K o + k."""
    K, k = rng.normal(size=(DU, DO)), rng.normal(size=DU)
    o = rng.normal(size=(C, N, T, DO)) * np.array([1.0, 5.0, 0.2]) + np.array([0.0, 3.0, -1.0])
    target = o @ K.T + k + noise * rng.normal(size=(C, N, T, DU))
    weight = rng.uniform(0.5, 2.0, size=(C, N, T))
    rows = Supervision(*(jnp.asarray(a, dtype) for a in (o, target, _precisions(rng), weight)))
    return rows, K, k


def _same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def _weighted_least_squares(rows):
    """[K, k] that minimises the loss, from one dense system over all rows."""
    o, target, precision, weight = (np.asarray(a, np.float64) for a in rows[:4])
    inputs = np.concatenate([o, np.ones((C, N, T, 1))], axis=-1)
    stacked, wanted = [], []
    for c, n, t in np.ndindex(C, N, T):
        root = np.sqrt(weight[c, n, t]) * np.linalg.cholesky(precision[c, t]).T
        stacked.append(np.kron(root, inputs[c, n, t]))
        wanted.append(root @ target[c, n, t])
    solution = np.linalg.lstsq(np.concatenate(stacked), np.concatenate(wanted), rcond=None)[0]
    return solution.reshape(DU, DO + 1)


def test_a_linear_policy_recovers_a_linear_controller(rng):
    rows, K, k = _supervision(rng)
    policy, info = distil(_policy(), rows, jax.random.key(0), PLAIN)
    assert int(info.status.code) == OK
    np.testing.assert_allclose(jax.jacobian(policy.mean)(jnp.zeros(DO)), K, atol=0.02)
    np.testing.assert_allclose(policy.mean(jnp.zeros(DO)), k, atol=0.05)
    assert float(info.loss) < 1e-4 < float(info.loss_before)


def test_it_is_regression_weighted_by_precisions_and_weights(rng):
    rows, _, _ = _supervision(rng, noise=1.0)
    policy, info = distil(_policy(), rows, jax.random.key(0), PLAIN)
    assert int(info.status.code) == OK
    wanted = _weighted_least_squares(rows)
    o = np.asarray(rows.o).reshape(-1, DO)
    predicted = o @ wanted[:, :DO].T + wanted[:, DO]
    # Minibatches are drawn with replacement, so that the last steps are not quite exact.
    np.testing.assert_allclose(policy.mean(o), predicted, atol=0.08)
    flat = rows._replace(precision=jnp.broadcast_to(jnp.eye(DU), rows.precision.shape))
    unweighted = _weighted_least_squares(flat._replace(weight=jnp.ones_like(rows.weight)))
    other = o @ unweighted[:, :DO].T + unweighted[:, DO]
    assert np.abs(predicted - other).max() > 0.3  # equal weights would be told apart

    residual = np.asarray(policy.mean(rows.o) - rows.target, np.float64)
    each = 0.5 * np.einsum("cnti,ctij,cntj->cnt", residual, rows.precision, residual)
    weight = np.asarray(rows.weight)
    np.testing.assert_allclose(info.loss, (weight * each).sum() / weight.sum(), rtol=1e-4)


def test_the_covariance_has_its_closed_form(rng):
    rows, _, _ = _supervision(rng)
    rows = rows._replace(weight=rows.weight.at[0, 1].set(0))
    policy, _ = distil(_policy(), rows, jax.random.key(0), SHORT)
    weight, precision = np.asarray(rows.weight), np.asarray(rows.precision)
    mean = np.einsum("cnt,ctij->ij", weight, precision) / weight.sum()
    np.testing.assert_allclose(policy.cov, np.linalg.inv(mean), rtol=1e-4)


def test_rows_of_weight_zero_may_hold_anything(rng):
    rows, _, _ = _supervision(rng)
    rows = rows._replace(
        weight=rows.weight.at[0, 1].set(0).at[1, :, 3].set(0), gain=jnp.ones((C, T, DU, DO))
    )
    results = []
    for junk in (0.0, jnp.nan, -jnp.inf):
        filled = rows._replace(
            o=rows.o.at[0, 1].set(junk).at[1, :, 3].set(junk),
            target=rows.target.at[0, 1].set(junk).at[1, :, 3].set(junk),
            precision=rows.precision.at[1, 3].set(junk),
            gain=rows.gain.at[1, 3].set(junk),
        )
        results.append(distil(_policy((6,)), filled, jax.random.key(0), SHORT))
        assert int(results[-1][1].status.code) == OK
    # Where nothing is held out there is no such loss.
    results = [(policy, info._replace(loss_validation=0)) for policy, info in results]
    _same(results[0], results[1])
    _same(results[0], results[2])


@pytest.mark.parametrize("field", ["o", "target", "precision", "gain", "weight"])
def test_what_is_not_finite_keeps_the_parameters(field, rng):
    rows, _, _ = _supervision(rng)
    rows = rows._replace(gain=jnp.ones((C, T, DU, DO)))
    leaf = getattr(rows, field)
    rows = rows._replace(**{field: leaf.at[(1, 2, *[0] * (leaf.ndim - 2))].set(jnp.nan)})
    before = _policy((6,))
    after, info = distil(before, rows, jax.random.key(0), SHORT)
    assert int(info.status.code) == NON_FINITE
    _same(before, after)


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_training_that_diverges_keeps_the_last_good_parameters(validation, rng):
    rows, _, _ = _supervision(rng)
    good, info = distil(_policy((6,)), rows, jax.random.key(0), SHORT)
    assert int(info.status.code) == OK
    config = dataclasses.replace(SHORT, learning_rate=1e30, validation=validation)
    after, info = distil(good, rows, jax.random.key(0), config)
    assert int(info.status.code) == NON_FINITE
    _same(good, after)
    # And the next training goes on from there.
    _, info = distil(after, rows, jax.random.key(0), SHORT)
    assert int(info.status.code) == OK


def test_no_row_and_no_precision(rng):
    rows, _, _ = _supervision(rng)
    before = _policy((6,))
    nothing = rows._replace(weight=jnp.zeros_like(rows.weight))
    after, info = distil(before, nothing, jax.random.key(0), SHORT)
    assert int(info.status.code) == TOO_FEW_SAMPLES
    _same(before, after)
    indefinite = rows._replace(precision=rows.precision.at[0, 2].set(-jnp.eye(DU)))
    after, info = distil(before, indefinite, jax.random.key(0), SHORT)
    assert int(info.status.code) == NOT_PD
    _same(before, after)


def test_whole_trajectories_are_held_out(rng):
    """Rows of one trajectory carry their own target; held out, nothing can have taught it."""
    rows, _, _ = _supervision(rng)
    config = dataclasses.replace(PLAIN, validation=0.25, steps=100)  # 2 of 8 trajectories
    policy, info = distil(_policy(), rows, jax.random.key(0), config)

    def loss(trajectories):
        residual = np.asarray(policy.mean(rows.o) - rows.target, np.float64)
        each = 0.5 * np.einsum("cnti,ctij,cntj->cnt", residual, rows.precision, residual)
        weight = np.asarray(rows.weight) * trajectories.reshape(C, N, 1)
        return (weight * each).sum() / weight.sum()

    pairs = [np.isin(np.arange(C * N), (i, j)) for i in range(C * N) for j in range(i)]
    matches = [pair for pair in pairs if np.isclose(loss(pair), info.loss_validation, rtol=1e-3)]
    assert len(matches) == 1
    # What is held out does not teach: other targets there, other observations' spread alike.
    held_out = jnp.asarray(matches[0].reshape(C, N, 1, 1))
    moved = rows._replace(target=rows.target + 5.0 * held_out)
    other, _ = distil(
        _policy(), moved, jax.random.key(0), dataclasses.replace(config, checks=1, steps=50)
    )
    same, _ = distil(
        _policy(), rows, jax.random.key(0), dataclasses.replace(config, checks=1, steps=50)
    )
    np.testing.assert_allclose(other.mean(rows.o), same.mean(rows.o), rtol=1e-4, atol=1e-4)


def test_the_best_parameters_on_what_is_held_out_are_kept(rng):
    rows, _, _ = _supervision(rng, noise=3.0)
    rows = rows._replace(precision=jnp.broadcast_to(jnp.eye(DU), rows.precision.shape))
    config = dataclasses.replace(PLAIN, steps=600, learning_rate=3e-3, validation=0.25, checks=60)
    policy = _policy((40, 40))
    chosen, info = distil(policy, rows, jax.random.key(0), config)
    last, info_last = distil(policy, rows, jax.random.key(0), dataclasses.replace(config, checks=1))
    # Trained to the end, the network has learned the noise.
    assert float(info.loss_validation) < 0.8 * float(info_last.loss_validation)
    assert not np.allclose(chosen.mean(rows.o), last.mean(rows.o), atol=0.1)


def test_too_few_trajectories_to_hold_any_out_are_all_trained_on(rng):
    rows, K, _ = _supervision(rng)
    only = jnp.zeros((C, N, T)).at[0, 0].set(1)
    config = dataclasses.replace(PLAIN, validation=0.1)
    policy, info = distil(_policy(), rows._replace(weight=only), jax.random.key(0), config)
    assert int(info.status.code) == OK
    assert np.isnan(info.loss_validation)
    assert float(info.loss) < 1e-3 * float(info.loss_before)


def test_it_starts_from_what_it_has(rng):
    rows, _, _ = _supervision(rng)
    first, info = distil(_policy((20,)), rows, jax.random.key(0), PLAIN)
    # Another standardisation is the same function: the next training begins where this one ended.
    moved = rows._replace(o=rows.o.at[:, 0].multiply(2), weight=rows.weight.at[:, 0].set(0))
    _, again = distil(first, moved, jax.random.key(1), SHORT)
    _, cold = distil(_policy((20,)), moved, jax.random.key(1), SHORT)
    assert float(again.loss_before) < 0.05 * float(cold.loss_before)
    assert float(again.loss) < 0.2 * float(cold.loss)


@pytest.mark.parametrize("input_noise", [0.3, 0.0])
def test_input_noise_teaches_the_gains(input_noise, rng):
    """All rows lie on one line; only noise tells what the controller does beside it."""
    K = rng.normal(size=(DU, DO))
    line = rng.normal(size=DO)
    o = rng.normal(size=(C, N, T, 1)) * line
    rows = Supervision(
        o=jnp.asarray(o, jnp.float32),
        target=jnp.asarray(o @ K.T, jnp.float32),
        precision=jnp.broadcast_to(jnp.eye(DU), (C, T, DU, DU)),
        weight=jnp.ones((C, N, T)),
        gain=jnp.broadcast_to(jnp.asarray(K, jnp.float32), (C, T, DU, DO)),
    )
    config = dataclasses.replace(PLAIN, steps=600, input_noise=input_noise)
    policy, info = distil(_policy(), rows, jax.random.key(0), config)
    assert int(info.status.code) == OK and float(info.loss) < 1e-2
    jacobian = jax.jacobian(policy.mean)(jnp.asarray(o[0, 0, 0], jnp.float32))
    error = np.abs(jacobian - K).max()
    assert error < 0.05 if input_noise else error > 0.3


def test_the_same_key_gives_the_same_policy(rng):
    rows, _, _ = _supervision(rng)
    config = dataclasses.replace(SHORT, validation=0.25)
    one, same, other = (
        distil(_policy((6,)), rows, jax.random.key(seed), config) for seed in (0, 0, 1)
    )
    _same(one, same)
    assert not np.array_equal(one[0].mean(rows.o), other[0].mean(rows.o))


def test_every_step_is_taken(rng):
    """33 steps do not divide among 20 checks: the learning rate falls to zero all the same."""
    rows, _, _ = _supervision(rng)
    config = dataclasses.replace(PLAIN, steps=33, batch_size=1000, learning_rate=0.01)
    policy, _ = distil(_policy(), rows, jax.random.key(0), config)
    fewer, _ = distil(_policy(), rows, jax.random.key(0), dataclasses.replace(config, steps=20))
    start = _policy().mean(rows.o)
    moved = [np.abs(each.mean(rows.o) - start).max() for each in (policy, fewer)]
    assert moved[0] > 1.2 * moved[1]


def test_float64_agrees_with_float32(rng, x64):
    wide, _, _ = _supervision(rng, dtype=jnp.float64)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), wide)
    start = _policy((6,))
    start_wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), start)
    # One batch of everything and no noise: nothing is drawn that depends on the precision.
    config = dataclasses.replace(PLAIN, steps=20)
    one, info = distil(start, narrow, jax.random.key(0), config)
    other, info_wide = distil(start_wide, wide, jax.random.key(0), config)
    assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(other)} == {jnp.dtype("float64")}
    np.testing.assert_allclose(one.mean(narrow.o), other.mean(wide.o), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-5)
    np.testing.assert_allclose(info.loss, info_wide.loss, rtol=1e-2)


def test_nothing_is_compiled_for_other_values(rng):
    rows, _, _ = _supervision(rng)
    policy, _ = distil(_policy((6,)), rows, jax.random.key(0), SHORT)
    assert jax.tree.map(jax.typeof, policy) == jax.tree.map(jax.typeof, _policy((6,)))
    size = distil._cache_size()
    distil(policy, rows, jax.random.key(1), SHORT)
    assert distil._cache_size() == size
    assert count_parameters(policy.variables) == (3 * 6 + 6) + (6 * 2 + 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; it has to be an integer and >= 1, usually 400 to 5000"),
        ({"batch_size": 2.5}, "batch_size is 2.5; it has to be an integer and >= 1"),
        ({"learning_rate": 0}, "learning_rate is 0; it has to be finite and > 0, usually 3e-3"),
        ({"weight_decay": -1}, "weight_decay is -1; it has to be finite and >= 0"),
        ({"validation": 0.6}, r"validation is 0.6; it has to be finite and in \[0, 0.5\]"),
        ({"input_noise": -0.1}, "input_noise is -0.1; it has to be finite and >= 0"),
        ({"checks": 3000}, "checks is 3000; it has to be an integer and from 1 to steps"),
        ({"max_gradient_norm": 0}, "max_gradient_norm is 0; it has to be finite and > 0"),
        ({"on_divergence": "panic"}, "on_divergence is 'panic'; .* one of continue, stop"),
    ],
)
def test_config_values_out_of_range(settings, message):
    with pytest.raises(ValueError, match=f"DistilConfig.{message}"):
        DistilConfig(**settings)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("o", (C, N, T - 1, DO)),
        ("precision", (C, N, T, DU, DU)),
        ("weight", (C, N)),
        ("gain", (C, N + 1, T, DU, DO)),
        ("gain", (C, T, DU, DO + 1)),
        ("known", (DO + 1,)),
    ],
)
def test_shapes_that_disagree(field, shape, rng):
    rows = _supervision(rng)[0]._replace(**{field: jnp.zeros(shape)})
    with pytest.raises(ValueError, match=f"supervision.{field} must be .*, got "):
        distil(_policy(), rows, jax.random.key(0), SHORT)


def test_a_policy_of_other_actions(rng):
    rows, _, _ = _supervision(rng)
    policy = initialise(mlp(DO, 3), jax.random.key(0), DO, 3, jnp.float32)
    with pytest.raises(ValueError, match="the policy's actions are 3, the targets' 2"):
        distil(policy, rows, jax.random.key(0), SHORT)


def test_gains_tell_what_the_observations_of_one_trajectory_do_not(rng):
    """All entries of o move together, so that their actions alone tell nothing of the gains."""
    K = rng.normal(size=(DU, DO))
    o = rng.normal(size=(C, N, T, 1)) * np.ones(DO)
    rows = Supervision(
        o=jnp.asarray(o, jnp.float32),
        target=jnp.asarray(o @ K.T, jnp.float32),
        precision=jnp.broadcast_to(jnp.eye(DU), (C, T, DU, DU)),
        weight=jnp.ones((C, N, T)),
        gain=jnp.broadcast_to(jnp.asarray(K, jnp.float32), (C, T, DU, DO)),
    )
    errors = {}
    for weight in (0.0, 1.0):
        config = dataclasses.replace(PLAIN, steps=400, gain_weight=weight)
        policy, info = distil(_policy(), rows, jax.random.key(0), config)
        assert int(info.status.code) == OK and float(info.loss) < 1e-3
        errors[weight] = np.abs(jax.jacobian(policy.mean)(jnp.zeros(DO)) - K).max()
    assert errors[1.0] < 0.05 and errors[0.0] > 0.3


BOTH = dataclasses.replace(SHORT, input_noise=0.2, gain_weight=0.5)


def _alike(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_every_row_may_have_gains_of_its_own(rng):
    """As if every trajectory were a condition, of which each has gains of its own anyway."""
    rows, _, _ = _supervision(rng)
    gain = jnp.asarray(rng.normal(size=(C, N, T, DU, DO)), jnp.float32)
    apart = Supervision(
        o=rows.o.reshape(C * N, 1, T, DO),
        target=rows.target.reshape(C * N, 1, T, DU),
        precision=jnp.repeat(rows.precision, N, axis=0),
        weight=rows.weight.reshape(C * N, 1, T),
        gain=gain.reshape(C * N, T, DU, DO),
    )
    policy, info = distil(_policy((6,)), rows._replace(gain=gain), jax.random.key(0), BOTH)
    expected, _ = distil(_policy((6,)), apart, jax.random.key(0), BOTH)
    assert int(info.status.code) == OK
    _alike(policy.variables, expected.variables, rtol=1e-4, atol=1e-5)
    same = jnp.broadcast_to(gain[:, :1], gain.shape)
    other, _ = distil(_policy((6,)), rows._replace(gain=same), jax.random.key(0), BOTH)
    assert np.abs(other.mean(rows.o) - policy.mean(rows.o)).max() > 0.1
    half = rows._replace(gain=gain.astype(jnp.float16))
    close, _ = distil(_policy((6,)), half, jax.random.key(0), BOTH)
    _alike(close.variables, policy.variables, rtol=0.02, atol=0.02)
    assert {leaf.dtype for leaf in jax.tree.leaves(close.variables)} == {jnp.dtype("float32")}


def test_gains_of_a_row_without_weight_may_be_anything_and_others_not(rng):
    rows, _, _ = _supervision(rng)
    rows = rows._replace(weight=rows.weight.at[0, 1, 2].set(0), gain=jnp.ones((C, N, T, DU, DO)))
    expected = distil(_policy((6,)), rows, jax.random.key(0), SHORT)[0]
    absent = rows._replace(gain=rows.gain.at[0, 1, 2].set(jnp.nan))
    policy, info = distil(_policy((6,)), absent, jax.random.key(0), SHORT)
    assert int(info.status.code) == OK
    _same(policy, expected)
    wrong = rows._replace(gain=rows.gain.at[1, 1, 2].set(jnp.inf))
    assert int(distil(_policy((6,)), wrong, jax.random.key(0), SHORT)[1].status.code) == NON_FINITE


def test_what_nobody_knows_the_gains_of_is_not_disturbed(rng):
    """The last entry's column of gains is zero, and that is not what is to be learned."""
    rows, K, _ = _supervision(rng)
    spread = np.asarray(rows.o).reshape(-1, DO).std(axis=0)
    rows = rows._replace(
        precision=jnp.broadcast_to(jnp.eye(DU), (C, T, DU, DU)),
        gain=jnp.broadcast_to(jnp.asarray(K, jnp.float32).at[:, 2].set(0), (C, T, DU, DO)),
    )
    config = dataclasses.replace(PLAIN, steps=600, input_noise=0.7, gain_weight=0.5)
    slopes = {}
    for known in (None, jnp.array([True, True, False])):
        policy, _ = distil(_policy(), rows._replace(known=known), jax.random.key(0), config)
        slopes[known is None] = jax.jacobian(policy.mean)(jnp.zeros(DO)) * spread
    np.testing.assert_allclose(slopes[False], K * spread, atol=0.05)
    np.testing.assert_allclose(slopes[True][:, :2], (K * spread)[:, :2], atol=0.1)
    assert np.abs(slopes[True][:, 2]).max() < 0.7 * np.abs(K[:, 2] * spread[2]).max()
