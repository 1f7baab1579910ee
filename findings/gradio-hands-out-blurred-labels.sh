#!/bin/sh
# Expected: a label map or matte that a Gradio function returns to an Image output is what the visitor downloads: a PNG with the
# array's values; a photograph may come as JPEG.
# Happens: whatever is returned becomes a lossy WebP (`format="webp"` is the default, also for pictures with one channel), with
# three channels: labels turn into their neighbours' numbers, hard edges get halos. The page looks right, and masks that are
# saved from it and trained with are wrong in every third pixel. A matte of 16 bits comes out white.
# `gradio.Image(format="png")` hands out the values. Nothing is said.
# Met in: whoever takes masks for this project from a page of Gradio, as many matting demos are.
# Seen with gradio 6.31.0, Pillow 12.3.0, numpy 2.4.6, Python 3.11; 19 labels in squares, a matte of 16 bits from 0 to 1:
#   usual: WebP, RGB, 16 different values, 32 % wrong; matte's mean 0.996
#   png: L, 19 values, 0 % wrong; matte's mean 0.500
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0 numpy==2.4.6 pillow==12.3.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(gradio|numpy|pillow) "
cd "$folder"
GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$folder/files" env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import gradio
import numpy as np
from PIL import Image

labels = np.random.default_rng(0).integers(0, 19, (16, 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
ramp = np.tile(np.linspace(0, 65535, 256).round().astype(np.uint16), (64, 1))


def handed_out(picture, **options):
    return Image.open(gradio.Image(**options).postprocess(picture).path)


for name, options in (("usual", {}), ("png", {"format": "png"})):
    picture = handed_out(labels, **options)
    values = np.asarray(picture).reshape(256, 256, -1)[..., 0]
    wrong = np.mean(values != labels)
    print(f"{name}: {picture.format} {picture.mode}, {len(np.unique(values))} values, {wrong:.0%} wrong", end=", ")
    matte = np.asarray(handed_out(Image.fromarray(ramp), **options)).reshape(64, 256, -1)[..., 0]
    print(f"matte's mean {matte.mean() / np.iinfo(matte.dtype).max:.3f}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "usual: WEBP RGB, 16 values, 32% wrong, matte's mean 0.996;\
png: PNG L, 19 values, 0% wrong, matte's mean 0.500;" ] ||
  { echo "changed: labels are handed out as they are"; exit 1; }
