#!/bin/sh
# Expected: OpenImageIO multiplies colours with their opacity when it reads and divides when it writes (its documentation
# says so); a cut-out that goes from PNG to WebP has the colours of before but for rounding, as it has from PNG to TIFF,
# and what it writes it reads again as the same.
# Happens: in WebP all half-transparent pixels come out darker, the more transparent the darker: a light fringe of hair
# becomes a dark one. Reading a WebP of another program is right, so the written file is also read back as something else
# than what was given. It is not the compression: lossless WebP has it too. Nothing is raised.
# Met in: whoever converts cut-outs or mattes with their photographs by OpenImageIO.
# Seen with openimageio 3.2.2.0, Pillow 13.0.0, Python 3.11; colour 200 100 50 with three opacities, from PNG:
#   opacity 255: TIFF 200 100 50, WebP 200 101 50
#   opacity 128: TIFF 199 99 49, WebP 138 68 39; read 100 50 25 (multiplied), of the written file 69 34 20
#   opacity 64:  TIFF 199 99 51, WebP 93 53 0; read 50 25 13, of the written file 23 13 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check openimageio==3.2.2.0 pillow==13.0.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(openimageio|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import OpenImageIO as oiio
from PIL import Image


def seen(path):
    return Image.open(path).convert("RGBA").getpixel((9, 9))[:3]


def read(path):
    return tuple(int(value) for value in oiio.ImageBuf(path).get_pixels(oiio.UINT8)[9, 9][:3])


for opacity in (255, 128, 64):
    Image.new("RGBA", (32, 32), (200, 100, 50, opacity)).save("cutout.png")
    cutout = oiio.ImageBuf("cutout.png")
    cutout.specmod().attribute("compression", "lossless:6")
    cutout.write("cutout.tif")
    cutout.write("cutout.webp")
    print(opacity, "tiff", *seen("cutout.tif"), "webp", *seen("cutout.webp"), end=" ")
    print("read", *read("cutout.png"), "again", *read("cutout.webp"))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "255 tiff 200 100 50 webp 200 101 50 read 200 100 50 again 200 101 50;\
128 tiff 199 99 49 webp 138 68 39 read 100 50 25 again 69 34 20;64 tiff 199 99 51 webp 93 53 0 read 50 25 13 again 23 13 0;" ] ||
  { echo "changed: other colours are written or read"; exit 1; }
