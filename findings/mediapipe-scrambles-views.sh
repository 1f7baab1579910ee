#!/bin/sh
# Expected: `mediapipe.Image(image_format=..., data=array)` holds the array's pixels; what is no plain block of memory (a crop
# of a larger picture, OpenCV's channels turned with `[..., ::-1]`, a picture turned upright) is copied first or refused.
# Happens: shape and first address of the array are taken, its strides are not. A crop becomes rows of the whole picture that
# run on into one another, turned channels are of the neighbour, a transposed picture is noise in the right size. Nothing is
# raised; the detector looks at it and finds no face, or one elsewhere. An array made with `numpy.ascontiguousarray` is right.
# Met in: p3mdata/faces/landmarks.py, which copies each crop into a block.
# Seen with mediapipe 1.2.3 on Linux x86-64, numpy 2.4.6, Python 3.11; values that differ from the array given, of noise:
#   whole 0 %, crop 98 %, every second pixel 99 %, transposed 100 %, channels turned 66 %; each copied into a block 0 %
# All views lie in the middle of a larger array, so that whatever is read belongs to it.
set -eu
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "tried on Linux x86-64 alone"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mediapipe==1.2.3 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(mediapipe|numpy) "
cd "$folder"
https_proxy=nowhere:// env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import mediapipe
import numpy as np

photo = np.random.default_rng(0).integers(0, 256, (300, 100, 3)).astype(np.uint8)
views = {
    "whole": photo,
    "crop": photo[100:150, 20:80],
    "every second": photo[100:150:2, ::2],
    "transposed": photo[100:160].transpose(1, 0, 2),
    "channels turned": photo[100:160, :, ::-1],
}


def wrong(array):
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=array)
    return f"{np.mean(image.numpy_view() != array):.0%}"


for name, view in views.items():
    print(f"{name} {wrong(view)} copied {wrong(np.ascontiguousarray(view))}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "whole 0% copied 0%;crop 98% copied 0%;every second 99% copied 0%;transposed 100% copied 0%;\
channels turned 66% copied 0%;" ] ||
  { echo "changed: views are copied or refused"; exit 1; }
