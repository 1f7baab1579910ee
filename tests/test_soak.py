"""The soak's small version: disturbed runs, reviews and exports come to the bytes of undisturbed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import soak

pytestmark = pytest.mark.slow


def test_disturbed_or_not_the_bytes_are_the_same(tmp_path: Path) -> None:
    done = soak(images=20, workers=2, disturbances=2, seed=0, work=tmp_path)
    assert isinstance(done["starts"], dict) and min(done["starts"].values()) >= 2
    outcomes = done["outcomes"]
    assert isinstance(outcomes, dict) and sum(outcomes.values()) == 20
    assert {"broken", "excluded"} <= set(outcomes)
