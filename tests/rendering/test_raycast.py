"""The ray caster against MuJoCo's C ray caster, which needs no OpenGL."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import rendering
from jgps.rendering import intersect

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


def _poses(model):
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    xpos, xmat = np.float32(data.geom_xpos), np.float32(data.geom_xmat).reshape(-1, 3, 3)
    return xpos, xmat


def _model(geoms: str, assets: str = "") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        f"<mujoco><asset>{assets}</asset><worldbody>{geoms}</worldbody></mujoco>"
    )


_TOP = rendering.free_pose(rendering.Camera(distance=3, azimuth=90, elevation=-90))
_LAMP = '<light type="directional" dir="0 0 -1"/>'
_FLOOR = '<geom type="plane" size="0 0 1" rgba=".5 .5 .5 1"/>'


def test_lambert_shading_follows_the_angle_to_the_sun():
    model = _model('<light type="directional" dir="0 0 -1"/><geom type="sphere" size="1"/>')
    config = rendering.RenderConfig(ambient=0, headlight=0, gloss=0, sun=1)
    image = rendering.raycast(
        rendering.make_scene(model), *_poses(model), _TOP, width=33, height=33, config=config
    )
    row = np.asarray(image.rgb)[16, :, 0]
    depth, inside = np.asarray(image.depth)[16], np.asarray(image.geom_id)[16] == 0
    # On a unit sphere the height above the centre is the cosine of the angle to the vertical.
    np.testing.assert_allclose(row[inside], 0.5 * (3 - depth[inside]), atol=2e-3)
    assert inside.sum() > 10


def test_shadows_darken_the_floor_only_under_the_box():
    model = _model(_LAMP + _FLOOR + '<geom type="box" size=".3 .3 .1" pos="0 0 .8"/>')
    camera = rendering.free_pose(rendering.Camera(distance=4, elevation=-20))
    scene, poses = rendering.make_scene(model), _poses(model)
    images = [
        rendering.raycast(
            scene,
            *poses,
            camera,
            width=64,
            height=64,
            config=rendering.RenderConfig(shadows=shadows),
        )
        for shadows in (0, 1, 4)
    ]
    lit, hard, soft = (np.asarray(image.rgb) for image in images)
    floor = np.asarray(images[0].geom_id) == 0
    darker = (lit - hard).max(-1) > 0.1
    assert 20 < darker.sum() < 0.2 * floor.sum()
    assert floor[darker].mean() > 0.99  # the box does not shade itself from above
    assert (soft <= lit + 1e-5).all()
    assert len(np.unique(np.round((lit - soft)[floor].max(-1), 2))) > 2  # a penumbra


def test_checker_texture_alternates_and_fades_far_away():
    model = _model(
        '<geom type="plane" size="0 0 1" material="m"/>',
        '<texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" width="64" '
        'height="64"/><material name="m" texture="t" texrepeat="1 1" texuniform="true"/>',
    )
    scene, config = rendering.make_scene(model), rendering.RenderConfig(gloss=0)
    rgb = rendering.raycast(scene, *_poses(model), _TOP, width=64, height=64, config=config).rgb
    # Seen from above, x to the right and y up: cells of one metre meet in the image's middle.
    red = np.asarray(rgb)[..., 0] > np.asarray(rgb)[..., 2]
    assert red[24, 24] == red[40, 40] != red[24, 40] == red[40, 24]
    # A finer checker than the pixels is grey, not noise.
    plane = scene.opaque.plane._replace(haze=jnp.zeros(1))
    clear = scene._replace(opaque=scene.opaque._replace(plane=plane))
    tiny = scene.appearance._replace(cell=jnp.full((1, 3), 1e-3))
    image = rendering.raycast(clear, *_poses(model), _TOP, tiny, width=64, height=64, config=config)
    rgb = image.rgb
    np.testing.assert_allclose(rgb[..., 0], rgb[..., 2], atol=0.05)


def test_translucent_geom_blends_over_what_is_behind():
    def middle(alpha):
        model = _model(
            _FLOOR + f'<geom type="box" size=".5 .5 .1" pos="0 0 .5" rgba="1 0 0 {alpha}"/>'
        )
        image = rendering.raycast(
            rendering.make_scene(model), *_poses(model), _TOP, width=9, height=9
        )
        return np.asarray(image.rgb)[4, 4], int(image.geom_id[4, 4])

    opaque, half, none = middle(1), middle(0.5), middle(0)
    np.testing.assert_allclose(half[0], 0.5 * (opaque[0] + none[0]), atol=1e-5)
    assert (opaque[1], half[1], none[1]) == (1, 1, 0)  # alpha zero is not drawn


def test_batch_equals_loop_and_parts_equal_whole():
    model = _random_model(["sphere", "box", "plane"], seed=3)
    scene, (xpos, xmat) = rendering.make_scene(model), _poses(model)
    shifts = np.random.default_rng(0).normal(scale=0.1, size=(5, 1, 3)).astype(np.float32)
    xpos, xmat = xpos + shifts, np.broadcast_to(xmat, (5, *xmat.shape))
    camera = rendering.free_pose(rendering.Camera(distance=3))
    whole = rendering.raycast(scene, xpos, xmat, camera, width=20, height=16)
    config = rendering.RenderConfig(block=150)  # three parts of each image, padded
    parts = rendering.raycast(scene, xpos, xmat, camera, width=20, height=16, config=config)
    for i in range(5):
        single = rendering.raycast(scene, xpos[i], xmat[i], camera, width=20, height=16)
        for batched in (whole, parts):
            np.testing.assert_array_equal(batched.geom_id[i], single.geom_id)
            np.testing.assert_allclose(batched.rgb[i], single.rgb, atol=1e-4)
    assert len({np.asarray(whole.geom_id[i]).tobytes() for i in range(5)}) == 5


@pytest.mark.parametrize("kind", list(intersect.ENTER))
def test_gradients_of_hits_are_finite_even_on_degenerate_rays(kind):
    rng = np.random.default_rng(5)
    origin = rng.normal(size=(200, 3))
    direction = -origin + rng.normal(scale=0.3, size=(200, 3))
    direction[:40] = np.eye(3)[rng.integers(3, size=40)]  # along an axis, often on an edge
    origin[20:60, 1] = 0.5
    size = jnp.full(3, 0.5)

    def total(o, d):
        t = intersect.ENTER[kind](list(o.T), list(d.T), list(size))
        return jnp.sum(jnp.where(jnp.isinf(t), 0, t))

    gradients_of = jax.jit(jax.grad(total, argnums=(0, 1)))
    for gradient in gradients_of(jnp.asarray(origin), jnp.asarray(direction)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0.1


def test_gradient_of_an_image_is_finite_and_not_zero():
    model = _random_model(["sphere", "box"], seed=4)
    scene, (xpos, xmat) = rendering.make_scene(model), _poses(model)
    camera = rendering.free_pose(rendering.Camera(distance=3))

    @jax.jit
    def brightness(xpos):
        return rendering.raycast_rgb(scene, xpos, xmat, camera, width=16, height=16).mean()

    gradient = jax.grad(brightness)(jnp.asarray(xpos))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-5


def test_supersampling_smooths_edges_only():
    model = _model('<geom type="box" size=".5 .5 .5" euler="0 0 20"/>')
    arguments = rendering.make_scene(model), *_poses(model), _TOP
    plain = rendering.raycast(*arguments, width=32, height=32)
    fine = rendering.raycast(
        *arguments, width=32, height=32, config=rendering.RenderConfig(supersample=3)
    )
    np.testing.assert_array_equal(plain.geom_id, fine.geom_id)
    changed = np.abs(np.asarray(plain.rgb - fine.rgb)).max(-1) > 0.02
    assert 10 < changed.sum() < 200
    inner = np.zeros_like(changed)
    inner[14:18, 14:18] = True
    assert not changed[inner].any()


def test_bad_input_is_named():
    mesh = _model(
        '<geom name="bunny" type="mesh" mesh="m"/>',
        '<mesh name="m" vertex="0 0 0 1 0 0 0 1 0 0 0 1"/>',
    )
    with pytest.raises(
        ValueError, match=r"'bunny'.*has 4 triangles.*up to 3.*max_triangles.*simplify"
    ):
        rendering.make_scene(mesh, config=rendering.RenderConfig(max_triangles=3))
    assert rendering.make_scene(mesh, geom_groups=(1,)).opaque.num_geoms == 0
    with pytest.raises(ValueError, match="geom_groups"):
        rendering.make_scene(mesh, geom_groups=(7,))
    with pytest.raises(ValueError, match=r"RenderConfig.supersample is 0"):
        rendering.RenderConfig(supersample=0)
    with pytest.raises(ValueError, match=r"Camera.distance is -1"):
        rendering.Camera(distance=-1)
    scene = rendering.make_scene(mesh, geom_groups=(1,))
    with pytest.raises(ValueError, match="geom_xmat has shape"):
        rendering.raycast(scene, np.zeros((1, 3)), np.zeros((1, 4)), _TOP, width=4, height=4)
