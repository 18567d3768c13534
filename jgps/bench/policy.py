"""Measures how many images a second the network of pixels learns from, and acts on."""

import jax
import jax.numpy as jnp
import optax

from jgps import policies
from jgps.bench.measure import Row, compiled, row, times
from jgps.policies.policy import mean_action

SIDES = (64, 96, 240)  # pixels; the paper's images have 240
BATCH = 64
CONFIGURATION_DIM, ACTION_DIM = 39, 7
SEED = 0


def policy() -> list[Row]:
    """Measures the visuomotor policy by size of images; in bfloat16 too where it is fast."""
    on_cpu = jax.default_backend() == "cpu"
    rows = []
    for side in SIDES:
        for dtype in ("float32",) if on_cpu else ("float32", "bfloat16"):
            rows += _one(side, dtype, repeats=3 if on_cpu else 15)
    return rows


def _one(side: int, dtype: str, repeats: int, batch: int = BATCH) -> list[Row]:
    """Measures training (forward, backward, Adam) and acting at one size, images/s."""
    network = policies.visuomotor(CONFIGURATION_DIM, ACTION_DIM, conv_dtype=dtype)
    learner = policies.initialise(
        network, jax.random.key(SEED), CONFIGURATION_DIM, ACTION_DIM, jnp.float32
    )
    params, optimiser = learner.variables["params"], optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(SEED + 1))
    o = {
        "image": jax.random.randint(keys[0], (batch, side, side, 3), 0, 256).astype(jnp.uint8),
        "configuration": jax.random.normal(keys[1], (batch, CONFIGURATION_DIM)),
    }

    def loss(params, o):
        return jnp.mean(
            jnp.square(mean_action(network, {**learner.variables, "params": params}, o))
        )

    def train(params, moments, o):
        gradient = jax.grad(loss)(params, o)
        updates, moments = optimiser.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    def act(variables, o):
        return mean_action(network, variables, o)

    moments = optimiser.init(params)
    run_train, train_s = compiled(train, params, moments, o)
    run_act, act_s = compiled(act, learner.variables, o)
    seconds = times(
        {
            "train": lambda: run_train(params, moments, o),
            "act": lambda: run_act(learner.variables, o),
        },
        repeats,
        warm_up=1,
    )
    size = f"{side}x{side}, {dtype}, batch of {batch}"
    return [
        row(f"trained, {size}", seconds["train"], "images/s", batch, compile_s=train_s),
        row(f"acted on, {size}", seconds["act"], "images/s", batch, compile_s=act_s),
    ]
