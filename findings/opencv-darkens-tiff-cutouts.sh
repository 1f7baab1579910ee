#!/bin/sh
# Expected: `cv2.imread(path, cv2.IMREAD_UNCHANGED)` gives a cut-out (RGBA, straight opacity, marked so) from TIFF as from PNG:
# the numbers in the file. `cv2.imread(path)` gives the colours without the opacity.
# Happens: of TIFF files with 8 bits the colours come multiplied with the opacity: dark at each soft edge, black where hidden,
# and a cut-out laid over a background is multiplied twice. With `cv2.imread(path)`, which has no opacity at all, a photograph
# with its matte as fourth channel turns into the person on black. With 16 bits and IMREAD_UNCHANGED they come as they are.
# What OpenCV writes itself lacks the mark (ExtraSamples), so its own files come back unharmed and tests of a round trip pass.
# Pillow, tifffile, imageio and scikit-image write the mark. Nothing is raised or logged.
# Met in: p3mdata/imaging/decode.py, which leaves to OpenCV TIFF files of 16 bits alone, and those whole.
# Seen with opencv-python-headless 5.0.0.93, tifffile 2026.3.3, Pillow 13.0.0, Python 3.11; RGB 200 100 50, opacity 128 of 255:
#   8 bits of Pillow and tifffile: unchanged 100 50 25 128, colour 100 50 25; Pillow reads both as 200 100 50 128
#   8 bits of OpenCV: unchanged 200 100 50 128; PNG of Pillow: unchanged 200 100 50 128, colour 200 100 50
#   16 bits of tifffile: unchanged 200 100 50 128 (times 257), colour 100 50 25
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tifffile==2026.3.3 \
  opencv-python-headless==5.0.0.93 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(tifffile|opencv-python-headless|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import cv2
import numpy as np
import tifffile
from PIL import Image

cut = np.empty((16, 16, 4), np.uint8)
cut[:] = 200, 100, 50, 128
Image.fromarray(cut).save("pillow.png")
Image.fromarray(cut).save("pillow.tif")
tifffile.imwrite("tifffile.tif", cut)
cv2.imwrite("opencv.tif", cut[..., [2, 1, 0, 3]])
tifffile.imwrite("tifffile16.tif", cut * np.uint16(257), photometric="rgb", extrasamples=["unassalpha"])


def told(path, how):
    pixel = cv2.imread(path, how)[3, 3]
    pixel = pixel // 257 if pixel.dtype == np.uint16 else pixel
    return " ".join(map(str, (*pixel[2::-1], *pixel[3:])))


for path in ("pillow.png", "pillow.tif", "tifffile.tif", "opencv.tif", "tifffile16.tif"):
    other = " ".join(map(str, Image.open(path).getpixel((3, 3))))
    print(path, told(path, cv2.IMREAD_UNCHANGED), "colour", told(path, cv2.IMREAD_COLOR), "Pillow", other)
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "pillow.png 200 100 50 128 colour 200 100 50 Pillow 200 100 50 128;\
pillow.tif 100 50 25 128 colour 100 50 25 Pillow 200 100 50 128;tifffile.tif 100 50 25 128 colour 100 50 25 Pillow 200 100 50 128;\
opencv.tif 200 100 50 128 colour 200 100 50 Pillow 200 100 50 128;tifffile16.tif 200 100 50 128 colour 100 50 25 Pillow 200 100 50 128;" ] ||
  { echo "changed: colours come as they are in the file"; exit 1; }
