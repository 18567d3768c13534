"""Searches that take turns in a few lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.optimise.ilqg.lanes import Lanes, search_in_lanes

LENGTHS = np.array([3, 0, 5, 1, 9, 2, 2, 4], np.int32)  # iterations until each ends


@pytest.mark.parametrize("width", [1, 3, 8, 20])
def test_each_ends_where_it_would_alone(width):
    """Whatever the width; 9 iterations are one more than are allowed."""

    def load(rows):
        return jnp.asarray(LENGTHS)[rows], jnp.zeros(rows.shape)

    def once(state):
        left, done = state
        running = left > 0
        return (left - running, done + running), done.astype(jnp.float32)

    def search():
        return search_in_lanes(Lanes(load, once, lambda state: state[0] > 0), 8, width, 8)

    (left, done), record = jax.jit(search)()
    np.testing.assert_array_equal(done, np.minimum(LENGTHS, 8))
    np.testing.assert_array_equal(left, np.maximum(LENGTHS - 8, 0))
    for row, length in enumerate(np.minimum(LENGTHS, 8)):
        np.testing.assert_array_equal(record[:length, row], np.arange(length))
        assert np.isnan(record[length:, row]).all()
