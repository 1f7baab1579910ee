#!/bin/sh
# Expected: an ONNX network that makes its input smaller itself and keeps its proportions (Resize with
# keep_aspect_ratio_policy="not_larger", opset 18) gives in OpenVINO what it gives in onnxruntime, or is refused, as
# Resize with half_pixel_symmetric, tf_crop_and_resize or Pad with "wrap" are.
# Happens: three attributes are read past. The picture is squeezed into the full size: another shape, other
# proportions, a matte that fits nothing. `exclude_outside` of cubic is left out, which makes another border, and
# `antialias`, which aliases all that is made smaller. What only enlarges, in linear, shows nothing. Nothing is raised
# or logged.
# Met in: whoever runs a matting or face network with OpenVINO in place of onnxruntime (p3mdata runs them with the
# latter).
# Seen with openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, Python 3.11; noise of 12x16 from 0 to 1:
#   not_larger than 17x9: onnxruntime 7x9, OpenVINO 17x9; without the policy the same; largest difference: linear 0.00
#   exclude_outside 0.05, antialias 0.17; both 0.00 from onnxruntime without the attribute
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(openvino|onnxruntime|onnx|numpy) "
cd "$folder"
ORT_DISABLE_TELEMETRY=1 env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import onnx
import onnxruntime
import openvino

noise = np.random.default_rng(1).random((1, 3, 12, 16), np.float32)


def network(sizes=None, **attributes):
    constant = {"scales": np.array([0.5, 0.5], np.float32)} if sizes is None else {"sizes": np.array(sizes, np.int64)}
    names = ["x", "", "scales"] if sizes is None else ["x", "", "", "sizes"]
    node = onnx.helper.make_node("Resize", names, ["y"], axes=[2, 3], **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, noise.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constant.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run_by_onnxruntime(data):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": noise})[0]


def run_by_openvino(data):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(next(iter(compiled({"x": noise}).values())))


def compared(name, other=None, **attributes):
    right, got = run_by_onnxruntime(network(**attributes)), run_by_openvino(network(**attributes))
    if right.shape != got.shape:
        print(f"{name}: {right.shape[2:]} became {got.shape[2:]}")
        return
    plain = "" if other is None else f", {np.abs(got - run_by_onnxruntime(network(**other))).max():.2f} from it without"
    print(f"{name}: {np.abs(right - got).max():.2f}{plain}")


compared("not_larger", sizes=[17, 9], mode="linear", keep_aspect_ratio_policy="not_larger")
compared("full size", sizes=[17, 9], mode="linear")
compared("linear", mode="linear")
compared("antialias", {"mode": "linear"}, mode="linear", antialias=1)
compared("exclude_outside", {"mode": "cubic"}, mode="cubic", exclude_outside=1)
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "not_larger: (7, 9) became (17, 9);full size: 0.00;linear: 0.00;\
antialias: 0.17, 0.00 from it without;exclude_outside: 0.05, 0.00 from it without;" ] || { echo "changed: OpenVINO heeds these attributes, or refuses them"; exit 1; }
