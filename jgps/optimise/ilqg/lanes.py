"""Many searches of which a few go on at once: the next one takes the place of one that has ended.

In chunks that wait for their slowest search most of the work is done for searches that have ended.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Lanes(NamedTuple):
    """How searches in L lanes are made; its functions are traced.

    `load(rows [L]) -> state` begins those of the given rows, leaves [L, ...]. `once(state) ->
    (state, record)` is one iteration of all of them, which leaves those that have ended as they
    are; the record has leaves [L]. `running(state) -> [L]` tells which have not ended.
    """

    load: Callable[[jax.Array], Any]
    once: Callable[[Any], tuple[Any, Any]]
    running: Callable[[Any], jax.Array]


class _Now(NamedTuple):
    rows: jax.Array  # [L] int32, which search is in each lane, the number of all where none is
    age: jax.Array  # [L] int32, iterations that it took
    state: Any
    found: Any  # of searches that have ended, leaves [N, ...]
    records: Any  # [iterations, N], NaN behind a search's end
    next: jax.Array  # [] int32, the search that begins next


def search_in_lanes(lanes: Lanes, num: int, width: int, iterations: int) -> tuple[Any, Any]:
    """Searches `num` N >= 1 times, `width` at once, each for at most so many iterations >= 1.

    Returns:
      The states at their ends, leaves [N, ...], and their records [iterations, N], NaN behind an
      end.
    """
    rows = jnp.arange(min(width, num), dtype=jnp.int32)
    state = lanes.load(rows)
    _, record = jax.eval_shape(lanes.once, state)
    first = _Now(
        rows=rows,
        age=jnp.zeros_like(rows),
        state=state,
        found=jax.tree.map(lambda a: jnp.zeros((num, *a.shape[1:]), a.dtype), state),
        records=jax.tree.map(lambda a: jnp.full((iterations, num), jnp.nan, a.dtype), record),
        next=jnp.asarray(rows.size, jnp.int32),
    )

    def refilled(now: _Now, over: jax.Array) -> _Now:
        ended = jnp.where(over, now.rows, num)  # a row beyond all is dropped
        found = jax.tree.map(lambda a, b: a.at[ended].set(b, mode="drop"), now.found, now.state)
        place = now.next + jnp.cumsum(over, dtype=jnp.int32) - 1
        rows = jnp.where(over, jnp.minimum(place, num), now.rows)
        fresh = lanes.load(jnp.minimum(rows, num - 1))

        def put(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(over.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return now._replace(
            rows=rows,
            age=jnp.where(over, 0, now.age),
            state=jax.tree.map(put, fresh, now.state),
            found=found,
            next=now.next + jnp.sum(over, dtype=jnp.int32),
        )

    def body(now: _Now) -> _Now:
        ran = lanes.running(now.state)
        state, record = lanes.once(now.state)
        told = jnp.where(ran, now.rows, num)
        records = jax.tree.map(
            lambda a, b: a.at[now.age, told].set(b, mode="drop"), now.records, record
        )
        now = now._replace(age=now.age + 1, state=state, records=records)
        over = ~lanes.running(state) | (now.age >= iterations)
        some = jnp.any(over & (now.rows < num))
        return jax.lax.cond(some, refilled, lambda now, _: now, now, over & (now.rows < num))

    last = jax.lax.while_loop(lambda now: jnp.any(now.rows < num), body, first)
    return last.found, last.records
