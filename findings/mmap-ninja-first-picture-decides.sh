#!/bin/sh
# Expected: `RaggedMmap.from_generator` of mmap-ninja, which puts pictures of any size into one file for fast reading, keeps
# the values of each: it takes a type that holds all, or refuses an array of another type than the first.
# Happens: the first picture gives the type for all, and later ones are cast to it without a check. After an 8-bit picture
# one of 16 bits keeps its low byte (300 becomes 44), and a matte of 0 to 1 becomes 0 but where it is fully opaque. The other
# way round nothing is lost, so the order of files decides whether mattes have soft edges. Sizes and shapes are right.
# Met in: whoever caches this project's photographs and mattes so: give all the same type first.
# Seen with mmap-ninja 0.9.0, numpy 2.4.6, Python 3.11; three pictures, of 8 bits, of 16 bits and of 0 to 1:
#   8 bits first: all uint8; 300 is 44; the matte has 2 values of 256. Matte first: all as given, in float32
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mmap-ninja==0.9.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(mmap.ninja|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
from mmap_ninja import RaggedMmap

photo = np.arange(256, dtype=np.uint8).reshape(8, 32)
deep = np.full((4, 6), 300, np.uint16)
matte = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)


def kept(name, *pictures):
    RaggedMmap.from_generator(out_dir=name, sample_generator=iter(pictures), batch_size=8, verbose=False)
    return [np.array(picture) for picture in RaggedMmap(name)]


first, second, third = kept("photo-first", photo, deep, matte)
print(f"photo: {first.dtype}, equal {np.array_equal(first, photo)}")
print(f"16 bits: {second.dtype}, {second.shape == deep.shape}, 300 is {second[0, 0]}")
print(f"matte: {third.dtype}, {third.shape == matte.shape}, {len(np.unique(third))} values of {len(np.unique(matte))}")
equal = [np.array_equal(*pair) for pair in zip(kept("matte-first", matte, deep, photo), (matte, deep, photo), strict=True)]
print(f"matte first: equal {equal}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "photo: uint8, equal True;16 bits: uint8, True, 300 is 44;\
matte: uint8, True, 2 values of 256;matte first: equal [True, True, True];" ] ||
  { echo "changed: each picture is kept, or refused"; exit 1; }
