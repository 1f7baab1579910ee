#!/bin/sh
# Expected: a photograph in an HDF5 file that is written over in place (`file["photos"][0] = blurred`) is gone from
# the file. That deleted data sets leave their bytes behind is known; this one is not deleted, it has a new content.
# Happens: with compression (or any filter) a chunk that needs more room than before is written elsewhere, and the old
# one stays where it was, whole, listed by nothing: its zlib stream opens with any program that looks for one. Noise,
# a pattern or another face in the place of a smooth one needs more room; a grey box needs less, and a test with that
# finds nothing. Without compression it is written over. A copy into a new file leaves the rest behind. Nothing is
# said; the file grows.
# Met in: whoever keeps a set in HDF5: anonymize the pictures first, then make the file.
# Seen with h5py 3.16.0, numpy 2.4.6, Python 3.11; two smooth pictures of 128x128, the first written over, found in
# the bytes:
#   gzip, noise 1, grey 0; not compressed, noise 0; gzip, noise, copied into a new file 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(h5py|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import zlib
from pathlib import Path

import h5py
import numpy as np

row, column = np.mgrid[:128, :128]
face = (128 + 60 * np.sin(column / 5) + 60 * np.sin(row / 7)).astype(np.uint8)
noise = np.random.default_rng(1).integers(0, 256, face.shape).astype(np.uint8)


def found(path):
    """How often the face is in the file, as it is or as a zlib stream."""
    data = Path(path).read_bytes()
    count = data.count(face.tobytes())
    for start in range(len(data)):
        if data[start] == 0x78 and int.from_bytes(data[start : start + 2], "big") % 31 == 0:
            try:
                count += zlib.decompressobj().decompress(data[start:]) == face.tobytes()
            except zlib.error:
                continue
    return count


def painted(name, cover, compression):
    with h5py.File("set.h5", "w") as file:
        file.create_dataset("photos", data=np.stack([face, face[::-1]]), chunks=(1, 128, 128), compression=compression)
    before = found("set.h5")
    with h5py.File("set.h5", "r+") as file:
        file["photos"][0] = cover
    with h5py.File("set.h5") as file, h5py.File("copy.h5", "w") as copy:
        written = np.array_equal(file["photos"][0], cover)
        file.copy("photos", copy)
    print(f"{name}: before {before}, written {written}, found {found('set.h5')}, in a copy {found('copy.h5')}")


painted("gzip, noise", noise, "gzip")
painted("gzip, grey", np.full_like(face, 128), "gzip")
painted("plain, noise", noise, None)
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "gzip, noise: before 1, written True, found 1, in a copy 0;\
gzip, grey: before 1, written True, found 0, in a copy 0;plain, noise: before 1, written True, found 0, in a copy 0;" ] ||
  { echo "changed: what is written over is gone"; exit 1; }
