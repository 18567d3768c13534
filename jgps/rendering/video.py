"""Writes images and videos; the encoder comes with a Python package, not with the system."""

from __future__ import annotations

import contextlib
import os
import pathlib
from types import ModuleType

import numpy as np


def _mediapy() -> ModuleType:
    """Mediapy with the encoder that comes as a package; it takes long to import."""
    import imageio_ffmpeg
    import mediapy

    mediapy.set_ffmpeg(imageio_ffmpeg.get_ffmpeg_exe())
    return mediapy


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes a uint8 image [H, W, 3]. Raises ValueError for anything else."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"Expected a uint8 image [H, W, 3], got {image.dtype} {image.shape}.")
    _mediapy().write_image(path, image)


def write_video(path: str | os.PathLike[str], frames: np.ndarray, *, fps: float = 30.0) -> None:
    """Writes uint8 frames [T, H, W, 3] to an H.264 mp4, as a whole or not at all.

    Height and width must be even, because the format stores colour at half resolution.

    Raises:
      ValueError: wrong dtype or shape, no frames, odd sizes, or fps that is not positive.
      RuntimeError: the encoder failed; a video of before is left as it was.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"Expected uint8 frames [T, H, W, 3], got {frames.dtype} {frames.shape}.")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"Frame size {frames.shape[1:3]} is odd; mp4 needs even height and width.")
    if not fps > 0:
        raise ValueError(f"fps = {fps}: must be positive.")
    path = pathlib.Path(path)
    temporary = path.with_name(f".unfinished-{path.name}")  # the encoder goes by the ending
    try:
        _mediapy().write_video(temporary, frames, fps=fps, crf=20)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # which would hide what went wrong
            temporary.unlink(missing_ok=True)
