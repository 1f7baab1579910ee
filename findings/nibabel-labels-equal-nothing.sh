#!/bin/sh
# Expected: labels 0.0, 1.0, 2.0, 3.0 that are saved as NIfTI with the header of the picture that they belong to
# (`nibabel.Nifti1Image(labels, picture.affine, picture.header)`, as is done to keep positions and units) are the same when
# they are loaded: stored in the array's type, or in the header's, into which they fit exactly.
# Happens: the header's type is kept, and floats (what networks and resampling give) are stretched over all of its range, with
# a factor that brings them back nearly: after a header of int16, 3 is 2.9999999993. `labels == 3` is true nowhere, counts and
# overlaps are 0, while numpy prints 0. 1. 2. 3.; made whole numbers, as scripts do before they count, each class is the one
# below. Whole numbers that fit are right. Nothing is raised or warned. `set_data_dtype` on the new picture keeps them.
# Met in: whoever makes masks of heads for this project's metrics out of NIfTI files: round them first.
# Seen with nibabel 5.4.2, numpy 2.4.6, Python 3.11; 512 voxels, 128 of each label, with a header of int16 and of uint8:
#   float32, int16: equal 0 0 0 of 1, 2, 3; printed [0. 1. 2. 3.]; as whole numbers 0->0 1->0 2->1 3->2
#   float32, uint8: equal 0 0 0; as whole numbers right; int32, and the type told: all right
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(nibabel|numpy) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import nibabel
import numpy as np

labels = np.repeat([0, 1, 2, 3], 128).reshape(8, 8, 8)


def saved(picture_type, label_type, *, told=False):
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8), picture_type), np.eye(4)), "picture.nii.gz")
    picture = nibabel.load("picture.nii.gz")
    mask = nibabel.Nifti1Image(labels.astype(label_type), picture.affine, picture.header)
    if told:
        mask.set_data_dtype(label_type)
    nibabel.save(mask, "mask.nii.gz")
    read = nibabel.load("mask.nii.gz").get_fdata()
    equal = " ".join(str((read == label).sum()) for label in (1, 2, 3))
    whole = " ".join(f"{label}->{read[labels == label].astype(int)[0]}" for label in range(4))
    return f"equal {equal}, printed {np.array2string(np.unique(read), precision=6)}, whole {whole}"


for picture_type in np.int16, np.uint8:
    for label_type in np.float32, np.int32:
        print(f"{label_type.__name__}, {picture_type.__name__}:", saved(picture_type, label_type))
print("told:", saved(np.int16, np.float32, told=True))
PYTHON
cat said
right="equal 128 128 128, printed [0. 1. 2. 3.], whole 0->0 1->1 2->2 3->3"
none="equal 0 0 0, printed [0. 1. 2. 3.], whole"
[ "$(tr '\n' ';' < said)" = "float32, int16: $none 0->0 1->0 2->1 3->2;int32, int16: $right;\
float32, uint8: $none 0->0 1->1 2->2 3->3;int32, uint8: $right;told: $right;" ] ||
  { echo "changed: labels are what they were"; exit 1; }
