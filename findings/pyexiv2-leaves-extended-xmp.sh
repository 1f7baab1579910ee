#!/bin/sh
# Expected: after all six of pyexiv2's `clear_exif`, `clear_iptc`, `clear_xmp`, `clear_comment`, `clear_icc`, `clear_thumbnail`
# a photograph holds no metadata any more: its readers give empty answers, and `clear_xmp` takes all of XMP away.
# Happens: what is larger than 64 kB goes into further segments ("extended XMP"), and those stay as they are, byte for byte.
# Phones keep pictures there: GImage is the sharp picture under one with a blurred background, GDepth its depth map. The face
# that was blurred in the photograph is in the file, whole, and pyexiv2 says that there is nothing. Only the main packet is
# gone, which named the rest. Nothing is raised or warned; what lists all segments of a JPEG still shows it.
# Met in: p3mdata/imaging/metadata, which accounts for each byte of a released file: none holds such a segment.
# Seen with pyexiv2 2.16.0, Pillow 13.0.0, Python 3.11; a grey photograph, in its extended XMP a picture with bars:
#   read after clearing: nothing of four kinds; in the bytes 64x64 contrast 100; of the main packet's segment none
# One segment is enough to show it: the picture made here is small, and the standard allows extended XMP of any size.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyexiv2==2.16.0 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyexiv2|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import base64
import hashlib
import io
import pathlib
import re

import numpy as np
import pyexiv2
from PIL import Image

IMAGE = "http://ns.google.com/photos/1.0/image/"
MAIN, EXTENDED = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def packet(attributes):
    names = f'xmlns:GImage="{IMAGE}" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    described = f'<rdf:Description rdf:about="" {names} {attributes}/>'
    rdf = f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{described}</rdf:RDF>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}</x:xmpmeta>'.encode()


def segment(data):
    return b"\xff\xe1" + (len(data) + 2).to_bytes(2) + data


before = jpeg(np.tile(np.repeat([20, 220], 8).astype(np.uint8), (64, 4)))
rest = packet(f'GImage:Data="{base64.b64encode(before).decode()}"')
name = hashlib.md5(rest).hexdigest().upper()
main = packet(f'GImage:Mime="image/jpeg" xmpNote:HasExtendedXMP="{name}"')
extended = EXTENDED + name.encode() + len(rest).to_bytes(4) + bytes(4) + rest
grey = jpeg(np.full((256, 256), 120, np.uint8))
photo = pathlib.Path("photo.jpg")
photo.write_bytes(grey[:2] + segment(MAIN + main) + segment(extended) + grey[2:])

image = pyexiv2.Image("photo.jpg")
print("before:", ", ".join(sorted(image.read_xmp())))
for kind in "exif", "iptc", "xmp", "comment", "icc", "thumbnail":
    getattr(image, f"clear_{kind}")()
image.close()

image = pyexiv2.Image("photo.jpg")
read = [image.read_exif(), image.read_iptc(), image.read_xmp(), image.read_comment()]
image.close()
left = photo.read_bytes()
picture = Image.open(io.BytesIO(base64.b64decode(re.search(rb'GImage:Data="([^"]*)"', left)[1])))
found = f"{picture.width}x{picture.height} contrast {np.asarray(picture).std():.0f}"
print(f"cleared: read {sum(map(len, read))}, main packet {left.count(MAIN)}; in the bytes {found}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "before: Xmp.GImage.Mime, Xmp.xmpNote.HasExtendedXMP;\
cleared: read 0, main packet 0; in the bytes 64x64 contrast 100;" ] ||
  { echo "changed: what is cleared is gone, or is not found the same way"; exit 1; }
