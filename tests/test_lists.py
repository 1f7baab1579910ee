"""Lists and mattes that lie: rows of persons that match nothing, and what `check` finds that training cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.dataset.check_item import _about_alpha, _about_place, _grey
from p3mdata.errors import SettingsError
from p3mdata.run.identities import identify
from tests.factories import cut_out, encoded, matte

PICTURE, MATTE = cut_out(256), matte(256)
FACE = np.zeros_like(MATTE)
FACE[40:80, 95:130] = 255
AT = {"image": "image.png", "alpha": "alpha.png", "facemask": "facemask.png"}


def test_rows_of_persons_that_match_nothing_are_named(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    every = ["a.jpg", "b.jpg", "sub/c.jpg", "Jos\u00e9.jpg"]
    people.write_text("a.jpg,ann\n./sub/c.jpg,ann\nJose\u0301.jpg,joe\n", encoding="utf-8")
    assert identify(every[:1], people, every) == {"a.jpg": "ann"}
    assert identify(every, people, every) == {"a.jpg": "ann", "sub/c.jpg": "ann", "Jos\u00e9.jpg": "joe"}
    people.write_text("a.jpg,ann\nB.jpg,ann\nphotos/c.jpg,ann\n")
    with pytest.raises(SettingsError, match="'B.jpg' and 1 more is no photo of this run"):
        identify(every[:1], people, every)


@pytest.mark.parametrize(
    ("alpha", "code"),
    [
        ((MATTE > 127).astype(np.uint8), "alpha_range"),
        (MATTE.astype(np.uint16), "alpha_range"),
        (MATTE.astype(np.uint16) * 257, None),
        (MATTE, None),
    ],
    ids=["0 and 1", "8 bits in 16", "16 bits", "8 bits"],
)
def test_mattes_of_unusual_range_are_errors(alpha: NDArray[Any], code: str | None) -> None:
    assert [found.code for found in _about_alpha("a.png", alpha) if found.error] == ([code] if code else [])


@pytest.mark.parametrize(
    ("alpha", "face", "codes"),
    [
        (MATTE, FACE, []),
        (255 - MATTE, FACE, ["alpha_inverted", "facemask_beside"]),
        (MATTE[::-1], FACE, ["alpha_upside_down"]),
        (MATTE, np.where(MATTE > 0, 0, 255).astype(np.uint8), ["facemask_beside"]),
    ],
    ids=["right", "inverted", "upside down", "facemask beside"],
)
def test_mattes_and_facemasks_that_lie_wrong_are_errors(
    alpha: NDArray[np.uint8], face: NDArray[np.uint8], codes: list[str]
) -> None:
    sized = {"image": PICTURE, "alpha": np.ascontiguousarray(alpha), "facemask": face}
    found = {finding.code for finding in _about_place(AT, sized) if finding.error}
    assert found == set(codes)


def test_a_cut_out_is_no_matte() -> None:
    for cut in (np.dstack([PICTURE, MATTE]), np.dstack([MATTE, MATTE])):
        array, odd = _grey(encoded(cut, "PNG"))
        assert array is None and "cut-out" in str(odd)
