#!/bin/sh
# Expected: a trainer reads the photographs of its set; what it finds wrong it reports, and leaves the files as they
# are.
# Happens: when ultralytics scans a set (once, before the first epoch or validation), it overwrites each JPEG that
# does not end in the mark of the end: opened, turned upright, saved again with quality 100, all metadata gone. Phones
# write such files: a short film lies behind the picture. Width and height are exchanged, so that a matte or a list of
# outlines beside it fits no more, hashes in manifests and receipts are wrong, and the original is lost: no copy is
# kept. A line in the log says "corrupt JPEG restored and saved".
# Met in: whoever trains a face detector on the photographs that this project is given: on a copy. Released files end
# in the mark.
# Seen with ultralytics 8.4.190, torch 2.13.0, Pillow 13.0.0, Python 3.11; a JPEG of 60x40 with orientation 6, 6 kB
# behind its end:
#   before 60x40, orientation 6; after 40x60, no orientation, other pixels; one without anything behind it: untouched
# PyTorch for Linux may weigh several GB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  ultralytics==8.4.190 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(ultralytics|torch|pillow|numpy) "
cd "$folder"
YOLO_CONFIG_DIR="$folder" YOLO_OFFLINE=true env/bin/python - > all 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import sys
import types
from pathlib import Path

import numpy as np
from PIL import Image

try:
    import torchvision
except RuntimeError:  # the operators are of another build: scanning does not need them
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision"].__version__ = "0.28.0"

from ultralytics.data.utils import verify_image_label

turned = Image.Exif()
turned[0x112] = 6
pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
Path("labels").mkdir()
for name, behind in {"film": b"film" * 1500, "plain": b""}.items():
    photo = Path(f"{name}.jpg")
    Image.fromarray(pixels).save(photo, exif=turned, quality=80)
    photo.write_bytes(photo.read_bytes() + behind)
    before = photo.read_bytes()
    with Image.open(photo) as image:
        decoded = np.asarray(image)
    Path(f"labels/{name}.txt").write_text("0 0.5 0.25 0.2 0.2\n")
    verify_image_label((str(photo), f"labels/{name}.txt", "", False, 1, 0, 0, False))
    with Image.open(photo) as image:
        upright = np.rot90(decoded, -1)
        same = image.size == (40, 60) and np.array_equal(np.asarray(image), upright)
        untouched, orientation = photo.read_bytes() == before, image.getexif().get(0x112)
        print(f"{name}: untouched {untouched}, {image.size}, orientation {orientation}, same {same}")
PYTHON
grep -E "^(film|plain):" all > said
cat said
[ "$(tr '\n' ';' < said)" = "film: untouched False, (40, 60), orientation None, same False;\
plain: untouched True, (60, 40), orientation 6, same False;" ] || { echo "changed: photographs are only read"; exit 1; }
