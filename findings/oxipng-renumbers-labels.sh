#!/bin/sh
# Expected: a lossless PNG optimiser leaves a label map (palette PNG whose numbers are the classes) as it is for those who
# read the numbers: `numpy.asarray(PIL.Image.open(path))`, as loaders of Pascal VOC's and other masks do.
# Happens: lossless are the colours, not the numbers. Entries without pixels are taken out of the palette and the rest is
# sorted, so that classes get new numbers, background another than 0, and the border that losses ignore (255) the number of
# the background. Each file has an order of its own. The picture looks as before; all levels do it, 0 too;
# `palette_reduction=False` keeps the numbers.
# Met in: whoever shrinks trimaps or label maps of a set before or after this project.
# Seen with pyoxipng 9.1.1, Pillow 13.0.0, Python 3.11; a map with VOC's palette, and a trimap of three greys in a palette:
#   labels  0->3, 15->1, 20->2, 255->0, same colours; with palette_reduction=False 0->0, 15->15, 20->20, 255->255
#   trimap  0->2, 1->1, 2->0, same colours
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyoxipng==9.1.1 pillow==13.0.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyoxipng|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import oxipng
from PIL import Image


def bits(label, offset):
    """A channel of Pascal VOC's palette: every third bit of the label, the lowest first, from the top down."""
    return sum((label >> (3 * place + offset) & 1) << (7 - place) for place in range(3))


def renumbered(labels, palette, **options):
    height, width = 60, 60
    wide = np.repeat(labels, width // len(labels)).astype(np.uint8)
    picture = Image.fromarray(np.tile(wide, (height, 1)))
    picture.putpalette(palette)
    picture.save("before.png")
    oxipng.optimize("before.png", "after.png", **options)
    before, after = Image.open("before.png"), Image.open("after.png")
    same = np.array_equal(before.convert("RGB"), after.convert("RGB"))
    pairs = sorted(set(zip(np.ravel(before).tolist(), np.ravel(after).tolist(), strict=True)))
    return ", ".join(f"{a}->{b}" for a, b in pairs) + (", same colours" if same else ", OTHER COLOURS")


voc = [bits(label, channel) for label in range(256) for channel in range(3)]
grey = [value for value in (0, 128, 255) for _ in range(3)]
print("labels", renumbered([0, 15, 20, 255], voc, level=0))
print("kept", renumbered([0, 15, 20, 255], voc, palette_reduction=False))
print("trimap", renumbered([0, 1, 2], grey))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "labels 0->3, 15->1, 20->2, 255->0, same colours;\
kept 0->0, 15->15, 20->20, 255->255, same colours;trimap 0->2, 1->1, 2->0, same colours;" ] ||
  { echo "changed: numbers stay, or change in another way"; exit 1; }
