"""Warnings that point at the line of the user's code that led to them."""

import contextlib
import os
import sys
import warnings

import jax

# Frames of this library, and of what it calls itself through.
_OWN = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    os.path.dirname(jax.__file__) + os.sep,
    contextlib.__file__,
)


def warn(text: str) -> None:
    """Warns at the line outside of jgps from which it was called, however deep that is inside.

    A depth that is counted by hand is wrong as soon as a function is wrapped or called from another
    place.
    """
    depth, frame = 1, sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        depth, frame = depth + 1, frame.f_back
    # stacklevel 1 is this function; a program that ends inside jgps, as its command does, is shown
    # at its outermost line.
    warnings.warn(text, stacklevel=depth)
