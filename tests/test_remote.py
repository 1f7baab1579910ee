"""Sources that are not on this machine: the bytes of a run over local copies of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.addresses import location
from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Job
from p3mdata.errors import SettingsError, SetupError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import LEDGER
from tests.factories import encoded, matte
from tests.runs import contents, p3mdata_here, portraits

upath = pytest.importorskip("upath", reason="universal-pathlib is not installed (pip install 'p3mdata[remote]')")
SIDE = 160
NAMES = ("a.jpg", "sub/b.jpg", "sub/ü #1?.png")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """photos and mattes, a broken file among them."""
    portraits(tmp_path / "photos", *NAMES, side=SIDE)
    (tmp_path / "photos/sub/c.jpg").write_bytes(b"no picture")
    (tmp_path / "photos/.hidden").mkdir()
    (tmp_path / "photos/.hidden/d.jpg").write_bytes(b"not looked at")
    for index, name in enumerate(NAMES):
        path = (tmp_path / "mattes" / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(matte(SIDE + index), "PNG"))
    return tmp_path


@pytest.fixture
def memory(local: Path) -> Any:
    """The same in fsspec's store in memory."""
    store = upath.UPath("memory://bucket")
    for path in local.rglob("*"):
        if path.is_file():
            (store / path.relative_to(local).as_posix()).parent.mkdir(parents=True, exist_ok=True)
            (store / path.relative_to(local).as_posix()).write_bytes(path.read_bytes())
    yield store
    store.fs.rm("/bucket", recursive=True)


def a_job(root: Any, out: Path) -> Job:
    # As a command line gives them: addresses in a Path.
    source, alphas = Path(f"{root}/photos"), Path(f"{root}/mattes")
    return Job(source=source, out=out, alphas=alphas, execution=Execution(workers=1))


def test_a_run_over_addresses_is_a_run_over_copies(local: Path, memory: Any, kept_models: FaceFinder) -> None:
    one, two = local / "one", local / "two"
    anonymize_job(a_job(local, one))
    summary = anonymize_job(a_job("memory://bucket", two))
    assert (summary.samples, summary.released) == (4, 3)
    assert contents(two) == contents(one)
    # From the plan on disk: the addresses are in it.
    assert verify_run(two)[1] == []
    (memory / "photos/a.jpg").write_bytes(b"changed")
    assert {finding.code for finding in verify_run(two)[1]} == {"changed"}


def test_a_file_that_vanishes_is_an_outcome(local: Path, memory: Any, kept_models: FaceFinder) -> None:
    out = local / "out"
    anonymize_job(a_job("memory://bucket", out))
    (memory / "photos/a.jpg").unlink()
    for released in (out / "images").iterdir():
        released.unlink()
    # A part takes the plan that is there; it does not list the sources again.
    job = a_job("memory://bucket", out)
    anonymize_job(job.model_copy(update={"execution": Execution(workers=1, task="1/1")}))
    reasons = {row["source"]: row.get("reason") for row in read_rows(out / LEDGER)}
    assert reasons == {"a.jpg": "cannot_read", "sub/b.jpg": None, "sub/c.jpg": "alpha_missing", NAMES[2]: None}


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"memory://bucket/nowhere: does not exist"):
        anonymize_job(Job(source=Path("memory://bucket/nowhere"), out=tmp_path / "out"))
    (memory / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"memory://bucket/empty: holds no pictures"):
        anonymize_job(Job(source=Path("memory://bucket/empty"), out=tmp_path / "out"))
    with pytest.raises(SettingsError, match="wishes://x/y: cannot be opened"):
        location("wishes://x/y")
    assert location("file:///tmp/x") == Path("/tmp/x")
    assert "give OUT as well" in p3mdata_here("anonymize", "dir", "memory://bucket/photos").stderr
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(SetupError, match=r"pip install 'p3mdata\[s3\]'"):
        location("s3://bucket/photos")
