#!/bin/sh
# Expected: `SaveImage(output_ext=".png", scale=65535)` of MONAI writes a matte of 0 to 1 as PNG of 16 bits: "[0,
# 65535] (uint16)", says its description; `scale=255` writes one of 8 bits.
# Happens: values are scaled to 65535 and then cast to 8 bits, which keeps the low byte: a soft edge becomes stripes
# from black to white, one for each 256th of opacity. Hard masks are right (0 and 65535 end in 0 and 255), so most
# segmentations show nothing. `output_dtype` is the reason: for PNG it is uint8 unless it is given; with
# `output_dtype=numpy.uint16` besides, a grey picture is written as described. Nothing is raised or logged.
# Met in: whoever writes mattes of a MONAI network for this project: say both, or `scale=255`.
# Seen with monai 1.6.1, torch 2.13.0, Pillow 13.0.0, numpy 2.4.6, Python 3.11; a ramp from 0 to 1 in 2400 steps, hard
# mask:
#   scale 65535: L, 8 bits, falls 255 times; with output_dtype I;16, falls 0 times; scale 255: L, 0 times; hard mask 0 and 255
# PyTorch for Linux may weigh several GB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  monai==1.6.1 torch==2.13.0 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(monai|torch|pillow|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import torch
from monai.transforms import SaveImage
from PIL import Image

ramp = np.linspace(0, 1, 2400, dtype=np.float32)


def written(name, values, **options):
    options |= {"separate_folder": False, "print_log": False, "output_postfix": ""}
    save = SaveImage(output_dir="out", output_ext=".png", **options)
    save(torch.from_numpy(values).reshape(1, 40, 60), meta_data={"filename_or_obj": "matte.png"})
    with Image.open("out/matte.png") as image:
        read = np.asarray(image).astype(int).T.ravel()  # MONAI's first axis is the width
        print(f"{name}: {image.mode} {image.size}, {read.min()} to {read.max()}, falls {(np.diff(read) < 0).sum()} times")


written("65535", ramp, scale=65535)
written("65535 and uint16", ramp, scale=65535, output_dtype=np.uint16)
written("255", ramp, scale=255)
written("hard", np.sort((ramp > 0.5).astype(np.float32)), scale=65535)
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "65535: L (40, 60), 0 to 255, falls 255 times;\
65535 and uint16: I;16 (40, 60), 0 to 65535, falls 0 times;255: L (40, 60), 0 to 255, falls 0 times;\
hard: L (40, 60), 0 to 255, falls 0 times;" ] || { echo "changed: 16 bits are written, or refused"; exit 1; }
