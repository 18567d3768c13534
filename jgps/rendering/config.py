"""What images cost and look like: one frozen config for the whole room."""

from __future__ import annotations

from dataclasses import dataclass

import jax

_CPU_RAYS, _ACCELERATOR_RAYS = 2**16, 2**21  # a ray takes about half a kilobyte


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
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

    ambient: float = 0.5
    headlight: float = 0.15
    sun: float = 0.5
    gloss: float = 0.3
    shadows: int = 0
    sun_radius: float = 3.0
    supersample: int = 1
    block: int | None = None
    max_triangles: int = 2000
    simplify: bool = False

    def __post_init__(self):
        for name in ("ambient", "headlight", "sun", "gloss"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"RenderConfig.{name} = {value}: must be in [0, 1].")
        if not 0 <= self.sun_radius <= 45:
            raise ValueError(
                f"RenderConfig.sun_radius = {self.sun_radius}: must be in [0, 45] degrees."
            )
        least = {"shadows": 0, "supersample": 1, "block": 1, "max_triangles": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if name == "block" and value is None:
                continue
            if not isinstance(value, int) or value < bound:
                raise ValueError(
                    f"RenderConfig.{name} = {value}: must be a whole number, at least {bound}."
                )

    @property
    def rays_at_once(self) -> int:
        """`block`, or what suits JAX's default device."""
        if self.block is not None:
            return self.block
        return _CPU_RAYS if jax.default_backend() == "cpu" else _ACCELERATOR_RAYS
