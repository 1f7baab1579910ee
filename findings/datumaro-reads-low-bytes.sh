#!/bin/sh
# Expected: datumaro, told to resize a set and write it with its pictures, gives pictures of 16 bits (mattes, depth,
# photographs of studios) as such, scaled to 8 bits, or with an error.
# Happens: `media.data` is of 8 bits unless it is asked for otherwise, and the conversion keeps the low byte of each
# value: 30000 is 48, 256 is 0. Transforms that touch pixels (resize, crop) ask for nothing, so the written PNG has 8
# bits of stripes or noise. A set that is only converted has its files copied, and is right; so is a test without a
# transform. A photograph that was taken upright loses its note about that on the same way and lies on its side.
# Nothing is raised or logged.
# Met in: whoever resizes mattes with datumaro between this project and a trainer.
# Seen with datumaro 1.13.12, Pillow 12.3.0, numpy 2.2.6, Python 3.11; a picture of 30000, a JPEG of 60x40 with
# orientation 6:
#   data uint8 48; resized: mode L, value 48; only exported: I;16, value 30000; JPEG resized to 30x20: no orientation
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  datumaro==1.13.12 pillow==12.3.0 numpy==2.2.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(datumaro|pillow|numpy|opencv-python-headless) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
from pathlib import Path

import datumaro
import numpy as np
from PIL import Image

Path("set").mkdir()
Image.fromarray(np.full((40, 60), 30000, np.uint16)).save("set/matte.png")
turned = Image.Exif()
turned[0x112] = 6
Image.new("RGB", (60, 40)).save("set/photo.jpg", exif=turned)


def loaded():
    return datumaro.Dataset.import_from("set", "image_dir")


data = next(item.media.data for item in loaded() if item.id == "matte")
print(f"data: {data.dtype} {data.max()}")
small = loaded()
small.transform("resize", width=30, height=20)
small.export("small", "image_dir", save_media=True)
loaded().export("copied", "image_dir", save_media=True)
for folder in ("small", "copied"):
    matte, photo = (Image.open(next(Path(folder).rglob(f"{name}.*"))) for name in ("matte", "photo"))
    turned = photo.getexif().get(0x112)
    print(f"{folder}: {matte.mode} {np.asarray(matte).max()}, photo {photo.size}, orientation {turned}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "data: uint8 48;small: L 48, photo (30, 20), orientation None;\
copied: I;16 30000, photo (60, 40), orientation 6;" ] || { echo "changed: 16 bits are kept, scaled or refused"; exit 1; }
