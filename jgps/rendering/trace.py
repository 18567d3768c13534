"""Nearest hits and shadows of many rays.

For every kind of primitive a `lax.scan` over its geoms keeps the nearest hit, so that only arrays
as large as the rays exist and code is compiled once per kind, however many geoms there are.
Triangles need no division per ray: which ray meets one, and at what inverse depth, are four
affine functions of the ray's place in the image (homogeneous rasterisation, Olano & Greer 1997).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jgps.rendering.appearance import Appearance
from jgps.rendering.camera import CameraPose
from jgps.rendering.intersect import ENTER, dot
from jgps.rendering.scene import Geoms, Layer


class Shot(NamedTuple):
    """What differs between images: geom poses, camera and appearance, here of one image."""

    xpos: jax.Array  # [G, 3]
    xmat: jax.Array  # [G, 3, 3]
    camera: CameraPose
    appearance: Appearance  # lights in the world frame
    table: jax.Array  # [C, n] surfaces of the drawn geoms, see `shade.surface_table`


class Hit(NamedTuple):
    """The nearest surface on every ray; a row counts a layer's geoms in the order of its kinds."""

    t: jax.Array  # [P] depth along the camera's axis, infinite where nothing is hit
    row: jax.Array  # [P] int32, -1 where nothing is hit
    normal: list[jax.Array] | None  # three [P], geom frame, zero off triangles; None without any


def nearest(layer: Layer, shot: Shot, rays: jax.Array) -> Hit:
    """Follows `rays` [2, P], the x and y of directions whose z is -1 in the camera's frame."""
    x, y = rays
    best = jnp.full(x.shape, jnp.inf, x.dtype), jnp.full(x.shape, -1, jnp.int32)
    for kind, geoms, rows in primitives(layer):
        rotation, origin = _seen_from(shot, geoms)

        # The comparison lags one geom behind: both its results need t, and XLA would otherwise
        # compute t once for each.
        def step(carry, geom, enter=ENTER[kind]):
            r, o, size, row = geom
            t = enter(o, [r[i, 0] * x + r[i, 1] * y - r[i, 2] for i in range(3)], size)
            return (_nearer(*carry), t, row), None

        start = best, jnp.full_like(x, jnp.inf), jnp.int32(-1)
        last, _ = jax.lax.scan(step, start, (rotation, origin, geoms.size, rows))
        best = _nearer(*last)
    if not layer.triangles.owner.shape[0]:
        return Hit(*best, normal=None)
    return _nearest_triangle(layer, shot, rays, *best)


def _nearer(best: tuple[jax.Array, jax.Array], t: jax.Array, row: jax.Array):
    nearer = t < best[0]
    return jnp.where(nearer, t, best[0]), jnp.where(nearer, row, best[1])


def _seen_from(shot: Shot, geoms: Geoms) -> tuple[jax.Array, jax.Array]:
    """The camera in every geom's frame: rotations [n, 3, 3] and origins [n, 3].

    Full precision: these products place the images.
    """
    xpos, xmat = shot.xpos[geoms.geom_id], shot.xmat[geoms.geom_id]
    rotation = jnp.einsum("gji,jk->gik", xmat, shot.camera.rotation, precision="highest")
    origin = jnp.einsum("gji,gj->gi", xmat, shot.camera.position - xpos, precision="highest")
    return rotation, origin


def _nearest_triangle(layer: Layer, shot: Shot, rays: jax.Array, t: jax.Array, row: jax.Array):
    """The nearest of hits by primitives and by triangles, seen from their front."""
    triangles = layer.triangles
    rotation, origin = _seen_from(shot, layer.mesh)
    q = jnp.einsum(
        "fij,fkj->kif",  # corner, component, face
        jnp.swapaxes(rotation, 1, 2)[triangles.owner],
        triangles.corners - origin[triangles.owner][:, None],
        precision="highest",
    )
    edges = [cross(q[i], q[(i + 1) % 3]) for i in range(3)]
    normal = [edges[0][i] + edges[1][i] + edges[2][i] for i in range(3)]
    volume = dot(q[0], normal)
    front = volume < -_TINY
    # Affine in the image: three edge functions and the inverse depth, negative for back faces.
    inverse = 1 / jnp.where(front, volume, -1)
    towards = jnp.stack([jnp.where(front, n * inverse, 0) for n in normal])
    depth = towards.at[2].add(jnp.where(front, 0, 1))
    planes = jnp.stack([*(-jnp.stack(edge) for edge in edges), depth])
    x, y = rays

    def step(carry, face):
        plane, index = face
        a, b, c, s = (p[0] * x + p[1] * y - p[2] for p in plane)
        nearer = (jnp.minimum(jnp.minimum(a, b), c) >= 0) & (s > carry[0])
        return (jnp.where(nearer, s, carry[0]), jnp.where(nearer, index, carry[1])), None

    start = jnp.where(row >= 0, 1 / jnp.where(row >= 0, t, 1), 0), jnp.zeros_like(row)
    count = triangles.owner.shape[0]
    faces = jnp.moveaxis(planes, -1, 0), jnp.arange(1, count + 1, dtype=jnp.int32)
    (s, face), _ = jax.lax.scan(step, start, faces, unroll=min(_UNROLL, count))
    hit = face > 0
    normals = jnp.pad(triangles.normal, ((1, 0), (0, 0)))
    first = layer.num_geoms - layer.mesh.geom_id.shape[0]  # meshes are the last kind
    rows = jnp.pad(triangles.owner + first, (1, 0))
    return Hit(
        t=jnp.where(hit, 1 / jnp.where(hit, s, 1), t),
        row=jnp.where(hit, rows[face], row),
        normal=[normals[:, i][face] for i in range(3)],
    )


_TINY = 1e-20
_UNROLL = 4


def cross(a, b) -> list[jax.Array]:
    """Vector product of two vectors given by component."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def unoccluded(
    layer: Layer,
    shot: Shot,
    points: list[jax.Array],
    own: jax.Array,
    light: jax.Array,
    point_like: jax.Array,
    margin: jax.Array,
) -> jax.Array:
    """Whether nothing lies between points (three arrays [P]) and a light. Planes cast no shadow.

    Args:
      own: [P] row of the geom that each point is on: primitives are convex, so none shades itself.
      light: [3] position, or direction towards a light that is infinitely far.
      point_like: [] one for a position, zero for a direction.
      margin: [] metres; triangles that close in front of a point do not shade it.
    """
    clear = jnp.ones(own.shape, bool)
    for kind, geoms, rows in primitives(layer):
        if kind == "plane":
            continue

        def step(clear, geom, enter=ENTER[kind]):
            xpos, xmat, size, row = geom
            offset = [points[i] - xpos[i] for i in range(3)]
            o = [dot(xmat[:, i], offset) for i in range(3)]
            target = light - point_like * xpos
            d = [dot(xmat[:, i], target) - point_like * o[i] for i in range(3)]
            t = enter(o, d, size)
            return clear & (jnp.isinf(t) | (t * point_like > 1) | (row == own)), None

        poses = shot.xpos[geoms.geom_id], shot.xmat[geoms.geom_id]
        clear, _ = jax.lax.scan(step, clear, (*poses, geoms.size, rows))
    if layer.triangles.owner.shape[0]:
        clear = clear & _unoccluded_by_triangles(layer, shot, points, light, point_like, margin)
    return clear


def _unoccluded_by_triangles(layer: Layer, shot: Shot, points, light, point_like, margin):
    """As above. Four functions, affine in the point, are positive where a triangle shades it.

    The first three are products (light - p) . (q_i - p) x (q_j - p), the last is the distance of
    the point behind the triangle; triangles that face away from the light shade nothing.
    """
    xpos, xmat = shot.xpos[layer.mesh.geom_id], shot.xmat[layer.mesh.geom_id]
    owner = layer.triangles.owner
    q = jnp.einsum("fij,fkj->kif", xmat[owner], layer.triangles.corners, precision="highest")
    q = q + xpos[owner].T
    normal = jnp.einsum("fij,fj->if", xmat[owner], layer.triangles.normal, precision="highest")
    functions = []
    for i in range(3):
        a, b = q[i], q[(i + 1) % 3]
        product = cross(a, b)
        across = cross(light, [v - w for v, w in zip(a, b, strict=True)])
        linear = [-v - point_like * w for v, w in zip(across, product, strict=True)]
        functions.append(jnp.stack([*linear, dot(light, product)]))
    faces = dot(normal, light[:, None] - point_like * q[0]) > 0
    behind = jnp.stack([*(-normal), dot(normal, q[0]) - margin])
    none = jnp.zeros_like(behind).at[3].set(-1)
    functions.append(jnp.where(faces, behind, none))

    def step(clear, planes):
        a, b, c, d = (dot(p, points) + p[3] for p in planes)
        return clear & (jnp.minimum(jnp.minimum(a, b), jnp.minimum(c, d)) < 0), None

    clear = jnp.ones(points[0].shape, bool)
    planes = jnp.moveaxis(jnp.stack(functions), -1, 0)
    return jax.lax.scan(step, clear, planes, unroll=min(_UNROLL, owner.shape[0]))[0]


def primitives(layer: Layer) -> list[tuple[str, Geoms, jax.Array]]:
    """Kind, geoms and rows of every kind of primitive that has geoms."""
    result, start = [], 0
    for kind, geoms in layer.kinds.items():
        count = geoms.geom_id.shape[0]
        if count and kind in ENTER:
            result.append((kind, geoms, jnp.arange(start, start + count, dtype=jnp.int32)))
        start += count
    return result
