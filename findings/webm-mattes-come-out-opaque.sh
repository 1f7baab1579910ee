#!/bin/sh
# Expected: a WebM (VP9) of a person without background, which is how portraits with mattes move in browsers, decodes with PyAV
# to frames with opacity, as a QuickTime file of the same library does; it was written from such frames a line above.
# Happens: PyAV's decoder gives yuv420p, all opaque: WebM keeps opacity as a second stream of its own, and FFmpeg's usual VP9
# decoder does not look at it. `to_ndarray(format="rgba")` fills in 255. The person stands in front of whatever colour
# was hidden there. The file is right: the codec "libvpx-vp9" (`CodecContext.create`), in the same wheel, gives yuva420p.
# Nothing is raised; the stream's metadata say alpha_mode 1. ProRes, PNG and QuickTime's codecs give their opacity.
# Met in: whoever cuts frames and mattes for this project out of transparent WebM.
# Seen with av 18.1.0, numpy 2.4.6, Python 3.11; opacity 64 of 255 written, read:
#   WebM yuv420p 255, alpha_mode 1; by libvpx-vp9 yuva420p 64; QuickTime ProRes 64, PNG 64
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(av|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import av
import numpy as np

cut = np.empty((64, 64, 4), np.uint8)
cut[:] = 200, 100, 50, 64


def write(path, codec, form):
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, form
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgba").reformat(format=form)))
        file.mux(stream.encode())


def told(frame):
    return f"{frame.format.name} {frame.to_ndarray(format='rgba')[32, 32, 3]}"


def usual(path):
    with av.open(path) as file:
        return told(next(file.decode(video=0)))


write("cut.webm", "libvpx-vp9", "yuva420p")
write("prores.mov", "prores_ks", "yuva444p10le")
write("png.mov", "png", "rgba")
with av.open("cut.webm") as file:
    marked = file.streams.video[0].metadata.get("alpha_mode")
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    other = told([frame for packet in file.demux(video=0) for frame in decoder.decode(packet)][0])
print("WebM", usual("cut.webm"), "marked", marked, "by libvpx-vp9", other)
print("ProRes", usual("prores.mov"), "PNG", usual("png.mov"))
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "WebM yuv420p 255 marked 1 by libvpx-vp9 yuva420p 64;\
ProRes yuva444p12le 64 PNG rgba 64;" ] ||
  { echo "changed: opacity is decoded, or written otherwise"; exit 1; }
