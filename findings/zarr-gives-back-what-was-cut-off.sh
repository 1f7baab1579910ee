#!/bin/sh
# Expected: photographs at the end of a zarr array that are dropped by making it shorter (`array.resize`) are gone;
# made longer again, the new places are empty (fill value), as they are in HDF5 after the same two calls.
# Happens: only chunks that lie outside as a whole are deleted. Of the chunk that the new end runs through nothing is
# touched: the withdrawn photographs stay in the store, in a file that is passed on, and no reader shows them, until
# the array grows: then they are back, as photographs of the set, whether somebody asks for room or not. `append`
# overwrites as many as it brings. The shape is right all the time. Nothing is said.
# Met in: whoever keeps photographs or mattes of a set in zarr: overwrite with zeros before cutting off, or copy the
# array.
# Seen with zarr 3.1.6, h5py 3.16.0, numpy 2.4.6, Python 3.11; ten pictures of value 100 in chunks of five, cut to
# seven:
#   zarr: shape 7, in the store 10 pictures; longer again 100 100 100 0 0; HDF5: 0 0 0 0 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check zarr==3.1.6 h5py==3.16.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(zarr|h5py|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
from pathlib import Path

import h5py
import numpy as np
import zarr

pictures = np.full((10, 8, 8), 100, np.uint8)
for version in (2, 3):
    name = f"set{version}"
    array = zarr.create_array(
        name, shape=pictures.shape, chunks=(5, 8, 8), dtype="uint8", zarr_format=version, compressors=None
    )
    array[:] = pictures
    array.resize((7, 8, 8))
    stored = sum(path.read_bytes().count(b"\x64" * 64) for path in Path(name).rglob("*") if path.is_file())
    print(f"zarr {version}: shape {zarr.open(name).shape[0]}, in the store {stored} pictures")
    array = zarr.open(name)
    array.resize((12, 8, 8))
    print(f"zarr {version}, longer:", *array[7:].max(axis=(1, 2)))
with h5py.File("set.h5", "w") as file:
    array = file.create_dataset("pictures", data=pictures, chunks=(5, 8, 8), maxshape=(None, 8, 8))
    array.resize(7, axis=0)
with h5py.File("set.h5", "r+") as file:
    file["pictures"].resize(12, axis=0)
    print("HDF5, longer:", *file["pictures"][7:].max(axis=(1, 2)))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "zarr 2: shape 7, in the store 10 pictures;zarr 2, longer: 100 100 100 0 0;\
zarr 3: shape 7, in the store 10 pictures;zarr 3, longer: 100 100 100 0 0;HDF5, longer: 0 0 0 0 0;" ] ||
  { echo "changed: what is cut off stays away"; exit 1; }
