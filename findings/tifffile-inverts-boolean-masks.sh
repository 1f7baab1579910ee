#!/bin/sh
# Expected: a mask of booleans that is written as TIFF and opened with another program has its foreground where it was, as
# one that Pillow writes, and one of bytes.
# Happens: `tifffile.imwrite` marks an array of booleans as "white is zero" and stores its ones as ones, which say black then.
# It takes no notice of the mark when it reads, so that in tifffile, imageio and scikit-image the mask is as before; Pillow
# and OpenCV, and viewers, heed it and give the mask inside out: the face is background and all else is face.
# `imageio.v3.imwrite` hands TIFF files to tifffile and does so too; scikit-image's imsave makes bytes first and is right.
# `photometric="minisblack"` writes what was meant. Nothing is raised or warned; a mask with about half of its pixels set
# passes each test of plausibility.
# Met in: whoever hands masks made with tifffile or imageio to this project, or to OpenCV: write PNG, or say minisblack.
# Seen with tifffile 2026.3.3, imageio 2.38.1, OpenCV 5.0.0.93, Pillow 13.0.0, Python 3.11; 400 of 4096 pixels are set:
#   tifffile: by itself 400, Pillow 3696, OpenCV 3696; with minisblack 400, 400, 400
#   imageio:  by itself 400, Pillow 3696, OpenCV 3696; Pillow's own file 400, 400, 400
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

mask = np.zeros((64, 64), bool)
mask[20:40, 20:40] = True
tifffile.imwrite("tifffile.tif", mask)
imageio.v3.imwrite("imageio.tif", mask)
tifffile.imwrite("minisblack.tif", mask, photometric="minisblack")
Image.fromarray(mask).save("pillow.tif")
for name in ("tifffile", "imageio", "minisblack", "pillow"):
    path = f"{name}.tif"
    read = {
        "tifffile": tifffile.imread(path),
        "imageio": imageio.v3.imread(path),
        "Pillow": np.asarray(Image.open(path)),
        "OpenCV": cv2.imread(path, cv2.IMREAD_UNCHANGED),
    }
    print(f"{name}:", ", ".join(f"{reader} {np.count_nonzero(array)}" for reader, array in read.items()))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "tifffile: tifffile 400, imageio 400, Pillow 3696, OpenCV 3696;\
imageio: tifffile 400, imageio 400, Pillow 3696, OpenCV 3696;minisblack: tifffile 400, imageio 400, Pillow 400, OpenCV 400;\
pillow: tifffile 400, imageio 400, Pillow 400, OpenCV 400;" ] ||
  { echo "changed: the mask is the same for all"; exit 1; }
