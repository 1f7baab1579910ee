#!/bin/sh
# Expected: a cut-out (RGBA, straight opacity) that psd-tools puts into a PSD comes out of it again with psd-tools: as a
# layer with its opacity, whatever the mode of the document, since layers of RGB documents have opacity; and as a flat
# picture with its colours.
# Happens: in a document of mode "RGB", which is what Photoshop calls them all, `create_pixel_layer` takes the opacity away:
# the layer is opaque and the hidden colours show. In one of mode "RGBA" it is kept. `PSDImage.frompil` stores straight
# colours, but `topil` and `composite` take the flat picture for one blended with white, as Photoshop's are, and take the
# white out: half-transparent colours of the own file turn darker or black. Pillow reads the same file right. Nothing is
# raised or warned.
# Met in: whoever delivers mattes or cut-outs as PSD.
# Seen with psd-tools 1.26.0, Pillow 13.0.0, Python 3.11; colour 200 100 50 with an opacity of 64 of 255:
#   layer in RGB: 200 100 50 255; in RGBA: 200 100 50 64
#   flat picture: topil 35 0 0 64, Pillow 200 100 50 64
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check psd-tools==1.26.0 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(psd-tools|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
from PIL import Image
from psd_tools import PSDImage

cutout = Image.new("RGBA", (32, 32), (200, 100, 50, 64))


def colour(picture):
    return " ".join(map(str, picture.getpixel((9, 9))))


for mode in ("RGB", "RGBA"):
    document = PSDImage.new(mode, cutout.size)
    document.create_pixel_layer(cutout, name="cut-out")
    document.save(f"{mode}.psd")
    (layer,) = PSDImage.open(f"{mode}.psd")
    print(f"layer in {mode}:", colour(layer.topil()))
PSDImage.frompil(cutout).save("flat.psd")
print("topil:", colour(PSDImage.open("flat.psd").topil()))
print("Pillow:", colour(Image.open("flat.psd")))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "layer in RGB: 200 100 50 255;layer in RGBA: 200 100 50 64;topil: 35 0 0 64;Pillow: 200 100 50 64;" ] ||
  { echo "changed: opacity or colours are kept"; exit 1; }
