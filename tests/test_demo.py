"""What a newcomer does first: doctor and demo, as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from p3mdata.base.jsonl import read_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.run.job import verify_run


def p3mdata(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p3mdata", *map(str, args)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    done = p3mdata("demo", folder)
    assert done.returncode == 0, done.stderr
    assert f"report: {folder}/run/report.html" in done.stdout
    return folder


def test_doctor_finds_nothing_missing() -> None:
    done = p3mdata("doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 0, checks
    assert {"one cv2", "centerface.onnx", "libfacedetection.so", "face_landmarker.task"} <= {c["name"] for c in checks}
    assert all(check["ok"] for check in checks if check["needed"])


def test_every_format_of_the_sample_is_released_in_its_own_format(demo: Path) -> None:
    rows = list(read_rows(demo / "run" / "private" / "ledger.jsonl"))
    released = {row["source"]: row["files"]["images"][0].rsplit(".", 1)[1] for row in rows if row["files"]}
    assert released == {
        "as-shipped.jpg": "jpg",
        "large.jpg": "jpg",
        "turned-6.jpg": "jpg",
        "turned-3.jpg": "jpg",
        "grey.png": "png",
        "sixteen-bit.png": "png",
        "cut-out.png": "png",
        "lossless.webp": "webp",
        "scan.tif": "tif",
    }


def test_public_manifest_follows_its_schema(demo: Path) -> None:
    schema = json.loads((manifests_dir() / "record.schema.json").read_text())
    rows = list(read_rows(demo / "run" / "manifest.jsonl"))
    assert len(rows) == 9
    for row in rows:
        jsonschema.validate(row, schema)


def test_sample_is_proved_again_from_its_files(demo: Path) -> None:
    assert verify_run(demo / "run") == (9, [])


def test_sample_really_changed_and_only_in_the_mask(demo: Path) -> None:
    rows = {row["source"]: row for row in read_rows(demo / "run" / "private" / "ledger.jsonl")}
    for name in ("grey.png", "as-shipped.jpg", "lossless.webp", "scan.tif"):
        files = rows[name]["files"]
        mask = np.asarray(Image.open(demo / "run" / "facemasks" / files["facemasks"][0])) > 0
        before = np.asarray(Image.open(demo / "photos" / name)).astype(int)
        after = np.asarray(Image.open(demo / "run" / "images" / files["images"][0])).astype(int)
        changed = np.abs(before - after).reshape(*mask.shape, -1).max(2) > 0
        assert not changed[~mask].any()
        assert changed[mask].mean() > 0.9
