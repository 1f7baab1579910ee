"""WebDataset: tar shards that are the same bytes on every machine, and index.json with their hashes.

In a shard each image is `<id>.jpg` (or png, webp, tif), followed by `<id>.alpha.png`, `<id>.facemask.png` and so on,
and `<id>.json` with its row of the manifest. Loaders that group by what comes before the first dot give one sample per
image, with the keys `jpg`, `alpha.png`, `json`.

A release of several formats has one ending for all its images, `jpg` where some are JPEG: `datasets` takes its columns
from the first samples and drops what others have, without a word. Decoders go by the content; the row says the format.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence

from p3mdata.base.jsonl import dumps
from p3mdata.export.entries import KINDS, Entry, shards
from p3mdata.export.huggingface import Config
from p3mdata.export.release import Release
from p3mdata.export.target import Measured, Target

INDEX = "index.json"

LOADING = """\
```python
import io

import numpy as np
import webdataset as wds
from PIL import Image

samples = wds.WebDataset("{split}-00000.tar", shardshuffle=False)
for image, alpha in samples.to_tuple("jpg;png;webp;tif", "alpha.png"):
    image, alpha = (np.asarray(Image.open(io.BytesIO(data))) for data in (image, alpha))
    alpha = alpha / np.iinfo(alpha.dtype).max  # 0 to 1; `.decode("pil")` would clip mattes of 16 bits
```

`{split}-{00000..00009}.tar` names ten shards at once; `index.json` has hash, size and number of images of each. With
`datasets`, sets that have other kinds of files are configurations: `load_dataset(PATH, "{split}", split="{split}")`."""


def write(
    release: Release, target: Target, most_images: int, most_bytes: int, step: Callable[[], None]
) -> Sequence[Config]:
    """Write `<split>-00000.tar` and on, then index.json; at most one image is in memory.

    Returns:
        Entries for the card's `configs`: without them only the set named train would be found. Splits of different
        kinds of files cannot share one, and have one each.
    """
    endings = {
        kind: _one_ending({entry.files[kind].suffix for split in release.splits for entry in split.entries
                           if kind in entry.files})
        for kind in release.kinds
    }  # fmt: skip
    index: dict[str, list[dict[str, object]]] = {}
    for split in release.splits:
        for number, entries in enumerate(shards(split.entries, most_images, most_bytes)):
            name = f"{split.name}-{number:05d}.tar"
            with target.stream(name) as sink:
                _write_shard(sink, entries, endings, step)
            index.setdefault(split.name, []).append(
                {"file": name, "sha256": sink.sha256, "bytes": sink.bytes, "images": len(entries)}
            )
    about = {"version": release.facts().version, "images": release.images, "splits": index}
    target.write_json(INDEX, about)
    files = {split.name: f"{split.name}-*.tar" for split in release.splits}
    if len({split.kinds for split in release.splits}) == 1:
        return [Config("default", files, default=True)]
    return [Config(name, {name: path}, default=number == 0) for number, (name, path) in enumerate(files.items())]


def _one_ending(found: set[str]) -> str:
    """The ending that all files of a kind get."""
    return ".jpg" if found & {".jpg", ".jpeg"} else min(found, default=".png")


def _write_shard(
    sink: Measured, entries: Sequence[Entry], endings: Mapping[str, str], step: Callable[[], None]
) -> None:
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            for kind in KINDS:
                if kind in entry.files:
                    name = entry.name(kind).removesuffix(entry.files[kind].suffix) + endings[kind]
                    _add(tar, name, entry.files[kind].read())
            _add(tar, f"{entry.id}.json", (dumps(entry.told) + "\n").encode())
            step()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member that tells nothing about the machine: owner 0, time 0, mode 0644, no names."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
