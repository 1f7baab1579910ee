#!/bin/sh
# Expected: a colour photograph in DICOM is painted over the way pixels are commonly changed with pydicom: a copy of
# `data.pixel_array`, a change in it, `data.PixelData = pixels.tobytes()`, `save_as`. All else stays; black is black.
# Happens: some devices store luma and chroma (YBR_FULL). `pixel_array` gives RGB of it since pydicom 3, but the data set
# still says YBR_FULL, so that the RGB values are written as luma and chroma: skin turns green or violet, and the painted
# area green in place of black. A grey picture or an RGB one goes well, and so do tests with those. Nothing is raised or
# warned. `set_pixel_data(pixels, "RGB", 8)` writes the values and what they mean.
# Met in: whoever prepares clinical photographs for a set: p3mdata reads no DICOM; look at what was exported.
# Seen with pydicom 3.0.2, numpy 2.4.6, Python 3.11; a picture of 200 100 50, its upper half painted black:
#   RGB: 200 100 50 and 0 0 0; YBR_FULL: 91 255 150 and 0 135 0; by set_pixel_data 200 100 50 and 0 0 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(pydicom|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

colours = np.empty((32, 32, 3), np.uint8)
colours[:] = 200, 100, 50


def painted(kind, *, whole=False):
    photo = Dataset()
    photo.SOPClassUID, photo.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    photo.Rows, photo.Columns, photo.SamplesPerPixel, photo.PlanarConfiguration = 32, 32, 3, 0
    photo.PixelRepresentation, photo.BitsAllocated, photo.BitsStored, photo.HighBit = 0, 8, 8, 7
    photo.PhotometricInterpretation = kind
    photo.PixelData = convert_color_space(colours, "RGB", kind).tobytes()
    photo.file_meta = FileMetaDataset()
    photo.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    photo.save_as("photo.dcm", enforce_file_format=True)

    photo = pydicom.dcmread("photo.dcm")
    pixels = photo.pixel_array.copy()
    assert np.abs(pixels.astype(int) - colours).max() <= 1
    pixels[:16] = 0
    if whole:
        photo.set_pixel_data(pixels, "RGB", 8)
    else:
        photo.PixelData = pixels.tobytes()
    photo.save_as("painted.dcm", enforce_file_format=True)
    pixels = pydicom.dcmread("painted.dcm").pixel_array
    return " and ".join(" ".join(map(str, pixels[row, 0])) for row in (31, 0))


print(f"RGB: {painted('RGB')}; YBR_FULL: {painted('YBR_FULL')}; by set_pixel_data {painted('YBR_FULL', whole=True)}")
PYTHON
cat said
[ "$(cat said)" = "RGB: 200 100 50 and 0 0 0; YBR_FULL: 91 255 150 and 0 135 0; by set_pixel_data 200 100 50 and 0 0 0" ] ||
  { echo "changed: colours are what was given"; exit 1; }
