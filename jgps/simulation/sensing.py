"""What a network sees of an observation: late, and with noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jgps.core.checks import as_numbers
from jgps.core.names import shown
from jgps.simulation.layout import StateLayout


class Sensing(NamedTuple):
    """How what a network sees differs from the observation o of the simulator.

    At control step t it sees o of step max(t - latency, 0) plus row t mod L of the noise. That is
    the same for all rollouts of a condition.
    """

    noise: Any = None  # [C, L, dO], added, in the units of o; None for no noise
    latency: Any = None  # [C], whole control steps by which o is old; None for 0


def check_sensing(sensing: Any, num: int) -> Sensing | None:
    """The sensing of `num` conditions as arrays; None where it changes nothing.

    Raises:
      ValueError: if it is no `Sensing`, a shape does not fit, a number is not finite, or a latency
        is not a whole number of control steps.
    """
    if sensing is None:
        return None
    if not isinstance(sensing, Sensing):
        raise ValueError(
            f"conditions: sensing is {shown(sensing)}; it has to be jgps.simulation.Sensing("
            "noise=..., latency=...), or left out"
        )
    noise, latency = sensing
    if noise is not None:
        noise = as_numbers("conditions: the noise of sensing", noise)
        noise = noise[None] if num == 1 and noise.ndim == 2 else noise
        if noise.ndim != 3 or len(noise) != num or not noise.shape[1]:
            raise ValueError(
                f"conditions: the noise of sensing has shape {noise.shape}, expected ({num}, L, "
                "dO) with L >= 1 rows, of which control step t takes row t mod L"
            )
        if not np.all(np.isfinite(noise)):
            raise ValueError("conditions: the noise of sensing has values that are not finite")
    if latency is not None:
        latency = _whole_steps(latency, num)
    return None if noise is None and latency is None else Sensing(noise, latency)


def _whole_steps(latency: Any, num: int) -> np.ndarray:
    """Latencies [C] as integers.

    Raises:
      ValueError: naming the first condition in which it is none.
    """
    steps = as_numbers("conditions: the latency of sensing", latency)
    if steps.shape != (num,):
        raise ValueError(
            f"conditions: the latency of sensing has shape {steps.shape}, expected ({num},)"
        )
    whole = np.isfinite(steps) & (steps >= 0) & (steps == np.round(steps)) & (steps < 2**31)
    if not whole.all():
        condition = int(np.argmin(whole))
        raise ValueError(
            f"conditions: the latency of sensing is {steps[condition]:g} in condition {condition}; "
            "it is a number of whole control steps, 0 or more"
        )
    return steps.astype(np.int64)


def check_observed(sensing: Sensing | None, observation: StateLayout | None) -> None:
    """Refuses sensing that does not fit what is observed.

    Raises:
      ValueError: saying why.
    """
    if sensing is None:
        return
    if observation is None:
        raise ValueError(
            "conditions have sensing, and the task names no observation: its network reads the "
            "state x, from which controllers act without noise or latency; name one, such as "
            "observation=('qpos', 'qvel')"
        )
    if sensing.noise is not None and sensing.noise.shape[-1] != observation.size:
        raise ValueError(
            f"conditions: the noise of sensing has {sensing.noise.shape[-1]} numbers for each "
            f"control step, and the observation o has {observation.size}"
        )


def refuse_sensing(sensing: Sensing | None, what: str) -> None:
    """Refuses noise and latency where `what` observes in a way of its own.

    Raises:
      ValueError: naming it.
    """
    if sensing is not None:
        raise ValueError(
            f"conditions have sensing, whose noise and latency {what} does not simulate; leave "
            "sensing out of the training conditions, or use an algorithm that samples rollouts"
        )


def concatenate_sensing(sets: Sequence[tuple[int, Sensing | None]]) -> Sensing | None:
    """The sensing of sets with so many conditions in a row.

    Where only some have noise or latency, it is 0 in the others; noise of different lengths L is
    repeated up to a length at which all of them begin anew.
    """
    given = [(num, Sensing() if each is None else each) for num, each in sets]
    noise, latency = None, None
    shapes = [each.noise.shape for _, each in given if each.noise is not None]
    if shapes:
        length, width = int(np.lcm.reduce([shape[1] for shape in shapes])), shapes[0][2]
        rows = np.arange(length)
        noise = np.concatenate(
            [
                np.zeros((num, length, width))
                if each.noise is None
                else each.noise[:, rows % each.noise.shape[1]]
                for num, each in given
            ]
        )
    if any(each.latency is not None for _, each in given):
        latency = np.concatenate(
            [
                np.zeros(num, np.int64) if each.latency is None else each.latency
                for num, each in given
            ]
        )
    return None if noise is None and latency is None else Sensing(noise, latency)


def memory_of(sensing: Sensing | None, horizon: int) -> int:
    """Number of observations that have to be remembered, the newest included; 0 for none."""
    if sensing is None or sensing.latency is None:
        return 0
    latest = min(int(sensing.latency.max(initial=0)), horizon - 1)
    return latest + 1 if latest else 0


def see(
    sensing: Sensing | None, past: jax.Array | None, o: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """What is seen at control step t of one simulation, [dO], and the memory afterwards.

    Args:
      sensing: of its condition, without the leading axis.
      past: memory [K, dO] of `memory_of` observations, of any numbers at step 0; None for none.
      o: the observation [dO] of step t.
      t: the control step, from 0 on one after the other.
    """
    if sensing is None:
        return o, past
    if past is not None:
        past = past.at[t % len(past)].set(o)
        o = past[jnp.maximum(t - sensing.latency, 0) % len(past)]
    if sensing.noise is not None:
        o = o + sensing.noise[t % len(sensing.noise)].astype(o.dtype)
    return o, past


class Sensors:
    """What is seen in B simulations on the host, N of each condition one after the other."""

    def __init__(self, sensing: Sensing, num_samples: int, horizon: int):
        """Prepares for rollouts of so many control steps."""
        self._noise, self._num_samples = sensing.noise, num_samples
        self._size = memory_of(sensing, horizon)
        if self._size:
            self._latency = np.repeat(sensing.latency, num_samples)
            self._past = np.empty(0)

    def __call__(self, o: np.ndarray, t: int) -> np.ndarray:
        """What is seen [B, dO] at step t, from 0 on one after the other, of observations there."""
        if self._size:
            if t == 0:
                self._past = np.empty((self._size, *o.shape))
            self._past[t % self._size] = o
            old = np.maximum(t - self._latency, 0) % self._size
            o = self._past[old, np.arange(len(o))]
        if self._noise is not None:
            row = self._noise[:, t % self._noise.shape[1]]
            o = o + np.repeat(row, self._num_samples, axis=0)
        return o
