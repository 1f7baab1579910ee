#!/bin/sh
# Expected: who blurs a face, writes the picture over the file and opens that file again, to prove that the face is gone,
# gets what the file holds now; above all where the same library wrote it in the same process.
# Happens: `pyvips.Image.new_from_file` gives the picture of before. libvips keeps the results of operations by their
# arguments, the file's name is the argument, and neither its time, size nor inode is looked at, also after all Python
# objects are gone. The check compares memory with itself: a file that was not blurred passes, one that was blurred fails.
# Size and width are those of before as well. `access="sequential"`, `thumbnail` and `revalidate=True` read the file.
# Met in: whoever checks released pictures with pyvips in the process that wrote them.
# Seen with pyvips 3.2.0, libvips 8.18.7 (pyvips-binary), Python 3.11; a picture of value 200, painted with 0:
#   in the file 0 and 48 wide; opened again 200 and 64 wide; sequential 0; thumbnail 0; revalidate=True 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyvips|pyvips-binary) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import gc
import os

import pyvips
from PIL import Image


def value(image):
    return f"{image.getpoint(20, 20)[0]:.0f}"


Image.new("L", (64, 64), 200).save("photo.png")
photo = pyvips.Image.new_from_file("photo.png")
painted = photo.crop(0, 0, 48, 48).copy_memory().draw_rect(0, 4, 4, 40, 40, fill=True)
painted.write_to_file("painted.png")
os.replace("painted.png", "photo.png")
del photo, painted
gc.collect()

now = Image.open("photo.png")
again = pyvips.Image.new_from_file("photo.png")
print("file", now.getpixel((20, 20)), now.width)
print("again", value(again), again.width)
print("sequential", value(pyvips.Image.new_from_file("photo.png", access="sequential")))
print("thumbnail", value(pyvips.Image.thumbnail("photo.png", 48)))
print("revalidate", value(pyvips.Image.new_from_file("photo.png", revalidate=True)))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "file 0 48;again 200 64;sequential 0;thumbnail 0;revalidate 0;" ] ||
  { echo "changed: the file is read again, or not where it was"; exit 1; }
