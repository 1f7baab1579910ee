#!/bin/sh
# Expected: one hash for a folder (`checksumdir.dirhash`), with which a set is pinned in a paper or a pipeline,
# changes when two files change places: Anna's photograph with Bert's matte is another set.
# Happens: it is the same. The hashes of the files are sorted and hashed again, and neither a name nor a folder goes
# in. Mattes swapped, files renamed, everything moved from "val" to "train": the same hash; only bytes that are
# nowhere in the set any more change it. `include_paths=True` takes the names in, as further hashes among the sorted
# ones, each apart from its file's: that tells a new name, and a swap as little as before. The package dirhash, whose
# function has the same name, tells all.
# Met in: p3mdata's manifests, which hash each file under its name.
# Seen with checksumdir 1.3.0, dirhash 0.5.0, Python 3.11; two photographs, two mattes, whether the hash is the same:
#   checksumdir: mattes swapped yes, renamed yes, moved to another split yes, a byte changed no
#   with paths: swapped yes, else no; dirhash: no to all
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check checksumdir==1.3.0 dirhash==0.5.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(checksumdir|dirhash) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import shutil
from pathlib import Path

import checksumdir
import dirhash

FILES = {f"val/{kind}/{name}": f"{kind} of {name}".encode() for kind in ("photo", "matte") for name in ("anna", "bert")}


def written(name, files):
    shutil.rmtree(name, ignore_errors=True)
    for path, data in files.items():
        Path(name, path).parent.mkdir(parents=True, exist_ok=True)
        Path(name, path).write_bytes(data)
    return name


changes = {
    "swapped": FILES | {"val/matte/anna": FILES["val/matte/bert"], "val/matte/bert": FILES["val/matte/anna"]},
    "renamed": {path.replace("anna", "zoe"): data for path, data in FILES.items()},
    "moved": {path.replace("val", "train"): data for path, data in FILES.items()},
    "byte": FILES | {"val/matte/anna": b"another matte"},
}
hashes = {
    "checksumdir": lambda name: checksumdir.dirhash(name, "sha256"),
    "with paths": lambda name: checksumdir.dirhash(name, "sha256", include_paths=True),
    "dirhash": lambda name: dirhash.dirhash(name, "sha256"),
}
for name, hashed in hashes.items():
    before = hashed(written("set", FILES))
    same = {change: hashed(written("set", files)) == before for change, files in changes.items()}
    print(f"{name}:", *(f"{change} {'same' if equal else 'other'}" for change, equal in same.items()))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "checksumdir: swapped same renamed same moved same byte other;\
with paths: swapped same renamed other moved other byte other;\
dirhash: swapped other renamed other moved other byte other;" ] || { echo "changed: each file is hashed with its name"; exit 1; }
