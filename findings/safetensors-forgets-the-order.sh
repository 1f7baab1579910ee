#!/bin/sh
# Expected: `safetensors.numpy.save_file({"weight": weight.T}, path)` stores the transposed matrix, as `numpy.save` does, or
# refuses it, as the same library's function for PyTorch does ("non contiguous tensor").
# Happens: shape and name are those of the transposed matrix, the numbers those of the original in their old order. The file
# loads everywhere; a network that was brought from another framework (whose matrices are transposed, whose filters have
# channels last) has the right shapes and answers nonsense. A mask or matte stored as a tensor is sheared. The function's
# description asks for contiguous tensors; nothing looks.
# Met in: p3mnet/weights_files.py reads such files, and can't tell.
# Seen with safetensors 0.8.0, numpy 2.4.6, Python 3.11:
#   0 1 2 / 3 4 5, transposed: 0 3 / 1 4 / 2 5; loaded again 0 1 / 2 3 / 4 5; numpy.save right; a copy in order right
#   filters of 3x3 from channels last to first: of 864 values nearly all elsewhere
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(safetensors|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
from safetensors.numpy import load_file, save_file


def again(array):
    save_file({"weight": array}, "weights.safetensors")
    return load_file("weights.safetensors")["weight"]


def told(array):
    return " / ".join(" ".join(f"{value:g}" for value in row) for row in array)


matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
print("given", told(matrix.T))
print("loaded", told(again(matrix.T)))
print("copied", told(again(np.ascontiguousarray(matrix.T))))
np.save("weights.npy", matrix.T)
print("numpy", told(np.load("weights.npy")))
filters = np.random.default_rng(0).random((3, 3, 3, 32), np.float32).transpose(3, 2, 0, 1)
print(f"filters {np.mean(again(filters) != filters):.0%} of {filters.size}")
PYTHON
cat said
[ "$(head -4 said | tr '\n' ';')" = "given 0 3 / 1 4 / 2 5;loaded 0 1 / 2 3 / 4 5;copied 0 3 / 1 4 / 2 5;\
numpy 0 3 / 1 4 / 2 5;" ] || { echo "changed: the order is kept, or refused"; exit 1; }
