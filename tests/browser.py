"""A real headless Chromium for tests of pages; tests that need it are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_VARIABLE = "P3MDATA_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# In containers there is neither a user namespace for the sandbox nor a GPU; nothing but the test's own server is asked.
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")


def executable() -> str:
    """The browser's path; without one the test is skipped."""
    given = os.environ.get(_VARIABLE)
    found = given or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is on PATH, and {_VARIABLE} is not set")
    if shutil.which(found) is None:
        pytest.skip(f"no Chromium: {_VARIABLE}={found} is not a program")
    return found


@contextmanager
def headless() -> Iterator[Any]:
    """A browser that ends with the block."""
    path = executable()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
