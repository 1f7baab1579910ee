#!/bin/sh
# Expected: OpenEXR's own Python package writes the numbers of the arrays that it is given: the channels of a photograph with
# its matte, taken out of one array (`{"R": rgba[..., 0], ..., "A": rgba[..., 3]}`), are the channels of the file.
# Happens: of an array it takes the first address and the shape, and writes what lies one behind the other from there. All
# four channels of the file are a mixture of red, green, blue and opacity in stripes, out of the upper quarter of the
# picture. A crop or a mirrored picture is another one too. Size, names and range of values are right, and the object that
# was written shows the right ones. Nothing is raised. Copies (`numpy.ascontiguousarray`) and the whole array as "RGBA" are
# written as they are.
# Met in: whoever stores this project's mattes as EXR for compositing: p3mdata writes none.
# Seen with OpenEXR 3.5.3, numpy 2.4.6, Python 3.11; noise of 20x40 with four channels; values that differ from those given:
#   as views: R 100 %, G 100 %, B 100 %, A 100 %; crop 100 %; copied: 0 % each; as RGBA 0 %
# All views lie in the middle of a larger array, so that whatever is read belongs to it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check OpenEXR==3.5.3 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(openexr|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import OpenEXR

whole = np.random.default_rng(0).random((60, 40, 4), dtype=np.float32)
rgba = whole[20:40]
crop = whole[20:40, 10:30, 3]
HEADER = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}


def differ(channels):
    """Percent of each channel's values that are not those given."""
    OpenEXR.File(dict(HEADER), dict(channels)).write("written.exr")
    read = OpenEXR.File("written.exr", separate_channels=len(channels) > 1).channels()
    shares = {name: 100 * (read[name].pixels != pixels).mean() for name, pixels in channels.items()}
    return ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())


views = {name: rgba[..., number] for number, name in enumerate("RGBA")}
OpenEXR.File(dict(HEADER), dict(views)).write("views.exr")
red = OpenEXR.File("views.exr", separate_channels=True).channels()["R"].pixels
print("views:", differ(views))
print("red is the array's first values in their order:", np.array_equal(red.ravel(), rgba.ravel()[: red.size]))
print("crop:", differ({"A": crop}))
print("copied:", differ({name: np.ascontiguousarray(pixels) for name, pixels in views.items()}))
print("whole:", differ({"RGBA": rgba}))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "views: R 100 %, G 100 %, B 100 %, A 100 %;\
red is the array's first values in their order: True;crop: A 100 %;copied: R 0 %, G 0 %, B 0 %, A 0 %;whole: RGBA 0 %;" ] ||
  { echo "changed: channels are those given"; exit 1; }
