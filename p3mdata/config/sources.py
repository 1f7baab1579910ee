"""Settings as they are given: flag > environment > file > default."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from p3mdata.base import console
from p3mdata.base.parsing import fault
from p3mdata.config.job import Execution
from p3mdata.config.settings import Format, JpegMode, Settings
from p3mdata.errors import SettingsError
from p3mdata.typing import Json

ENVIRONMENT_PREFIX = "P3MDATA_"
# Settings that had another name until 0.3; files, environments and calls may still use it.
OLD_NAMES = {"shard": "task"}


def _from_environment(environment: Mapping[str, str], fields: Iterable[str]) -> dict[str, str]:
    return {
        name: environment[ENVIRONMENT_PREFIX + name.upper()]
        for name in fields
        if ENVIRONMENT_PREFIX + name.upper() in environment
    }


def _renamed(values: Mapping[str, Any], where: str) -> Json:
    """Values under today's names of their settings."""
    renamed = dict(values)
    for old, new in OLD_NAMES.items():
        if old in renamed:
            if new in renamed:
                raise SettingsError(f"{where}: '{old}' is the old name of '{new}'; give only '{new}'.")
            renamed[new] = renamed.pop(old)
    return renamed


def resolve(
    flags: Mapping[str, Any],
    file: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    where: str = "settings",
) -> tuple[Settings, Execution]:
    """Merge flags, environment and file into settings; a flag that is None was not given.

    Raises:
        SettingsError: A key is unknown or a value is out of range; the sentence names it.
    """
    environment = os.environ if environment is None else environment
    given = {k: v for k, v in flags.items() if v is not None}
    merged = _renamed(file or {}, where)
    names = [*Settings.model_fields, *Execution.model_fields, *OLD_NAMES]
    merged |= _renamed(_from_environment(environment, names), where)
    merged |= _renamed(given, where)
    known = {**Settings.model_fields, **Execution.model_fields}
    if unknown := [key for key in merged if key not in known]:
        listed = ", ".join(sorted(known))
        raise SettingsError(f"{where}: unknown setting '{unknown[0]}'. Known settings: {listed}.")
    execution = {k: merged.pop(k) for k in list(merged) if k in Execution.model_fields}
    asked = "jpeg" in merged
    try:
        settings, how = Settings(**merged), Execution(**execution)
    except ValidationError as exc:
        raise SettingsError(f"{where}: {fault(exc)}.") from exc
    if settings.privacy() is None and (unused := next((k for k in ("epsilon", "dp_pixels") if k in merged), None)):
        raise SettingsError(f"{where}: {unused} goes with method dp-pix. Give --method dp-pix, or leave it out.")
    return _as_possible(settings, asked, where), how


def exact_jpeg_is_possible() -> bool:
    """Whether the library is there that edits blocks of JPEG files; it has no package for some systems."""
    return importlib.util.find_spec("jpeglib") is not None


def _as_possible(settings: Settings, asked: bool, where: str) -> Settings:
    """Settings that this system can carry out: its default for JPEG sources, unless that was asked for."""
    if settings.jpeg is not JpegMode.EXACT or settings.format is not Format.KEEP or exact_jpeg_is_possible():
        return settings
    if asked:
        raise SettingsError(
            f"{where}: jpeg 'exact' needs jpeglib, which is not installed here. Use --format png, which is exact to "
            "the pixel, or --jpeg reencode."
        )
    console.say(
        "jpeglib is not installed here: JPEG pictures are encoded as a whole (--jpeg reencode). --format png keeps "
        "every pixel outside the masks."
    )
    return settings.model_copy(update={"jpeg": JpegMode.REENCODE})
