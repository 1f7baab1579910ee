"""How much memory a picture takes while it is worked on, told from its header before a pixel of it is decoded."""

from __future__ import annotations

from p3mdata.errors import BrokenInput
from p3mdata.imaging.decode import bit_depth, open_picture

# Measured at peak over the whole way from file to proofs: pixels of the source, of the result and of the one that is
# decoded again, coefficients, masks. JPEG 22, PNG 18, WebP 32; 16 bits a channel.
BYTES_PER_PIXEL, _BYTES_PER_DEEP_PIXEL, _BYTES_PER_OTHER_PIXEL = 24, 40, 34
_USUAL = frozenset({"JPEG", "MPO", "PNG"})


def memory_for(data: bytes, max_pixels: int) -> int:
    """Bytes beside the models, or 0 for what is no picture that can be used.

    Args:
        data: The file.
        max_pixels: Larger pictures are refused, so that they take nothing.
    """
    try:
        picture = open_picture(data, max_pixels)
    except BrokenInput:
        return 0
    width, height = picture.size
    if bit_depth(picture, data) > 8:
        return width * height * _BYTES_PER_DEEP_PIXEL
    return width * height * (BYTES_PER_PIXEL if picture.format in _USUAL else _BYTES_PER_OTHER_PIXEL)
