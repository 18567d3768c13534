"""What a model may come as: a file, MJCF text or bytes, a MuJoCo spec, or a compiled model."""

import codecs
import copy
import os
from pathlib import Path
from typing import Any

import mujoco

Source = str | bytes | os.PathLike | mujoco.MjSpec | mujoco.MjModel


class Compiled:
    """A compiled model in the place of a spec: it can be looked at, and gains nothing."""

    def __init__(self, model: mujoco.MjModel):
        """Takes a copy of the model."""
        self._model = copy.copy(model)
        self.joints = [model.joint(i) for i in range(model.njnt)]
        self.sensors = [model.sensor(i) for i in range(model.nsensor)]
        self.sites = [model.site(i) for i in range(model.nsite)]
        self.bodies = [model.body(i) for i in range(model.nbody)]

    def add_sensor(self, *, objname: str, refname: str = "", **_: Any) -> None:
        """Refuses a sensor.

        Raises:
          ValueError: always.
        """
        raise ValueError(
            f"an MjModel is compiled already and can't gain the sensors that the entry of "
            f"{refname or objname!r} needs; pass its MJCF or its MjSpec, or name only qpos, qvel, "
            "act and sensors that it has"
        )

    def compile(self) -> mujoco.MjModel:
        """The model."""
        return self._model


def parse(source: Source) -> mujoco.MjSpec | Compiled:
    """The spec of a model, or what stands for one.

    Text and bytes that begin with "<", spaces and a byte-order mark aside, are MJCF; others are
    the path of a file.

    Raises:
      ValueError: if there is no such file, or it does not parse.
    """
    if isinstance(source, mujoco.MjSpec):
        return source
    if isinstance(source, mujoco.MjModel):
        return Compiled(source)
    if not isinstance(source, str | bytes | os.PathLike):
        raise ValueError(
            f"the model is {type(source).__name__}; it has to be the path of an MJCF file, MJCF as "
            "text or bytes, a mujoco.MjSpec or a mujoco.MjModel"
        )
    text = _text(os.fspath(source))
    if not text.lstrip().startswith("<") and not _is_file(text):
        raise ValueError(f"model file {text[:200]!r} does not exist")
    try:
        if text.lstrip().startswith("<"):
            return mujoco.MjSpec.from_string(text)
        return mujoco.MjSpec.from_file(text)
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"the MJCF does not parse: {' '.join(str(error).split())}") from None


def _text(source: str | bytes) -> str:
    """Without a byte-order mark.

    Raises:
      ValueError: it is no text.
    """
    if isinstance(source, str):
        if any("\ud800" <= letter <= "\udfff" for letter in source):
            raise ValueError("the MJCF holds halves of characters, which are no text in UTF-8")
        return source.removeprefix("\ufeff")
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if source.startswith(marks) else "utf-8-sig"
    try:
        return source.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the MJCF is bytes that are not {encoding[:6].upper().rstrip('-')} ({error}); decode "
            "them and pass text"
        ) from None


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or has a zero byte
        return False
