"""Pictures in and out: `decode` bytes to a `Picture`, `encode` one without metadata.

Everything between these edges works on pixels in displayed orientation and knows nothing else of the file.
"""

from p3mdata.imaging.decode import SUFFIXES, decode, exif_orientation
from p3mdata.imaging.encode import encode, encode_grey, encode_mask, extension, target_format
from p3mdata.imaging.mattes import decode_matte
from p3mdata.imaging.picture import Picture, Pixels, orient

__all__ = [
    "SUFFIXES",
    "Picture",
    "Pixels",
    "decode",
    "decode_matte",
    "encode",
    "encode_grey",
    "encode_mask",
    "exif_orientation",
    "extension",
    "orient",
    "target_format",
]
