#!/bin/sh
# Expected: `to_dtype(matte, torch.uint16, scale=True)` of torchvision's transforms v2 turns 0 to 1 into 0 to 65535, as it turns
# it into 0 to 255 for 8 bits; types that it cannot do exactly it refuses ("cannot be performed safely"), int32 for one.
# Happens: 1.0 becomes 0. All below it is right, so that a ramp or a soft edge looks well and the fully opaque inside of the
# person is fully transparent. The scale, 65536 less a thousandth, is 65536 in 32 bits, one too many for the type; the
# guard knows of larger types alone. From float64 it is right. On the way in, `to_tensor` (also `ToTensor`) makes int16 of
# a grey picture of 16 bits: from half opacity on values are negative, and white is -1.
# Met in: p3mdata and p3mnet do without torchvision.
# Seen with torchvision 0.28.0, torch 2.13.0, numpy 2.4.6, Pillow 13.0.0, Python 3.11:
#   0 0.5 0.99 1 to uint16: 0 32768 64880 0; from float64: 0 32767 64880 65535; to uint8: 0 127 253 255; to int32: RuntimeError
#   PNG of 0 32767 32768 65535: to_tensor 0 32767 -32768 -1; v2's to_image 0 32767 32768 65535
# PyTorch for Linux may weigh several GB. torchvision's compiled operators are not used, and do not fit each build of it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(torch|torchvision|numpy|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import io

import numpy as np
import torch
from PIL import Image

try:
    import torchvision
except RuntimeError:  # the operators are of another build: it is enough that their names are known
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
import torchvision.transforms.v2.functional as new
from torchvision.transforms.functional import to_tensor


def told(tensor):
    return " ".join(str(value) for value in tensor.flatten().tolist())


matte = torch.tensor([[[0, 0.5, 0.99, 1]]])
print("uint16", told(new.to_dtype(matte, torch.uint16, scale=True)), end="; ")
print("of float64", told(new.to_dtype(matte.double(), torch.uint16, scale=True)), end="; ")
print("uint8", told(new.to_dtype(matte, torch.uint8, scale=True)))
try:
    print("int32", told(new.to_dtype(matte, torch.int32, scale=True)))
except RuntimeError:
    print("int32 RuntimeError")
stream = io.BytesIO()
Image.fromarray(np.array([[0, 32767, 32768, 65535]], np.uint16)).save(stream, "PNG")
picture = Image.open(stream)
print("to_tensor", told(to_tensor(picture)), "to_image", told(new.to_image(picture)))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "uint16 0 32768 64880 0; of float64 0 32767 64880 65535; uint8 0 127 253 255;\
int32 RuntimeError;to_tensor 0 32767 -32768 -1 to_image 0 32767 32768 65535;" ] ||
  { echo "changed: white stays white"; exit 1; }
