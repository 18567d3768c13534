"""How well a video of a model can be drawn in reasonable time."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import mujoco
import numpy as np

from jgps.rendering import RenderConfig, triangle_counts

# Every ray is tested against every triangle. So many are drawn as they are, and in a video of a
# model of more the rays are fewer and the triangles at most that many, about 0.1 s per picture.
_AS_THEY_ARE, _COARSELY = 2000, 4000


class Quality(NamedTuple):
    """What a model's pictures are drawn with, and what is left out."""

    config: RenderConfig
    triangles: int  # that the model has
    drawn: int | None  # how many of them at most are drawn; None for all

    @property
    def caption(self) -> str:
        """What a picture has to say of itself; empty where nothing is left out."""
        return "" if self.drawn is None else "coarse meshes"

    @property
    def explanation(self) -> str:
        """The same as a sentence."""
        if self.drawn is None:
            return ""
        return (
            f"The model's meshes and height fields have {self.triangles} triangles: its pictures "
            f"show them coarsely, with at most {self.drawn}, and without shadows. MuJoCo's own "
            "renderer shows all (opengl)."
        )


def affordable_quality(model: mujoco.MjModel, config: RenderConfig) -> Quality:
    """That of `config`, or less where the model has too many triangles for it."""
    counts = triangle_counts(model)
    total = int(counts.sum())
    limit = _limit(counts)
    if total <= _AS_THEY_ARE:
        return Quality(config, total, None)
    coarse = dataclasses.replace(
        config, shadows=0, supersample=1, max_triangles=limit, simplify=True
    )
    return Quality(coarse, total, _COARSELY if counts.max() > limit else None)


def _limit(counts: np.ndarray) -> int:
    """The most triangles of each geom with which all of them have at most `_COARSELY`."""
    least, most = 1, _COARSELY + 1
    while most - least > 1:
        middle = (least + most) // 2
        enough = np.minimum(counts, middle).sum() <= _COARSELY
        least, most = (middle, most) if enough else (least, middle)
    return least
