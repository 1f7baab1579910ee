#!/bin/sh
# Expected: a grey picture with its opacity (height x width x 2, what Pillow gives of mode LA) that `tifffile.imwrite` writes
# is a TIFF of that size with two channels, as an array with 3 or 4 at the end is one picture in colour.
# Happens: each row becomes a page of its own, 2 wide and as high as the picture is wide; a photograph with 1,080 rows has
# 1,080 pages. tifffile and imageio read the array again as it was, from a note about its shape, so that a test of the round
# trip passes; Pillow, OpenCV and viewers show the first page, a strip. `imageio.v3.imwrite` hands TIFF files to tifffile and
# does so too. `photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]` writes what was meant.
# Nothing is said.
# Met in: p3mdata/imaging/decode.py holds such a file back, since it "holds 1080 pictures or pages".
# Seen with tifffile 2026.3.3, imageio 2.38.1, OpenCV 5.0.0.93, Pillow 13.0.0, numpy 2.4.6, Python 3.11; 64 wide, 48 high:
#   LA by both: 48 pages, Pillow 2x64, OpenCV 2x64, tifffile as given; RGB: 1 page, 64x48; LA as above: 1 page, 64x48, mode LA
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tifffile==2026.3.3 imageio==2.38.1 \
  opencv-python-headless==5.0.0.93 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(tifffile|imageio|opencv-python-headless|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import cv2
import imageio.v3
import numpy as np
import tifffile
from PIL import Image

grey = np.tile(np.arange(0, 192, 3, dtype=np.uint8), (48, 1))
channels = {"LA": 2, "RGB": 3}


def look(name, path, array):
    with Image.open(path) as picture:
        pillow = f"{picture.n_frames} pages, Pillow {picture.width}x{picture.height} {picture.mode}"
    first = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    same = np.array_equal(tifffile.imread(path), array)
    print(f"{name}: {pillow}, OpenCV {first.shape[1]}x{first.shape[0]}, tifffile as given {same}")


for name, number in channels.items():
    array = np.dstack([grey] * number)
    tifffile.imwrite("a.tif", array)
    look(f"tifffile {name}", "a.tif", array)
    imageio.v3.imwrite("b.tif", array)
    look(f"imageio {name}", "b.tif", array)
array = np.dstack([grey] * 2)
tifffile.imwrite("c.tif", array, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
look("told LA", "c.tif", array)
PYTHON
cat said
rows="48 pages, Pillow 2x64 L, OpenCV 2x64, tifffile as given True"
right="OpenCV 64x48, tifffile as given True"
[ "$(tr '\n' ';' < said)" = "tifffile LA: $rows;imageio LA: $rows;\
tifffile RGB: 1 pages, Pillow 64x48 RGB, $right;imageio RGB: 1 pages, Pillow 64x48 RGB, $right;\
told LA: 1 pages, Pillow 64x48 LA, $right;" ] || { echo "changed: two channels are channels"; exit 1; }
