"""What settings make: fingerprints of the programs, shapes and states that follow from a config.

Nothing is compiled and no physics is computed: programs are traced, with a sampler that stands in
for the simulator and calls the policy once. Of a program that counts which nothing looks at: what
its results do not depend on is left out, so that a setting that is read for nothing shows.

Every `of_...` takes a config and yields one fingerprint after another; two configs that differ in
any of them make different things. The cheap ones come first.
"""

import hashlib
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr_consts

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.core.traces import Description
from jgps.optimise.rollouts import random_starts, sampling
from jgps.simulation import Sampler, SimulationRollouts
from jgps.simulation.system import split_shared

Fingerprints = Iterator[Hashable]


def struct(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array of that shape of which only that is known."""
    return jax.ShapeDtypeStruct(shape, dtype)


def traced(function: Callable[..., Any], *args: Any) -> Hashable:
    """What a function does with arguments of these shapes, and what it closes over."""
    return traced_for(function, *args)[0]


def traced_for(function: Callable[..., Any], *args: Any) -> tuple[Hashable, Any]:
    """The same, and the shapes of what it returns."""
    closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
    every = [True] * len(closed.jaxpr.outvars)
    jaxpr, used_consts, used_inputs = dce_jaxpr_consts(closed.jaxpr, every)
    consts = [const for const, used in zip(closed.consts, used_consts, strict=True) if used]
    found = (
        Description(jaxpr).digest,
        digest(consts),
        tuple(used_inputs),
        shapes(out),
    )
    return found, out


def shapes(tree: Any) -> Hashable:
    """Structure, shapes and dtypes of a pytree."""
    return _structure(tree), tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))


def digest(tree: Any) -> Hashable:
    """Structure of a pytree and all its numbers, bit for bit."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return _structure(tree), found.hexdigest()


def _structure(tree: Any) -> str:
    """Without addresses of functions, which differ between equal ones."""
    return re.sub(r"0x[0-9a-f]+", "", str(jax.tree.structure(tree)))


def of_algorithm(
    name: str, task: tasks.Task, backend: str = "mjx"
) -> Callable[[Any], Fingerprints]:
    """The state and the whole iteration of an algorithm of the registry, as one program."""
    make, _ = ALGORITHMS[name]

    def program(config: Any) -> Fingerprints:
        with (
            mock.patch.object(sampling, "make_sampler", _one_policy_call),
            mock.patch.object(random_starts, "make_sampler", _one_policy_call),
        ):
            algorithm = make(task, config, backend)
        initial, state = traced_for(algorithm.init, jax.random.key(0))
        yield initial
        yield traced(algorithm.step, state)

    return program


def _one_policy_call(system: Any, conditions: Any, policy: Any, backend: str) -> Sampler:
    """A sampler of the right shapes, in which everything depends on what the policy does once."""
    assert backend != "native"
    x = jnp.zeros(len(system.layout.index))
    o = x if system.observation is None else jnp.zeros(len(system.observation.index))

    def sample(params: Any, noise: jax.Array, starts: Any = None) -> SimulationRollouts:
        values, axes = split_shared(params)

        def act(params: Any, noise: jax.Array) -> jax.Array:
            return policy(params, x, o, jnp.zeros((), jnp.int32), noise[0])

        over_samples = jax.vmap(act, in_axes=(None, 0))
        u = jax.vmap(over_samples, in_axes=(axes, 0))(values, noise)
        u = jnp.broadcast_to(u[:, :, None], noise.shape) + noise
        moved = jnp.sum(u, axis=-1, keepdims=True)
        if starts is not None:
            moved = moved + jnp.sum(starts.qpos) + jnp.sum(starts.qvel)
        return SimulationRollouts(
            x=x + moved, u=u, valid=jnp.ones(noise.shape[:2], bool),
            qpos=jnp.zeros(system.model.nq) + moved, o=o + moved,
        )  # fmt: skip

    return Sampler(sample, jittable=True)
