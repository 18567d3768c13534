"""JAX functions as Python code: the same numbers, one function for what is the same."""

import jax.numpy as jnp
import numpy as np
import pytest
from baselines.straight_line import straight_line


def _values(x, u, t):
    bent = jnp.where(t >= 3, jnp.sin(x[0]) * u[0], x[1] ** 3 - 1.5)
    matrix = jnp.array([[1.0, 0.0], [2.0, -1.0]])
    return matrix @ x, jnp.sqrt(bent) + jnp.sum(x[jnp.array([1, 1])]) / (1 + u[0])


def test_values_are_those_of_the_function(x64):
    made = straight_line(_values, (2, 1), range(6))
    assert len(set(made)) == 2 and made[0] is made[2] and made[3] is made[5]
    for t in (0, 4):
        x, u = np.array([0.7, 1.9]), np.array([0.4])
        expected = np.concatenate([np.ravel(a) for a in _values(x, u, t)])
        np.testing.assert_allclose(made[t](x.tolist(), u.tolist()), expected, rtol=1e-14)


def test_a_number_that_is_more_than_compared_has_its_own_function(x64):
    made = straight_line(lambda x, t: t * x, (1,), range(3))
    assert [f([2.0]) for f in made] == [[0.0], [2.0], [4.0]]


def test_without_a_number_there_is_nan_and_loops_are_refused():
    (made,) = straight_line(lambda x, t: jnp.log(x), (1,), (0,))
    assert np.isnan(made([-1.0])).all()
    with pytest.raises(NotImplementedError, match="cumsum"):
        straight_line(lambda x, t: jnp.cumsum(x), (2,), (0,))
