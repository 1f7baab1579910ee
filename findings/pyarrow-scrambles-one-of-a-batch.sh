#!/bin/sh
# Expected: pictures that are put into Arrow's type for tensors of one shape
# (`FixedShapeTensorArray.from_numpy_ndarray`) come out of it as they went in, one by one (`array[0].to_numpy()`) as
# well as all together; an order in memory that it cannot keep is refused, as Fortran order is.
# Happens: views whose axes are exchanged are taken, with the order noted as a permutation, and go wrong in two ways.
# Mattes turned over (`batch.transpose(0, 2, 1)`) are right together, but each by itself has the right shape and its
# values elsewhere: the steps in memory are reckoned from lengths that were exchanged before. Only squares are right.
# Channels first shown as channels last (`batch.transpose(0, 2, 3, 1)`, what networks give) come back in another
# shape, together too: the permutation is applied the wrong way round, which exchanging two axes does not show. Copies
# (`numpy.ascontiguousarray`) are right.
# Met in: whoever keeps photographs or mattes in Arrow as arrays: p3mdata stores encoded files.
# Seen with pyarrow 26.0.1, numpy 2.4.6, Python 3.11; two pictures of 4x5, all values different:
#   turned over: together right, one of them 5x4 with 5 of its 20 values in place; squares right
#   channels last: 4x5x3 became 5x3x4, together and one of them; copied: right
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pyarrow|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import pyarrow

mattes = np.arange(2 * 4 * 5).reshape(2, 4, 5)
photos = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
views = {
    "turned": mattes.transpose(0, 2, 1),
    "square": mattes[:, :, :4].copy().transpose(0, 2, 1),
    "last": photos.transpose(0, 2, 3, 1),
    "copied": np.ascontiguousarray(photos.transpose(0, 2, 3, 1)),
}


def judged(read, given):
    if read.shape != given.shape:
        return f"{read.shape} for {given.shape}"
    return f"{np.count_nonzero(read == given)} of {given.size}"


for name, view in views.items():
    array = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(view)
    print(f"{name}: together {judged(array.to_numpy_ndarray(), view)}, one {judged(array[0].to_numpy(), view[0])}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "turned: together 40 of 40, one 5 of 20;square: together 32 of 32, one 16 of 16;\
last: together (2, 5, 3, 4) for (2, 4, 5, 3), one (5, 3, 4) for (4, 5, 3);\
copied: together 120 of 120, one 60 of 60;" ] || { echo "changed: tensors come back as they were given"; exit 1; }
