#!/bin/sh
# Expected: `onnxoptimizer.optimize(network)`, with the passes that it takes by itself, gives a smaller network that computes
# the same; a fusion that is right under conditions alone looks at them.
# Happens: zeros laid around a picture before pooling (Pad, as networks of other frameworks have it) are taken into
# the pooling, which knows no zeros: maximum pooling pads with less than any value. Where values are negative, as before an
# activation, the border is another one. Average pooling with a padding of its own that is not counted counts these zeros
# before and not after. Behind a ReLU the maximum is right, so many networks show nothing. And a Reshape that keeps lengths by
# 0 takes them from another one's input when the Reshape before it is dropped. Results pass `check_model`.
# Met in: whoever makes a matting or face network smaller for p3mdata or p3mnet: compare outputs, at the border too.
# Seen with onnxoptimizer 0.4.2, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, Python 3.11; largest difference, of noise:
#   Pad and MaxPool 1.50 for -2 to -1, 0 for 0 to 1; Pad and AveragePool 0, with a padding of its own 0.32
#   Reshape to 3 1 16 16, then to 0 0 -1: 3x1x256 became 1x3x256
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxoptimizer==0.4.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(onnxoptimizer|onnx|onnxruntime|numpy) "
cd "$folder"
export ORT_DISABLE_TELEMETRY=1
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

noise = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
AROUND = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)


def network(*nodes, **values):
    places = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    known = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(list(nodes), "g", places[:1], places[1:], known)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def run(network, x):
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def compare(name, x, *nodes, **values):
    before = network(*nodes, **values)
    after = onnxoptimizer.optimize(before)
    onnx.checker.check_model(after)
    one, other = run(before, x), run(after, x)
    told = " became ".join("x".join(map(str, array.shape)) for array in (one, other))
    if one.shape == other.shape:
        told = f"{np.abs(one - other).max():.2f}"
    print(f"{name}: {told}, nodes {len(before.graph.node)} to {len(after.graph.node)}")


pad = helper.make_node("Pad", ["x", "around"], ["padded"])
pools = {
    "maximum": helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    "average": helper.make_node("AveragePool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    "average, padded": helper.make_node(
        "AveragePool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    ),
}
for name, pool in pools.items():
    compare(name, noise - 2, pad, pool, around=AROUND)
compare("maximum, above 0", noise, pad, pools["maximum"], around=AROUND)
turns = [helper.make_node("Reshape", names[:2], names[2:]) for names in (["x", "to", "z"], ["z", "keep", "y"])]
compare("reshape", noise, *turns, to=np.array([3, 1, 16, 16]), keep=np.array([0, 0, -1]))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "maximum: 1.50, nodes 2 to 1;average: 0.00, nodes 2 to 1;average, padded: 0.32, nodes 2 to 1;\
maximum, above 0: 0.00, nodes 2 to 1;reshape: 3x1x256 became 1x3x256, nodes 2 to 1;" ] ||
  { echo "changed: the same is computed"; exit 1; }
