"""The ray caster against MuJoCo's C ray caster, which needs no OpenGL."""

import mujoco
import numpy as np
import pytest

from jgps import rendering

_SIZE = 48
_KINDS = {
    "sphere": "0.25",
    "ellipsoid": "0.15 0.25 0.4",
    "capsule": "0.12 0.3",
    "cylinder": "0.2 0.3",
    "box": "0.3 0.2 0.15",
    "plane": "0.6 0.4 0.1",
}


def _random_model(kinds, seed, num_geoms=8) -> mujoco.MjModel:
    rng = np.random.default_rng(seed)
    geoms = []
    for i in range(num_geoms):
        kind = kinds[i % len(kinds)]
        position, quaternion = rng.uniform(-0.8, 0.8, 3), rng.normal(size=4)
        geoms.append(
            f'<geom type="{kind}" size="{_KINDS[kind]}" pos="{" ".join(map(str, position))}" '
            f'quat="{" ".join(map(str, quaternion))}"/>'
        )
    return mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{''.join(geoms)}</worldbody></mujoco>"
    )


def _reference(model, data, pose, size):
    """Depth and geom id of every pixel by mj_ray."""
    depth, geom_id = np.full((size, size), np.inf), np.full((size, size), -1)
    tangent = np.tan(np.deg2rad(pose.fovy) / 2)
    hit = np.zeros(1, np.int32)
    for row in range(size):
        for column in range(size):
            x = ((column + 0.5) / size * 2 - 1) * tangent
            y = (1 - (row + 0.5) / size * 2) * tangent
            ray = pose.rotation @ np.array([x, y, -1.0])
            t = mujoco.mj_ray(model, data, pose.position, ray, None, 1, -1, hit)
            if t >= 0:
                depth[row, column], geom_id[row, column] = t, hit[0]
    return depth, geom_id


@pytest.mark.parametrize("kind", [*_KINDS, "all"])
def test_depth_and_segmentation_equal_mj_ray(kind):
    model = _random_model([kind] if kind != "all" else list(_KINDS), seed=1)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    scene = rendering.make_scene(model)
    equal, total = 0, 0
    for azimuth, elevation in ((30, -20), (200, 35)):
        camera = rendering.Camera(distance=3.5, azimuth=azimuth, elevation=elevation)
        pose = rendering.free_pose(camera)
        image = rendering.raycast(
            scene,
            data.geom_xpos.astype(np.float32),
            data.geom_xmat.astype(np.float32),
            pose,
            width=_SIZE,
            height=_SIZE,
        )
        depth, geom_id = _reference(model, data, pose, _SIZE)
        same = np.asarray(image.geom_id) == geom_id
        equal, total = equal + same.sum(), total + same.size
        seen = same & (geom_id >= 0)
        assert seen.sum() > 100
        np.testing.assert_allclose(np.asarray(image.depth)[seen], depth[seen], rtol=1e-3)
        assert np.isinf(np.asarray(image.depth)[same & (geom_id < 0)]).all()
    assert equal / total >= 0.998
