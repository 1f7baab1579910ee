"""The models of one process, opened once and closed at its end."""

from __future__ import annotations

import cv2

from p3mdata.base.system import keep_freed_memory
from p3mdata.errors import P3MError, SetupError
from p3mdata.faces.ensemble import FaceFinder


class Models:
    """The models of one worker, loaded when the first image needs them."""

    def __init__(self) -> None:
        self._finder: FaceFinder | None = None

    def __call__(self) -> FaceFinder:
        if self._finder is None:
            # The workers supply the parallelism; libraries must not start threads of their own beside it.
            cv2.setNumThreads(1)
            keep_freed_memory()
            try:
                self._finder = FaceFinder()
            except P3MError:
                raise
            except Exception as exc:
                raise SetupError(f"The models cannot be loaded ({exc}). Run 'p3mdata doctor'.") from exc
        return self._finder

    def close(self) -> None:
        """Free them; the next call loads them anew."""
        if self._finder is not None:
            self._finder.close()
            self._finder = None
