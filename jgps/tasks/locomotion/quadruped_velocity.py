"""A quadruped of a Unitree Go1's proportions trots with the velocity and turn rate it is told.

Its body of primitives is our own. What it observes and what it costs are those of
`jgps.tasks.legged`.
"""

from pathlib import Path

from jgps.costs import gait
from jgps.tasks.episodes import Episodes
from jgps.tasks.locomotion.legged import LeggedOptions, legged
from jgps.tasks.task import Task

MODEL = Path(__file__).parent / "assets" / "quadruped.xml"
FEET = ("FR", "FL", "RR", "RL")  # front right, and so on
GAIT = gait.trot(period=0.5, duty=0.55)
# m/s ahead, m/s to the left, rad/s.
EPISODES = Episodes(command=((-1.0, 1.0), (-0.5, 0.5), (-1.0, 1.0)))
TRAIN = (
    (0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0),
    (-0.6, 0.0, 0.0),
    (0.0, 0.5, 0.0),
    (0.0, 0.0, 1.0),
    (0.6, -0.3, 0.0),
    (0.8, 0.0, -0.7),
    (0.3, 0.3, 0.5),
)
TEST = (
    (0.5, 0.0, 0.0),
    (0.9, 0.1, 0.2),
    (-0.4, 0.2, 0.0),
    (0.0, -0.4, 0.3),
    (0.2, 0.0, -0.9),
    (0.7, 0.3, 0.6),
    (-0.7, -0.2, -0.4),
    (0.4, -0.2, 0.8),
)


def quadruped_velocity() -> Task:
    """A quadruped of twelve servos trots as fast and turns as fast as it is told."""
    return legged(
        MODEL,
        trunk="trunk",
        feet=tuple(f"{foot}_foot" for foot in FEET),
        stance="stand",
        episodes=EPISODES,
        options=LeggedOptions(
            gait=GAIT, train=TRAIN, test=TEST, camera="side", name="quadruped_velocity"
        ),
    )
