#!/bin/sh
# Expected: the distance of each pixel to the nearest background (`scipy.ndimage.distance_transform_edt`), from which
# trimaps and bands along an edge are made, is infinite or very large where a mask has no background: a close-up that
# fills the picture.
# Happens: distances to a pixel that does not exist, one row above the first column: 1.0 in the corner, growing from
# there, all of them plausible. A band of "unknown" appears as a quarter of a circle in the upper left corner of a
# matte that is opaque throughout, and a loss that is weighted by distance is weighted by the place in the picture.
# One background pixel, and all is right. OpenCV and SimpleITK give their largest numbers, the package edt infinity.
# Nothing is raised or warned.
# Met in: trimaps and bands of this project are made by erosion and dilation.
# Seen with scipy 1.17.1, opencv-python-headless 5.0.0.93, edt 3.1.2, SimpleITK 2.5.7, numpy 2.4.6, Python 3.11; 20x30
# of ones:
#   scipy: 1.00 in the corner, 35.23 at most, at the other end; OpenCV above 1e18, edt inf, SimpleITK above 1e18
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  scipy==1.17.1 opencv-python-headless==5.0.0.93 edt==3.1.2 SimpleITK==2.5.7 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(scipy|opencv-python-headless|edt|simpleitk|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import cv2
import edt
import numpy as np
import SimpleITK
from scipy import ndimage

mask = np.ones((20, 30), np.uint8)
scipy = ndimage.distance_transform_edt(mask)
row, column = np.mgrid[:20, :30]
print(f"scipy: {scipy[0, 0]:.2f} to {scipy.max():.2f}, to the point (-1, 0) {np.allclose(scipy, np.hypot(row + 1, column))}")
print(f"opencv: {cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).min() > 1e18}")
print(f"edt: {edt.edt(mask, black_border=False).min()}")
itk = SimpleITK.SignedMaurerDistanceMap(SimpleITK.GetImageFromArray(mask), squaredDistance=False)
print(f"itk: {np.abs(SimpleITK.GetArrayFromImage(itk)).min() > 1e18}")
mask[10, 15] = 0
print(f"with one background pixel: {np.allclose(ndimage.distance_transform_edt(mask), np.hypot(row - 10, column - 15))}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "scipy: 1.00 to 35.23, to the point (-1, 0) True;opencv: True;edt: inf;itk: True;\
with one background pixel: True;" ] || { echo "changed: no background is no distance"; exit 1; }
