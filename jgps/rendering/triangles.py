"""Meshes and height fields as triangles in the geom's frame, counter-clockwise from outside."""

from __future__ import annotations

import mujoco
import numpy as np


def geom_triangles(model: mujoco.MjModel, geom: int, max_triangles: int) -> np.ndarray:
    """Corners [F, 3, 3] of a mesh or height field, metres.

    Raises:
      ValueError: it has more than `max_triangles`.
    """
    data = model.geom_dataid[geom]
    is_mesh = model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH
    count = int(model.mesh_facenum[data]) if is_mesh else _hfield_count(model, data)
    if count > max_triangles:
        remedy = "simplify the mesh" if is_mesh else "give the height field fewer rows and columns"
        raise ValueError(
            f"Geom {geom_name(model, geom)} has {count} triangles; the ray caster draws up to "
            f"{max_triangles} per geom. Raise RenderConfig.max_triangles (time grows with it), "
            f"{remedy}, draw primitives in its place, or hide it in a geom group that is not drawn."
        )
    return _mesh(model, data) if is_mesh else _hfield(model, data)


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
