"""Who is on an aligned face: dlib's face recognition network behind a protocol, from the optional extra `audit`."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.errors import SetupError
from p3mdata.faces import weights

Pixels = NDArray[np.uint8]
CHIP = 150
MODEL = "face_recogniser"
_MODULES = ("dlib", "face_recognition_models")
# Mesh points of both eyes' outer and inner corners and of the nose's base, and where they lie in the face that dlib's
# network was trained on, as shares of the face's square. Left and right as seen.
_ANCHORS = (263, 362, 33, 133, 2)
_PLACES = np.array([(0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)])
# What is seen around that square, as a share of its side.
_PADDING = 0.25


class Recogniser(Protocol):
    """Turns an aligned face into a vector; faces of one person lie close to each other."""

    name: str
    sha256: str

    def embed(self, chip: Pixels) -> NDArray[np.float32]:
        """Vector (128,) of an aligned face, CHIP x CHIP x 3, 8-bit RGB."""
        ...


class DlibRecogniser:
    """dlib's ResNet, version 1: 99.4 % on LFW with clear faces; Euclidean distances, the same person below about 0.6.

    Raises:
        SetupError: The extra is not installed, or its model file is another one.
    """

    name = "dlib face recognition ResNet v1"

    def __init__(self) -> None:
        missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
        if missing:
            raise SetupError(
                f"The audit of re-identification needs the extra: pip install 'p3mdata[audit]' "
                f"({', '.join(missing)} is missing)."
            )
        weights.load(MODEL)
        self.sha256 = weights.known(MODEL).sha256
        import dlib

        self._model = dlib.face_recognition_model_v1(str(weights.locate(MODEL)))

    def embed(self, chip: Pixels) -> NDArray[np.float32]:
        """As the protocol says: (128,) of CHIP x CHIP x 3."""
        return np.array(self._model.compute_face_descriptor(np.ascontiguousarray(chip)), np.float32)


def chip_to_image(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarity transform (2x3) from pixels of the aligned face to those of the image, least squares over 5 points.

    Args:
        mesh: 478 x 2 landmarks in image pixels.
    """
    chip = (_PLACES + _PADDING) / (1 + 2 * _PADDING) * CHIP
    # As complex numbers a similarity is one product and one sum.
    here, there = chip @ (1, 1j), mesh[list(_ANCHORS)] @ (1, 1j)
    centred = here - here.mean()
    turn = (centred.conj() @ (there - there.mean())) / (centred.conj() @ centred)
    shift = there.mean() - turn * here.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def corners(to_image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The aligned face's four corners in image pixels, 4 x 2."""
    square = np.array([(0, 0, 1), (CHIP, 0, 1), (CHIP, CHIP, 1), (0, CHIP, 1)])
    return np.asarray(square @ to_image.T)


def aligned(rgb: Pixels, to_image: NDArray[np.float64]) -> Pixels:
    """The aligned face, CHIP x CHIP x 3; black where it reaches over the border, as dlib has it.

    Args:
        rgb: HxWx3, 8-bit.
        to_image: From `chip_to_image`.
    """
    scale = float(np.hypot(*to_image[:, 0]))
    matrix = to_image.copy()
    if scale > 1:
        # Warping alone would alias when a large face shrinks.
        height, width = (max(1, round(side / scale)) for side in rgb.shape[:2])
        shrink = np.array([[width / rgb.shape[1]], [height / rgb.shape[0]]])
        rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        # The centre of the first pixel is at 0 before and after.
        matrix = matrix * shrink + np.hstack([np.zeros((2, 2)), (shrink - 1) / 2])
    chip = cv2.warpAffine(rgb, matrix, (CHIP, CHIP), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(chip, np.uint8)
