#!/bin/sh
# Expected: who opens a JPEG with Pillow, paints a face black in it and hands the picture to a dataset writer or to another
# codec, stores the painted picture; a writer that cannot would say so.
# Happens: three of them look at where the picture came from, not at its pixels, and store the photograph as it lies on
# disk. `datasets` keeps the path of a picture that was opened from a file, so a `map` that paints in place is undone in the
# column, and `save_to_disk` embeds the file with the face that should be gone; the "jpeg" encoding of mosaicml-streaming
# copies the file's bytes; pillow-jxl-plugin transcodes the file (with a warning about lossless reconstruction, not about
# pixels).
# A copy (`image.copy()`) has no file and is stored as it is seen. litdata 0.2.76 does as mosaicml-streaming (not tried
# here: its package needs torch).
# Met in: p3mdata/export/huggingface.py and webdataset.py, which store bytes and leave these encoders alone.
# Seen with datasets 5.2.0, mosaicml-streaming 0.13.0, pillow-jxl-plugin 1.3.8, Pillow 13.0.0, Python 3.11; a pixel of the
# painted area is 0 in memory and 100 in the file:
#   in memory 0; datasets 100, on disk 100, of a copy 0; streaming 100, of a copy 0; jxl 100, of a copy 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  datasets==5.2.0 pillow==13.0.0 pillow-jxl-plugin==1.3.8 || exit 2
# The one file that is used of it needs nothing but numpy and Pillow.
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps mosaicml-streaming==0.13.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(datasets|mosaicml-streaming|pillow|pillow-jxl-plugin) "
cd "$folder"
HF_HOME="$folder/hf" env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import importlib.util
import io

import datasets
import pillow_jxl  # noqa: F401
from PIL import Image, ImageDraw

package = importlib.util.find_spec("streaming").submodule_search_locations[0]
spec = importlib.util.spec_from_file_location("encodings_of_mds", f"{package}/base/format/mds/encodings.py")
mds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mds)
Image.new("L", (64, 64), 100).save("photo.jpg", quality=95)
datasets.disable_progress_bars()


def value(picture):
    return picture.convert("L").getpixel((32, 32))


def paint(picture):
    ImageDraw.Draw(picture).rectangle((10, 10, 54, 54), fill=0)
    return picture


def in_place(row):
    return {"image": paint(row["image"])}


def in_a_copy(row):
    return {"image": paint(row["image"].copy())}


def on_disk(rows):
    rows.save_to_disk("rows")
    stored = datasets.load_from_disk("rows").cast_column("image", datasets.Image(decode=False))[0]["image"]
    return Image.open(io.BytesIO(stored["bytes"]))


def streamed(picture):
    return Image.open(io.BytesIO(mds.mds_encode("jpeg", picture)))


def jxl(picture):
    picture.save("photo.jxl")
    return Image.open("photo.jxl")


photo = datasets.Dataset.from_dict({"image": ["photo.jpg"]}).cast_column("image", datasets.Image())
print("in memory", value(paint(Image.open("photo.jpg"))))
mapped = photo.map(in_place)
print("datasets", value(mapped[0]["image"]), "disk", value(on_disk(mapped)), end=" ")
print("copy", value(photo.map(in_a_copy)[0]["image"]))
print("streaming", value(streamed(paint(Image.open("photo.jpg")))), end=" ")
print("copy", value(streamed(paint(Image.open("photo.jpg").copy()))))
print("jxl", value(jxl(paint(Image.open("photo.jpg")))), "copy", value(jxl(paint(Image.open("photo.jpg").copy()))))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "in memory 0;datasets 100 disk 100 copy 0;streaming 100 copy 0;jxl 100 copy 0;" ] ||
  { echo "changed: one of them stores what was painted, or something else"; exit 1; }
