#!/bin/sh
# Expected: optimize-images, which makes the photographs of a folder smaller in their place, leaves them as they are
# seen; its help says that metadata are taken away unless it is told to keep them, so it turns what the metadata said
# was to be turned.
# Happens: the note is taken away and the pixels stay as they lay. Each photograph that was taken upright lies on its
# side for ever, over the original; landscapes are right. Mattes, which have no such note, fit no more. In the same
# run label maps (palette PNG) get other numbers: entries without pixels go, and the border that losses ignore (255)
# becomes a class. `-ke` keeps the note, and the numbers change all the same. The summary speaks of bytes.
# Met in: whoever makes a folder smaller before or after this project; p3mdata turns the pixels where it drops the
# note.
# Seen with optimize-images 2.2.0, Pillow 13.0.0, numpy 2.4.6, Python 3.11; a JPEG of 96x64 with orientation 6, a
# label map:
#   before: seen as 64x96, labels 0 15 20 255; after: seen as 96x64, labels 0 1 2 3; with -ke: 64x96, 0 1 2 3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check optimize-images==2.2.0 pillow==13.0.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(optimize-images|pillow|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

turned = Image.Exif()
turned[0x112] = 6
noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8)
labels = np.array([[0, 15], [20, 255]], np.uint8).repeat(40, 0).repeat(40, 1)


def seen(name, *options):
    shutil.rmtree("set", ignore_errors=True)
    Path("set").mkdir()
    Image.fromarray(noise).save("set/photo.jpg", exif=turned, quality=100)
    numbers = Image.fromarray(labels)
    numbers.putpalette([value for number in range(256) for value in (number, number * 3 % 256, number * 7 % 256)])
    numbers.save("set/labels.png")
    if name != "before":
        subprocess.run(["env/bin/optimize-images", *options, "set"], check=True, stdout=subprocess.DEVNULL)
    with Image.open("set/photo.jpg") as photo, Image.open("set/labels.png") as read:
        width, height = ImageOps.exif_transpose(photo).size
        print(f"{name}: seen as {width}x{height}, labels {read.mode}", *np.unique(read))


seen("before")
seen("after")
seen("keeping", "-ke")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "before: seen as 64x96, labels P 0 15 20 255;after: seen as 96x64, labels P 0 1 2 3;\
keeping: seen as 64x96, labels P 0 1 2 3;" ] || { echo "changed: photographs stay as they are seen, labels as they are"; exit 1; }
