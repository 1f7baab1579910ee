"""`p3mdata doctor`: everything the tool needs from this machine, and what to install where it is missing."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from p3mdata.errors import P3MError

# As tools/system-libraries has them.
_SYSTEM_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
}
_CV2_PACKAGES = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
_MIN_FREE_DISK = 1 << 30
# Around the face of the sample portrait; and pixels, of 256, by which two engines may differ about it.
_SAMPLE_FACE, _MOST_APART = (174.0, 68.0, 274.0, 200.0), 2.0


@dataclass(frozen=True)
class Check:
    """One finding; `needed` ones must be ok for `anonymize` to work."""

    name: str
    ok: bool
    finding: str
    needed: bool = True


def examine() -> list[Check]:
    """All checks, cheap ones first."""
    return [
        _python(),
        *_system_libraries(),
        _one_cv2(),
        *_weights(),
        _try("detectors and landmarks start", _start_models),
        _landmarks(),
        _exact_jpeg(),
        _native(),
        _memory_and_cores(),
        _disk(),
        _heif(),
        _gpu(),
    ]


def _python() -> Check:
    version = platform.python_version()
    ok = (3, 10) <= sys.version_info[:2] <= (3, 13)
    where = f"Python {version} on {platform.system()} {platform.machine()}"
    return Check("python", ok, where if ok else f"{where}; use Python 3.10 to 3.13")


def _system_libraries() -> list[Check]:
    if not sys.platform.startswith("linux"):
        return []
    checks = []
    for library, package in _SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            checks.append(Check(library, False, f"missing: run 'apt-get install {package}' (Debian, Ubuntu)"))
        else:
            checks.append(Check(library, True, "found"))
    return checks


def _one_cv2() -> Check:
    versions = {}
    for name in _CV2_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import cv2
    except ImportError as exc:
        return Check("one cv2", False, f"cannot be imported ({exc}): run 'pip install --force-reinstall opencv-python'")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    if len(set(versions.values())) == 1:
        return Check("one cv2", True, f"{cv2.__version__} ({listed})")
    return Check("one cv2", False, f"packages of different versions are mixed ({listed}): install one version")


def _weights() -> list[Check]:
    from p3mdata.faces import weights

    checks = []
    for name, row in weights.registry().items():
        try:
            weights.load(name)
        except P3MError as exc:
            checks.append(Check(row.file, False, str(exc)))
        else:
            checks.append(Check(row.file, True, f"{row.role}, sha256 {row.sha256[:12]}..., {row.licence}"))
    return checks


def _try(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, True, action())
    except Exception as exc:
        # Whatever stops a library from starting is the finding.
        return Check(name, False, f"{type(exc).__name__}: {exc}")


def _start_models() -> str:
    import numpy as np

    from p3mdata.faces.ensemble import FaceFinder

    with FaceFinder() as finder:
        finder.find(np.zeros((64, 64, 3), np.uint8))
    return "centerface, libfacedetection, face mesh"


def _landmarks() -> Check:
    """Whether the mesh is where MediaPipe itself sees it."""
    name = "landmarks as MediaPipe's"
    if importlib.util.find_spec("skimage") is None:
        return Check(name, False, "not compared (scikit-image, with a portrait, is not installed)", needed=False)
    try:
        apart = _apart()
    except Exception as exc:
        return Check(name, False, f"not compared ({type(exc).__name__}: {exc})", needed=False)
    return Check(name, apart < _MOST_APART, f"{apart:.2f} px apart at most, in a crop of 256 px")


def _apart() -> float:
    """How far points of the mesh lie from those of MediaPipe on the sample portrait, in pixels of the crop."""
    import numpy as np

    from p3mdata.cli.sample import portrait
    from p3mdata.faces.face_mesh import FaceMesh
    from p3mdata.faces.landmarks import MediaPipeLandmarks
    from p3mdata.faces.pyramid import Pyramid

    crop, _ = Pyramid(portrait()).crop(_SAMPLE_FACE, 2.0)
    with MediaPipeLandmarks() as model:
        theirs = model.locate(crop)
    ours = FaceMesh().locate(crop)
    return float("inf") if ours is None or theirs is None else float(np.abs(ours - theirs).max())


def _exact_jpeg() -> Check:
    from p3mdata.config import exact_jpeg_is_possible

    if exact_jpeg_is_possible():
        return _try("JPEG coefficients", _jpeg)
    finding = "jpeglib is not installed: JPEG pictures are encoded as a whole; --format png keeps every pixel"
    return Check("JPEG coefficients", False, finding, needed=False)


def _native() -> Check:
    from p3mdata import native

    try:
        used, line = native.finding()
    except P3MError as exc:
        return Check("C library", False, str(exc))
    return Check("C library", used, line, needed=False)


def _jpeg() -> str:
    import io

    import numpy as np
    from PIL import Image

    from p3mdata.imaging.jpeg import JpegBlocks

    sink = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(sink, "JPEG")
    JpegBlocks.read(sink.getvalue())
    return f"jpeglib {importlib.metadata.version('jpeglib')}"


def _memory_and_cores() -> Check:
    from p3mdata.base.processes import default_workers

    return Check("cores and memory", True, f"{os.cpu_count()} cores; {default_workers()} workers by default")


def _disk() -> Check:
    free = shutil.disk_usage(os.getcwd()).free
    finding = f"{free / 1e9:.1f} GB free in this folder"
    return Check("disk", free > _MIN_FREE_DISK, finding, needed=False)


def _heif() -> Check:
    found = importlib.util.find_spec("pillow_heif") is not None
    finding = "readable" if found else "run 'pip install pillow-heif' to read them"
    return Check("HEIC pictures", found, finding, needed=False)


def _gpu() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check(
            "GPU", False, "not looked for (torch is not installed); anonymizing does not use one", needed=False
        )
    import torch

    found = torch.cuda.is_available()
    finding = torch.cuda.get_device_name(0) if found else "none; anonymizing does not use one"
    return Check("GPU", found, finding, needed=False)
