#!/bin/sh
# Expected: Augmentor, told of masks by `Pipeline.ground_truth(folder)`, turns and bends them with their photographs and
# leaves the numbers in them what they are: it is the library's way of augmenting segmentations.
# Happens: masks go through the same steps as photographs, bicubic sampling and all. Along every border between two classes
# there are numbers of other classes, overshoot included: with 0, 1 and 15 there are 0 to 19. Hard masks get soft edges.
# Steps about colour are done to masks too: `random_brightness` makes 22 of class 15. Files are written one beside the
# other and look right. Nothing is said.
# Met in: whoever augments face parsings or trimaps outside of this project.
# Seen with Augmentor 0.2.12, Pillow 13.0.0, numpy 2.4.6, Python 3.11; a mask of the numbers 0, 1 and 15:
#   rotated by up to 10 degrees: 0 to 19, twenty numbers; brightness 1.5: 0 1 22
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check augmentor==0.2.12 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(augmentor|numpy|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pathlib
import random

import Augmentor
import numpy as np
from PIL import Image

mask = np.zeros((96, 96), np.uint8)
mask[20:70, 20:70] = 15
mask[40:80, 40:80] = 1


def numbers(name, add_steps):
    """What stands in the masks that come out."""
    random.seed(0)
    photos, masks = pathlib.Path(name, "photos"), pathlib.Path(name, "masks")
    for folder, pixels in (photos, np.dstack([mask * 9] * 3)), (masks, mask):
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "a.png")
    steps = Augmentor.Pipeline(str(photos))
    steps.ground_truth(str(masks))
    add_steps(steps)
    steps.sample(3, multi_threaded=False)
    found = [np.asarray(Image.open(path)) for path in photos.glob("output/_groundtruth_*")]
    assert len(found) == 3 and all(array.shape == mask.shape for array in found)
    return sorted(set(np.concatenate(found).ravel().tolist()))


rotated = numbers("rotated", lambda steps: steps.rotate(1, 10, 10))
lighter = numbers("lighter", lambda steps: steps.random_brightness(1, 1.5, 1.5))
print(f"RESULT rotated: {' '.join(map(str, rotated))}; lighter: {' '.join(map(str, lighter))}")
PYTHON
grep -o "RESULT.*" said
[ "$(grep -o "RESULT.*" said)" = "RESULT rotated: $(seq -s " " 0 19); lighter: 0 1 22" ] ||
  { echo "changed: numbers of masks stay"; exit 1; }
