"""Draws peg_insertion.png from a run: `python docs/images/peg_insertion.py RUN_DIRECTORY`."""

import sys
from pathlib import Path

from jgps import tasks
from jgps.rendering import Camera
from jgps.reports.run_data import read_run
from jgps.reports.video import film_strip

run = read_run(sys.argv[1])
if run.trajectories is None:
    sys.exit(f"{run.directory} has not finished")
task = tasks.make("peg_insertion")
for geom in range(task.model.ngeom):  # so that the peg is seen inside the slot
    if task.model.geom(geom).name.startswith(("slot", "guide")):
        task.model.geom_rgba[geom, 3] = 0.5
film_strip(
    task,
    run.trajectories["qpos"],
    Path(__file__).with_suffix(".png"),
    conditions=(0, 3),
    steps=(0, 8, 20, 99),
    camera=Camera(lookat=(0.2, 0.08, -0.22), distance=1.65, azimuth=205, elevation=-16, fovy=42),
)
