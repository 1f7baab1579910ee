"""The C library in tests: each instruction set that this processor has, beside going without."""

from __future__ import annotations

import pytest

from p3mdata.native import LEVELS, VARIABLE, library


def use(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """Have kernels run with one instruction set, or 'off'; skips what this machine lacks."""
    monkeypatch.setenv(VARIABLE, "auto")
    if level != "off":
        best = library()
        if best is None or LEVELS.index(level) > best.level:
            pytest.skip(f"no C library for {level} here: run 'python -m p3mdata.native'")
    monkeypatch.setenv(VARIABLE, level)
