"""The folder of a benchmark: alphas and figures of each method by what they depend on, so that a call can go on.

predictions/METHOD/SET/NAME.png    alphas, 8 bit
cache/METHOD.jsonl                 a row per alpha or time, with the key of its inputs
errors/METHOD.txt                  where a method failed
benchmark.md .json .png .html images.csv  what the last call came to
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from p3mdata.base.files import holds_nothing, lies_in, sha256, write_atomic
from p3mdata.base.jsonl import append_row, dumps, read_json, read_rows, write_json
from p3mdata.errors import RunFolderError, SettingsError, unwritable
from p3mdata.typing import Json
from p3mnet.benchmark.timing import Timing

MARK, FORMAT = "benchmark-folder.json", {"format": "p3mdata-benchmark", "version": 1}
TABLES, FIGURES, PLOT, IMAGES = "benchmark.md", "benchmark.json", "benchmark.png", "images.csv"
PAGE = "benchmark.html"


def key_of(*inputs: Any) -> str:
    """Digest of plain values."""
    return sha256(dumps(inputs).encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class KeptAlpha:
    """An alpha that was made.

    Attributes:
        set, image: Of which picture.
        made: Key of what it depends on; `measured` also of what its figures do.
        prediction: SHA-256 of its file.
        seconds: How long it took.
        values: Its figures by column.
    """

    set: str
    image: str
    made: str
    measured: str
    prediction: str
    seconds: float
    values: dict[str, float]

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True)
class KeptTime:
    """A method's time, and the key of what it depends on."""

    key: str
    timing: Timing

    def to_json(self) -> Json:
        return {"set": "", "image": ""} | asdict(self)


@dataclass(frozen=True)
class Kept:
    """What earlier calls left of a method: alphas by set and name, and its time."""

    alphas: Mapping[tuple[str, str], KeptAlpha]
    time: KeptTime | None


_ALPHA, _TIME = TypeAdapter(KeptAlpha), TypeAdapter(KeptTime)


class Store:
    """The folder.

    Args:
        out: New, empty, or of an earlier benchmark.
        dataset: Must not hold it.

    Raises:
        SettingsError: It lies in the dataset.
        RunFolderError: It holds something else, or cannot be written.
    """

    def __init__(self, out: Path, dataset: Path) -> None:
        self.out = out
        if lies_in(out, dataset):
            raise SettingsError(f"{out}: lies in the dataset. Give a folder outside it.")
        with self.writing():
            if (out / MARK).is_file():
                if read_json(out / MARK) != FORMAT:
                    raise RunFolderError(f"{out}: is of another version. Give a new folder.")
            elif out.exists() and (not out.is_dir() or not holds_nothing(out)):
                raise RunFolderError(f"{out}: is not empty and not of a benchmark. Give a new folder.")
            else:
                write_json(out / MARK, FORMAT)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Failures to write become one sentence, which ends the call."""
        try:
            yield
        except OSError as exc:
            raise unwritable(self.out, exc) from exc

    def prediction(self, label: str, set_name: str, stem: str) -> Path:
        """Where an alpha is."""
        return self.out / "predictions" / label / set_name / f"{stem}.png"

    def kept(self, label: str) -> Kept:
        """What is kept of a method; the last row of each picture counts, and one that says something else does not."""
        alphas: dict[tuple[str, str], KeptAlpha] = {}
        time: KeptTime | None = None
        for row in self._rows(label):
            # It is only kept for speed.
            with suppress(ValidationError):
                if "timing" in row:
                    time = _TIME.validate_python(row)
                else:
                    alpha = _ALPHA.validate_python(row)
                    alphas[alpha.set, alpha.image] = alpha
        return Kept(alphas, time)

    def _rows(self, label: str) -> list[Json]:
        """Lines of a method's cache, which is whole afterwards."""
        path = self._cache(label)
        try:
            rows, whole = list(read_rows(path, torn_tail=True)), True
        except RunFolderError:
            rows, whole = [], False
        with self.writing():
            if path.exists() and not (whole and path.read_bytes()[-1:] == b"\n"):
                write_atomic(path, "".join(dumps(row) + "\n" for row in rows).encode("utf-8", "surrogateescape"))
        return rows

    def add(self, label: str, row: KeptAlpha | KeptTime) -> None:
        """Append a row."""
        with self.writing():
            append_row(self._cache(label), row.to_json(), 0o644)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.writing():
            write_atomic(path, data)

    def error(self, label: str) -> Path:
        """Where the trace of a method's failure is."""
        return self.out / "errors" / f"{label}.txt"

    def _cache(self, label: str) -> Path:
        return self.out / "cache" / f"{label}.jsonl"
