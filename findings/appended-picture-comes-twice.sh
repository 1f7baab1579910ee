#!/bin/sh
# Expected: a shard (tar) of a set in which one photograph is replaced the way tar replaces files, by appending the new one
# (`tar -r`, `tar -u`, Python's mode "a"), gives the new photograph: unpacked, the later member overwrites the earlier.
# Happens: webdataset gives both, as two samples of the same key, the old one first: a face that was blurred afterwards is
# trained with in every epoch. Only where the two lie side by side it says "duplicate file name". The new sample has what was
# appended alone: a photograph without its matte.
# Met in: p3mdata/export/webdataset.py, which writes shards anew and never appends.
# Seen with webdataset 1.0.2, Python 3.11; three photographs with mattes, the second photograph appended again:
#   unpacked: old new old; webdataset: a old, b old, c old, each with a matte, and b new without one
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check webdataset==1.0.2 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(webdataset|numpy) "
cd "$folder"
mkdir set unpacked
for name in a b c; do
  printf old > set/$name.jpg
  printf matte > set/$name.png
done
tar -C set -cf shard.tar a.jpg a.png b.jpg b.png c.jpg c.png
printf new > set/b.jpg
tar -C set -rf shard.tar b.jpg
tar -C unpacked -xf shard.tar
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pathlib

import webdataset

print("unpacked:", *(pathlib.Path("unpacked", f"{name}.jpg").read_text() for name in "abc"))
samples = webdataset.WebDataset("shard.tar", shardshuffle=False)
print("webdataset:", "; ".join(f"{row['__key__']} {row['jpg'].decode()} {'png' in row}" for row in samples))
PYTHON
cat said
[ "$(tr '\n' '/' < said)" = "unpacked: old new old/webdataset: a old True; b old True; c old True; b new False/" ] ||
  { echo "changed: the later member is the one"; exit 1; }
