"""What MuJoCo's compiler makes of a model whose source has another number: a reference."""

import mujoco
import numpy as np

_KINDS = {"jnt": "joint", "dof": "joint", "cam": "camera", "mat": "material", "eq": "equality"}
_NAMES = {
    "eq_active0": "active", "jnt_solref": "solref_limit", "jnt_solimp": "solimp_limit",
    "dof_solref": "solref_friction", "dof_solimp": "solimp_friction",
    "tendon_lengthspring": "springlength", "tendon_solref_lim": "solref_limit",
    "tendon_solimp_lim": "solimp_limit", "tendon_solref_fri": "solref_friction",
    "tendon_solimp_fri": "solimp_friction",
}  # fmt: skip


def recompiled(source: str, key: str, value: np.ndarray) -> mujoco.MjModel:
    """The model of the source, angles in radians, with `value` for what a key of changes names.

    Masses and inertias are those of the source, as changes leave them.
    """
    spec = mujoco.MjSpec.from_string(source)
    model = spec.compile()
    for body in spec.bodies[1:]:
        own = model.body(body.name)
        if own.mass[0] > 0:
            body.explicitinertial, body.mass = True, float(own.mass[0])
            body.inertia, body.ipos, body.iquat = own.inertia, own.ipos, own.iquat
    field, _, name = key.partition(":")
    kind, _, attribute = field.partition("_")
    if field == "qpos_spring":
        for number, joint in enumerate(spec.joints):
            if model.jnt_type[number] in (2, 3):  # others have none in the source
                joint.springref = value[model.jnt_qposadr[number]]
        return spec.compile()
    changed = getattr(spec, _KINDS.get(kind, kind))(name)
    if field == "body_mass_scale":
        changed.mass, changed.inertia = changed.mass * value[0], np.array(changed.inertia) * value
        return spec.compile()
    attribute = _NAMES.get(field, attribute)
    own = getattr(changed, attribute)
    if np.ndim(own) == 0:
        setattr(changed, attribute, type(own)(np.ravel(value)[0]))
    else:
        longer = np.array(own, float)
        longer[: np.size(value)] = np.ravel(value)
        setattr(changed, attribute, longer)
    return spec.compile()


def different(one: mujoco.MjModel, other: mujoco.MjModel) -> set[str]:
    """The arrays in which two models differ, but for how their trees of boxes are built."""
    names = [name for name in dir(one) if isinstance(getattr(one, name), np.ndarray)]
    found = set()
    for name in names:
        a, b = getattr(one, name), getattr(other, name)
        if not np.array_equal(a, b) and (
            a.shape != b.shape or not np.allclose(a, b, rtol=1e-9, atol=1e-9)
        ):
            found.add(name)
    return {name for name in found if not name.startswith("bvh_")}
