"""Hugging Face: an image folder with metadata.jsonl, or Parquet files with the pictures inside; both load offline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p3mdata.base.jsonl import dumps
from p3mdata.errors import SetupError
from p3mdata.export.entries import Entry, Split, shards
from p3mdata.export.release import Release
from p3mdata.export.target import Target
from p3mdata.typing import Json

METADATA, METADATA_ALL = "metadata.jsonl", "metadata_all.jsonl"
# Rows that are in memory at once, and what is read of a file at once by those who load it.
_GROUP_ROWS = 100
_GROUP_BYTES = 32 << 20
_TYPES = {str: "string", int: "int64", float: "float64", bool: "bool"}

LOADING = """\
```python
import numpy as np
from datasets import load_dataset

dataset = load_dataset("PATH OR NAME OF THIS DATASET")
for row in dataset["{split}"]:
    image, alpha = np.asarray(row["image"]), np.asarray(row["alpha"])
    alpha = alpha / np.iinfo(alpha.dtype).max  # 0 to 1; `.convert("L")` would clip mattes of 16 bits
```"""


@dataclass(frozen=True)
class Config:
    """A configuration of the card's YAML header, by which `datasets` finds the files of each split.

    Attributes:
        name: default, or that of a split.
        files: Pattern of the files, by split.
        default: Whether it is the one that is loaded where none is named.
        metadata: Names of the files that tell of the pictures, where they are not metadata.jsonl.
    """

    name: str
    files: Mapping[str, str]
    default: bool = False
    metadata: tuple[str, ...] = ()

    def to_json(self) -> Json:
        return {
            "config_name": self.name,
            **({"default": True} if self.default else {}),
            "data_files": [{"split": split, "path": path} for split, path in self.files.items()],
            **({"metadata_filenames": list(self.metadata)} if self.metadata else {}),
        }


def write_folder(
    release: Release, target: Target, most_images: int, most_bytes: int, step: Callable[[], None]
) -> Sequence[Config]:
    """Write data/<split>/<kind>/<id>.<ext> and the metadata.jsonl of each split.

    The splits of one configuration must have the same columns, so `default` has the kinds of pictures that all splits
    have. A split with more kinds has a configuration of its name with all of them (metadata_all.jsonl).

    Returns:
        Entries for the card's `configs`.
    """
    shared = tuple(kind for kind in release.kinds if all(kind in split.kinds for split in release.splits))
    richer = [split for split in release.splits if split.kinds != shared]
    for split in release.splits:
        for entry in split.entries:
            for kind, file in entry.files.items():
                path = f"data/{split.name}/{kind}/{entry.id}{file.suffix}"
                if not target.has(path, file.sha256):
                    target.write(path, file.read())
            step()
        _write_rows(target, f"data/{split.name}/{METADATA}", split, shared)
        if split in richer:
            _write_rows(target, f"data/{split.name}/{METADATA_ALL}", split, split.kinds)
    files = {split.name: f"data/{split.name}/**" for split in release.splits}
    return [
        Config("default", files, default=True),
        *(Config(split.name, {split.name: files[split.name]}, metadata=(METADATA_ALL,)) for split in richer),
    ]


def _write_rows(target: Target, path: str, split: Split, kinds: Sequence[str]) -> None:
    with target.stream(path) as sink:
        for entry in split.entries:
            # Not plain `file_name` for the image: `datasets` would give it to the first picture column of the row.
            named = {f"{kind}_file_name": _inside(entry, kind) for kind in kinds}
            sink.write((dumps({**named, **entry.scalars()}) + "\n").encode())


def _inside(entry: Entry, kind: str) -> str | None:
    return f"{kind}/{entry.id}{entry.files[kind].suffix}" if kind in entry.files else None


def require_pyarrow() -> None:
    """Raise SetupError when the library is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise SetupError("Parquet files need pyarrow: run pip install 'p3mdata[release]'.") from exc


def write_parquet(
    release: Release, target: Target, most_images: int, most_bytes: int, step: Callable[[], None]
) -> Sequence[Config]:
    """Write data/<split>-00000-of-00001.parquet and on; pictures are columns of {bytes, path}, absent ones null.

    The bytes are the same for one version of pyarrow, which writes its name into each file.

    Returns:
        Entries for the card's `configs`.
    """
    import pyarrow
    from pyarrow import parquet

    schema = _schema(release, pyarrow)
    for split in release.splits:
        cut = shards(split.entries, most_images, most_bytes)
        for number, entries in enumerate(cut):
            with (
                target.stream(parquet_name(split, number, len(cut))) as sink,
                # Pictures are compressed already, and no two are equal.
                parquet.ParquetWriter(
                    pyarrow.PythonFile(sink, "w"), schema, compression="none", use_dictionary=False
                ) as writer,
            ):
                for rows in _groups(entries, step):
                    columns = {name: [row.get(name) for row in rows] for name in schema.names}
                    writer.write_table(pyarrow.table(columns, schema), row_group_size=len(rows))
    return [Config("default", {split.name: f"data/{split.name}-*.parquet" for split in release.splits}, default=True)]


def parquet_name(split: Split, number: int, total: int) -> str:
    """Path of a shard."""
    return f"data/{split.name}-{number:05d}-of-{total:05d}.parquet"


def _schema(release: Release, pyarrow: Any) -> Any:
    """Arrow schema with the note by which `datasets` knows that columns are pictures."""
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {kind: picture for kind in release.kinds}
    features: Json = {kind: {"_type": "Image"} for kind in release.kinds}
    for name, kind in release.columns.items():
        columns[name] = getattr(pyarrow, _TYPES[kind].replace("bool", "bool_"))()
        features[name] = {"dtype": _TYPES[kind], "_type": "Value"}
    return pyarrow.schema(columns.items(), {"huggingface": json.dumps({"info": {"features": features}})})


def _groups(entries: Sequence[Entry], step: Callable[[], None]) -> Iterator[list[Json]]:
    """Rows of one row group at a time."""
    rows: list[Json] = []
    held = 0
    for entry in entries:
        pictures = {kind: {"bytes": file.read(), "path": entry.name(kind)} for kind, file in entry.files.items()}
        rows.append({**pictures, **entry.scalars()})
        held += sum(len(picture["bytes"]) for picture in pictures.values())
        step()
        if len(rows) >= _GROUP_ROWS or held >= _GROUP_BYTES:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows
