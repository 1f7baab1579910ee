#!/bin/sh
# Expected: `pycocotools.mask.encode` takes a mask of bytes in which all that is not 0 (or all above a half) is foreground,
# or refuses one with other values than 0 and 1: it wants a contiguous uint8 array and says so when it gets another.
# Happens: it begins a new run wherever a byte differs from the one before it in its column and takes runs as background
# and foreground in turn. 0 and 255 work, so tests with hard masks pass; each further value turns the mask inside out from
# there on. A matte with a soft edge becomes stripes, a label map becomes neither of its labels; area, box and IoU, which
# are computed from the runs, are wrong with it. Nothing is raised.
# Met in: whoever makes COCO annotations out of this project's mattes and of facemasks (0, 64, 255): compare first.
# Seen with pycocotools 2.0.11, numpy 2.4.6, Python 3.11; a disc of radius 30 with an edge one pixel wide:
#   hard mask (0, 255): area 2809 of 2809
#   soft mask (0 to 255): area 808; not 0 are 2933, above a half 2809
#   two squares of 400 with the values 1 and 2, side by side: area 800; with one on top of the other: area 1000
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pycocotools|numpy) "
"$folder/env/bin/python" - > "$folder/said" <<'PYTHON' || exit 2
import numpy as np
from pycocotools import mask


def area(array):
    return int(mask.area(mask.encode(np.asfortranarray(array))))


y, x = np.mgrid[:100, :100]
soft = (np.clip(30.5 - np.hypot(y - 50, x - 50), 0, 1) * 255).astype(np.uint8)
hard = np.where(soft > 127, 255, 0).astype(np.uint8)
print("hard", area(hard), "of", np.count_nonzero(hard))
print("soft", area(soft), "of", np.count_nonzero(soft), "or", np.count_nonzero(hard))
labels = np.zeros((100, 100), np.uint8)
labels[20:40, 20:40], labels[20:40, 50:70] = 1, 2
print("beside", area(labels))
labels = np.zeros((100, 100), np.uint8)
labels[20:40, 20:40], labels[40:60, 20:40] = 1, 2
print("on top", area(labels))
PYTHON
cat "$folder/said"
[ "$(tr '\n' ';' < "$folder/said")" = "hard 2809 of 2809;soft 808 of 2933 or 2809;beside 800;on top 1000;" ] ||
  { echo "changed: runs do not alternate at each value any more"; exit 1; }
