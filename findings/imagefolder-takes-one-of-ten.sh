#!/bin/sh
# Expected: `load_dataset("imagefolder", data_dir=...)` of a flat folder of photographs gives all of them, as split "train";
# a name that speaks of a split may put its file into that split, but not the others out of the set.
# Happens: one file whose name has a word such as test, dev, eval or val between its signs is enough: the set is this file,
# as split "test" or "validation", and all other photographs are gone without a word. Asked for split "train", it says that
# there is none; asked for nothing, it looks as if it had worked. Any name can do so: "anna-test.jpg" for a trial shot,
# "val-di-fassa_1.jpg" for a place.
# Met in: p3mdata/export/huggingface.py, which names the files of each split in its card; released files without
# `--names keep` have ids without words.
# Seen with datasets 5.2.0, Pillow 13.0.0, Python 3.11; ten photographs in a folder:
#   all p0.png to p9.png: train 10
#   one of them val-di-fassa_1.png: validation 1
#   one of them anna-test.png: test 1
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(datasets|pillow) "
cd "$folder"
HF_HOME="$folder/hf" env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
for last in ("p9", "val-di-fassa_1", "anna-test"):
    photos = Path(f"photos of {last[:2]}")
    photos.mkdir()
    for name in (*(f"p{number}" for number in range(9)), last):
        Image.new("RGB", (8, 8)).save(photos / f"{name}.png")
    found = datasets.load_dataset("imagefolder", data_dir=str(photos))
    print(f"{last}:", ", ".join(f"{split} {len(rows)}" for split, rows in found.items()))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "p9: train 10;val-di-fassa_1: validation 1;anna-test: test 1;" ] ||
  { echo "changed: a word in a name takes the others along"; exit 1; }
