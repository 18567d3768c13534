"""Meshes and height fields as triangles in the geom's frame, counter-clockwise from outside."""

from __future__ import annotations

import mujoco
import numpy as np

_MOST_CELLS = 512  # along the longest side of a mesh that is simplified


class NotDrawableError(ValueError):
    """The ray caster cannot draw something that the model has."""


def geom_triangles(
    model: mujoco.MjModel, geom: int, max_triangles: int, simplify: bool = False
) -> np.ndarray:
    """Corners [F, 3, 3] of a mesh or height field, metres.

    Args:
      max_triangles: the most that are returned, at least 1.
      simplify: whether a geom of more is drawn coarsely, in place of being refused.

    Raises:
      NotDrawableError: it has more than `max_triangles`, and is not to be simplified.
    """
    data = model.geom_dataid[geom]
    is_mesh = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH
    count = triangle_count(model, geom)
    corners = _mesh(model, data) if is_mesh else _hfield(model, data)
    if count <= max_triangles:
        return corners
    if simplify:
        return simplified(corners, max_triangles)
    remedy = "simplify the mesh" if is_mesh else "give the height field fewer rows and columns"
    raise NotDrawableError(
        f"Geom {geom_name(model, geom)} has {count} triangles; the ray caster draws up to "
        f"{max_triangles} per geom. Raise RenderConfig.max_triangles (time grows with it), draw it "
        f"coarsely (RenderConfig.simplify), {remedy}, draw primitives in its place, or hide it in "
        "a geom group that is not drawn."
    )


def triangle_count(model: mujoco.MjModel, geom: int) -> int:
    """How many triangles a geom has; 0 of a primitive."""
    kind, data = model.geom_type[geom], model.geom_dataid[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return int(model.mesh_facenum[data])
    return _hfield_count(model, data) if kind == mujoco.mjtGeom.mjGEOM_HFIELD else 0


def simplified(corners: np.ndarray, max_triangles: int) -> np.ndarray:
    """The same surface [F, 3, 3] with at most `max_triangles` triangles, by vertex clustering.

    Vertices in one cell of a cubic grid become their mean, and triangles that lose their area or
    repeat one another are left out. The grid is the finest that leaves few enough triangles; where
    none leaves any, it is the bounding box, or as much of it as is allowed.

    Source: Rossignac & Borrel (1993), "Multi-resolution 3D approximations for rendering complex
    scenes".
    """
    coarse, fine = 1, _MOST_CELLS
    while fine - coarse > 1:
        middle = (coarse + fine) // 2
        enough = len(_clustered(corners, middle)) <= max_triangles
        coarse, fine = (middle, fine) if enough else (coarse, middle)
    found = _clustered(corners, coarse)
    return found if len(found) else _bounding_box(corners)[:max_triangles]


def _clustered(corners: np.ndarray, cells: int) -> np.ndarray:
    """The triangles that a grid of so many cells along the longest side leaves."""
    points = corners.reshape(-1, 3)
    low, size = points.min(axis=0), np.ptp(points, axis=0).max()
    place = np.minimum((points - low) / max(size, 1e-12) * cells, cells - 1e-6).astype(int)
    _, cell, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    cell = cell.reshape(-1)  # NumPy 2.0 gives it another axis
    mean = np.stack([np.bincount(cell, points[:, i]) for i in range(3)], axis=1) / count[:, None]
    corner = cell.reshape(-1, 3)
    first = np.argmin(corner, axis=1)[:, None]  # to compare triangles that begin elsewhere
    corner = np.take_along_axis(corner, (first + np.arange(3)) % 3, axis=1)
    whole = (corner != np.roll(corner, 1, axis=1)).all(axis=1)
    return mean[np.unique(corner[whole], axis=0)]


def _bounding_box(corners: np.ndarray) -> np.ndarray:
    """The twelve triangles [12, 3, 3] of the box around others."""
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    corner = np.stack(np.meshgrid(*np.stack([low, high], axis=1), indexing="ij"), axis=-1)
    faces = []
    for axis in range(3):
        near, far = np.moveaxis(corner, axis, 0)
        # A face's outside lies against the axis on the near side; the order of the other two axes
        # turns with the one that is left out.
        near, far = (far, near) if axis == 1 else (near, far)
        faces += [_strip(near), _strip(np.swapaxes(far, 0, 1))]
    return np.concatenate(faces)


def geom_name(model: mujoco.MjModel, geom: int) -> str:
    """Name, id and body of a geom, for messages."""
    body = model.body(model.geom_bodyid[geom]).name
    return f"{model.geom(geom).name!r} (id {geom}, body {body!r})"


def _mesh(model: mujoco.MjModel, mesh: int) -> np.ndarray:
    first_vertex, first_face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    vertices = model.mesh_vert[first_vertex : first_vertex + model.mesh_vertnum[mesh]]
    faces = model.mesh_face[first_face : first_face + model.mesh_facenum[mesh]]
    return np.asarray(vertices, np.float64)[faces]


def _hfield_count(model: mujoco.MjModel, hfield: int) -> int:
    rows, columns = int(model.hfield_nrow[hfield]), int(model.hfield_ncol[hfield])
    return 2 * (rows - 1) * (columns - 1) + 4 * (rows + columns - 2) + 2


def _hfield(model: mujoco.MjModel, hfield: int) -> np.ndarray:
    """The surface, four walls down to the base, and the base."""
    rows, columns = int(model.hfield_nrow[hfield]), int(model.hfield_ncol[hfield])
    start = model.hfield_adr[hfield]
    x_half, y_half, height, base = model.hfield_size[hfield]
    z = np.reshape(model.hfield_data[start : start + rows * columns], (rows, columns)) * height
    x, y = np.meshgrid(np.linspace(-x_half, x_half, columns), np.linspace(-y_half, y_half, rows))
    top = np.stack([x, y, z], axis=-1)
    floor = top * [1, 1, 0] - [0, 0, base]
    # Round the border counter-clockwise seen from above.
    border = [
        surface[r, c]
        for surface in (top, floor)
        for r, c in (
            (np.zeros(columns, int), np.arange(columns)),
            (np.arange(rows), np.full(rows, columns - 1)),
            (np.full(columns, rows - 1), np.arange(columns)[::-1]),
            (np.arange(rows)[::-1], np.zeros(rows, int)),
        )
    ]
    walls = [
        _strip(np.stack([lower, upper]))
        for upper, lower in zip(border[:4], border[4:], strict=True)
    ]
    corners = floor[[0, 0, -1, -1], [0, -1, -1, 0]]
    bottom = np.stack([corners[[0, 2, 1]], corners[[0, 3, 2]]])
    return np.concatenate([_strip(top), *walls, bottom])


def _strip(grid: np.ndarray) -> np.ndarray:
    """Two triangles [2 (R - 1) (C - 1), 3, 3] per cell of a grid [R, C, 3], as MuJoCo cuts them."""
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    lower, upper = np.stack([a, b, d], axis=2), np.stack([a, d, c], axis=2)
    return np.concatenate([lower.reshape(-1, 3, 3), upper.reshape(-1, 3, 3)])
