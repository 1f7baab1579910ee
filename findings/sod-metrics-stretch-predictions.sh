#!/bin/sh
# Expected: the mean absolute error of PySODMetrics, which evaluations of salient objects, camouflage and cut-outs are made
# with, is that of the two pictures given: 0 for a prediction that is the truth, about a half for one of half its strength.
# Happens: each prediction is stretched by itself until its least value is 0 and its greatest 1, and the truth is cut at a half
# of 255. A matte at 1 % of its strength, or one lifted out of the dark, scores as the full one does; a soft matte that is
# the truth to the last bit has an error, of all its soft edge. Two methods are ranked by the truth's softness. The stretch
# can be switched off with `normalize=False`, which wants values of 0 to 1 and a truth of booleans.
# Met in: whoever compares this project's benchmarks of mattes (not stretched, not cut) with tables made so.
# Seen with pysodmetrics 1.6.2, numpy 2.3.4, Python 3.11; mean absolute error of a disc; soft ones fall off over 40 pixels:
#   hard edge, truth against: itself 0.0066, a half of it 0.0066, a hundredth 0.0046, a third and 100 added 0.0066
#   soft edge, truth against itself 0.2334; S-measure 0.822
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pysodmetrics==1.6.2 numpy==2.3.4 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pysodmetrics|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import py_sod_metrics

y, x = np.mgrid[:100, :100]
far = np.hypot(y - 50, x - 50)
hard = (np.clip(40.5 - far, 0, 1) * 255).astype(np.uint8)
soft = (np.clip((60 - far) / 40, 0, 1) * 255).astype(np.uint8)


def judged(kind, prediction, truth):
    metric = kind()
    metric.step(pred=prediction.astype(np.uint8), gt=truth)
    return metric.get_results()


def error(prediction, truth):
    return f"{judged(py_sod_metrics.MAE, prediction, truth)['mae']:.4f}"


print("itself", error(hard, hard), "half", error(hard // 2, hard), end=" ")
print("hundredth", error(hard // 100, hard), "lifted", error(hard // 3 + 100, hard))
print("soft itself", error(soft, soft), f"S {judged(py_sod_metrics.Smeasure, soft, soft)['sm']:.3f}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "itself 0.0066 half 0.0066 hundredth 0.0046 lifted 0.0066;soft itself 0.2334 S 0.822;" ] ||
  { echo "changed: predictions and truth are compared as they are"; exit 1; }
