"""Meshes that are drawn coarsely."""

import mujoco
import numpy as np
import pytest

from jgps import rendering
from jgps.rendering.triangles import simplified


def _sphere(rings: int) -> np.ndarray:
    """Triangles of a unit sphere, counter-clockwise from outside."""
    polar = np.linspace(0, np.pi, rings)
    around = np.linspace(0, 2 * np.pi, 2 * rings)
    p, a = np.meshgrid(polar, around, indexing="ij")
    grid = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=-1)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    pairs = np.stack([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)], axis=2)
    return pairs.reshape(-1, 3, 3)


def _volume(corners: np.ndarray) -> float:
    return float(np.sum(np.linalg.det(corners)) / 6)


@pytest.mark.parametrize(("most", "volume"), [(4000, 0.97), (400, 0.9), (50, 0.6), (12, 0.2)])
def test_a_simplified_surface_keeps_its_shape_and_its_outside(most, volume):
    fine = _sphere(50)
    coarse = simplified(fine, most)
    assert most / 6 < len(coarse) <= most < len(fine)
    assert np.abs(coarse).max() <= 1 + 1e-9
    assert volume * _volume(fine) < _volume(coarse) <= 1.1 * _volume(fine) * (1 if most > 12 else 2)


def test_what_no_grid_leaves_is_the_bounding_box():
    needle = np.array([[[0, 0, 0], [1, 0, 0], [1, 1e-9, 1e-9]]])
    box = simplified(np.concatenate([needle] * 20), 12)
    assert box.shape == (12, 3, 3)
    fine = _sphere(40) * [1, 2, 3]
    box = simplified(fine, 3)
    assert len(box) == 3
    assert np.abs(box).max() == pytest.approx(np.abs(fine).max())
    whole = simplified(fine, 12)
    assert np.sum(np.cross(whole[:, 1] - whole[:, 0], whole[:, 2] - whole[:, 0]) * whole[:, 0]) > 0


def _model(rings: int = 40) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    mesh = spec.add_mesh(name="ball")
    corners = _sphere(rings)
    mesh.uservert, mesh.userface = corners.ravel(), np.arange(3 * len(corners))
    field = spec.add_hfield(name="hills", size=[1, 1, 0.2, 0.1], nrow=40, ncol=40)
    field.userdata = np.linspace(0, 1, 1600)
    spec.worldbody.add_geom(name="hills", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="hills")
    body = spec.worldbody.add_body(pos=[0, 0, 2])
    body.add_geom(name="ball", type=mujoco.mjtGeom.mjGEOM_MESH, meshname="ball")
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0, 0])
    return spec.compile()


def test_a_scene_is_simplified_where_that_is_asked_for():
    model = _model()
    counts = rendering.triangle_counts(model)
    assert sorted(counts)[0] == 0 and sorted(counts)[1] > 2000
    with pytest.raises(rendering.NotDrawableError, match=r"draw it coarsely.*simplify"):
        rendering.make_scene(model)
    config = rendering.RenderConfig(simplify=True, max_triangles=300)
    scene = rendering.make_scene(model, config=config)
    owner = np.asarray(scene.opaque.triangles.owner)
    assert all(100 < np.sum(owner == i) <= 300 for i in range(2))
    # It hides nothing but detail: the pictures of both are almost the same.
    camera = rendering.Camera(lookat=(0, 0, 1.5), distance=6, elevation=-20)
    whole = rendering.RenderConfig(max_triangles=10**6)
    shown = [
        rendering.render(model, model.qpos0, camera, width=48, height=32, config=each)
        for each in (config, whole)
    ]
    assert np.mean(np.abs(shown[0].astype(float) - shown[1]) > 20) < 0.05
