#!/bin/sh
# Expected: the perceptual hash of an array depends on its pixels; a binding that needs an order in memory copies the array
# or refuses it, as simplejpeg and dlib do. Views that are mirrored, cropped or have their channels turned are right.
# Happens: `pdqhash.compute` of an array whose columns lie together (`numpy.rot90`, `transpose`, Fortran order) is the hash
# of a scrambled picture, half of whose bits differ from those of the same pixels copied: no duplicate is ever found, and the
# quality that is returned beside it is as good as before. Turning scans or phone pictures upright with rot90 is enough.
# `numpy.ascontiguousarray` before it is the way around.
# Met in: whoever compares this project's `curate` with PDQ.
# Seen with pdqhash 0.2.8, numpy 2.4.6, Python 3.11; bits of 256 that differ between a view and its copy (31 are "the same"):
#   mirrored 0, cropped 0, rotated by 180 degrees 0, by 90 degrees 128, transposed 118, Fortran order 138; quality 100
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pdqhash==0.2.8 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pdqhash|numpy) "
"$folder/env/bin/python" - > "$folder/said" <<'PYTHON' || exit 2
import numpy as np
import pdqhash

random = np.random.default_rng(0)
y, x = np.mgrid[:120, :160] / 20
waves = [np.cos(a * x + b * y + c) for a, b, c in random.uniform(-3, 3, (12, 3))]
picture = np.repeat(np.clip(sum(waves) * 25 + 128, 0, 255).astype(np.uint8)[..., None], 3, axis=2)

for name, view in {
    "mirrored": picture[:, ::-1],
    "cropped": picture[5:100, 9:140],
    "180 degrees": np.rot90(picture, 2),
    "90 degrees": np.rot90(picture),
    "transposed": picture.transpose(1, 0, 2),
    "Fortran": np.asfortranarray(picture),
}.items():
    one, quality = pdqhash.compute(view)
    other, _ = pdqhash.compute(view.copy(order="C"))
    print(f"{name}: {np.count_nonzero(one != other)} bits, quality {quality}")
PYTHON
cat "$folder/said"
for name in mirrored cropped "180 degrees"; do
  grep -q "^$name: 0 bits" "$folder/said" || { echo "changed: $name views are hashed otherwise too"; exit 1; }
done
for name in "90 degrees" transposed Fortran; do
  grep -qE "^$name: (9[0-9]|1[0-9][0-9]) bits" "$folder/said" ||
    { echo "changed: $name views are hashed as their pixels"; exit 1; }
done
