"""Where a ray enters each kind of primitive.

Every function works in the primitive's own frame and on any broadcastable shape: `o` and `d` are
three arrays (origin and direction, not normalised), `size` three arrays in MuJoCo's order. It
returns the ray parameter t > 0 at which the ray o + t d enters the primitive, infinity where it
does not. A ray that starts inside sees nothing of that primitive, as with back-face culling. All
primitives are convex, so each is an interval [enter, leave] and an intersection of shapes is an
intersection of intervals. Divisions and roots are guarded twice, so that gradients are finite.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Vector = Sequence[jax.Array] | jax.Array

_SMALL = 1e-12


def _interval_ball(o: Vector, d: Vector):
    """Interval inside the unit ball; with two components, inside the unit cylinder.

    The discriminant is taken at the point of closest approach, which keeps float32 accurate for
    small balls far away (Haines et al., Ray Tracing Gems, 2019, chapter 7).
    """
    inverse = 1 / jnp.maximum(sum(v * v for v in d), _SMALL)
    middle = -sum(a * b for a, b in zip(o, d, strict=True)) * inverse
    inside = 1 - sum((a + middle * b) ** 2 for a, b in zip(o, d, strict=True))
    hit = inside > 0
    half = jnp.sqrt(jnp.where(hit, inside, 1) * inverse)
    return jnp.where(hit, middle - half, jnp.inf), jnp.where(hit, middle + half, -jnp.inf)


def _interval_slab(o: jax.Array, d: jax.Array, half_width: jax.Array):
    """Interval inside |o + t d| < half_width."""
    inverse = 1 / jnp.where(jnp.abs(d) < _SMALL, _SMALL, d)
    middle, half = -o * inverse, jnp.abs(half_width * inverse)
    return middle - half, middle + half


def _enter(enter: jax.Array, leave: jax.Array | float) -> jax.Array:
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf)


def ellipsoid(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: three half axes. A sphere is an ellipsoid with equal ones."""
    scale = [1 / s for s in size]  # once per geom: multiplying every ray is cheaper than dividing
    o = [a * s for a, s in zip(o, scale, strict=True)]
    d = [a * s for a, s in zip(d, scale, strict=True)]
    return _enter(*_interval_ball(o, d))


def box(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: three half lengths."""
    x, y, z = (_interval_slab(a, b, s) for a, b, s in zip(o, d, size, strict=True))
    return _enter(
        jnp.maximum(jnp.maximum(x[0], y[0]), z[0]), jnp.minimum(jnp.minimum(x[1], y[1]), z[1])
    )


def cylinder(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: radius, half length along z, unused."""
    scale = 1 / size[0]
    side = _interval_ball([o[0] * scale, o[1] * scale], [d[0] * scale, d[1] * scale])
    caps = _interval_slab(o[2], d[2], size[1])
    return _enter(jnp.maximum(side[0], caps[0]), jnp.minimum(side[1], caps[1]))


def capsule(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: radius, half length of the cylinder along z, unused."""
    scale = 1 / size[0]
    o, d, half = [a * scale for a in o], [a * scale for a in d], size[1] * scale
    side, caps = _interval_ball(o[:2], d[:2]), _interval_slab(o[2], d[2], half)
    tube = jnp.maximum(side[0], caps[0]), jnp.minimum(side[1], caps[1])
    top = _interval_ball([o[0], o[1], o[2] - half], d)
    bottom = _interval_ball([o[0], o[1], o[2] + half], d)
    tube_enter = jnp.where(tube[0] <= tube[1], tube[0], jnp.inf)
    # A convex union of convex parts: the ray enters with the first part it enters.
    return _enter(jnp.minimum(tube_enter, jnp.minimum(top[0], bottom[0])), jnp.inf)


def plane(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: half lengths along x and y, unused. Seen from its front (+z) side only."""
    faces = d[2] < -_SMALL
    t = -o[2] / jnp.where(faces, d[2], -1)
    inside = (jnp.abs(o[0] + t * d[0]) <= size[0]) & (jnp.abs(o[1] + t * d[1]) <= size[1])
    return jnp.where(faces & inside & (t > 0), t, jnp.inf)


def normalise(v: Vector) -> list[jax.Array]:
    """Unit vector; zero stays zero."""
    inverse = jax.lax.rsqrt(jnp.maximum(dot(v, v), 1e-20))
    return [a * inverse for a in v]


def dot(a: Vector, b: Vector) -> jax.Array:
    """Inner product of two vectors given by component."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


ENTER: dict[str, Callable[[Vector, Vector, Vector], jax.Array]] = {
    "ellipsoid": ellipsoid,
    "capsule": capsule,
    "cylinder": cylinder,
    "box": box,
    "plane": plane,
}


class NormalForm(NamedTuple):
    """One formula for the normals of all kinds, so that shading needs no case distinction.

    The outward normal at a point p of the surface, in the local frame and not normalised, is
    gain (p - clip(p, -core, core)) + (p_x, p_y, 0) max(ring - rim / |p_xy|, 0) + (0, 0, up). Edges
    are rounded by `_BEVEL` of the smallest half size, as those of most real things are.
    """

    gain: jax.Array  # [n, 3]
    core: jax.Array  # [n, 3]
    ring: jax.Array  # [n]
    rim: jax.Array  # [n]
    up: jax.Array  # [n]


_BEVEL = 0.03


def normal_form(kind: str, size: jax.Array) -> NormalForm:
    """Coefficients for the geoms of one kind with sizes [n, 3]; zero for triangles."""
    zero, flat = jnp.zeros_like(size[:, 0]), jnp.zeros_like(size)
    gain, core, ring, rim, up = flat, flat, zero, zero, zero
    if kind == "ellipsoid":
        gain = 1 / size**2
    elif kind == "capsule":
        gain = flat + 1 / size[:, :1]
        core = jnp.stack([zero, zero, size[:, 1]], axis=1)
    elif kind == "cylinder":
        bevel = _BEVEL * jnp.minimum(size[:, 0], size[:, 1])
        gain = jnp.stack([zero, zero, 1 / bevel], axis=1)
        core = jnp.stack([zero, zero, size[:, 1] - bevel], axis=1)
        ring, rim = 1 / bevel, (size[:, 0] - bevel) / bevel
    elif kind == "box":
        bevel = _BEVEL * jnp.min(size, axis=1, keepdims=True)
        gain, core = flat + 1 / bevel, size - bevel
    elif kind == "plane":
        up = zero + 1
    return NormalForm(gain=gain, core=core, ring=ring, rim=rim, up=up)
