"""Block-exact editing of JPEG files.

Re-encoding a whole photograph to hide one face damages every other pixel a little. Here the quantised
DCT coefficients of the source are carried over bit for bit, and only the 8x8 blocks that have to change
are computed anew, with the file's own quantisation tables and chroma subsampling.

From the bottom up: `segments` cuts a file at its markers, `structure` checks every header, `scan` decodes and
writes most files by code of our own, `coefficients` calls libjpeg for the others and for outputs,
which are not to be proved by the code that wrote them, `transform` makes coefficients of
pixels, `turn` applies an EXIF orientation to them, and `blocks` ties them together.
"""

from p3mdata.imaging.jpeg.blocks import JpegBlocks, Reach, decoded_pixels
from p3mdata.imaging.jpeg.segments import UnsupportedJpeg

__all__ = ["JpegBlocks", "Reach", "UnsupportedJpeg", "decoded_pixels"]
