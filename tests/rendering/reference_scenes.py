"""Random scenes of every geom type for the comparison with MuJoCo's own renderer.

`python tests/rendering/reference_scenes.py` draws them by MuJoCo, which needs OpenGL (for example
libosmesa6 and MUJOCO_GL=osmesa), and stores what it saw in reference.npz beside this file.
"""

from pathlib import Path

import mujoco
import numpy as np

NUM_SCENES, WIDTH, HEIGHT = 50, 64, 48
PATH = Path(__file__).with_name("reference.npz")
_SIZES = {"sphere": 1, "ellipsoid": 3, "capsule": 2, "cylinder": 2, "box": 3}


def _numbers(values) -> str:
    return " ".join(f"{v:.5f}" for v in np.ravel(values))


def make_model(seed: int) -> mujoco.MjModel:
    """Two geoms of each of seven types over a floor, seen by a camera on a moving body."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(14, 3))
    # On an ellipsoid, so that all are corners of the hull and all scenes have as many triangles.
    points *= rng.uniform(0.1, 0.2, 3) / np.linalg.norm(points, axis=1, keepdims=True)
    heights = rng.uniform(size=(6, 7))
    bodies = []
    for i in range(14):
        kind = [*_SIZES, "mesh", "hfield"][i % 7]
        shape = f'mesh="m" type="{kind}"'
        if kind == "hfield":
            shape = f'hfield="h" type="{kind}"'
        elif kind != "mesh":
            shape = f'type="{kind}" size="{_numbers(rng.uniform(0.06, 0.2, _SIZES[kind]))}"'
        place, turn = rng.uniform([-0.8, -0.8, 0.1], [0.8, 0.8, 1.0]), rng.normal(size=4)
        local, local_turn = rng.normal(scale=0.05, size=3), rng.normal(size=4)
        bodies.append(
            f'<body pos="{_numbers(place)}" quat="{_numbers(turn)}"><freejoint/>'
            f'<geom {shape} pos="{_numbers(local)}" quat="{_numbers(local_turn)}" mass="1"/></body>'
        )
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0)
    back = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    eye = 2.2 * back + [0, 0, 0.4]
    axes = _numbers([right, np.cross(back, right)])
    return mujoco.MjModel.from_xml_string(f"""
<mujoco>
  <visual><quality offsamples="0" numslices="96" numstacks="64"/><map znear="0.01" zfar="50"/>
    <global offwidth="{WIDTH}" offheight="{HEIGHT}"/></visual>
  <asset><mesh name="m" vertex="{_numbers(points)}"/>
    <hfield name="h" nrow="6" ncol="7" size=".2 .15 .1 .05"
      elevation="{_numbers(heights)}"/></asset>
  <worldbody>
    <geom type="plane" size="1.5 1.2 .1"/>
    <body pos="{_numbers(eye)}"><joint type="ball"/>
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      <camera name="eye" xyaxes="{axes}" fovy="{rng.uniform(35, 65):.3f}"/></body>
    {"".join(bodies)}
  </worldbody>
</mujoco>""")


def make_data(model: mujoco.MjModel, seed: int) -> mujoco.MjData:
    """A pose away from the model's own: everything shifted a little, the camera turned."""
    rng = np.random.default_rng(1000 + seed)
    data = mujoco.MjData(model)
    mujoco.mj_integratePos(model, data.qpos, rng.normal(scale=0.08, size=model.nv), 1.0)
    mujoco.mj_forward(model, data)
    return data


def _main():
    geom_id = np.full((NUM_SCENES, HEIGHT, WIDTH), -1, np.int8)
    depth = np.zeros((NUM_SCENES, HEIGHT, WIDTH), np.float16)
    for seed in range(NUM_SCENES):
        model = make_model(seed)
        data = make_data(model, seed)
        with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
            renderer.enable_segmentation_rendering()
            renderer.update_scene(data, "eye")
            seen = renderer.render()
            is_geom = seen[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
            geom_id[seed] = np.where(is_geom, seen[..., 0], -1)
            renderer.disable_segmentation_rendering()
            renderer.enable_depth_rendering()
            renderer.update_scene(data, "eye")
            depth[seed] = np.where(is_geom, renderer.render(), 0)
    np.savez_compressed(PATH, geom_id=geom_id, depth=depth)
    print(PATH, PATH.stat().st_size, np.unique(geom_id, return_counts=True))


if __name__ == "__main__":
    _main()
