#!/bin/sh
# Expected: a TFRecord file whose bytes were changed on the way (a bad disk, a copy that went wrong) is refused by its reader:
# each record carries two checksums, and the package's own writer computes them.
# Happens: the reader of the package tfrecord passes over both. A changed byte in a stored picture or matte is handed out as
# it is, a changed label is trained with, in every epoch, where the bad copy lies. With compressed pictures the decoder may
# notice; with raw masks and numbers nobody does. Nothing is raised or warned, though the file itself says that it is damaged.
# Met in: whoever packs a released set as TFRecord and reads it with this package: compare the shards' hashes first.
# Seen with tfrecord 1.14.6, crc32c 2.9.post0, numpy 2.4.6, Python 3.11; three records with a mask of 0, 1 and 2 and a label:
#   one byte of the second changed: 3 records, values 0 / 1 77 / 2; the second's checksum is not that of its bytes
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tfrecord==1.14.6 crc32c==2.9.post0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(tfrecord|crc32c|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pathlib

import crc32c
import tfrecord
from tfrecord.reader import tfrecord_loader

file = pathlib.Path("masks.tfrecord")
writer = tfrecord.TFRecordWriter(str(file))
for number in range(3):
    writer.write({"mask": (bytes([number]) * 1000, "byte"), "label": (number, "int")})
writer.close()


def checked(data):
    """Whether the checksum that lies behind each record is that of its bytes, as the format masks it."""
    while data:
        length = int.from_bytes(data[:8], "little")
        record, stored = data[12 : 12 + length], int.from_bytes(data[12 + length : 16 + length], "little")
        sum_ = crc32c.crc32c(record)
        yield ((sum_ >> 15 | sum_ << 17) + 0xA282EAD8) % 2**32 == stored
        data = data[16 + length :]


def look(name):
    rows = list(tfrecord_loader(str(file), None, {"mask": "byte", "label": "int"}))
    values = " / ".join(" ".join(map(str, sorted(set(bytes(row["mask"]))))) for row in rows)
    print(f"{name}: {len(rows)} records, values {values}; checksums {list(checked(file.read_bytes()))}")


look("written")
data = bytearray(file.read_bytes())
data[data.index(bytes([1]) * 1000) + 500] = 77
file.write_bytes(data)
look("changed")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "written: 3 records, values 0 / 1 / 2; checksums [True, True, True];\
changed: 3 records, values 0 / 1 77 / 2; checksums [True, False, True];" ] ||
  { echo "changed: a changed record is noticed"; exit 1; }
