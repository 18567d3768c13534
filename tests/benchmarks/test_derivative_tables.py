"""The benchmark of derivatives: what its lines say."""

import derivatives
import pytest
from sweep_models import find_models

MODELS = find_models()


def test_a_line_compares_the_methods_where_both_are_right(monkeypatch):
    monkeypatch.setattr(derivatives, "STEPS", 3)
    runner = derivatives.compare(MODELS["gymnasium/half_cheetah"], 0)
    assert (runner["nv"], runner["controls"], runner["right"]) == (9, 6, 1)
    assert runner["ratio"] == pytest.approx(runner["copies"] / runner["chained"])
    assert runner["difference"] < 1e-5
    by_rk4 = derivatives.compare(MODELS["gymnasium/inverted_pendulum"], 0)
    assert by_rk4["right"] == 0 and by_rk4["copies"] > 0
    assert by_rk4["chained"] is by_rk4["ratio"] is by_rk4["difference"] is None
