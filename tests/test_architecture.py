"""The worked example of docs/architecture.md runs and learns, and the files that it names exist."""

import pathlib
import re

import pytest

from jgps.core.types import OK

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_algorithm_of_the_page_learns(capsys: pytest.CaptureFixture[str]):
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    names: dict = {"__name__": "architecture"}
    exec(compile(source, "architecture.md", "exec"), names)
    *costs, unseen = map(float, capsys.readouterr().out.split())
    assert len(costs) == 10 and max(costs[-1], unseen) < 0.5 * costs[0]
    assert (names["metrics"]["status"] == OK).all()


def test_its_trajectory_step_is_short():
    (body,) = re.findall(r"^def random_search_step\(.*?(?=^def )", PAGE, re.MULTILINE | re.DOTALL)
    assert len(body.strip().splitlines()) <= 30


def test_files_that_the_page_names_exist():
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", PAGE))
    assert len(named) > 20
    assert [n for n in named if not (ROOT / n).exists() and not (ROOT / "jgps" / n).exists()] == []


def test_what_is_on_the_map_exists_and_every_room_is_there():
    (drawing,) = re.findall(r"^```\njgps/\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    folders, drawn, missing = {0: ROOT / "jgps"}, set(), []
    for line in drawing.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2  # a name is inside the folder above it
        first, *words = line.split()
        several = bool(words) and first.endswith("/") and words[0].endswith("/")
        for name in [first, *(w for w in words if w.endswith("/"))] if several else [first]:
            path = folders[depth - 1] / name
            if path.is_dir():
                folders[depth] = path
                drawn.add(path)
            elif not path.exists() and not path.with_name(f"{name}.py").exists():
                missing.append(name)
    assert missing == []
    rooms = {path.parent for path in (ROOT / "jgps").glob("*/__init__.py")}
    assert rooms <= drawn
