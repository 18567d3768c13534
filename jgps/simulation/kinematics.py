"""Where a site is, as a JAX function of joint positions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)


def site_position(model: mujoco.MjModel, site: str) -> Callable[[jax.Array], jax.Array]:
    """A function of joint positions [nq] that returns the site's position [3], metres, world frame.

    Its derivative is the site's Jacobian. A cost of it pulls on the joints alone, where one of the
    entry `"site_pos:..."` pulls on the site's own entries of the state:

        tip = site_position(model, "tip")
        cost = lambda s: lambda x, u, t: jnp.sum((tip(x[s["qpos"]]) - goal) ** 2)

    That is for models without free and ball joints, whose rotations the state writes otherwise.

    Args:
      model: the compiled model, with its bodies where they are in all conditions.
      site: a site on a chain of hinge and slide joints from the world.

    Raises:
      ValueError: the model has no such site, or a ball or free joint moves it, whose rotation the
        state holds in another form; use the state entry `"site_pos:..."` there.
    """
    number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, site)
    if number < 0:
        known = ", ".join(model.site(i).name or "one without a name" for i in range(model.nsite))
        raise ValueError(f"the model has no site {site!r}; it has: {known or 'none'}")
    chain = _chain(model, int(model.site_bodyid[number]), site)

    def position(qpos: jax.Array) -> jax.Array:
        if jnp.shape(qpos) != (model.nq,):
            raise ValueError(
                f"site_position got joint positions of shape {jnp.shape(qpos)}; it has to be "
                f"({int(model.nq)},). The state has 6 numbers for every rotation of a free or ball "
                "joint: take the entries of the other joints by name"
            )
        if not jnp.issubdtype(jnp.result_type(qpos), jnp.floating):  # whole numbers of radians
            qpos = jnp.asarray(qpos, jax.dtypes.canonicalize_dtype(float))
        where, frame = jnp.zeros(3, qpos.dtype), jnp.eye(3, dtype=qpos.dtype)
        for body in chain:
            where = where + frame @ _constant(model.body_pos[body], qpos)
            frame = frame @ _constant(_matrix(model.body_quat[body]), qpos)
            first = model.body_jntadr[body]
            for joint in range(first, first + model.body_jntnum[body]):
                where, frame = _move(model, joint, qpos, where, frame)
        return where + frame @ _constant(model.site_pos[number], qpos)

    return position


def _chain(model: mujoco.MjModel, body: int, site: str) -> list[int]:
    """The bodies from the world's child to the one that carries the site."""
    bodies = []
    while body:
        bodies.append(body)
        first = model.body_jntadr[body]
        for joint in range(first, first + model.body_jntnum[body]):
            if model.jnt_type[joint] not in (_HINGE, _SLIDE):
                raise ValueError(
                    f"site {site!r} is moved by joint {model.joint(joint).name!r}, which is a ball "
                    "or a free joint; put 'site_pos:' and its name in the state instead"
                )
        body = int(model.body_parentid[body])
    return bodies[::-1]


def _move(
    model: mujoco.MjModel, joint: int, qpos: jax.Array, where: jax.Array, frame: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A body's position and frame [3, 3] after one of its joints moved."""
    address = model.jnt_qposadr[joint]
    by = qpos[address] - float(model.qpos0[address])
    axis = model.jnt_axis[joint]
    if model.jnt_type[joint] == _SLIDE:
        return where + by * (frame @ _constant(axis, qpos)), frame
    cross = _constant(np.cross(np.eye(3), axis), qpos)
    turn = jnp.eye(3, dtype=qpos.dtype) + jnp.sin(by) * cross + (1 - jnp.cos(by)) * cross @ cross
    anchor = _constant(model.jnt_pos[joint], qpos)
    turned = frame @ turn
    return where + frame @ anchor - turned @ anchor, turned


def _matrix(quat: np.ndarray) -> np.ndarray:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def _constant(value: np.ndarray, like: jax.Array) -> jax.Array:
    return jnp.asarray(value, like.dtype)
