"""The ray caster against MuJoCo's own renderer, whose images are stored beside this file."""

import mujoco
import numpy as np
import pytest
import reference_scenes as reference

from jgps import rendering


@pytest.fixture(scope="module")
def drawn():
    """Geom ids and depths [50, H, W] by us, and those by MuJoCo."""
    stored = np.load(reference.PATH)
    geom_id, depth = [], []
    for seed in range(reference.NUM_SCENES):
        model = reference.make_model(seed)
        data = reference.make_data(model, seed)
        image = rendering.raycast(
            rendering.make_scene(model),
            np.float32(data.geom_xpos),
            np.float32(data.geom_xmat),
            rendering.CameraPose(
                np.asarray(data.cam_xpos[0], np.float32),
                np.asarray(data.cam_xmat[0], np.float32).reshape(3, 3),
                np.asarray(model.cam_fovy[0], np.float32),
            ),
            width=reference.WIDTH,
            height=reference.HEIGHT,
        )
        geom_id.append(image.geom_id)
        depth.append(image.depth)
    types = reference.make_model(0).geom_type
    return np.array(geom_id), np.array(depth), stored["geom_id"], stored["depth"], types


def test_segmentation_agrees_on_all_pixels_of_all_scenes(drawn):
    ours, _, theirs, _, types = drawn
    agreement = (ours == theirs).mean(axis=(1, 2))
    assert agreement.mean() >= 0.995
    assert agreement.min() >= 0.98
    # Every type is seen often, and no type hides its errors behind the others.
    for kind in np.unique(types):
        mask = np.isin(theirs, np.flatnonzero(types == kind))
        assert mask.sum() > 1500, mujoco.mjtGeom(kind).name
        assert (ours == theirs)[mask].mean() >= 0.98, mujoco.mjtGeom(kind).name


def test_depth_agrees_wherever_both_see_the_same_geom(drawn):
    ours, depth, theirs, their_depth, types = drawn
    same = (ours == theirs) & (theirs >= 0)
    error = np.abs(depth - their_depth)[same] / their_depth[same]
    assert (error <= 0.01).mean() >= 0.995  # MuJoCo's curved surfaces have facets
    for kind in np.unique(types):
        mask = np.isin(theirs[same], np.flatnonzero(types == kind))
        assert (error[mask] <= 0.01).mean() >= 0.98, mujoco.mjtGeom(kind).name
    assert np.median(error) < 1e-3
