"""The limit on what a test may cost."""

import os
import pathlib
import subprocess
import sys

import cpu_budget
import pytest


@pytest.mark.parametrize(
    ("seconds", "slow", "scale", "words"),
    [
        (44.0, False, "1", None),
        (46.0, False, "1", "46 s of processor time, which may be 45 s: .* or mark it `slow`"),
        (89.0, True, "1", None),
        (91.0, True, "1", "may be 90 s: share or shrink what it runs; on a slow machine"),
        (89.0, False, "2", None),
        (91.0, False, "2", "may be 90 s"),
        (1e6, False, "0", None),
    ],
)
def test_too_much_is_named(monkeypatch, seconds, slow, scale, words):
    monkeypatch.setenv(cpu_budget.SCALE, scale)
    found = cpu_budget.complaint(seconds, slow)
    if words is None:
        assert found is None
    else:
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(found)


def test_the_longest_files_are_there():
    tests = pathlib.Path(__file__).parent
    assert [name for name in cpu_budget.LONGEST if not (tests / name).exists()] == []


def test_children_count():
    before = cpu_budget.spent()
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert cpu_budget.spent() - before >= 0.45


def test_a_test_over_budget_fails(tmp_path):
    """By the hooks of conftest.py, in another process."""
    (tmp_path / "test_busy.py").write_text(
        "import time\nimport pytest\n"
        "def spin():\n    start = time.process_time()\n"
        "    while time.process_time() - start < 0.5: pass\n"
        "def test_call(): spin()\n"
        "@pytest.fixture\ndef long(): spin()\n"
        "def test_setup(long): pass\n"
        "def test_quick(): pass\n"
    )
    arguments = ["-p", "conftest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    program = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import cpu_budget, pytest
cpu_budget.SECONDS = 0.3
sys.exit(pytest.main({arguments!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, cpu_budget.SCALE: "1"},
    )
    assert "1 failed, 1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("s of processor time, which may be") >= 2
