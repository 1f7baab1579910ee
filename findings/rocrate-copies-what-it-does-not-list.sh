#!/bin/sh
# Expected: `ROCrate.write` and `write_zip` of the package rocrate make a crate of what it describes: files are added one by one
# (`add_file`), and the descriptor lists all that is in it; that is what a crate is for.
# Happens: a crate that was read from a folder takes along everything that lies there, also what no entity names: folders of
# originals, tables of names, hidden files. The descriptor of the copy does not list them, so nobody who reads it sees them.
# A crate made in memory has just what was added. So the second release of a set, made from the first one's folder, is the
# one that carries more. What is to stay behind has to be named (`ROCrate(folder, exclude=[...])`); nothing is said.
# Met in: whoever packs a released folder as RO-Crate: pack a folder that holds the release alone.
# Seen with rocrate 0.16.0, Python 3.11; a folder with a blurred picture, its original, and a hidden table of names:
#   made in memory: blurred.png; read again and written: blurred.png, .names.csv, originals/anna.png; listed blurred.png
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check rocrate==0.16.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^rocrate "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import json
import shutil
import zipfile
from pathlib import Path

from rocrate.rocrate import ROCrate

DESCRIPTOR = "ro-crate-metadata.json"
for name in ("set/originals/anna.png", "set/.names.csv", "set/blurred.png"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(name)


def told(folder):
    files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    files.remove(DESCRIPTOR)
    graph = json.loads((Path(folder) / DESCRIPTOR).read_text())["@graph"]
    return ", ".join(files) + "; listed " + ", ".join(row["@id"] for row in graph if row["@type"] == "File")


made = ROCrate()
made.add_file("set/blurred.png")
made.write("made")
print("made:", told("made"))
shutil.copy(f"made/{DESCRIPTOR}", "set")
read = ROCrate("set")
read.write("written")
print("read and written:", told("written"))
read.write_zip("written.zip")
zipfile.ZipFile("written.zip").extractall("unpacked")
print("as zip:", told("unpacked"))
PYTHON
cat said
[ "$(tr '\n' '|' < said)" = "made: blurred.png; listed blurred.png|\
read and written: .names.csv, blurred.png, originals/anna.png; listed blurred.png|\
as zip: .names.csv, blurred.png, originals/anna.png; listed blurred.png|" ] ||
  { echo "changed: files that are not listed stay behind"; exit 1; }
