#!/bin/sh
# Expected: an array of a colour photograph with 16 bits given to an Image column of `datasets` is stored as it is, as a grey
# one is (a PNG of 16 bits), or scaled to 8 bits, or refused, as one of floats is.
# Happens: each value keeps its low byte: 41,610 becomes 138, and 256 becomes 0. A smooth sky turns into stripes, a photograph
# into noise that has the right size, mode RGB and values of 0 to 255. A warning speaks of "downcasting" uint16 to uint8 "to
# be compatible with Pillow"; with `map` on several processes it scrolls past. Statistics look plausible, since noise is
# spread evenly. Colours of int64 that reach above 255 do the same.
# Met in: p3mdata/export/huggingface.py, which stores encoded files, of 16 bits too.
# Seen with datasets 5.2.0, Pillow 13.0.0, numpy 2.4.6, Python 3.11; a ramp from 0 to 65535:
#   grey: I;16, all as given; colours: RGB of 8 bits, all the low byte, mean 127.5; colours of floats: TypeError
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(datasets|numpy|pillow) "
cd "$folder"
HF_HOME="$folder/hf" env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import datasets
import numpy as np

grey = np.tile(np.linspace(0, 65535, 500).round().astype(np.uint16), (100, 1))
colours = np.stack([grey, grey[:, ::-1], grey], axis=2)


def stored(array):
    kind = datasets.Features({"photo": datasets.Image()})
    return datasets.Dataset.from_dict({"photo": [array]}, features=kind)[0]["photo"]


picture = stored(grey)
print("grey", picture.mode, "as given", np.array_equal(np.asarray(picture), grey))
for name, array in (("colours", colours), ("int64", colours.astype(np.int64))):
    picture = stored(array)
    values = np.asarray(picture)
    print(name, picture.mode, values.dtype, "low byte", np.array_equal(values, array % 256), f"mean {values.mean():.1f}")
try:
    stored(colours / 65535)
    print("floats stored")
except TypeError:
    print("floats TypeError")
PYTHON
cat said
grep -o "Downcasting array dtype uint16 to uint8[^.]*" errors | head -1
[ "$(sed 's/ mean.*//' said | tr '\n' ';')" = "grey I;16 as given True;colours RGB uint8 low byte True;\
int64 RGB uint8 low byte True;floats TypeError;" ] || { echo "changed: colours keep more than the low byte"; exit 1; }
