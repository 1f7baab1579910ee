"""A finished run with images that wait for a person, for the tests of everything that comes after a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Job
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import LEDGER
from tests.factories import astronaut, encoded, matte, texture

SIDE = 192
# What each source comes to without a person.
HELD = {"held.png": "matte_without_person", "none.png": "no_face_found"}


class HeldRun:
    """A run of four pictures: two released, one with a face and an empty matte, one without a face."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.source, self.alphas = folder, folder / "out", folder / "src", folder / "alphas"

    @classmethod
    def make(cls, folder: Path) -> HeldRun:
        run = cls(folder)
        run.source.mkdir(parents=True)
        run.alphas.mkdir()
        for index, name in enumerate(("fine.png", "also.jpg", "held.png")):
            kind = "JPEG" if name.endswith("jpg") else "PNG"
            (run.source / name).write_bytes(encoded(astronaut(SIDE + index), kind))
            alpha = matte(SIDE + index) if name != "held.png" else np.zeros((SIDE + index,) * 2, np.uint8)
            (run.alphas / f"{Path(name).stem}.png").write_bytes(encoded(alpha, "PNG"))
        (run.source / "none.png").write_bytes(encoded(texture(SIDE, SIDE), "PNG"))
        (run.alphas / "none.png").write_bytes(encoded(matte(SIDE), "PNG"))
        assert run.anonymize().released == 2
        return run

    def copy(self, folder: Path) -> HeldRun:
        """A run of its own to decide about."""
        shutil.copytree(self.folder, folder)
        copied = HeldRun(folder)
        job = copied.out / "private" / "job.json"
        job.write_text(job.read_text().replace(str(self.folder), str(folder)))
        return copied

    def anonymize(self, **execution: Any) -> Any:
        job = Job(
            source=self.source, out=self.out, alphas=self.alphas, execution=Execution(**{"workers": 1} | execution)
        )
        return anonymize_job(job)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Ledger rows by source."""
        return {row["source"]: row for row in read_rows(self.out / LEDGER)}

    def id(self, source: str) -> str:
        return str(self.rows[source]["id"])

    def path(self, source: str, kind: str = "images") -> Path:
        return self.out / kind / self.rows[source]["files"][kind][0]

    def released(self) -> set[str]:
        """Sources whose image lies in the release."""
        return {row["source"] for row in self.rows.values() if list((self.out / "images").glob(f"{row['id']}.*"))}
