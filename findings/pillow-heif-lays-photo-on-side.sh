#!/bin/sh
# Expected: `photo.save("photo.heic", exif=photo.getexif())` keeps a photograph that was taken upright upright, as it does for
# JPEG, WebP and AVIF: by the tag, or by turning it.
# Happens: with pillow-heif it lies on its side for ever: the tag is set to 1 and the turn is not written as HEIF's own (irot).
# The same tags given as bytes (`exif=photo.info["exif"]`), or not given at all, are understood and the photograph stands.
# A matte that goes along as PNG, turned or not, fits no more, boxes of faces neither; and turned twice by a tool that knows
# the original, the difference cannot be seen in the file. Nothing is raised or warned.
# Met in: p3mdata/imaging/decode.py reads HEIF with it and writes none.
# Seen with pillow-heif 1.8.1, Pillow 13.0.0, Python 3.11; a JPEG of 96x64 with orientation 6, red on the left when upright:
#   JPEG upright 64x96 red left; HEIF no argument 64x96, bytes 64x96, getexif() 96x64 with orientation 1
#   WebP and AVIF with getexif(): 64x96
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow-heif==1.8.1 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pillow.heif|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
tags = Image.Exif()
tags[0x0112] = 6
Image.new("RGB", (96, 64), "red").save("photo.jpg", exif=tags)
photo = Image.open("photo.jpg")
ways = {
    "HEIF nothing": ("1.heic", {}),
    "HEIF bytes": ("2.heic", {"exif": photo.info["exif"]}),
    "HEIF getexif": ("3.heic", {"exif": photo.getexif()}),
    "WebP getexif": ("4.webp", {"exif": photo.getexif()}),
    "AVIF getexif": ("5.avif", {"exif": photo.getexif()}),
}


def upright(path):
    picture = ImageOps.exif_transpose(Image.open(path))
    return f"{picture.width}x{picture.height}"


print("JPEG", upright("photo.jpg"))
for name, (path, given) in ways.items():
    photo.save(path, **given)
    print(name, upright(path), "orientation", Image.open(path).getexif().get(0x0112))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "JPEG 64x96;HEIF nothing 64x96 orientation 1;HEIF bytes 64x96 orientation 1;\
HEIF getexif 96x64 orientation 1;WebP getexif 64x96 orientation 6;AVIF getexif 64x96 orientation 6;" ] ||
  { echo "changed: the photograph stands, or is written otherwise"; exit 1; }
