"""What may be wrong with the arguments of `from_mjcf`, said at once and in one sentence."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jgps.controllers import HoldConfig, LqrHoldConfig, NoiseConfig, PdHoldConfig
from jgps.core.checks import Range, check_argument
from jgps.core.names import did_you_mean, shown
from jgps.core.warn import warn
from jgps.simulation import Conditions, StateLayout, System
from jgps.simulation.analytic import check_layouts
from jgps.tasks.constant_indices import check_program
from jgps.tasks.functions import params_like
from jgps.tasks.indices import OutsideError, watched

LONGEST_NAME = 100  # a run's directory has it in its name, of which file systems take 255
INITIAL = {"hold": HoldConfig, "lqr": LqrHoldConfig, "pd": PdHoldConfig, "noise": NoiseConfig}
RETURNS = {
    "cost": "a floating-point number",
    "success": "a bool, as x[-1, 0] < 0.1 is",
    "distance": "a number",
    "fall": "a bool, as x[2] < 0.5 is",
}


def check_entries(**sequences: Sequence[str] | None) -> None:
    """Refuses what has no order, or one that it gives only once, and what is not names.

    Raises:
      ValueError: "state is {...}; it has to be a tuple of entries such as ...".
    """
    for what, entries in sequences.items():
        if entries is None:
            continue
        if isinstance(entries, str):
            raise ValueError(
                f"{what} is the string {entries!r}; pass a sequence of entries: ({entries!r},)"
            )
        if not isinstance(entries, tuple | list):
            raise ValueError(
                f"{what} is {shown(entries)}; it has to be a tuple of entries, whose order is that "
                "of its numbers, for example ('qpos', 'qvel')"
            )
        for entry in entries:
            if not isinstance(entry, str):
                raise ValueError(
                    f"{what} has the entry {shown(entry)}; it has to be a name such as 'qpos'"
                )


def check_name(name: Any) -> str:
    """The name of a task, which a run's directory is called by.

    Raises:
      ValueError: for anything else.
    """
    fits = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()
    if not fits or "/" in name or "\\" in name or name.strip(" .") != name:
        raise ValueError(
            f"name is {shown(name)}; it has to be a printable string of 1 to {LONGEST_NAME} "
            "characters without slashes, and without spaces or dots at its ends: a run's directory "
            "is called by it"
        )
    return name


def check_initial(initial: Any) -> None:
    """Refuses an initial controller that is no settings.

    Raises:
      ValueError: says which there are, and what was probably meant.
    """
    if initial is None or isinstance(initial, tuple(INITIAL.values())):
        return
    named = {kind.__name__: f"; did you mean {kind.__name__}()?" for kind in INITIAL.values()}
    meant = INITIAL.get(initial.lower().partition("_")[0]) if isinstance(initial, str) else initial
    hint = named.get(getattr(meant, "__name__", ""), "")
    raise ValueError(
        f"initial is {shown(initial)}; it has to be jgps.configs.HoldConfig(), LqrHoldConfig(), "
        f"PdHoldConfig(), NoiseConfig(), or None for a hold that fits the model{hint}"
    )


def check_steps(horizon: Any, control_dt: Any) -> tuple[int, float]:
    """The number of control steps and the duration of each, in seconds, as plain numbers.

    Raises:
      ValueError: where they are something else.
    """
    if not isinstance(horizon, int | np.integer) or isinstance(horizon, bool) or horizon < 2:
        raise ValueError(
            f"horizon is {shown(horizon)}; it has to be at least 2 control steps, an integer"
        )
    horizon = check_argument("horizon", horizon, Annotated[int, Range(">= 2")])
    control_dt = check_argument("control_dt", control_dt, Annotated[float, Range("> 0")])
    return horizon, control_dt


def check_times(model: mujoco.MjModel, horizon: Any, control_dt: Any) -> tuple[int, float]:
    """The horizon and the control step as plain numbers.

    Raises:
      ValueError: where they are not numbers of steps and seconds, or no multiple of the timestep.
    """
    horizon, control_dt = check_steps(horizon, control_dt)
    timestep = float(model.opt.timestep)
    if not (np.isfinite(timestep) and timestep > 0):
        raise ValueError(
            f"the model's timestep is {timestep} s; it has to be finite and > 0, usually 0.002: "
            "set <option timestep=.../>"
        )
    ratio = control_dt / timestep
    if not np.isfinite(ratio) or ratio < 0.5 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ValueError(
            f"control_dt is {control_dt} s, which is not a multiple of the model's timestep "
            f"{timestep} s; change one of them"
        )
    return horizon, control_dt


def check_sets(**sets: Conditions | None) -> None:
    """Refuses sets of conditions that are none, or empty.

    Raises:
      ValueError: names the set.
    """
    for what, each in sets.items():
        if each is None:
            continue
        if not isinstance(each, Conditions):
            raise ValueError(
                f"{what} is {shown(each)}; it has to be jgps.simulation.Conditions(qpos=..., "
                "qvel=...)"
            )
        if np.shape(each.qpos)[:1] == (0,):
            raise ValueError(f"{what} has 0 conditions; give at least one, or leave it out")


def check_params_alike(train: Conditions, **others: Conditions | None) -> None:
    """Refuses sets of conditions whose params are not alike.

    Raises:
      ValueError: names the set, and what differs.
    """
    like = params_like(train)
    for what, each in others.items():
        if each is None or params_like(each) == like:
            continue
        if not like:
            raise ValueError(
                f"{what} has params, and the training conditions have none: give them "
                "params=..., which the task's functions take as their last argument"
            )
        if each.params is None:
            raise ValueError(
                f"{what} has no params, and the training conditions have: give these conditions "
                f"some, Conditions(..., params=...) with rows of {_described(like)}"
            )
        raise ValueError(
            f"the params of {what} are {_described(params_like(each))} for each condition, those "
            f"of the training conditions {_described(like)}; they have to be alike"
        )


def _described(params: tuple[Any, ...]) -> str:
    """Names, shapes and dtypes of params, as in "params['goal'] [2] of float32"."""
    leaves = jax.tree_util.tree_leaves_with_path(params[0])
    return ", ".join(
        f"params{jax.tree_util.keystr(path)} {list(leaf.shape)} of {leaf.dtype}"
        for path, leaf in leaves
    )


def check_cameras(model: mujoco.MjModel, *names: str | None) -> None:
    """Refuses cameras that the model does not have.

    Raises:
      ValueError: with the names of those that it has.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    for each in names:
        if each is not None and each not in known:
            raise ValueError(
                f"the model has no camera {shown(each)}; it has: {', '.join(known) or 'none'}"
                f"{did_you_mean(each, known)}"
            )


def warn_of_activations(model: mujoco.MjModel, state: Sequence[str]) -> None:
    """Warns where the state lacks activations that decide what comes next."""
    if model.na and "act" not in state:
        warn(
            f"the model has {model.na} activation states that are not in the state; add 'act', or "
            "the fitted dynamics cannot know them"
        )


def from_layout(what: str, make: Callable[[StateLayout], Any], layout: StateLayout) -> Any:
    """The user's function, made from the layout.

    Raises:
      ValueError: where that is not what it makes.
    """
    example = f"{what}=lambda s: lambda x, ...: ..."
    try:
        inspect.signature(make).bind(layout)
    except TypeError:
        raise ValueError(
            f"{what} has to be a function of the layout that returns the function, as in {example}"
        ) from None
    function = make(layout)
    if not callable(function):
        raise ValueError(f"{what}(layout) has to return a function; it returns {shown(function)}")
    return function


def check_functions(
    layout: StateLayout,
    model: mujoco.MjModel,
    horizon: int,
    functions: Mapping[str, Callable[..., Any] | None],
    params: tuple[Any, ...] = (),
) -> None:
    """Traces the task's functions once, so that mistakes show at once and in one sentence.

    Args:
      functions: "cost", "success", "distance", "fall" and "random_start", None where there is none.
      params: what else the first four take, see `jgps.tasks.functions.params_like`.

    Raises:
      ValueError: names the function, what it is called with, and what is wrong.
    """
    dX, dU, T = layout.size, int(model.nu), horizon
    x, u = (jax.ShapeDtypeStruct((size,), np.float32) for size in (dX, dU))
    xs, us = (jax.ShapeDtypeStruct((T, size), np.float32) for size in (dX, dU))
    t = jax.ShapeDtypeStruct((), np.int32)
    arguments = {
        "cost": {f"x [{dX}]": x, f"u [{dU}]": u, "t": t},
        "success": {f"x [{T}, {dX}]": xs, f"u [{T}, {dU}]": us},
        "distance": {f"x [{T}, {dX}]": xs},
        "fall": {f"x [{dX}]": x},
    }
    kinds = {
        "cost": (jnp.floating,),
        "success": (jnp.bool_,),
        "distance": (jnp.number, jnp.bool_),
        "fall": (jnp.bool_,),
    }
    for what, given in arguments.items():
        function = functions.get(what)
        if function is None:
            continue
        result = _trace(what, function, {**given, **({"params": params[0]} if params else {})})
        shape = getattr(result, "shape", None)
        if shape != ():
            raise ValueError(f"{what} has to return a scalar; it returns shape {shape}")
        if not any(jnp.issubdtype(result.dtype, kind) for kind in kinds[what]):
            raise ValueError(f"{what} has to return {RETURNS[what]}; it returns {result.dtype}")
    random_start = functions.get("random_start")
    if random_start is not None:
        _check_random_start(random_start, model)


def check_dynamics(system: System, params: tuple[Any, ...] = ()) -> None:
    """Traces a task's dynamics and their derivatives once, where it has some.

    Args:
      system: of the task.
      params: what else they take, see `jgps.tasks.functions.params_like`.

    Raises:
      ValueError: names what is wrong with what they read, return, or with their derivatives.
    """
    dynamics = system.dynamics
    if dynamics is None:
        return
    check_layouts(system.model, system.layout, system.observation)
    if not callable(dynamics):
        raise ValueError(
            f"dynamics is {shown(dynamics)}; it has to be a function of x [dX], u [dU] and t that "
            "returns the next state [dX]"
        )
    dX, dU = system.layout.size, int(system.model.nu)
    x, u = (jax.ShapeDtypeStruct((size,), np.float32) for size in (dX, dU))
    t = jax.ShapeDtypeStruct((), np.int32)
    extra = {"params": params[0]} if params else {}
    result = _trace("dynamics", dynamics, {f"x [{dX}]": x, f"u [{dU}]": u, "t": t, **extra})
    if not hasattr(result, "shape"):
        raise ValueError(
            f"dynamics has to return the next state as one array [{dX}]; it returns a "
            f"{type(result).__name__}: put its entries together by jnp.stack"
        )
    if result.shape != (dX,):
        raise ValueError(
            f"dynamics has to return the next state [{dX}]; it returns shape {result.shape}"
        )
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(
            f"dynamics has to return floating-point numbers; it returns {result.dtype}"
        )

    def curvature(x: Any, u: Any, t: Any, *params: Any) -> Any:
        return jax.hessian(lambda x, u: jnp.sum(dynamics(x, u, t, *params)), argnums=(0, 1))(x, u)

    try:
        jax.eval_shape(curvature, x, u, t, *params)
    except Exception as error:  # every rule for derivatives fails in its own way
        reason = " ".join(str(error).split()) or "it says nothing more"
        raise ValueError(
            f"JAX has to be able to differentiate dynamics twice by x and u; it cannot: {reason}"
        ) from error


def _trace(what: str, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """What the function returns, as shapes and dtypes."""
    call = f"{what}({', '.join(given)})"
    try:
        inspect.signature(function).bind(*given.values())
    except TypeError as error:
        why = ", whose last argument are the params of a condition" if "params" in given else ""
        raise ValueError(
            f"{what} is called as {call}{why}; its signature differs: {error}"
        ) from None
    except ValueError:  # some callables have no signature
        pass
    try:
        names = [name.partition(" ")[0] for name in given]
        make = jax.make_jaxpr(functools.partial(_watching, function, names), return_shape=True)
        program, result = make(*given.values())
        check_program(program)
        return result
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"JAX has to be able to trace {what}; it cannot: {reason}") from None
    except OutsideError as error:
        raise ValueError(f"{call} reads what its arguments don't have: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or "it says nothing more"
        raise ValueError(f"{call} fails with a {type(error).__name__}: {reason}") from error


def _watching(function: Callable[..., Any], names: Sequence[str], *arguments: Any) -> Any:
    def watch(name: str, argument: Any) -> Any:
        def leaf_of(path: Any, leaf: Any) -> Any:
            # Those of the task are [T, ...]; params have no time.
            time_axis = 0 if not path and leaf.ndim == 2 else None
            return watched(name + jax.tree_util.keystr(path), leaf, time_axis=time_axis)

        return jax.tree_util.tree_map_with_path(leaf_of, argument)

    return function(*map(watch, names, arguments))


def _check_random_start(function: Callable[..., Any], model: mujoco.MjModel) -> None:
    what = f"random_start has to be a function of a key that returns (qpos [{model.nq}], qvel "
    what += f"[{model.nv}])"
    if not callable(function):
        raise ValueError(f"{what}; it is {function!r}")
    key = jax.random.key(0)
    try:
        inspect.signature(function).bind(key)
    except TypeError as error:
        raise ValueError(f"{what}; called with a key it says: {error}") from None
    pose = _trace("random_start", function, {"key": key})
    if not isinstance(pose, tuple) or len(pose) != 2:
        raise ValueError(f"{what}; it returns {type(pose).__name__}")
    for name, array, size in zip(("qpos", "qvel"), pose, (model.nq, model.nv), strict=True):
        shape = getattr(array, "shape", None)
        if shape != (size,):
            raise ValueError(f"{what}; its {name} has shape {shape}")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{what} in floating-point numbers; its {name} is of {array.dtype}")
