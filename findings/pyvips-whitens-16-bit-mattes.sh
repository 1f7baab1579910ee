#!/bin/sh
# Expected: `pyvips.Image.new_from_array(matte).pngsave("matte.png")` with a uint16 array writes a PNG of 16 bits, as TIFF,
# and as the same picture loaded from a file would; failing that, all values divided by 256.
# Happens: what is written depends on the number of channels. Grey becomes a PNG of 8 bits in which everything above 255
# is 255, so a matte turns into a white sheet; grey with opacity and RGBA become 8 bits too, but divided by 256; RGB alone
# stays 16 bits. The reason is the interpretation that is guessed from the shape (b-w, multiband, srgb); the same grey saved
# as JPEG is divided, as TIFF exact. `interpretation="grey16"` or `"rgb16"` gives 16 bits. Nothing is raised or warned.
# Met in: whoever prepares mattes of 16 bits for this project with pyvips. `p3mdata` takes such a file for what it is.
# Seen with pyvips 3.2.0, libvips 8.18.7 (pyvips-binary), numpy 2.4.6, Python 3.11; every value of the array is 4660 (of 65535):
#   1 channel: PNG 8 bits 255, JPEG 8 bits 18, TIFF 16 bits 4660; as grey16: PNG 16 bits 4660
#   2 channels: PNG 8 bits 18; 3 channels: PNG 16 bits 4660; 4 channels: PNG 8 bits 18
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyvips|pyvips-binary|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import pyvips

VALUE = 0x1234


def saved(image, name):
    image.write_to_file(name)
    again = pyvips.Image.new_from_file(name)
    return f"{name.split('.')[1]} {8 if again.format == 'uchar' else 16} bits {again.getpoint(3, 3)[0]:.0f}"


for channels in (1, 2, 3, 4):
    matte = np.full((8, 8) if channels == 1 else (8, 8, channels), VALUE, np.uint16)
    image = pyvips.Image.new_from_array(matte)
    names = [f"{channels}.png"] + [f"{channels}.jpg", f"{channels}.tif"] * (channels == 1)
    print(channels, image.interpretation + ":", ", ".join(saved(image, name) for name in names))
grey = pyvips.Image.new_from_array(np.full((8, 8), VALUE, np.uint16), interpretation="grey16")
print("1 grey16:", saved(grey, "grey16.png"))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "1 b-w: png 8 bits 255, jpg 8 bits 18, tif 16 bits 4660;2 multiband: png 8 bits 18;\
3 srgb: png 16 bits 4660;4 multiband: png 8 bits 18;1 grey16: png 16 bits 4660;" ] ||
  { echo "changed: other depths or values are written"; exit 1; }
