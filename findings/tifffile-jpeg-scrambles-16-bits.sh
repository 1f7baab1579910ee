#!/bin/sh
# Expected: `tifffile.imwrite(path, photo, compression="jpeg")` of a colour photograph with 16 bits keeps it but for
# the losses of JPEG, scales it to the 12 bits that JPEG has at most, or refuses it, as it refuses the same photograph
# in grey ("DCT coefficient out of range").
# Happens: the numbers are given to a coder for 12 bits as they are. Where its own check sees nothing, since the
# colours are turned into luma and chroma first, the file is written: noise and stripes of values to 4095, dark
# throughout, in a file that says 16 bits and has the right size. Values below 4096 come back well, so that a test
# with a dark picture passes. Nothing is raised or warned. Compression without loss ("zlib") keeps it.
# Met in: whoever stores photographs or mattes of 16 bits small: PNG; p3mdata reads TIFF and writes none.
# Seen with tifffile 2026.3.3, imagecodecs 2026.3.6, numpy 2.4.6, Python 3.11; a smooth picture of 64x64, mean 31500:
#   colour: uint16, mean 2051, differences to 62754; of a sixteenth the brightness: to 40; grey: Jpeg8Error; zlib 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(tifffile|imagecodecs|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import tifffile

row, column = np.mgrid[:64, :64]
photo = np.dstack([column * 1000, row * 1000, (row + column) * 500]).astype(np.uint16)


def stored(name, picture, compression="jpeg"):
    try:
        tifffile.imwrite("photo.tif", picture, compression=compression)
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
        return
    read = tifffile.imread("photo.tif")
    difference = np.abs(read.astype(int) - picture).max()
    far = "none" if difference == 0 else "below 100" if difference < 100 else "large"
    dark = read.mean() < picture.mean() / 10
    print(f"{name}: {read.dtype} {read.shape == picture.shape}, darkened {dark}, difference {far}")


stored("colour", photo)
stored("dark", photo // 16)
stored("grey", photo[..., 0])
stored("zlib", photo, "zlib")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "colour: uint16 True, darkened True, difference large;\
dark: uint16 True, darkened False, difference below 100;grey: Jpeg8Error;zlib: uint16 True, darkened False, difference none;" ] ||
  { echo "changed: colours of 16 bits are kept, or refused"; exit 1; }
