"""Facemasks of portraits that may be shown: the faces that P3M-CP copies from, out of CelebAMask-HQ or any folder.

The data set's licence allows non-commercial research and no redistribution: nothing of it comes with this package.
"""

from p3mdata.celebamask.annotations import KNOWN_BAD, PARTS, Annotations
from p3mdata.celebamask.driver import FacemaskRun, make_facemasks
from p3mdata.celebamask.geometry import BrowLine, FaceRule, Refusal, brow_line, facemask_below, facemask_from_parts
from p3mdata.celebamask.portraits import Portraits

__all__ = [
    "KNOWN_BAD",
    "PARTS",
    "Annotations",
    "BrowLine",
    "FaceRule",
    "FacemaskRun",
    "Portraits",
    "Refusal",
    "brow_line",
    "facemask_below",
    "facemask_from_parts",
    "make_facemasks",
]
