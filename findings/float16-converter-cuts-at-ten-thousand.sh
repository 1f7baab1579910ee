#!/bin/sh
# Expected: `float16.convert_float_to_float16` of onnxconverter-common keeps each weight that half precision can hold (up to
# 65,504) as its nearest half, and warns where it can't.
# Happens: the limit is not that of the type but 10,000: 20,000 and 65,000 both become 10,000. A network that scales pixels of
# 16 bits, or reckons places in a large photograph with such weights, computes something else beyond there, and nothing
# fails. The warning (one for all values of a tensor that are too large, one for those below) is of the same form as those
# about weights near 0, which do no harm. `max_finite_val=65504` keeps them.
# Met in: whoever converts networks to half precision for p3mdata or p3mnet; these export their own without it.
# Seen with onnxconverter-common 1.16.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11; 1 multiplied with weights:
#   20000 65000 -30000 0.5: 10000 10000 -10000 0.5, two warnings; with max_finite_val=65504: 20000 64992 -30000 0.5, none
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxconverter-common==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(onnxconverter-common|onnx|onnxruntime|numpy) "
cd "$folder"
export ORT_DISABLE_TELEMETRY=1
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common import float16

weights = np.array([20000, 65000, -30000, 0.5], np.float32)
places = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
node = helper.make_node("Mul", ["x", "weights"], ["y"])
graph = helper.make_graph([node], "scales", places[:1], places[1:], [numpy_helper.from_array(weights, "weights")])
network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(network):
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return " ".join(f"{value:g}" for value in session.run(None, {"x": np.ones(4, np.float32)})[0])


def converted(**how):
    copy = onnx.ModelProto.FromString(network.SerializeToString())
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        copy = float16.convert_float_to_float16(copy, keep_io_types=True, **how)
    return f"{run(copy)}; warnings {len(given)}"


print("before:", run(network))
print("converted:", converted())
print("max_finite_val=65504:", converted(max_finite_val=65504))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "before: 20000 65000 -30000 0.5;converted: 10000 10000 -10000 0.5; warnings 2;\
max_finite_val=65504: 20000 64992 -30000 0.5; warnings 0;" ] || { echo "changed: what half precision holds is kept"; exit 1; }
