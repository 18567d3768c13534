"""What images cost and look like: one frozen config for the whole room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax

from jgps.core.checks import Config, Range

_CPU_RAYS, _ACCELERATOR_RAYS = 2**16, 2**21  # a ray takes about half a kilobyte


@dataclass(frozen=True, kw_only=True)
class RenderConfig(Config):
    """How images are shaded and how much memory they take.

    Attributes:
      ambient: light from the sky, in [0, 1]; surfaces that face down get half of it.
      headlight: light from the camera, in [0, 1].
      sun: light from all the model's lights together, in [0, 1].
      gloss: strength of highlights, in [0, 1]; multiplies each material's own.
      shadows: shadow rays per ray and light, 0 for none; with more than one the edges are soft.
      sun_radius: half angle of a light seen from the scene, in [0, 45] degrees; the width of soft
        shadows.
      supersample: rays per pixel along each axis, at least 1; smooths edges.
      block: rays cast at once, at least 1; bounds memory, at about half a kilobyte each. None
        chooses: what fits the caches of a CPU, what keeps an accelerator busy.
      max_triangles: of each mesh and height field, at least 1. Time grows with their number, since
        every ray is tested against each.
      simplify: whether a mesh or height field of more triangles is drawn coarsely, with that many,
        instead of being refused.
    """

    ambient: Annotated[float, Range("[0, 1]")] = 0.5
    headlight: Annotated[float, Range("[0, 1]")] = 0.15
    sun: Annotated[float, Range("[0, 1]")] = 0.5
    gloss: Annotated[float, Range("[0, 1]")] = 0.3
    shadows: Annotated[int, Range(">= 0", "usually 0 or 4")] = 0
    sun_radius: Annotated[float, Range("[0, 45]", "usually 3 degrees")] = 3.0
    supersample: Annotated[int, Range(">= 1", "usually 1 or 2")] = 1
    block: Annotated[int | None, Range(">= 1")] = None
    max_triangles: Annotated[int, Range(">= 1")] = 2000
    simplify: bool = False

    @property
    def rays_at_once(self) -> int:
        """`block`, or what suits JAX's default device."""
        if self.block is not None:
            return self.block
        return _CPU_RAYS if jax.default_backend() == "cpu" else _ACCELERATOR_RAYS
