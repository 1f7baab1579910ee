#!/bin/sh
# Expected: `picture.save("photo.avif", exif=exif)` writes a file and leaves the object `exif` (`Image.Exif`) as it
# was, as JPEG, PNG, WebP and TIFF do: it is handed to the next `save` in the loop over formats.
# Happens: the AVIF is right and upright; it keeps the turn as a property of its own, and for that takes the
# orientation out of the object that it was given, not out of a copy. Each file that is written with it afterwards
# lies on its side, in any format, for ever: the pixels were never turned and nothing in the file says so. Mattes and
# boxes fit some formats and not others, and the order of the formats decides which. `exif=exif.tobytes()` does no
# harm. Nothing is said.
# Met in: whoever makes files of several formats out of a released picture; p3mdata writes no AVIF.
# Seen with Pillow 13.0.0, Python 3.11; a picture of 96x64 with orientation 6, to be seen as 64x96:
#   JPEG WebP PNG AVIF in this order: all 64x96; AVIF first: AVIF 64x96, JPEG, WebP and PNG 96x64; AVIF with bytes: all 64x96
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^pillow "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import io

from PIL import Image, ImageOps

picture = Image.new("RGB", (96, 64), "red")


def seen(*formats, as_bytes=False):
    exif = Image.Exif()
    exif[0x112] = 6
    for name in formats:
        file = io.BytesIO()
        picture.save(file, name, exif=exif.tobytes() if as_bytes and name == "AVIF" else exif)
        width, height = ImageOps.exif_transpose(Image.open(file)).size
        yield f"{name} {width}x{height}"


print("last:", *seen("JPEG", "WEBP", "PNG", "AVIF"))
print("first:", *seen("AVIF", "JPEG", "WEBP", "PNG"))
print("bytes:", *seen("AVIF", "JPEG", "WEBP", "PNG", as_bytes=True))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "last: JPEG 64x96 WEBP 64x96 PNG 64x96 AVIF 64x96;first: AVIF 64x96 JPEG 96x64 WEBP 96x64 PNG 96x64;\
bytes: AVIF 64x96 JPEG 64x96 WEBP 64x96 PNG 64x96;" ] || { echo "changed: what is given to save stays as it is"; exit 1; }
