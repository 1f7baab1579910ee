#!/bin/sh
# Expected: a Croissant description of photographs in one folder and mattes in another, joined by their names, gives records
# whose field "matte" holds the matte; it loads without an error, and the checker has nothing against it.
# Happens: the field "matte" holds the photograph again, in each record. Both fields take the property "content", columns are
# found by that name alone after the join, and the first set of files wins; the other's content is thrown away. A
# photograph without a matte has one then too. Described the other way round (the mattes' names refer to the photographs'),
# both fields hold the matte. Columns of one table, in Parquet, are what they are called.
# Met in: p3mdata/export/croissant.py, which puts photographs and mattes in the columns of one Parquet file.
# Seen with mlcroissant 1.1.1, Pillow 13.0.0, Python 3.11; three photographs of red 10, 11, 12, mattes of grey 200, 201, 202:
#   image (10, 0, 0), matte (10, 0, 0); image (11, 0, 0), matte (11, 0, 0); image (12, 0, 0), matte (12, 0, 0)
#   without the second matte: as before, matte (11, 0, 0)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mlcroissant==1.1.1 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(mlcroissant|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import json
from pathlib import Path

import mlcroissant as mlc
from PIL import Image

for number in range(3):
    for kind, mode, value in (("images", "RGB", (10 + number, 0, 0)), ("mattes", "L", 200 + number)):
        Path(kind).mkdir(exist_ok=True)
        Image.new(mode, (8, 8), value).save(f"{kind}/p{number}.png")


def source(files, what):
    return mlc.Source(file_set=files, extract=mlc.Extract(file_property=what))


NAME, CONTENT = mlc.FileProperty.filename, mlc.FileProperty.content
fields = [
    mlc.Field(
        id="people/name",
        name="name",
        data_types=[mlc.DataType.TEXT],
        source=source("images", NAME),
        references=source("mattes", NAME),
    )
]
fields += [
    mlc.Field(id=f"people/{kind}", name=kind, data_types=[mlc.DataType.IMAGE_OBJECT], source=source(files, CONTENT))
    for kind, files in (("image", "images"), ("matte", "mattes"))
]
described = mlc.Metadata(
    name="people",
    description="Photographs and their mattes.",
    license=["https://example.org/licence"],
    url="https://example.org/people",
    version="1.0.0",
    cite_as="People",
    date_published="2026-01-01",
    distribution=[
        mlc.FileSet(id=kind, name=kind, encoding_formats=["image/png"], includes=[f"{kind}/*.png"])
        for kind in ("images", "mattes")
    ],
    record_sets=[mlc.RecordSet(id="people", name="people", fields=fields)],
)
Path("croissant.json").write_text(json.dumps(described.to_json(), default=str))


def told():
    people = mlc.Dataset("croissant.json")
    print("errors", len(people.metadata.ctx.issues.errors), end="")
    for record in people.records("people"):
        pixels = (record[f"people/{kind}"].getpixel((3, 3)) for kind in ("image", "matte"))
        print(";", *pixels, end="")
    print()


told()
Path("mattes/p1.png").unlink()
told()
PYTHON
cat said
[ "$(tr '\n' '|' < said)" = "errors 0; (10, 0, 0) (10, 0, 0); (11, 0, 0) (11, 0, 0); (12, 0, 0) (12, 0, 0)|\
errors 0; (10, 0, 0) (10, 0, 0); (11, 0, 0) (11, 0, 0); (12, 0, 0) (12, 0, 0)|" ] ||
  { echo "changed: mattes are mattes"; exit 1; }
