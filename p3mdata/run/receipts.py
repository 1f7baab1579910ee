"""What of a run was proved before: so that who proves it again need not come to the same result once more.

A proof depends on the image's row and plan, the files that they give hashes of, and the program with its libraries.
Its receipt is a keyed hash of all of these but the files, whose own hashes are looked at again whenever a receipt is
used. The key is the run's secret: what was edited has no receipt, and who passes on receipts tells nothing.

A run proves each image on the bytes that it then writes, and keeps receipts of that with its shards until the run is
proved anew from its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.metadata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, dumps
from p3mdata.config import Job
from p3mdata.errors import P3MError
from p3mdata.records import ImageResult, Outcome, Sample
from p3mdata.run.layout import PROVED, PROVED_HERE, SHARDS
from p3mdata.run.plan import Plan
from p3mdata.run.planned import read_planned
from p3mdata.run.secret import secret_of
from p3mdata.version import __version__

_DOMAIN = b"p3mdata.proved.v1/"
# Of a hash: a run has millions of images, and a wrong receipt would have to be met by chance.
_BYTES = 8
_LIBRARIES = ("deflate", "jpeglib", "numpy", "onnxruntime", "opencv-python", "pillow", "simplejpeg")
# Outcomes of released images in which nothing is hidden.
WITHOUT_MASK = (Outcome.NO_FACE_CONFIRMED, Outcome.SHOWN_BY_PERMISSION)


class Stamp:
    """Gives images of a run their receipts."""

    def __init__(self, job: Job) -> None:
        secret = None
        with contextlib.suppress(P3MError):
            secret = secret_of(job.out, read_planned(job.out))
        self._key = None if secret is None else _DOMAIN + bytes.fromhex(secret)
        self._about = dumps({"program": _program(), "settings": job.settings.model_dump(mode="json")})

    @property
    def usable(self) -> bool:
        """Whether the run has a secret."""
        return self._key is not None

    def of(self, sample: Sample, row: ImageResult) -> int | None:
        """The receipt that an image has when it was proved; None in a run without a secret."""
        if self._key is None:
            return None
        text = "\n".join((self._about, dumps(sample.to_json()), dumps(row.to_json())))
        digest = hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
        return int.from_bytes(digest[:_BYTES], "big")


def keep_of_run(folder: Path, job: Job, made: Iterable[tuple[Sample, ImageResult]]) -> None:
    """Keep receipts of images of a shard that were just made, beside those that are there.

    Args:
        folder: The shard's.
        job: The run's.
        made: What was proved on the bytes that were written.
    """
    stamp = Stamp(job)
    found = [
        stamp.of(sample, row)
        for sample, row in made
        if row.outcome.released and (row.masked_share or row.outcome in WITHOUT_MASK)
    ]
    new = [receipt for receipt in found if receipt is not None]
    if new:
        with contextlib.suppress(OSError):
            write_atomic(folder / PROVED_HERE, _packed({*_read([folder / PROVED_HERE]).tolist(), *new}), PRIVATE_MODE)


def _read(paths: Iterable[Path]) -> NDArray[np.uint64]:
    """Receipts of files, in their order; none of those that cannot be read, and no torn ones."""
    found = [np.zeros(0, np.uint64)]
    for path in paths:
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            found.append(np.frombuffer(data[: len(data) // _BYTES * _BYTES], ">u8").astype(np.uint64))
    return np.sort(np.concatenate(found))


def _packed(receipts: Iterable[int]) -> bytes:
    return np.array(sorted(receipts), np.uint64).astype(">u8").tobytes()


def _holds(kept: NDArray[np.uint64], receipt: int | None) -> bool:
    if receipt is None or not len(kept):
        return False
    at = int(np.searchsorted(kept, np.uint64(receipt)))
    return at < len(kept) and int(kept[at]) == receipt


class Receipts:
    """Receipts of a run: those that were kept, and those that are to be."""

    def __init__(self, plan: Plan) -> None:
        self._out, self._path = plan.job.out, plan.job.out / PROVED
        self._stamp = Stamp(plan.job)
        self._kept = _read([self._path])
        self._of_run = _read(self._shards())
        self._new: set[int] = set()

    def _shards(self) -> list[Path]:
        return sorted((self._out / SHARDS).glob(f"*/{PROVED_HERE}"))

    def of(self, sample: Sample, row: ImageResult) -> int | None:
        """The receipt that an image has when it was proved; None in a run without a secret."""
        return self._stamp.of(sample, row)

    def holds(self, receipt: int | None) -> bool:
        """Whether a receipt of a proof from the files was kept."""
        return _holds(self._kept, receipt)

    def holds_of_run(self, receipt: int | None) -> bool:
        """Whether a receipt was kept when the image was made."""
        return _holds(self._of_run, receipt)

    def add(self, receipts: Iterable[int | None]) -> None:
        """Note receipts of images that have just been proved, or that were found to have been."""
        self._new |= {receipt for receipt in receipts if receipt is not None}

    def keep(self) -> None:
        """Write those that were noted in the place of all earlier ones, which go even where nothing can be written."""
        if not self._stamp.usable:
            return
        # Each image was proved anew or failed: what was told before does not count any more, whatever can be written.
        wanted = np.array(sorted(self._new), np.uint64)
        others = [] if np.array_equal(wanted, self._kept) else [self._path]
        for path in (*others, *self._shards()):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if others:
            with contextlib.suppress(OSError):
                write_atomic(self._path, _packed(self._new), PRIVATE_MODE)


@cache
def _program() -> list[str]:
    """What proves, with the versions of what it is built on."""
    found = [f"p3mdata {__version__}"]
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found
