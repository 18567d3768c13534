"""Measures images per second of the ray caster, and of MuJoCo's renderers where these work."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps import rendering
from jgps.bench.measure import Row, compiled, row, times
from jgps.mujoco_log import quiet_mujoco

SEED, NUM_GEOMS, FOVY = 0, 20, 60
_SIZES = {
    "sphere": ".05",
    "ellipsoid": ".04 .06 .08",
    "capsule": ".03 .08",
    "cylinder": ".04 .06",
    "box": ".05 .04 .06",
}
# Operations of float32 per ray: about 60 to meet a primitive with one ray, 500 to shade.
_MEET, _SHADE = 60, 500
_PEAK = {"H100": 67e12, "H200": 67e12, "A100": 19.5e12}  # float32 operations/s outside tensor cores


def scene_xml() -> str:
    """Writes MJCF of a floor and 19 primitives, each on a body, under one directional light."""
    rng = np.random.default_rng(SEED)
    kinds = list(_SIZES)
    bodies = []
    for i in range(NUM_GEOMS - 1):
        kind = kinds[i % len(kinds)]
        pos, quat = rng.uniform([-0.4, -0.4, 0.05], [0.4, 0.4, 0.85]), rng.normal(size=4)
        rgb = rng.uniform(size=3)
        values = (" ".join(f"{v:.4f}" for v in array) for array in (pos, quat, rgb))
        bodies.append(
            '<body pos="{}" quat="{}"><freejoint/><geom rgba="{} 1" '.format(*values)
            + f'type="{kind}" size="{_SIZES[kind]}"/></body>'
        )
    return (
        '<mujoco><visual><global offwidth="320" offheight="240"/></visual><worldbody>'
        '<light type="directional" dir="-.3 .2 -1"/><geom type="plane" size="0 0 1"/>'
        f'<camera name="eye" pos="0 -1.2 1" xyaxes="1 0 0 0 .5 1" fovy="{FOVY}"/>'
        f"{''.join(bodies)}</worldbody></mujoco>"
    )


def random_qpos(model: mujoco.MjModel, count: int) -> np.ndarray:
    """Draws joint positions [count, nq] near those that the model starts in."""
    rng, qpos = np.random.default_rng(SEED), np.tile(model.qpos0, (count, 1))
    for each in qpos:
        mujoco.mj_integratePos(model, each, rng.normal(scale=0.05, size=model.nv), 1.0)
    return qpos


def body_poses(model: mujoco.MjModel, count: int) -> tuple[jax.Array, jax.Array]:
    """Computes positions [count, B, 3] and rotations [count, B, 3, 3] of bodies in random poses."""
    data = mujoco.MjData(model)
    xpos, xmat = np.empty((count, model.nbody, 3)), np.empty((count, model.nbody, 9))
    for i, qpos in enumerate(random_qpos(model, count)):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        xpos[i], xmat[i] = data.xpos, data.xmat
    return jnp.asarray(xpos, jnp.float32), jnp.asarray(xmat, jnp.float32).reshape(count, -1, 3, 3)


@quiet_mujoco()
def render() -> list[Row]:
    """Measures images of 64x64, with and without shadows, and of 240x240, by all renderers."""
    model = mujoco.MjModel.from_xml_string(scene_xml())
    cpu = jax.default_backend() == "cpu"
    rows = []
    for width, shadows, count in ((64, 0, 1024), (64, 1, 1024), (240, 0, 64)):
        count = count if cpu else 16 * count
        view = rendering.make_view(
            model,
            "eye",
            width=width,
            height=width,
            config=rendering.RenderConfig(shadows=shadows),
        )
        poses = body_poses(model, count)
        draw, compile_s = compiled(lambda v, x, m: v.draw_rgb(x, m, as_uint8=True), view, *poses)
        seconds = times(
            {
                "ours": lambda d=draw, v=view, p=poses: d(v, *p),
                "to_host": lambda d=draw, v=view, p=poses: np.asarray(d(v, *p)),
            },
            repeats=7,
        )
        what = f"{width}x{width}, {'hard' if shadows else 'no'} shadows"
        name = f"{what}, {NUM_GEOMS} primitives"
        ours = row(name, seconds["ours"], "images/s", count, batch=count, compile_s=compile_s)
        rows.append(ours)
        fraction = _fraction(ours["median"], width, shadows)
        if fraction is not None:
            ours["fraction_of_arithmetic_limit"] = fraction
        peers = _peers(model, what, width, shadows, count)
        # Theirs are images that have come to the host, so what they are compared with has too.
        on_host = row(name, seconds["to_host"], "images/s", count)["median"]
        if peers:
            ours["ratio"] = {peer["name"]: on_host / peer["median"] for peer in peers}
        rows += peers
    return rows


def _peers(model: mujoco.MjModel, what: str, width: int, shadows: int, count: int) -> list[Row]:
    """Returns those of MuJoCo's renderers that work here."""
    rows = []
    opengl = mujoco_seconds(width, shadows)
    if opengl is not None:
        backend, seconds = opengl
        rows.append(row(f"mujoco.Renderer ({backend}), {what}", seconds, "images/s", 1))
    if rendering.warp_available():
        seconds = warp_seconds(model, width, shadows, count)
        rows.append(row(f"MuJoCo Warp, {what}", seconds, "images/s", count))
    return rows


def _fraction(images_per_s: float, width: int, shadows: int) -> float | None:
    device = jax.devices()[0].device_kind
    peak = next((v for name, v in _PEAK.items() if name in device), None)
    operations = width**2 * (NUM_GEOMS * _MEET * (1 + shadows) + _SHADE)
    return None if peak is None else images_per_s * operations / peak


def mujoco_seconds(width: int, shadows: int, images: int = 100):
    """Measures MuJoCo's renderer: OpenGL backend and seconds [images]; None where none works.

    In processes of their own: a backend is chosen at import, and some hang.
    """
    own = os.environ.get("MUJOCO_GL")
    code = "from jgps.bench.render import mujoco_process as m; m({}, {}, {})"
    for backend in (own,) if own else ("egl", "osmesa"):
        try:
            done = subprocess.run(
                [sys.executable, "-c", code.format(width, shadows, images)],
                env={**os.environ, "MUJOCO_GL": backend, "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                timeout=120,
            )
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0:
            return backend, np.array(done.stdout.splitlines()[-1].split(), np.float64)
    return None


def warp_seconds(model: mujoco.MjModel, width: int, shadows: int, count: int) -> np.ndarray:
    """Measures the seconds [7] until `count` images by MuJoCo Warp are on the host.

    Of them its kinematics and what it builds to find geoms quickly are a part, as are ours.
    """
    draw = rendering.warp_renderer(
        model, "eye", count, width=width, height=width, shadows=bool(shadows)
    )
    qpos = random_qpos(model, count)
    return times({"theirs": lambda: draw(qpos)}, repeats=7)["theirs"]


@quiet_mujoco()
def mujoco_process(width: int, shadows: int, images: int) -> None:
    """Prints the seconds of every image; `mujoco_seconds` starts processes that call this."""
    import time

    model = mujoco.MjModel.from_xml_string(scene_xml())
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    seconds = []
    with mujoco.Renderer(model, width, width) as renderer:
        for _ in range(images + 3):
            start = time.perf_counter()
            renderer.update_scene(data, "eye")
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            renderer.render()
            seconds.append(time.perf_counter() - start)
    print(*seconds[3:])
