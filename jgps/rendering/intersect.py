"""Where a ray enters each kind of primitive.

Every function works in the primitive's own frame and on any broadcastable shape: `o` and `d` are
three arrays (origin and direction, not normalised), `size` three arrays in MuJoCo's order. It
returns the ray parameter t > 0 at which the ray o + t d enters the primitive, infinity where it does not.
A ray that starts inside sees nothing of that primitive, as with back-face culling. All primitives
are convex, so each is an interval [enter, leave] and an intersection of shapes is an intersection
of intervals. Divisions and roots are guarded twice, so that gradients are finite on every ray.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Vector = Sequence[jax.Array]

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


def _enter(enter: jax.Array, leave: jax.Array) -> jax.Array:
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf)


def ellipsoid(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: three half axes. A sphere is an ellipsoid with equal ones."""
    o = [a / s for a, s in zip(o, size, strict=True)]
    d = [a / s for a, s in zip(d, size, strict=True)]
    return _enter(*_interval_ball(o, d))


def box(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: three half lengths."""
    x, y, z = (_interval_slab(a, b, s) for a, b, s in zip(o, d, size, strict=True))
    return _enter(
        jnp.maximum(jnp.maximum(x[0], y[0]), z[0]), jnp.minimum(jnp.minimum(x[1], y[1]), z[1])
    )


def cylinder(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: radius, half length along z, unused."""
    radius = size[0]
    side = _interval_ball([o[0] / radius, o[1] / radius], [d[0] / radius, d[1] / radius])
    caps = _interval_slab(o[2], d[2], size[1])
    return _enter(jnp.maximum(side[0], caps[0]), jnp.minimum(side[1], caps[1]))


def capsule(o: Vector, d: Vector, size: Vector) -> jax.Array:
    """Size: radius, half length of the cylinder along z, unused."""
    radius = size[0]
    o, d, half = [a / radius for a in o], [a / radius for a in d], size[1] / radius
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


def _normal_ellipsoid(p: Vector, size: Vector) -> Vector:
    return [a / (s * s) for a, s in zip(p, size, strict=True)]


def _normal_capsule(p: Vector, size: Vector) -> Vector:
    return [p[0], p[1], p[2] - jnp.clip(p[2], -size[1], size[1])]


def _normal_cylinder(p: Vector, size: Vector) -> Vector:
    # The surface that the point lies closest to: the side or one of the caps.
    radius = jnp.sqrt(jnp.maximum(p[0] ** 2 + p[1] ** 2, _SMALL))
    cap = jnp.abs(p[2]) - size[1] > radius - size[0]
    return [jnp.where(cap, 0, p[0]), jnp.where(cap, 0, p[1]), jnp.where(cap, jnp.sign(p[2]), 0)]


def _normal_box(p: Vector, size: Vector) -> Vector:
    depth = [jnp.abs(a) - s for a, s in zip(p, size, strict=True)]
    top = jnp.maximum(jnp.maximum(depth[0], depth[1]), depth[2])
    return [jnp.where(a == top, jnp.sign(b), 0) for a, b in zip(depth, p, strict=True)]


def _normal_plane(p: Vector, size: Vector) -> Vector:
    del size
    return [jnp.zeros_like(p[0]), jnp.zeros_like(p[0]), jnp.ones_like(p[0])]


def normalise(v: Vector) -> list[jax.Array]:
    """Unit vector; zero stays zero."""
    inverse = jax.lax.rsqrt(jnp.maximum(dot(v, v), 1e-20))
    return [a * inverse for a in v]


def dot(a: Vector, b: Vector) -> jax.Array:
    """Inner product of two vectors given by component."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


# In the order of scene.Layer's fields. Normals are outward, not normalised, in the local frame.
ENTER: dict[str, Callable[[Vector, Vector, Vector], jax.Array]] = {
    "ellipsoid": ellipsoid,
    "capsule": capsule,
    "cylinder": cylinder,
    "box": box,
    "plane": plane,
}
NORMAL: dict[str, Callable[[Vector, Vector], Vector]] = {
    "ellipsoid": _normal_ellipsoid,
    "capsule": _normal_capsule,
    "cylinder": _normal_cylinder,
    "box": _normal_box,
    "plane": _normal_plane,
}
