"""What of a run was proved before: so that who proves it again need not come to the same result once more.

A proof depends on the image's row and plan, the files that they give hashes of, and the program with its libraries.
Its receipt is a keyed hash of all of these but the files, whose own hashes are looked at again whenever a receipt is
used. The key is the run's secret: what was edited has no receipt, and who passes on receipts tells nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.metadata
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, dumps
from p3mdata.errors import P3MError
from p3mdata.records import ImageResult, Sample
from p3mdata.run.layout import PROVED
from p3mdata.run.plan import Plan
from p3mdata.run.planned import read_planned
from p3mdata.run.secret import secret_of
from p3mdata.version import __version__

_DOMAIN = b"p3mdata.proved.v1/"
# Of a hash: a run has millions of images, and a wrong receipt would have to be met by chance.
_BYTES = 8
_LIBRARIES = ("jpeglib", "numpy", "onnxruntime", "opencv-python", "pillow", "simplejpeg")


class Receipts:
    """Receipts of a run: those that were kept, and those that are to be."""

    def __init__(self, plan: Plan) -> None:
        self._path = plan.job.out / PROVED
        secret = None
        with contextlib.suppress(P3MError):
            secret = secret_of(plan.job.out, read_planned(plan.job.out))
        self._key = None if secret is None else _DOMAIN + bytes.fromhex(secret)
        self._about = dumps({"program": _program(), "settings": plan.job.settings.model_dump(mode="json")})
        self._kept = self._read()
        self._new: set[int] = set()

    def _read(self) -> NDArray[np.uint64]:
        try:
            data = self._path.read_bytes()
        except OSError:
            data = b""
        return np.sort(np.frombuffer(data[: len(data) // _BYTES * _BYTES], ">u8").astype(np.uint64))

    def of(self, sample: Sample, row: ImageResult) -> int | None:
        """The receipt that an image has when it was proved; None in a run without a secret."""
        if self._key is None:
            return None
        text = "\n".join((self._about, dumps(sample.to_json()), dumps(row.to_json())))
        digest = hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
        return int.from_bytes(digest[:_BYTES], "big")

    def holds(self, receipt: int | None) -> bool:
        """Whether a receipt was kept."""
        if receipt is None or not len(self._kept):
            return False
        at = int(np.searchsorted(self._kept, np.uint64(receipt)))
        return at < len(self._kept) and int(self._kept[at]) == receipt

    def add(self, receipts: Iterable[int | None]) -> None:
        """Note receipts of images that have just been proved, or that were found to have been."""
        self._new |= {receipt for receipt in receipts if receipt is not None}

    def keep(self) -> None:
        """Write those that were noted, in the place of all earlier ones; nothing where nothing can be written."""
        wanted = np.array(sorted(self._new), np.uint64)
        if self._key is not None and not np.array_equal(wanted, self._kept):
            with contextlib.suppress(OSError):
                write_atomic(self._path, wanted.astype(">u8").tobytes(), PRIVATE_MODE)


@cache
def _program() -> list[str]:
    """What proves, with the versions of what it is built on."""
    found = [f"p3mdata {__version__}"]
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found
