"""On `mjx` a whole step is one program: nothing inside it goes to the host and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jgps import tasks
from jgps.algorithms import ALGORITHMS
from jgps.policies import DistilConfig
from jgps.policies.learner import MlpConfig

CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "outside_call")


def _primitives(jaxpr) -> set[str]:
    """Names of all primitives, those of inner programs too."""
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for inner in jaxprs_in_params(equation.params):
            found |= _primitives(inner)
    return found


def _trace(step, state):
    with jax.transfer_guard("disallow"):
        return jax.jit(step).trace(state)


# These act from one plan to the next, and what happens is a loop of the host.
ON_THE_HOST = ("mpc", "mpc_dagger")
# Derivatives that are not MJX's come from the host; with known dynamics these are one program. A
# plan that is followed is a loop of the host on every backend.
BY_KNOWN_DYNAMICS = ("cgps", "admm", "plato", "mpc_gps")


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in ON_THE_HOST])
def test_a_step_is_traced_without_the_host(algorithm):
    make, config = ALGORITHMS[algorithm]
    short = MlpConfig(distil=DistilConfig(steps=20))
    short = {"policy": short} if hasattr(config, "policy") else {}
    known = algorithm in BY_KNOWN_DYNAMICS
    task, backend = ("pendulum", "analytic") if known else ("point_mass", "mjx")
    run = make(tasks.make(task), config(**short), backend=backend)
    state = jax.eval_shape(run.init, jax.random.key(0))
    found = _primitives(_trace(run.step, state).jaxpr.jaxpr)
    assert "scan" in found  # the rollouts are inside
    assert not found & set(CALLBACKS)


def test_a_step_that_asks_the_host_is_found():
    def ask(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def loop(x):
        return jax.lax.scan(lambda carry, _: (ask(carry), None), x, None, length=2)[0]

    traced = _trace(jax.jit(loop), jnp.ones(3))
    assert "pure_callback" in _primitives(traced.jaxpr.jaxpr)
    with pytest.raises(Exception, match=r"[Tt]racer|[Dd]isallowed"):
        _trace(jax.jit(lambda x: jnp.sin(np.asarray(x))), jnp.ones(3))
