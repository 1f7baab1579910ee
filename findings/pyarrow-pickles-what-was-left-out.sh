#!/bin/sh
# Expected: the first rows of a table of photographs (`table.slice(0, 2)`), pickled, are those rows: what a worker
# process gets, what a cache keeps, what a colleague is sent as "the two with consent".
# Happens: the pickle holds all photographs of the table. A slice is a window on the buffers of the whole, and
# pickling takes the buffers; loaded, it shows two rows, and its length and `nbytes` are those of two.
# `combine_chunks` does not help, nor does protocol 5; a slice of a column or of a record batch is the same. `filter`
# and `take` copy their rows, Arrow's own formats (IPC, Feather) and Parquet write the window alone. Nothing is said;
# the size of the file tells.
# Met in: p3mdata/export/huggingface.py, which writes Parquet and pickles no table.
# Seen with pyarrow 26.0.1, Python 3.11; 50 rows of 10 kB; pictures that are in the bytes:
#   table of 50: 50; slice of 2: 50, nbytes 20 kB, pickle 501 kB; combined 50, column 50, batch 50; filter 2, take 2, IPC 2
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^pyarrow "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pickle
import random

import pyarrow

draw = random.Random(1)
pictures = [b"portrait-%02d" % number + draw.randbytes(10_000) for number in range(50)]
table = pyarrow.table({"name": [f"{number:02d}.jpg" for number in range(50)], "image": pictures})
window = table.slice(0, 2)
stream = pyarrow.BufferOutputStream()
with pyarrow.ipc.new_stream(stream, table.schema) as file:
    file.write_table(window)
kept = {
    "table": pickle.dumps(table),
    "slice": pickle.dumps(window),
    "protocol 5": pickle.dumps(window, protocol=5),
    "combined": pickle.dumps(window.combine_chunks()),
    "column": pickle.dumps(table["image"].chunk(0)[:2]),
    "batch": pickle.dumps(table.to_batches()[0].slice(0, 2)),
    "filter": pickle.dumps(table.filter([number < 2 for number in range(50)])),
    "take": pickle.dumps(table.take([0, 1])),
    "ipc": stream.getvalue().to_pybytes(),
}
for name, data in kept.items():
    print(f"{name}: {sum(picture in data for picture in pictures)}")
loaded = pickle.loads(kept["slice"])
print(f"loaded: {loaded.num_rows} rows, nbytes {loaded.nbytes // 1000} kB, pickle {len(kept['slice']) // 1000} kB")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "table: 50;slice: 50;protocol 5: 50;combined: 50;column: 50;batch: 50;filter: 2;take: 2;ipc: 2;\
loaded: 2 rows, nbytes 20 kB, pickle 501 kB;" ] || { echo "changed: a pickled slice holds its rows alone"; exit 1; }
