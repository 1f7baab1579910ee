"""How a head is turned, from its mesh: yaw, pitch and roll in degrees, and the coarse steps that may be told."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Mesh points that bones hold in place, and where they lie on MediaPipe's canonical face, in cm: x to the right of the
# picture, y up, z towards the camera.
_RIGID = {
    1: (0.0, -1.126865, 7.475604),
    152: (0.0, -9.403378, 4.264492),
    33: (-4.445859, 2.663991, 3.173422),
    263: (4.445859, 2.663991, 3.173422),
    61: (-2.456206, -4.342621, 4.283884),
    291: (2.456206, -4.342621, 4.283884),
}
# Step of what is told of a released face, and the largest angle: coarse enough to say nothing about who it is.
STEP, MOST = 15, 90


def head_pose(mesh: NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw (to the right of the picture), pitch (down) and roll (clockwise) of a face in degrees.

    The camera is taken to look straight at the face from eight of its widths away, which is what portraits come to.

    Args:
        mesh: Landmarks, (478, 2) pixels.
    """
    points = mesh[list(_RIGID)]
    solid = np.array(list(_RIGID.values())) * (1, -1, -1)
    width = float(np.linalg.norm(mesh[454] - mesh[234])) or 1.0
    centre = points.mean(0)
    camera = np.array([[8 * width, 0, centre[0]], [0, 8 * width, centre[1]], [0, 0, 1]], np.float64)
    # From in front: the solver would else find the mirrored solution behind the camera now and then.
    begin = np.zeros((3, 1)), np.array([[0.0], [0.0], [120.0]])
    _, turn, _ = cv2.solvePnP(solid, points, camera, None, *begin, True, cv2.SOLVEPNP_ITERATIVE)
    matrix = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    yaw = np.degrees(np.arctan2(-matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0])))
    pitch = np.degrees(np.arctan2(matrix[2, 1], matrix[2, 2]))
    roll = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    return float(yaw), float(pitch), float(roll)


def coarse(angle: float) -> int:
    """The nearest step, in degrees."""
    return int(np.clip(STEP * round(angle / STEP), -MOST, MOST))
