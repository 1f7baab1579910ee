#!/bin/sh
# Expected: ids of annotations in a COCO file are any different numbers; a prediction that is exactly the truth has AP 1.
# Happens: pycocotools' COCOeval keeps the id of the annotation that a detection was matched with, and 0 in the place of "none".
# An annotation with id 0 is therefore found by nobody: its detection is counted as a false alarm, it as missed, and as the
# alarm may have the best score, the precision of all others sinks with it. Small sets lose most. The format says nothing
# about 0, loading takes it in silence, and exporters write it: PyLabel numbers from 0.
# Met in: whoever judges face or person detectors on sets that are exported so: compare AP of the truth with itself first.
# Seen with pycocotools 2.0.11, pylabel 0.1.55, numpy 2.4.6, Python 3.11; predictions are the truth:
#   two photographs with a person each, numbered by PyLabel 0 and 1: AP 0.25; numbered 1 and 2: AP 1.00
#   ten from 0: AP 0.81
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  pycocotools==2.0.11 pylabel==0.1.55 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pycocotools|pylabel|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import contextlib
import io
import json
from pathlib import Path

from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pylabel import importer


def exported(count):
    """A box in the middle of each photograph, in the form of YOLO and by PyLabel in that of COCO."""
    folder = Path(f"of-{count}")
    for name in ("photos", "boxes"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (100, 100)).save(folder / "photos" / f"{number}.png")
        (folder / "boxes" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    photos = importer.ImportYoloV5(str(folder / "boxes"), path_to_images="../photos", cat_names=["person"])
    path = folder / "coco.json"
    photos.export.ExportToCoco(output_path=str(path))
    return path


def precision(path, first):
    given = json.loads(path.read_text())
    for row in given["annotations"]:
        row["id"] += first
    Path("given.json").write_text(json.dumps(given))
    truth = COCO("given.json")
    keys = "image_id", "category_id", "bbox"
    found = truth.loadRes([{key: row[key] for key in keys} | {"score": 0.9} for row in given["annotations"]])
    judged = COCOeval(truth, found, "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return f"from {min(truth.anns)} AP {judged.stats[0]:.2f}"


lines = []
with contextlib.redirect_stdout(io.StringIO()):
    for count in (2, 10):
        path = exported(count)
        lines.append(f"{count} {precision(path, 0)}, {precision(path, 1)}")
print("\n".join(lines))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "2 from 0 AP 0.25, from 1 AP 1.00;\
10 from 0 AP 0.81, from 1 AP 1.00;" ] ||
  { echo "changed: an annotation of id 0 counts, or is not written"; exit 1; }
