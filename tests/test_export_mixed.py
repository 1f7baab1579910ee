"""A WebDataset of several formats loses nothing in `datasets`, and the Hub's name of a licence is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from p3mdata.export import export
from p3mdata.export.card import hub_licence
from p3mdata.export.webdataset import _one_ending
from tests.test_export import dataset, run  # noqa: F401


@pytest.mark.parametrize(("written", "known"), [
    ("CC BY 4.0", "cc-by-4.0"), ("cc-by-4.0", "cc-by-4.0"), ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
    ("Creative Commons Attribution 4.0 International", "cc-by-4.0"),
    ("CC0", "cc0-1.0"), ("CC0 1.0 Universal", "cc0-1.0"),
    ("https://creativecommons.org/licenses/by-sa/4.0/deed.en", "cc-by-sa-4.0"),
    ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
    ("Apache License 2.0", "apache-2.0"), ("MIT License", "mit"), ("BSD 3-Clause", "bsd-3-clause"),
    ("CC BY", None), ("by agreement", None), ("https://example.org/terms", None),
])  # fmt: skip
def test_licences_as_people_write_them(written: str, known: str | None) -> None:
    assert hub_licence(written) == known


def test_one_ending_for_all() -> None:
    assert _one_ending({".png", ".jpg"}) == ".jpg" and _one_ending({".png"}) == ".png"


def test_mixed_formats_come_back_whole(
    dataset: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets")
    endings = {path.suffix for path in dataset.rglob("*_image/*")}
    assert {".png", ".jpg"} <= endings
    out = export(dataset, tmp_path / "wds", "webdataset", licence="CC BY 4.0").out
    header = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    splits = {file["split"] for one in header["configs"] for file in one["data_files"]}
    assert header["license"] == "cc-by-4.0" and splits == {path.name.split("-")[0] for path in out.glob("*.tar")}
    found: list[bytes] = []
    for one in header["configs"]:
        loaded = datasets.load_dataset(
            "webdataset", data_files={f["split"]: str(out / f["path"]) for f in one["data_files"]},
            cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        for split in loaded.values():
            key = next(name for name in split.column_names if name in ("jpg", "png"))
            raw = split.cast_column(key, datasets.Image(decode=False))
            found += [row[key]["bytes"] for row in raw]
    assert sorted(found) == sorted(path.read_bytes() for path in dataset.rglob("*_image/*"))
