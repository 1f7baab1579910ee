#!/bin/sh
# Expected: who downloads a set with boxes of faces (`bbox_col`) gets pictures in which these are blurred, whatever is said about
# sizes and encoding, with the strength that the code takes over from ImageNet's: a sigma of a tenth of the box.
# Happens: with `skip_reencode`, which spares photographs that keep their size a second JPEG, the blurred picture is made and
# thrown away: the file's own bytes are stored, face and metadata in them. Photographs that are made smaller are blurred, so
# a look at a few shows blurred faces. And where it blurs, the sigma is used as half the size of the kernel, out of which a
# sigma of a third follows: of the features of a large face two fifths of the contrast stay. Nothing is logged.
# Met in: whoever takes a set that was downloaded so for one without faces: run `p3mdata anonymize` over it.
# Seen with img2dataset 1.47.0, albumentations 1.4.24, OpenCV 4.14.0, Python 3.11; stripes 32 wide, box of 400x400; contrast
# (standard deviation in the middle of the box) of 100 before:
#   usual 41 (a sigma of 40 leaves 1); skip_reencode 100, the bytes of the file; skip_reencode, made smaller 37
# The two files that are used of it need nothing but albumentations and OpenCV.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  albumentations==1.4.24 opencv-python-headless==4.14.0.94 numpy==2.2.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps img2dataset==1.47.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(img2dataset|albumentations|opencv-python-headless) "
cd "$folder"
NO_ALBUMENTATIONS_UPDATE=1 env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import importlib.util
import io

import cv2
import numpy as np
from PIL import Image


def part(name):
    package = importlib.util.find_spec("img2dataset").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(name, f"{package}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Resizer, Blurrer = part("resizer").Resizer, part("blurrer").BoundingBoxBlurrer
stripes = np.tile(np.repeat(np.arange(16) % 2 * 200 + 28, 32).astype(np.uint8), (512, 1))
stream = io.BytesIO()
Image.fromarray(stripes).convert("RGB").save(stream, "JPEG", quality=95)
photo = stream.getvalue()
face = [0.1, 0.1, 0.9, 0.9]


def contrast(grey):
    middle = slice(len(grey) * 3 // 8, len(grey) * 5 // 8)
    return f"{np.std(grey[middle, middle].astype(float)):.0f}"


def stored(size, **options):
    resizer = Resizer(size, "keep_ratio", True, encode_format="jpg", blurrer=Blurrer(), **options)
    data, *_, wrong = resizer(io.BytesIO(photo), [face])
    assert wrong is None, wrong
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    return f"{grey.shape[1]} wide, contrast {contrast(grey)}, bytes of the file {data == photo}"


print("before:", contrast(stripes), "sigma of a tenth:", contrast(cv2.GaussianBlur(stripes, (0, 0), 40)))
print("usual:", stored(512))
print("skip_reencode:", stored(512, skip_reencode=True))
print("skip_reencode, smaller:", stored(256, skip_reencode=True))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "before: 100 sigma of a tenth: 1;usual: 512 wide, contrast 41, bytes of the file False;\
skip_reencode: 512 wide, contrast 100, bytes of the file True;\
skip_reencode, smaller: 256 wide, contrast 37, bytes of the file False;" ] ||
  { echo "changed: blurred pictures are stored, or blurred otherwise"; exit 1; }
