#!/bin/sh
# Expected: `psnr` and `ssim` of image-similarity-measures, given two photographs of 8 bits, reckon with 255 as the greatest
# value, or take it from the type of the arrays.
# Happens: both reckon with 4095, the greatest value of the 12 bits of a satellite, unless `max_p` is given. PSNR is 24 dB too
# high, so that a strongly blurred photograph looks like a fine JPEG in another's table; SSIM's constants are 258 times too
# large, and two pictures that have nothing in common are said to be alike by two thirds; the root of the mean square is a
# sixteenth of what it should be. Nothing is said.
# Met in: whoever compares figures of the quality of blurred pictures with this project's.
# Seen with image-similarity-measures 0.3.6, numpy 1.26.4, Python 3.11; noise of exactly 10 levels added to a picture:
#   PSNR 52.2 (right is 28.1, so with max_p=255), RMSE 0.0024 (0.0392 with max_p=255)
#   SSIM of noise and a ramp: 0.669 (0.012 with max_p=255)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check image-similarity-measures==0.3.6 numpy==1.26.4 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(image-similarity-measures|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
from image_similarity_measures.quality_metrics import psnr, rmse, ssim

random = np.random.default_rng(0)
photo = random.integers(20, 236, (64, 64, 3)).astype(np.uint8)
noisy = (photo + random.choice([-10, 10], photo.shape)).astype(np.uint8)
ramp = np.dstack([np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))] * 3)
right = 10 * np.log10(255**2 / 100)
print(f"PSNR {psnr(photo, noisy):.1f}, of 255 {psnr(photo, noisy, max_p=255):.1f}, right {right:.1f}")
print(f"RMSE {rmse(photo, noisy):.4f}, of 255 {rmse(photo, noisy, max_p=255):.4f}")
print(f"SSIM with noise {ssim(photo, noisy):.3f}, of 255 {ssim(photo, noisy, max_p=255):.3f}", end="; ")
print(f"with another picture {ssim(photo, ramp):.3f}, of 255 {ssim(photo, ramp, max_p=255):.3f}")
PYTHON
cat said
[ "$(tr '\n' ';' < said)" = "PSNR 52.2, of 255 28.1, right 28.1;RMSE 0.0024, of 255 0.0392;\
SSIM with noise 0.996, of 255 0.987; with another picture 0.669, of 255 0.012;" ] ||
  { echo "changed: the greatest value is that of the type"; exit 1; }
