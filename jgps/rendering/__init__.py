"""Pictures and videos of MuJoCo models by a pure-JAX ray caster."""

from jgps.rendering.camera import Camera, CameraPose, camera_id, framing, free_pose
from jgps.rendering.cast import Image, raycast, raycast_rgb
from jgps.rendering.frames import render, scene_poses
from jgps.rendering.scene import Scene, make_scene
from jgps.rendering.shade import RenderConfig
from jgps.rendering.video import write_png, write_video

__all__ = [
    "Camera",
    "CameraPose",
    "Image",
    "RenderConfig",
    "Scene",
    "camera_id",
    "framing",
    "free_pose",
    "make_scene",
    "raycast",
    "raycast_rgb",
    "render",
    "scene_poses",
    "write_png",
    "write_video",
]
