"""Settings: what a run does (part of its plan) and how it is carried out (not part of it).

Precedence: flag > environment variable `P3MDATA_<NAME>` > recipe or config file > default.
"""

from p3mdata.config.job import Execution, Executor, Folder, Job
from p3mdata.config.settings import (
    MAX_PIXELS,
    OF_A_PICTURE,
    TOLERANCE,
    Area,
    Boundary,
    Format,
    JpegMode,
    Names,
    Settings,
)
from p3mdata.config.sources import ENVIRONMENT_PREFIX, OLD_NAMES, exact_jpeg_is_possible, resolve
from p3mdata.obfuscations import DP_EPSILON, DP_PIXELS, OBFUSCATIONS, Method, Obfuscation, Preset

__all__ = [
    "DP_EPSILON",
    "DP_PIXELS",
    "ENVIRONMENT_PREFIX",
    "MAX_PIXELS",
    "OBFUSCATIONS",
    "OF_A_PICTURE",
    "OLD_NAMES",
    "TOLERANCE",
    "Area",
    "Boundary",
    "Execution",
    "Executor",
    "Folder",
    "Format",
    "Job",
    "JpegMode",
    "Method",
    "Names",
    "Obfuscation",
    "Preset",
    "Settings",
    "exact_jpeg_is_possible",
    "resolve",
]
