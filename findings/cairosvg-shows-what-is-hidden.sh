#!/bin/sh
# Expected: CairoSVG makes of an SVG the picture that browsers show: a photograph whose face is masked (`<mask>` with a black
# shape, or with a grey matte) or blurred (`feGaussianBlur`) comes out so, or is refused.
# Happens: of a mask it takes the opacity alone and not the brightness, which SVG goes by: black, grey and white are opaque
# alike, so that a black shape hides nothing, and a matte, which is an opaque picture, cuts nothing out. Blurs it leaves out
# altogether. The face is in the PNG, sharp, where the browser shows none. Masks with nothing drawn in the hidden part,
# and clip paths, are right. Nothing is raised or warned. resvg shows what browsers show.
# Met in: whoever makes figures of anonymized portraits in SVG: take pictures that are obfuscated themselves.
# Seen with CairoSVG 2.9.1, resvg-py 0.5.0, Pillow 13.0.0, numpy 2.4.6, Python 3.11; stripes before white, contrast 100:
#   CairoSVG: black in the mask 100, matte of a quarter 100, blur 100, nothing in the mask 0; resvg: 0, 25, 5, 0
# CairoSVG needs the system's library cairo.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  cairosvg==2.9.1 resvg-py==0.5.0 pillow==13.0.0 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(cairosvg|resvg.py|pillow|numpy) "
cd "$folder"
env/bin/python -c "import cairosvg" 2> errors || { echo "the library cairo is missing"; exit 2; }
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import base64
import io

import cairosvg
import numpy as np
import resvg_py
from PIL import Image

SIDE = 64


def picture(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return f'<image width="{SIDE}" height="{SIDE}" xlink:href="{address}" %s/>'


face = picture(np.tile(np.repeat([20, 220], 4).astype(np.uint8), (SIDE, SIDE // 8)))
matte = picture(np.full((SIDE, SIDE), 64, np.uint8)) % ""
white = f'<rect width="{SIDE}" height="{SIDE}" fill="white"/>'
black = f'<rect width="{SIDE}" height="{SIDE}" fill="black"/>'
mask = f'<mask id="m" maskUnits="userSpaceOnUse" x="0" y="0" width="{SIDE}" height="{SIDE}">%s</mask>'
drawings = {
    "as it is": ("", ""),
    "black in the mask": (mask % (white + black), 'mask="url(#m)"'),
    "matte of a quarter": (mask % matte, 'mask="url(#m)"'),
    "blur": ('<filter id="f"><feGaussianBlur stdDeviation="16"/></filter>', 'filter="url(#f)"'),
    "nothing in the mask": (mask % "", 'mask="url(#m)"'),
}
for name, (defined, used) in drawings.items():
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{SIDE}" height="{SIDE}">'
    svg += f"{defined}{face % used}</svg>"
    shown = []
    for drawn in cairosvg.svg2png(bytestring=svg.encode()), bytes(resvg_py.svg_to_bytes(svg_string=svg)):
        seen = Image.new("RGBA", (SIDE, SIDE), "white")
        seen.alpha_composite(Image.open(io.BytesIO(drawn)).convert("RGBA"))
        shown.append(np.asarray(seen.convert("L"))[16:48, 16:48].std())
    print(f"{name}: CairoSVG {shown[0]:.0f}, resvg {shown[1]:.0f}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "as it is: CairoSVG 100, resvg 100;black in the mask: CairoSVG 100, resvg 0;\
matte of a quarter: CairoSVG 100, resvg 25;blur: CairoSVG 100, resvg 5;nothing in the mask: CairoSVG 0, resvg 0;" ] ||
  { echo "changed: masks and blurs hide"; exit 1; }
