#!/bin/sh
# Expected: a photograph of a recent phone (Ultra HDR: a JPEG with a gain map behind it) that is loaded, painted over or
# blurred, and saved as JPEG holds the new picture alone, as with Pillow, OpenCV and libvips before 8.18.
# Happens: libvips takes the gain map along as metadata through each operation and writes it behind the new picture, as it
# was: a picture of the whole scene at half or quarter size, in which a face that is painted over or blurred away in the
# first picture is still there, sharp. Of a crop it is the whole scene; a turned picture has one that is not turned.
# Viewers multiply it onto the picture where the screen has HDR. `keep="icc"` or "none" leaves it out, other formats too.
# Met in: p3mdata/imaging/containers.py leaves gain maps out, with a note.
# Seen with pyvips 3.2.0, libvips 8.18.7 (pyvips-binary), Pillow 13.0.0, Python 3.11; bright and dark bars; contrast
# (standard deviation in the middle) of the first picture, and of the second if there is one:
#   photo 46 and 52; painted over 0 and 52; blurred 6 and 52; half cropped away: second picture whole, 52;
#   painted over with keep="icc" 0, no second
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyvips|pyvips-binary) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import io
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image

scene = np.full((256, 256), 0.3, np.float32)
bars = np.where(np.arange(128) // 16 % 2, 0.4, 6.0)  # 1 is the white of a page
scene[64:192, 64:192] = bars[:, None]
pyvips.Image.new_from_array(np.dstack([scene] * 3), interpretation="scrgb").uhdrsave("photo.jpg")


def told(path):
    """Size and contrast of each picture in the file."""
    data = Path(path).read_bytes()
    second = data.find(b"\xff\xd8\xff", 2)
    parts = [data] if second < 0 else [data, data[second:]]
    lines = []
    for part in parts:
        grey = np.asarray(Image.open(io.BytesIO(part)).convert("L"), float)
        high, wide = grey.shape
        middle = grey[high * 3 // 10 : high * 7 // 10, wide * 3 // 10 : wide * 7 // 10]
        lines.append(f"{wide}x{high} {middle.std():.0f}")
    return " and ".join(lines)


photo = pyvips.Image.new_from_file("photo.jpg")
painted = photo.copy_memory().draw_rect([90, 90, 90], 56, 56, 144, 144, fill=True)
painted.jpegsave("painted.jpg")
photo.gaussblur(20).jpegsave("blurred.jpg")
photo.crop(0, 0, 128, 256).jpegsave("cropped.jpg")
painted.jpegsave("kept.jpg", keep="icc")
for name in ("photo", "painted", "blurred", "cropped", "kept"):
    print(f"{name}: {told(f'{name}.jpg')}")
PYTHON
cat said
grep -q "^painted: 256x256 0 and 128x128 [3-9][0-9]$" said && grep -q "^blurred: 256x256 [0-9] and 128x128 [3-9][0-9]$" said &&
  grep -q "^cropped: 128x256 .* and 128x128 " said && grep -q "^kept: 256x256 0$" said ||
  { echo "changed: gain maps are left out or follow the picture"; exit 1; }
