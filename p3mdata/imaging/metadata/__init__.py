"""Prove that an encoded image carries no metadata, and put an ICC profile back.

The walkers read the bytes of the file themselves and judge every segment, chunk or tag against a strict
allow-list: what is not known to be needed for decoding the pixels is named. They ask no image library and
share no code with `p3mdata.imaging.jpeg`, so that they do not share the blind spots of what wrote the file.
"""

from p3mdata.imaging.metadata.formats import leftovers, walk
from p3mdata.imaging.metadata.icc import needed_icc, with_icc
from p3mdata.imaging.metadata.parts import Part

__all__ = ["Part", "leftovers", "needed_icc", "walk", "with_icc"]
