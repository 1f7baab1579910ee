#!/bin/sh
# Expected: `onnx.version_converter.convert_version` gives a network of a newer opset that computes the same, or raises where it
# has no way, as it does for many operators.
# Happens: Resize reckoned from the corner of the first pixel until opset 10 and reckons from its middle since 11 (attribute
# coordinate_transformation_mode). The converter does not write the attribute: each linear Resize moves the picture by part
# of a pixel, in a network that enlarges several times again and again; Upsample of opset 9 goes the same way. Nearest hides
# it. In the other direction Softmax along channels becomes one over all values, since opset 11 meant its axis otherwise,
# and Hardmax is wrong upwards. The result passes `check_model` and looks like a matte, only not where the hair is.
# Met in: whoever brings an older matting or face network (opset 9 or 10) to a version that a tool asks for: compare outputs.
# Seen with onnx 1.23.2, onnxruntime 1.32.0, Python 3.11; largest difference for noise from 0 to 1:
#   Resize linear 10 to 11: 0.38 enlarged, 0.58 made smaller; nearest 0.00; Upsample linear 9 to 13: 0.38, 9 to 10: 0.00
#   Softmax along channels 13 to 11: 0.55, 11 to 13: 0.00; Hardmax 11 to 13: 1.00
#   a ramp of 0 10 20 30 enlarged twice: before 0 5 10 15 20 25 30 30, after 0 2.5 7.5 12.5 17.5 22.5 27.5 30
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(onnx|onnxruntime|numpy) "
cd "$folder"
ORT_DISABLE_TELEMETRY=1 env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

noise = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
ramp = np.arange(0, 40, 10, dtype=np.float32).reshape(1, 1, 1, 4)


def run(model, data):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": data})[0]


def both(before, after, data, kind, scales=None, **attributes):
    """What a network of one operator gives in one opset and converted to another."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, data.shape)]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4))
    values = [] if scales is None else [numpy_helper.from_array(np.array(scales, np.float32), "s")]
    node = helper.make_node(kind, ["x", *(value.name for value in values)], ["y"], **attributes)
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", before)], ir_version=6)
    onnx.checker.check_model(model)
    converted = version_converter.convert_version(model, after)
    onnx.checker.check_model(converted)
    return run(model, data), run(converted, data)


def apart(*case, **attributes):
    first, second = both(*case, **attributes)
    return f"{np.abs(first - second).max():.2f}"


twice, half = [1, 1, 2, 2], [1, 1, 0.5, 0.5]
print("Resize linear", apart(10, 11, noise, "Resize", twice, mode="linear"), apart(10, 11, noise, "Resize", half, mode="linear"))
print("Resize nearest", apart(10, 11, noise, "Resize", twice, mode="nearest"))
print("Upsample linear", apart(9, 13, noise, "Upsample", twice, mode="linear"), apart(9, 10, noise, "Upsample", twice, mode="linear"))
print("Softmax", apart(13, 11, noise, "Softmax", axis=1), apart(11, 13, noise, "Softmax", axis=1))
print("Hardmax", apart(11, 13, noise, "Hardmax", axis=1))
for name, values in zip(("before", "after"), both(10, 11, ramp, "Resize", [1, 1, 1, 2], mode="linear"), strict=True):
    print(name, *(f"{value:g}" for value in values.ravel()))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "Resize linear 0.38 0.58;Resize nearest 0.00;Upsample linear 0.38 0.00;Softmax 0.55 0.00;Hardmax 1.00;\
before 0 5 10 15 20 25 30 30;after 0 2.5 7.5 12.5 17.5 22.5 27.5 30;" ] ||
  { echo "changed: converted networks compute the same"; exit 1; }
