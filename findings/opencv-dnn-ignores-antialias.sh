#!/bin/sh
# Expected: `cv2.dnn` runs an ONNX file to within rounding of what onnxruntime makes of it, or raises on import what it does
# not have, as it does for unknown operators.
# Happens: it takes attributes that it does not heed. `antialias` of Resize (what torch exports for
# `interpolate(..., antialias=True)`) is left out, so that a photograph or matte is aliased where it is made smaller; and
# GridSample's mode "cubic", as it is called since opset 20, is run as "linear". Both engines do so, nothing is raised or
# logged, and the results look like pictures. Without these two they agree with onnxruntime.
# Met in: whoever runs a matting or face network with OpenCV in place of onnxruntime (p3mdata runs them with the latter).
# Seen with opencv-python 5.0.0.93, onnxruntime 1.32.0, onnx 1.23.2, Python 3.11; largest difference, of noise from 0 to 1:
#   Resize to a half: linear 0.00, with antialias 0.17, cubic with antialias 0.27; from onnxruntime without antialias 0.00
#   GridSample: linear 0.00, cubic 0.19; from onnxruntime's linear 0.00
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  opencv-python==5.0.0.93 onnxruntime==1.32.0 onnx==1.23.2 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(opencv-python|onnxruntime|onnx) "
cd "$folder"
ORT_DISABLE_TELEMETRY=1 env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

random = np.random.default_rng(0)
noise = random.random((1, 1, 16, 16)).astype(np.float32)
half = {"sizes": np.array([1, 1, 8, 8], np.int64)}
# Well inside of the picture, where no padding counts.
places = {"grid": (random.random((1, 12, 12, 2)) * 1.8 - 0.9).astype(np.float32) * 0.75}


def model(kind, inputs, constants, **attributes):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"], **attributes)],
        "one",
        [value("x", onnx.TensorProto.FLOAT, noise.shape)],
        [value("y", onnx.TensorProto.FLOAT, [1, 1, "height", "width"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def resize(**attributes):
    return model("Resize", ["x", "", "", "sizes"], half, **attributes)


def onnx_runs(data):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": noise})[0]


def opencv_runs(data, engine):
    net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8), engine)
    net.setInput(noise, "x")
    return net.forward()


linear, cubic = (model("GridSample", ["x", "grid"], places, mode=mode) for mode in ("linear", "cubic"))
for name, data, without in (
    ("resize linear", resize(mode="linear"), None),
    ("resize linear antialias", resize(mode="linear", antialias=1), resize(mode="linear")),
    ("resize cubic antialias", resize(mode="cubic", antialias=1), resize(mode="cubic")),
    ("grid linear", linear, None),
    ("grid cubic", cubic, linear),
):
    for engine in (cv2.dnn.ENGINE_CLASSIC, cv2.dnn.ENGINE_NEW):
        made = opencv_runs(data, engine)
        off = [abs(made - onnx_runs(each)).max() for each in (data, without) if each is not None]
        print(name + ":", " and from it without ".join(f"{each:.2f}" for each in off))
PYTHON
uniq said
[ "$(uniq said | tr '\n' ';')" = "resize linear: 0.00;resize linear antialias: 0.17 and from it without 0.00;\
resize cubic antialias: 0.27 and from it without 0.00;grid linear: 0.00;grid cubic: 0.19 and from it without 0.00;" ] ||
  { echo "changed: an attribute is heeded, or an engine differs"; exit 1; }
