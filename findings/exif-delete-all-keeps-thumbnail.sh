#!/bin/sh
# Expected: `delete_all()` of the package exif takes the metadata of a photograph away, as its documentation says ("Remove all
# EXIF tags"); above all the thumbnail, which it asks for a second time for.
# Happens: entries go, and texts and numbers are overwritten; the thumbnail's bytes stay where they were, in a file of the same
# length. No program lists them any more, so a check with another reader finds nothing, but whoever looks for the beginning
# of a JPEG has the small picture: the face as it was before it was blurred in the large one. The package's own
# `get_thumbnail()` gives it back too. piexif's `remove` takes it away. Nothing is raised or warned.
# Met in: p3mdata/imaging/metadata, which accounts for each byte of a released file: none holds a thumbnail.
# Seen with exif 1.6.1, piexif 1.1.3, Pillow 13.0.0, Python 3.11; thumbnail with bars in a photograph without any:
#   deleted: length as before, artist gone, tags 0, thumbnail of piexif None, of get_thumbnail 64x64; bytes 64x64, contrast 100
#   piexif.remove: in the bytes none
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check exif==1.6.1 piexif==1.1.3 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(exif|piexif|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import io

import exif
import numpy as np
import piexif
from PIL import Image


def jpeg(picture, **how):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **how)
    return stream.getvalue()


bars = Image.fromarray(np.tile(np.repeat([20, 220], 8).astype(np.uint8), (64, 4)))
tags = {
    "0th": {piexif.ImageIFD.Artist: b"Anna Muster"},
    "1st": {piexif.ImageIFD.Compression: 6},
    "thumbnail": jpeg(bars),
}
blurred = jpeg(Image.new("L", (256, 256), 120), exif=piexif.dump(tags))


def told(data):
    """The second JPEG in the file."""
    if not data or data.find(b"\xff\xd8\xff", 2) < 0:
        return "none"
    found = Image.open(io.BytesIO(data[data.find(b"\xff\xd8\xff", 2) :]))
    return f"{found.width}x{found.height} contrast {np.asarray(found).std():.0f}"


picture = exif.Image(blurred)
picture.delete_all()
deleted = picture.get_file()
again = exif.Image(deleted)
print("same length", len(deleted) == len(blurred), "artist", b"Anna" in deleted)
print("tags", sum(not name.startswith("_") for name in again.list_all()), "piexif", piexif.load(deleted)["thumbnail"])
print("get_thumbnail", told(b"  " + bytes(again.get_thumbnail())), "bytes", told(deleted))
stream = io.BytesIO()
piexif.remove(blurred, stream)
print("piexif.remove", told(stream.getvalue()))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "same length True artist False;tags 0 piexif None;\
get_thumbnail 64x64 contrast 100 bytes 64x64 contrast 100;piexif.remove none;" ] ||
  { echo "changed: the thumbnail goes with the rest"; exit 1; }
