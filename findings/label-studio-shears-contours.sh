#!/bin/sh
# Expected: `contour2rle(contours, number, width, height)` of Label Studio's SDK makes of an outline the brush mask
# that lies on the picture there: as many pixels as the outline holds, at its place.
# Happens: it draws on a canvas that is as high as the picture is wide, and the reader folds the values by the
# picture's own width. In a square picture all is well. In a portrait or a landscape the mask is torn into slanted
# stripes, and what lies beyond the shorter side is not drawn at all. The number of pixels is often right. `mask2rle`
# of a mask that was drawn oneself is right. Nothing is raised.
# Met in: whoever brings face or person outlines into Label Studio to have them corrected.
# Seen with label-studio-sdk 2.1.2, opencv-python-headless 4.12.0.88, numpy 2.2.6, Python 3.11; a rectangle of 20x10:
#   64x64: 200 pixels, 200 of them at their place; 96x64 (wide) and 64x96 (high): 200, 40; mask2rle: 200, 200
#   one that lies at the lower end of the high picture: 0 pixels
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  label-studio-sdk==2.1.2 opencv-python-headless==4.12.0.88 numpy==2.2.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(label-studio-sdk|opencv-python-headless|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import cv2
import numpy as np
from label_studio_sdk.converter.brush import contour2rle, decode_rle, mask2rle


def drawn(name, width, height, top=10, by_mask=False):
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + 10, 10:30] = 255
    if by_mask:
        runs = mask2rle(mask)
    else:
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        runs = contour2rle(outlines, 0, width, height)
    read = decode_rle(runs).reshape(height, width, 4)[..., 3] > 0
    print(f"{name}: {np.count_nonzero(mask)} pixels, {read.sum()} drawn, {(read & (mask > 0)).sum()} in place")


drawn("square", 64, 64)
drawn("wide", 96, 64)
drawn("high", 64, 96)
drawn("high, low down", 64, 96, top=80)
drawn("high, by mask", 64, 96, by_mask=True)
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "square: 200 pixels, 200 drawn, 200 in place;wide: 200 pixels, 200 drawn, 40 in place;\
high: 200 pixels, 200 drawn, 40 in place;high, low down: 200 pixels, 0 drawn, 0 in place;\
high, by mask: 200 pixels, 200 drawn, 200 in place;" ] || { echo "changed: outlines stay where they are"; exit 1; }
