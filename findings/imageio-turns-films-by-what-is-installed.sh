#!/bin/sh
# Expected: `imageio.v3.imread("film.mp4")` gives upright frames of a film that a phone took upright, or lying ones;
# whichever, the same on each machine with that version of imageio, and with each of its plugins for films.
# Happens: phones store such films lying with a note (display matrix). The plugin that uses the program FFmpeg
# (package imageio-ffmpeg) hands out turned frames, the one that uses PyAV leaves them lying, and without a name the
# one that is installed is taken, FFmpeg first. So whether a detector looks at faces or at faces on their side (it
# finds few of those), and whether mattes fit the frames, is decided by a package beside it. OpenCV turns, PIMS does
# not. Nothing is raised or warned.
# Met in: whoever cuts frames for this project out of films: look at one.
# Seen with imageio 2.38.1, av 18.1.0, imageio-ffmpeg 0.8.1, OpenCV 5.0.0.93, numpy 2.4.6, Python 3.11; a film of
# 96x64 to be shown as 64x96:
#   with av alone: 96x64; with imageio-ffmpeg beside it: 64x96; plugin "FFMPEG" 64x96, "pyav" 96x64; OpenCV 64x96
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  imageio==2.38.1 av==18.1.0 numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93 || exit 2
cd "$folder"
env/bin/pip download --quiet --disable-pip-version-check --no-deps imageio-ffmpeg==0.8.1 -d wheels || exit 2
env/bin/pip install --quiet --disable-pip-version-check --no-deps --target beside wheels/* || exit 2
env/bin/pip list 2>/dev/null | grep -iE "^(imageio|av|opencv-python-headless|numpy) "
cat > show.py <<'PYTHON'
import sys

import imageio.v3 as imageio


def size(**options):
    height, width = imageio.imread("film.mp4", **options).shape[1:3]
    return f"{width}x{height}"


print(f"{sys.argv[1]}: {size()}")
if sys.argv[1] == "both":
    print(f"FFMPEG {size(plugin='FFMPEG')}, pyav {size(plugin='pyav')}")
    import cv2

    height, width = cv2.VideoCapture("film.mp4").read()[1].shape[:2]
    print(f"opencv: {width}x{height}")
PYTHON
PYTHONPATH=beside env/bin/python - <<'PYTHON' || exit 2
import subprocess

import imageio_ffmpeg

program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
colour = ["-f", "lavfi", "-i", "color=red:s=96x64:d=1:r=5", "-c:v", "libx264", "-pix_fmt", "yuv420p", "lying.mp4"]
subprocess.run([*program, *colour], check=True)
subprocess.run([*program, "-display_rotation", "90", "-i", "lying.mp4", "-c", "copy", "film.mp4"], check=True)
PYTHON
{ env/bin/python show.py alone; PYTHONPATH=beside env/bin/python show.py both; } > said 2> errors || { tail -5 errors; exit 2; }
cat said
[ "$(tr '\n' ';' < said)" = "alone: 96x64;both: 64x96;FFMPEG 64x96, pyav 96x64;opencv: 64x96;" ] ||
  { echo "changed: both plugins show films the same way round"; exit 1; }
