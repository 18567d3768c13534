"""What can happen to a file, and a small run for it to happen to.

`make test` tries a seeded sample, `make torture` all.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from small_runs import CONFIG

import jgps
from jgps.training import CheckpointConfig, TrainingResult

TORTURE = bool(os.environ.get("JGPS_TORTURE"))
ITERATIONS = 4
EVERY = 7  # bytes between those of which a bit is flipped
Damage = Callable[[Path], None]


def train(out: Path | None, iterations: int = ITERATIONS, **options) -> TrainingResult:
    """The small run; with a directory there is a checkpoint after every iteration."""
    saving = {} if out is None else {"checkpoint": CheckpointConfig(every_iterations=1)}
    arguments = {"config": CONFIG, "iterations": iterations, "seed": 1, **saving, **options}
    return jgps.train("point_mass", "trajopt", out=out, **arguments)


def sample(cases: list, count: int, seed: int = 0) -> list:
    """Some of the cases; all of them under torture."""
    if TORTURE or len(cases) <= count:
        return cases
    return random.Random(seed).sample(cases, count)


def flips(path: Path, count: int) -> Iterator[str]:
    """Flips a bit of every seventh byte of a file, one after the other, and mends it again."""
    content = path.read_bytes()
    places = range(0, len(content), EVERY)
    for place in sample(list(places), count):
        bit = (place // EVERY) % 8
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        yield f"{path.name}: bit {bit} of byte {place}"
    path.write_bytes(content)


def _replace(path: Path, make: Callable[[], object]) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make()


def _edit_json(value: object) -> Damage:
    """Puts a value where the first number or text of a JSON object is, without a checksum."""

    def damage(path: Path) -> None:
        line, *more = (
            path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        )
        content = json.loads(line)
        del content["checksum"]
        content[next(iter(content))] = value
        path.write_text("\n".join([json.dumps(content), *more, ""]))

    return damage


ANY_FILE: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b"") and None,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]) and None,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) and None,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)) and None,
    "a directory": lambda path: _replace(path, path.mkdir),
    "a dangling link": lambda path: _replace(path, lambda: path.symlink_to(path.with_name("gone"))),
    "a pipe": lambda path: _replace(path, lambda: os.mkfifo(path)),
    "a link to itself": lambda path: _replace(path, lambda: path.symlink_to(path)),
}


def _encode(encoding: str, start: bytes = b"") -> Damage:
    """Writes a text anew as an editor of another system does."""
    return lambda path: path.write_bytes(start + path.read_text().encode(encoding)) and None


JSON_FILE: dict[str, Damage] = {
    **ANY_FILE,
    "UTF-16 with its mark": _encode("utf-16"),
    "UTF-16 LE without a mark": _encode("utf-16-le"),
    "UTF-16 BE without a mark": _encode("utf-16-be"),
    "UTF-16 with an odd byte": lambda path: (
        path.write_bytes(path.read_text().encode("utf-16")[:-1]) and None
    ),
    "UTF-32 with its mark": _encode("utf-32"),
    "UTF-8 with a mark": _encode("utf-8-sig"),
    "UTF-8 with two marks": _encode("utf-8-sig", b"\xef\xbb\xbf"),
    "UTF-7": _encode("utf-7"),
    "EBCDIC": _encode("cp500"),
    "a mark of UTF-16 alone": lambda path: path.write_bytes(b"\xff\xfe") and None,
    "lines of DOS": lambda path: (
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")) and None
    ),
    "NUL bytes after it": lambda path: path.write_bytes(path.read_bytes() + bytes(99)) and None,
    "NUL bytes before it": lambda path: path.write_bytes(bytes(9) + path.read_bytes()) and None,
    "NUL bytes within": lambda path: (
        path.write_bytes(path.read_bytes().replace(b": ", b":\0", 1)) and None
    ),
    "a lone surrogate": lambda path: path.write_bytes(b'{"task": "\xed\xa0\x80"}\n') and None,
    "a byte that is no UTF-8": lambda path: path.write_bytes(b"\xff" + path.read_bytes()) and None,
    "200,000 brackets": lambda path: path.write_text("[" * 200_000) and None,
    "2,000 objects in each other": lambda path: path.write_text('{"task":' * 2000) and None,
    "a list": lambda path: path.write_text("[1]\n") and None,
    "null": lambda path: path.write_text("null\n") and None,
    "half a character": lambda path: path.write_text('{"task": "\\ud800"}\n') and None,
    "a number of 5,000 digits": lambda path: (
        path.write_text(f'{{"task": {"9" * 5000}}}\n') and None
    ),
    "a number of 400 digits": lambda path: path.write_text(f'{{"task": {"9" * 400}}}\n') and None,
    "an empty object": lambda path: path.write_text("{}\n") and None,
    "a list where none belongs": _edit_json([{"a": 1}]),
    "an object where none belongs": _edit_json({"a": [1]}),
    "null where it does not belong": _edit_json(None),
    "text where it does not belong": _edit_json("seven"),
    "a boolean where none belongs": _edit_json(True),
}
# Of the files in a run directory: how they are named, and what can happen to them.
FILES: dict[str, dict[str, Damage]] = {
    "config.json": JSON_FILE,
    "metrics.jsonl": JSON_FILE,
    "summary.json": JSON_FILE,
    "trajectories.npz": ANY_FILE,
    "checkpoints/000004.json": JSON_FILE,
    "checkpoints/000004/_METADATA": ANY_FILE,
    "checkpoints/000004": {
        kind: damage for kind, damage in ANY_FILE.items() if "link" in kind or kind == "a pipe"
    }
    | {
        "missing": lambda path: shutil.rmtree(path),
        "a file": lambda path: _replace(path, path.touch),
        "emptied": lambda path: _replace(path, path.mkdir),
    },
    "checkpoints": {
        "missing": lambda path: shutil.rmtree(path),
        "a file": lambda path: _replace(path, path.touch),
        "emptied": lambda path: _replace(path, path.mkdir),
        "a dangling link": ANY_FILE["a dangling link"],
        "folders with odd names": lambda path: [
            (path / name).mkdir() for name in ("²", "7", "00004", "000004 (copy)", "-00001", "٣")
        ] and None,
    },
}  # fmt: skip
CASES = [(name, kind) for name, kinds in FILES.items() for kind in kinds]


def damage(directory: Path, name: str, kind: str) -> None:
    """Does it."""
    FILES[name][kind](directory / name)


def same_state(a: TrainingResult, b: TrainingResult) -> bool:
    """Whether two runs ended with the same bits."""
    states = [
        [
            np.asarray(
                jax.random.key_data(leaf)
                if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                else leaf
            )
            for leaf in jax.tree.leaves(each.state)
        ]
        for each in (a, b)
    ]
    return all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(*states, strict=True)
    )


def start_child(out: Path, iterations: int, *options: str, **keywords) -> subprocess.Popen:
    """Starts the small run in another process, with the same compiler."""
    here = Path(__file__).parent
    paths = [str(Path(jgps.__file__).parents[1]), str(here.parent), str(here)]
    return subprocess.Popen(
        [sys.executable, str(here / "child.py"), str(out), str(iterations), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )
