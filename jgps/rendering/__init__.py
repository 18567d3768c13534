"""Pictures and videos of MuJoCo models by a pure-JAX ray caster."""

from jgps.rendering.camera import Camera, CameraPose, camera_id, framing, free_pose
from jgps.rendering.frames import render, scene_poses
from jgps.rendering.cast import Image, RenderConfig, raycast
from jgps.rendering.scene import Scene, make_scene
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
    "render",
    "scene_poses",
    "write_png",
    "write_video",
]
