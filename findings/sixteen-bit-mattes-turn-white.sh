#!/bin/sh
# Expected: a matte stored as a grey PNG of 16 bits comes out of a matting library, a dataset loader and a perceptual hash as
# the same matte with 8 bits or as 0 to 1, as an RGB PNG of 16 bits does; or with an error.
# Happens: values are clipped, not scaled. Everything above 255 of 65535, that is above 0.4 % opacity, is fully opaque:
# `pymatting.load_image(path, "GRAY")` gives 1.0 (and without "GRAY" 0 to 257, which its solvers take), webdataset's
# decoders "l8", "l" and "pil" give a white picture, and ImageHash finds two pictures equal that have nothing in common.
# Nothing is raised. Each of the three converts with Pillow, whose conversion of this one mode clips.
# Met in: p3mdata/export/huggingface.py and webdataset.py, which tell how to load; p3mdata reads these files itself.
# Seen with pymatting 1.1.16, webdataset 1.0.2, ImageHash 4.3.2, Pillow 13.0.0, Python 3.11; a ramp from 0 to 1, mean 0.5:
#   pymatting GRAY mean 0.996, without a mode up to 257
#   webdataset l8 mean 0.996, l mean 0.996, pil mean 0.996
#   imagehash of the ramp and of noise: 0 bits of 64 differ; of both with 8 bits: 30
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  pymatting==1.1.16 webdataset==1.0.2 ImageHash==4.3.2 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pymatting|webdataset|imagehash|pillow) "
cd "$folder"
NUMBA_DISABLE_JIT=1 env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
from pathlib import Path

import imagehash
import numpy as np
import pymatting
import webdataset
from PIL import Image

ramp = np.tile(np.linspace(0, 65535, 256).round().astype(np.uint16), (256, 1))
noise = np.random.default_rng(0).integers(300, 65536, (256, 256)).astype(np.uint16)
Image.fromarray(ramp).save("ramp.png")
Image.fromarray(noise).save("noise.png")
with webdataset.TarWriter("ramp.tar") as tar:
    tar.write({"__key__": "0", "png": Path("ramp.png").read_bytes()})

grey = pymatting.load_image("ramp.png", "GRAY")
print(f"pymatting mean {grey.mean():.3f}, no mode up to {pymatting.load_image('ramp.png').max():.0f}")
for kind, top in {"l8": 255, "l": 1, "pil": 255}.items():
    (sample,) = webdataset.WebDataset("ramp.tar", shardshuffle=False).decode(kind)
    print(f"webdataset {kind} mean {np.mean(np.asarray(sample['png'], float)) / top:.3f}")
hashes = [imagehash.phash(Image.open(name)) for name in ("ramp.png", "noise.png")]
eight = [imagehash.phash(Image.fromarray((values // 257).astype(np.uint8))) for values in (ramp, noise)]
print("imagehash", hashes[0] - hashes[1], "with 8 bits", eight[0] - eight[1])
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "pymatting mean 0.996, no mode up to 257;webdataset l8 mean 0.996;webdataset l mean 0.996;\
webdataset pil mean 0.996;imagehash 0 with 8 bits 30;" ] || { echo "changed: 16 bits are scaled or refused"; exit 1; }
