"""One image file anonymized into another, without a run folder."""

from __future__ import annotations

import os
from pathlib import Path

from p3mdata.base.files import write_alone
from p3mdata.config import Format, Settings
from p3mdata.errors import OTHER_PLACE, SettingsError, unwritable
from p3mdata.records import ImageResult, Sample

_FORMATS = {".jpg": Format.JPG, ".jpeg": Format.JPG, ".png": Format.PNG, ".webp": Format.WEBP}


def anonymize_file(
    source: Path,
    out: Path,
    settings: Settings,
    alpha: Path | None = None,
    trimap: Path | None = None,
    mask: Path | None = None,
    facemask: Path | None = None,
    overwrite: bool = False,
) -> ImageResult:
    """Anonymize one image file; nothing is written unless its outcome is a released one.

    Args:
        source: The photograph.
        out: The released image; its ending chooses the format.
        settings: What to do; `format` is taken from `out`.
        alpha, trimap, mask: Companion files.
        facemask: Where to write the facemask, if anywhere.
        overwrite: Whether `out` may exist.

    Raises:
        SettingsError: A path or ending that cannot be used.
    """
    from p3mdata.anonymize.inputs import Inputs
    from p3mdata.anonymize.pipeline import anonymize
    from p3mdata.base.ids import new_secret
    from p3mdata.faces.ensemble import FaceFinder

    settings = settings.model_copy(update={"format": _format_of(out)})
    if facemask and facemask.suffix.lower() != ".png":
        raise SettingsError(f"{facemask}: unknown ending for a facemask. Use .png.")
    if facemask and _real(facemask) == _real(out):
        raise SettingsError(f"{out}: is one file for two, the image and its facemask. Choose another file name.")
    for path in filter(None, (out, facemask)):
        if _real(path) in {_real(p) for p in (source, alpha, trimap, mask) if p}:
            raise SettingsError(f"{path}: would overwrite an input. Choose another file name.")
        if os.path.lexists(path) and not overwrite:
            raise SettingsError(f"{path}: exists. Choose another name or give --overwrite.")

    if source.is_dir():
        raise SettingsError(f"{source}: is a folder. Anonymize it with 'p3mdata anonymize dir {source}'.")

    def read(path: Path | None) -> bytes | None:
        try:
            return None if path is None else path.read_bytes()
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be read ({exc.strerror}). Check the path.") from exc

    photo = read(source)
    assert photo is not None
    with FaceFinder() as finder:
        # Nobody keeps this secret: noise is another one each time.
        inputs = Inputs(photo, read(alpha), read(trimap), read(mask), secret=new_secret().encode())
        done = anonymize(Sample(0, out.stem, source.name, ""), inputs, settings, finder)
    if done.result.outcome.released:
        try:
            if facemask:
                write_alone(facemask, done.files["facemasks"][1])
            write_alone(out, done.files["images"][1])
        except OSError as exc:
            raise unwritable(out, exc, OTHER_PLACE, SettingsError) from exc
    return done.result


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _format_of(out: Path) -> Format:
    try:
        return _FORMATS[out.suffix.lower()]
    except KeyError:
        endings, ending = ", ".join(_FORMATS), out.suffix.lower()
        if ending in (".tif", ".tiff"):
            what = "one picture is written as JPEG, PNG or WebP, and TIFF by 'p3mdata anonymize dir' alone"
        else:
            what = f"unknown ending '{ending}'" if ending else "unknown ending, for it has none"
        raise SettingsError(f"{out}: {what}. Use {endings}.") from None
