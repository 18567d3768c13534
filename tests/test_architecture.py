"""The worked example of docs/architecture.md runs and learns, and the files that it names exist."""

import pathlib
import re

import jax.numpy as jnp

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_algorithm_of_the_page_learns():
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    step, _, rest = source.partition("algorithm = ")
    names: dict = {"__name__": "architecture"}
    exec(compile(step, "architecture.md", "exec"), names)
    first = _first_cost(names)
    exec(compile(f"algorithm = {rest}", "architecture.md", "exec"), names)
    assert jnp.mean(names["metrics"]["noise_free_cost"]) < 0.5 * first
    assert (names["metrics"]["status"] == 0).all()


def _first_cost(names: dict):
    """What the network costs after one iteration."""
    algorithm = names["random_search"](names["tasks"].make("point_mass"))
    _, metrics = algorithm.step(algorithm.init(names["jax"].random.key(0)))
    return jnp.mean(metrics["noise_free_cost"])


def test_its_trajectory_step_is_short():
    (body,) = re.findall(r"^def random_search_step\(.*?(?=^def )", PAGE, re.MULTILINE | re.DOTALL)
    assert len(body.strip().splitlines()) <= 30


def test_files_that_the_page_names_exist():
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", PAGE))
    assert len(named) > 10
    missing = [n for n in named if not (ROOT / n).exists() and not (ROOT / "jgps" / n).exists()]
    assert [n for n in missing if not (ROOT / "jgps" / "optimise" / n).exists()] == []


def test_every_room_is_on_the_map():
    rooms = {path.name for path in (ROOT / "jgps").iterdir() if (path / "__init__.py").exists()}
    assert [room for room in sorted(rooms) if f"  {room}/" not in PAGE] == []
