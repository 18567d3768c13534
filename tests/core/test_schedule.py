"""Settings that change from one iteration to the next."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jgps.configs import AscentWeightConfig, LqrStepConfig
from jgps.core.checks import Range, Schedule, check_argument
from jgps.core.schedule import at_iteration


def test_one_number_is_the_same_in_all_iterations():
    assert at_iteration(0.5, jnp.asarray(7)) == 0.5


def test_one_number_per_iteration_of_which_the_last_stays():
    found = [float(at_iteration((4.0, 2.0, 1.0), jnp.asarray(each))) for each in range(5)]
    assert found == [4.0, 2.0, 1.0, 1.0, 1.0]
    assert [at_iteration((4.0, 2.0, 1.0), each) for each in range(5)] == found
    traced = jax.eval_shape(lambda i: at_iteration((4.0, 2.0), i), jnp.asarray(0))
    assert traced.shape == ()


@pytest.mark.parametrize("wrong", [(), [], (0.1, -1.0), (0.1, np.nan), "0.1", (0.1, "a"), None])
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^LqrStepConfig.entropy_weight is .* has to be finite"):
        LqrStepConfig(entropy_weight=wrong)


def test_a_schedule_is_held_as_plain_numbers():
    steps = np.geomspace(0.1, 1e-3, 3)
    assert LqrStepConfig(entropy_weight=steps).entropy_weight == pytest.approx((0.1, 0.01, 1e-3))
    assert AscentWeightConfig(step=[1, 2]).step == (1.0, 2.0)
    text = r"above 0|a tuple with one entry per iteration, each finite and > 0"
    with pytest.raises(ValueError, match=text):
        AscentWeightConfig(step=())


def test_other_tuples_may_be_empty():
    assert check_argument("hidden", (), Annotated[tuple[int, ...], Range(">= 1")]) == ()
    with pytest.raises(ValueError, match="one entry per iteration"):
        check_argument("rate", (), Annotated[float | tuple[float, ...], Schedule("> 0")])
