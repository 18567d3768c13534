"""Images from body poses, and looks that differ between them."""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jgps import rendering

_XML = """
<mujoco>
  <asset>
    <mesh name="m" vertex="0 0 0 .3 0 0 0 .3 0 0 0 .3"/>
    <hfield name="h" nrow="4" ncol="4" size=".4 .4 .2 .05"
      elevation="0 1 0 1  1 0 1 0  0 1 0 1  1 0 1 0"/>
  </asset>
  <worldbody>
    <light pos="1 -1 3" dir="-.3 .3 -1" cutoff="60" exponent="1"/>
    <light directional="true" dir="0 .5 -1"/>
    <camera name="side" pos="0 -2.5 .8" xyaxes="1 0 0 0 .2 1" fovy="50"/>
    <geom type="plane" size="2 2 .1"/>
    <geom type="hfield" hfield="h" pos=".7 .4 .1"/>
    <body name="ball" pos="-.4 0 .4"><freejoint/>
      <geom type="sphere" size=".2" rgba="1 .2 .1 1" pos=".05 0 0" mass="1"/></body>
    <body name="arm" pos=".2 0 .5"><freejoint/>
      <camera name="hand" pos="0 -1 .3" xyaxes="1 0 0 0 .3 1"/>
      <camera name="along" mode="track" pos="0 -1 .3" xyaxes="1 0 0 0 .3 1"/>
      <camera name="aim" mode="targetbody" target="ball"/>
      <light name="lamp" pos="0 -.5 .5" dir="0 .5 -.5"/>
      <geom type="mesh" mesh="m" pos=".1 0 0" euler="0 0 30" rgba=".2 .8 .3 1" mass="1"/>
      <geom type="box" size=".1 .1 .2" pos="-.2 0 0" euler="20 10 0" rgba=".2 .3 1 .5" mass="1"/>
    </body>
  </worldbody>
</mujoco>
"""
_CONFIG = rendering.RenderConfig(shadows=1)
_SIZE: dict[str, Any] = {"width": 24, "height": 20}
_BALL = 2  # geom id
randomise = jax.jit(rendering.randomise, static_argnums=2)


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_string(_XML)


def _poses(model, count, seed=0):
    """Different body poses [M, B, ...] and the data of each."""
    rng = np.random.default_rng(seed)
    datas = []
    for _ in range(count):
        data = mujoco.MjData(model)
        mujoco.mj_integratePos(model, data.qpos, rng.normal(scale=0.15, size=model.nv), 1.0)
        mujoco.mj_forward(model, data)
        datas.append(data)
    xpos = np.stack([np.float32(d.xpos) for d in datas])
    xmat = np.stack([np.float32(d.xmat) for d in datas]).reshape(count, -1, 3, 3)
    return xpos, xmat, datas


@pytest.fixture(scope="module")
def view(model):
    return rendering.make_view(model, "hand", **_SIZE, config=_CONFIG)


@pytest.fixture(scope="module")
def batch(model, view):
    xpos, xmat, datas = _poses(model, 5)
    return xpos, xmat, datas, view.draw(xpos, xmat)


@pytest.mark.parametrize("camera", ["side", "hand", "along"])
def test_view_sees_what_mujocos_kinematics_say(model, camera):
    xpos, xmat, datas = _poses(model, 5, seed=1)  # as many as in `batch`, for the same program
    image = rendering.make_view(model, camera, **_SIZE, config=_CONFIG).draw(xpos, xmat)
    scene, index = rendering.make_scene(model), model.camera(camera).id
    look = rendering.appearance_of(model)
    for i, data in enumerate(datas[:2]):
        pose = rendering.CameraPose(
            data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3), model.cam_fovy[index]
        )
        lights = look._replace(
            light_position=np.array(data.light_xpos), light_direction=np.array(data.light_xdir)
        )
        expected = rendering.raycast(
            scene,
            np.float32(data.geom_xpos),
            np.float32(data.geom_xmat),
            pose,
            lights,
            **_SIZE,
            config=_CONFIG,
        )
        same = np.asarray(image.geom_id[i]) == expected.geom_id
        assert same.mean() > 0.995
        assert len(np.unique(expected.geom_id)) >= 4
        np.testing.assert_allclose(
            np.asarray(image.depth[i])[same], np.asarray(expected.depth)[same], rtol=1e-3
        )
        error = np.abs(np.asarray(image.rgb[i]) - expected.rgb).max(-1)
        assert (error < 0.02).mean() > 0.99  # pixels on the edge of a shadow may change sides


def test_batch_equals_loop_chunks_equal_whole_and_pytree_equals_constant(model, view, batch):
    xpos, xmat, _, whole = batch
    small = rendering.RenderConfig(shadows=1, block=2 * 24 * 20)  # groups of two, one repeated
    chunked = rendering.make_view(model, "hand", **_SIZE, config=small).draw(xpos, xmat)
    passed = jax.jit(lambda v, p, m: v.draw(p, m))(view, xpos, xmat)
    for i in range(5):
        single = view.draw(xpos[i], xmat[i])
        for other in (whole, chunked, passed):
            np.testing.assert_array_equal(other.geom_id[i], single.geom_id)
            # Pixels on the edge of a shadow may change sides by rounding.
            assert (np.abs(other.rgb[i] - single.rgb).max(-1) < 1e-3).mean() > 0.99
    assert len({np.asarray(whole.geom_id[i]).tobytes() for i in range(5)}) == 5


def test_bytes_are_rounded_colours(view, batch):
    xpos, xmat, _, image = batch
    rgb = view.draw_rgb(xpos, xmat, as_uint8=True)
    assert rgb.dtype == jnp.uint8
    assert (np.abs(np.asarray(rgb) / 255.0 - image.rgb) < 0.51 / 255 + 1e-3).mean() > 0.995


def test_gradients_with_respect_to_poses_are_finite(view, batch):
    sees_ball = (np.asarray(batch[3].geom_id) == _BALL).any((1, 2))
    chosen = np.flatnonzero(sees_ball)[:2]
    xpos, xmat = batch[0][chosen], batch[1][chosen]

    def total(xpos, xmat):
        image = view.draw(xpos, xmat)
        return image.rgb.mean() + jnp.where(jnp.isinf(image.depth), 0, image.depth).mean()

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(xpos, xmat):
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).max((2,) if gradient.ndim == 3 else (2, 3)) > 1e-6).any(0).all()


def test_an_appearance_changes_only_what_it_says(model, view, batch):
    xpos, xmat, _, image = batch
    own, ball = rendering.appearance_of(model), np.asarray(image.geom_id) == _BALL
    assert ball.sum() > 20

    def change(**fields):
        return view.draw(xpos, xmat, own._replace(**fields))

    green = change(rgba=own.rgba.at[_BALL, :3].set(jnp.array([0, 1.0, 0])))
    np.testing.assert_array_equal(green.depth, image.depth)
    changed = np.abs(np.asarray(green.rgb) - image.rgb).max(-1) > 1e-3
    behind_glass = np.asarray(image.geom_id) == 4
    assert changed[ball].mean() > 0.95
    assert not changed[~ball & ~behind_glass].any()

    lit = change(light_position=own.light_position + 1, light_rgb=0.5 * own.light_rgb)
    np.testing.assert_array_equal(lit.depth, image.depth)
    np.testing.assert_array_equal(lit.geom_id, image.geom_id)
    assert (np.asarray(lit.rgb) != image.rgb).mean() > 0.3

    sky = change(zenith=jnp.ones(3), horizon=jnp.zeros(3))
    far = np.asarray(image.geom_id) < 0
    solid = ~far & ~behind_glass
    np.testing.assert_allclose(sky.rgb[solid], image.rgb[solid], atol=1e-5)

    # One field of looks per image, the others shared.
    several = jnp.tile(own.rgba, (5, 1, 1)).at[0, _BALL, :3].set(jnp.array([0, 1.0, 0]))
    mixed = change(rgba=several)
    np.testing.assert_allclose(mixed.rgb[0], green.rgb[0], atol=1e-5)
    np.testing.assert_allclose(mixed.rgb[1:], image.rgb[1:], atol=1e-5)


def test_camera_offsets_move_the_camera_in_its_own_frame(model):
    view = rendering.make_view(model, "side", **_SIZE, config=_CONFIG)
    xpos, xmat, _ = _poses(model, 5)
    own = rendering.appearance_of(model)
    back = own._replace(camera_offset=jnp.array([0, 0, 0.5]))
    nearer, farther = (view.draw(xpos, xmat, look).depth for look in (own, back))
    centre = slice(9, 11), slice(2, 4)
    assert np.asarray(farther)[0][centre].min() > np.asarray(nearer)[0][centre].min()
    # A turn about the view direction by half a turn puts the image upside down.
    turned = own._replace(camera_turn=jnp.array([0, 0, jnp.pi]))
    image, upside = (view.draw(xpos, xmat, look).geom_id[0] for look in (own, turned))
    assert (np.asarray(upside)[::-1, ::-1] == image).mean() > 0.98
    wide = view.draw(xpos, xmat, own._replace(camera_fovy=jnp.float32(20))).geom_id[0]
    assert (np.asarray(wide) == _BALL).sum() < (np.asarray(image) == _BALL).sum()


def test_random_looks_differ_by_key_and_stay_in_range(model, view, batch):
    xpos, xmat, _, image = batch
    own, keys = rendering.appearance_of(model), jax.random.split(jax.random.key(0), 5)
    looks = randomise(keys, own)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == (5, *b.shape), looks, own))
    one = randomise(keys[3], own)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, atol=1e-6), looks, one)
    for field in ("rgba", "rgb2", "zenith", "horizon"):
        value = np.asarray(getattr(looks, field))
        assert 0 <= value.min() and value.max() <= 1
    drawn = view.draw(xpos, xmat, looks)
    assert np.isfinite(drawn.rgb).all()
    assert (np.abs(drawn.rgb - image.rgb).max(-1) > 0.02).mean() > 0.3
    still = rendering.RandomiseConfig(
        colour=0, texture=0, light_turn=0, light_shift=0, light_range=(1, 1), sky=0,
        camera_shift=0, camera_turn=0, camera_fovy=0,
    )  # fmt: skip
    same = randomise(keys[0], own, still)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), same, own)


def test_random_textures_show_on_a_floor():
    floor = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><geom type="plane" size="3 3 1" rgba="1 0 0 1"/></worldbody></mujoco>'
    )
    top = rendering.Camera(distance=2, elevation=-90, azimuth=90)
    view = rendering.make_view(floor, top, width=40, height=40, config=_CONFIG)
    textured = rendering.RandomiseConfig(
        colour=0, texture=1, cell=(0.1, 0.3), light_turn=0, light_shift=0, light_range=(1, 1),
        sky=0, camera_shift=0, camera_turn=0, camera_fovy=0,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 30)
    looks = randomise(keys, rendering.appearance_of(floor), textured)
    # Colours that are seen against red, whichever the texture's second one is.
    looks = looks._replace(rgb2=jnp.zeros_like(looks.rgb2))
    poses = np.zeros((30, 1, 3), np.float32), np.tile(np.eye(3, dtype=np.float32), (30, 1, 1, 1))
    red = np.asarray(view.draw_rgb(*poses, looks))[..., 0]
    assert (np.ptp(red, axis=(1, 2)) > 0.3).all()


def test_a_lamp_behind_a_box_leaves_its_shadow_on_the_floor():
    scene = mujoco.MjModel.from_xml_string("""
<mujoco><asset><mesh name="m" vertex="-.3 -.3 0 .3 -.3 0 .3 .3 0 -.3 .3 0 0 0 .1"/></asset>
<worldbody><light type="point" pos="0 0 2"/><geom type="plane" size="3 3 1"/>
<geom type="mesh" mesh="m" pos="0 0 1"/></worldbody></mujoco>""")
    top = rendering.Camera(distance=0.8, elevation=-90, azimuth=90, fovy=120)
    images = [
        rendering.make_view(
            scene, top, width=41, height=41, config=rendering.RenderConfig(shadows=s, gloss=0)
        ).draw_rgb(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None])
        for s in (0, 1)
    ]
    dark = np.abs(np.asarray(images[0]) - images[1]).max(-1) > 0.05
    # The lamp is twice as high as the square: its shadow is 1.2 m wide, 41 pixels show 2.77 m.
    width = 1.2 / (2 * 0.8 * np.tan(np.deg2rad(60))) * 41
    assert abs(dark[20].sum() - width) <= 1.5
    assert abs(dark.sum() / width**2 - 1) < 0.15


def test_a_mesh_of_a_box_is_lit_as_the_box():
    corners = " ".join(f"{x} {y} {z}" for x in (-1, 1) for y in (-1, 1) for z in (-1, 1))

    def draw(geom):
        model = mujoco.MjModel.from_xml_string(f"""
<mujoco><asset><mesh name="m" vertex="{corners}"/></asset><worldbody>
<light type="directional" dir=".5 .3 -1"/><light type="point" pos="2 -3 1"/>
<geom {geom} euler="20 30 40"/></worldbody></mujoco>""")
        view = rendering.make_view(
            model, rendering.Camera(distance=6), width=32, height=32, config=_CONFIG
        )
        poses = np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None]
        return jax.tree.map(np.asarray, view.draw(*poses))

    box, mesh = draw('type="box" size="1 1 1"'), draw('type="mesh" mesh="m"')
    np.testing.assert_array_equal(mesh.geom_id, box.geom_id)
    seen = box.geom_id == 0
    np.testing.assert_allclose(mesh.depth[seen], box.depth[seen], rtol=1e-5)
    # Only a box's edges are rounded.
    same = np.abs(mesh.rgb - box.rgb).max(-1) < 5e-3
    assert same[seen].mean() > 0.8
    assert len(np.unique(np.round(mesh.rgb[seen & same], 2), axis=0)) >= 3


@pytest.mark.parametrize("rgba", ["1 1 1 1", "1 1 1 .5"])
def test_cube_gradient_runs_from_top_to_bottom(rgba):
    model = mujoco.MjModel.from_xml_string(f"""
<mujoco><asset><texture name="t" type="cube" builtin="gradient" rgb1="1 0 0" rgb2="0 0 1"
width="32" height="32"/><material name="m" texture="t" rgba="{rgba}"/></asset>
<worldbody><geom type="box" size=".5 .5 .5" material="m"/></worldbody></mujoco>""")
    camera = rendering.Camera(distance=3, azimuth=90, elevation=0, fovy=30)
    view = rendering.make_view(model, camera, width=9, height=17)
    rgb = view.draw_rgb(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None])
    column = np.asarray(rgb)[3:14, 4]
    red = column[:, 0] - column[:, 2]
    assert (np.diff(red) < 0).all()


def test_bad_input_is_named(model, view):
    with pytest.raises(ValueError, match=r"no camera 'nose'; its cameras: 'side', 'hand'"):
        rendering.make_view(model, "nose")
    with pytest.raises(ValueError, match=r"'aim' follows .* aims at a body"):
        rendering.make_view(model, "aim")
    with pytest.raises(ValueError, match="Image size 0 x 4: both must be at least 1 pixel"):
        rendering.make_view(model, "side", width=0, height=4)
    few = rendering.RenderConfig(max_triangles=10)
    with pytest.raises(ValueError, match=r"has 44 triangles.*up to 10.*fewer rows"):
        rendering.make_view(model, "side", config=few)
    with pytest.raises(ValueError, match=r"body_xpos has shape \(2, 3\); expected \[..., 3, 3\]"):
        view.draw(np.zeros((2, 3)), np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="body_xmat has shape"):
        view.draw(np.zeros((3, 3)), np.zeros((3, 3)))
    look = rendering.appearance_of(model)
    with pytest.raises(ValueError, match=r"appearance.rgba has shape \(1, 4\)"):
        view.draw(
            np.zeros((3, 3), np.float32),
            np.zeros((3, 3, 3), np.float32),
            look._replace(rgba=jnp.zeros((1, 4))),
        )
    with pytest.raises(ValueError, match=r"RandomiseConfig.texture is 2; .*\[0, 1\]"):
        rendering.RandomiseConfig(texture=2)
    with pytest.raises(ValueError, match=r"RandomiseConfig.cell is \(2.0, 1.0\)"):
        rendering.RandomiseConfig(cell=(2, 1))


def test_signed_distance_fields_are_refused():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><geom name="g" size="1"/></worldbody></mujoco>'
    )
    model.geom_type[0] = int(mujoco.mjtGeom.mjGEOM_SDF)
    with pytest.raises(ValueError, match=r"'g' .* of type sdf, which the ray caster cannot draw"):
        rendering.make_scene(model)


def test_height_fields_are_cut_along_mujocos_diagonal():
    """Opposite corners up: the middle of a cell is as high as the diagonal that it is cut along."""
    model = mujoco.MjModel.from_xml_string("""
    <mujoco>
      <asset><hfield name="saddle" nrow="2" ncol="2" size="1 1 1 0.1" elevation="0 1 1 0"/></asset>
      <worldbody>
        <camera name="above" pos="0.05 0 4" fovy="30"/>
        <geom type="hfield" hfield="saddle"/>
      </worldbody>
    </mujoco>""")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    view = rendering.make_view(model, "above", width=9, height=9)
    depth = np.asarray(view.draw(data.xpos[None], data.xmat[None]).depth[0])
    geom = np.zeros(1, np.int32)
    eye, tangent = data.cam_xpos[0], np.tan(np.deg2rad(15))
    for row, column in np.ndindex(9, 9):
        ray = np.array([(2 * column - 8) / 9 * tangent, (8 - 2 * row) / 9 * tangent, -1])
        expected = mujoco.mj_ray(model, data, eye, ray, None, 1, -1, geom)  # in units of the ray
        assert depth[row, column] == pytest.approx(expected, abs=1e-4), (row, column)


def test_looks_and_poses_have_the_same_axes():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom type='sphere' size='0.1'/></worldbody></mujoco>"
    )
    view = rendering.make_view(model, width=8, height=8)
    looks = randomise(jax.random.split(jax.random.key(0), 5), view.appearance)
    with pytest.raises(ValueError, match=r"leading axes \(5,\) and the poses \(\); repeat"):
        view.draw(np.zeros((1, 3)), np.eye(3)[None], looks)


def test_a_view_of_nothing_is_sky():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom type='sphere' size='0.1' group='3'/></worldbody></mujoco>"
    )
    image = rendering.make_view(model, width=8, height=8).draw(np.zeros((1, 3)), np.eye(3)[None])
    assert (image.geom_id == -1).all() and np.isfinite(image.rgb).all()


def test_what_cannot_be_drawn_is_named():
    camera = "<camera name='eye' pos='0 0 1' resolution='1 1' {}/>"
    scene = "<mujoco><worldbody>{}<geom type='sphere' size='0.1'/></worldbody></mujoco>"
    for lens, wrong in (
        ("focal='3 2' sensorsize='1.5 1.5'", "other focal lengths across"),
        ("focal='2 2' sensorsize='3 1.5'", "sensor of 3 by 1.5, and images are 8 by 8"),
    ):
        model = mujoco.MjModel.from_xml_string(scene.format(camera.format(lens)))
        with pytest.raises(ValueError, match=wrong):
            rendering.make_view(model, "eye", width=8, height=8)
    flex = "<flexcomp name='cloth' type='grid' count='3 3 1' spacing='.1 .1 .1' dim='2'/>"
    model = mujoco.MjModel.from_xml_string(scene.format(f"<body name='b'>{flex}</body>"))
    with pytest.raises(ValueError, match="has a flex, which the ray caster does not draw"):
        rendering.make_view(model, width=8, height=8)
