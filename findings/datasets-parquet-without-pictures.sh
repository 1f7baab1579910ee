#!/bin/sh
# Expected: `Dataset.to_parquet` writes a file that can be passed on: the pictures of an Image column are in it, as they are
# after `save_to_disk` and `push_to_hub`, and no path of the machine is.
# Happens: of an image folder it writes the paths alone, absolute ones with account and folder names, and no picture. It
# loads and shows everything where it was made; elsewhere the first row raises FileNotFoundError, or finds another file of
# that path. No option embeds them and nothing is said. `save_to_disk` embeds the bytes.
# Met in: p3mdata/export/huggingface.py, which writes Parquet itself, with bytes.
# Seen with datasets 5.2.0, pyarrow 26.0.1, Python 3.11; three noisy pictures of 128x128:
#   pictures 147 kB; to_parquet 1 kB, bytes none, path absolute; save_to_disk bytes all
#   after the folder is gone: FileNotFoundError
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(datasets|pyarrow|pillow) "
cd "$folder"
HF_HOME="$folder/hf" env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import os
import random
import shutil
from pathlib import Path

import datasets
from pyarrow import parquet
from PIL import Image

datasets.disable_progress_bars()
photos = Path("photos")
photos.mkdir()
noise = random.Random(0)
for number in range(3):
    Image.frombytes("RGB", (128, 128), noise.randbytes(128 * 128 * 3)).save(photos / f"{number}.png")
rows = datasets.load_dataset("imagefolder", data_dir="photos", split="train")
rows.to_parquet("rows.parquet")
rows.save_to_disk("rows")


def told(stored):
    held = [picture["bytes"] is not None for picture in stored]
    return "bytes all" if all(held) else "bytes none" if not any(held) else "bytes some"


size = sum(path.stat().st_size for path in photos.iterdir())
print(f"pictures {size // 1000} kB")
stored = parquet.read_table("rows.parquet")["image"].to_pylist()
absolute = all(os.path.isabs(picture["path"]) for picture in stored)
print(f"to_parquet {os.path.getsize('rows.parquet') // 1000} kB,", told(stored), "absolute" if absolute else "relative")
print("save_to_disk", told(datasets.load_from_disk("rows").with_format("arrow")[:]["image"].to_pylist()))
shutil.rmtree(photos)
try:
    datasets.Dataset.from_parquet("rows.parquet", cache_dir="again")[0]
    print("loaded")
except FileNotFoundError:
    print("FileNotFoundError")
PYTHON
cat said
grep -q "^to_parquet [0-9] kB, bytes none absolute$" said && grep -q "^save_to_disk bytes all$" said &&
  grep -q "^FileNotFoundError$" said || { echo "changed: pictures are in the file, or paths are not"; exit 1; }
