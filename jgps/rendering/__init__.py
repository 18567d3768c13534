"""Pictures and videos of MuJoCo models by a pure-JAX ray caster."""

from jgps.rendering.appearance import Appearance, appearance_of
from jgps.rendering.camera import Camera, CameraPose, free_pose
from jgps.rendering.cast import Image, raycast, raycast_rgb
from jgps.rendering.config import RenderConfig
from jgps.rendering.frames import Poses, render
from jgps.rendering.opengl import render_opengl
from jgps.rendering.randomise import RandomiseConfig, randomise
from jgps.rendering.scene import Scene, make_scene, triangle_counts
from jgps.rendering.triangles import NotDrawableError
from jgps.rendering.video import write_png, write_video
from jgps.rendering.view import View, make_view
from jgps.rendering.warp import warp_available, warp_renderer

__all__ = [
    "Appearance",
    "Camera",
    "CameraPose",
    "Image",
    "NotDrawableError",
    "Poses",
    "RandomiseConfig",
    "RenderConfig",
    "Scene",
    "View",
    "appearance_of",
    "free_pose",
    "make_scene",
    "make_view",
    "randomise",
    "raycast",
    "raycast_rgb",
    "render",
    "render_opengl",
    "triangle_counts",
    "warp_available",
    "warp_renderer",
    "write_png",
    "write_video",
]
