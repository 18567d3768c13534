"""The small run in a process of its own: `python child.py DIRECTORY ITERATIONS [resume]`."""

import sys
from pathlib import Path

import faults

if __name__ == "__main__":
    faults.train(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        resume=sys.argv[3:] == ["resume"],
        on_start=lambda done: print("started", done, flush=True),
        on_iteration=lambda record: print("done", record["iteration"], flush=True),
    )
