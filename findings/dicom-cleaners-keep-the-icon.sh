#!/bin/sh
# Expected: a program that anonymizes DICOM files deals with all that DICOM's own list of confidential attributes names
# (PS3.15, table E.1-1); the small copy of the picture that a file may carry (Icon Image Sequence) is on it, to be removed.
# Whoever has painted the face in a clinical photograph black and runs such a program over it has done with the file.
# Happens: dicognito and deid (with its base recipe) leave the icon as it was: the face from before, small, in a file without
# the patient's name, and viewers may show it as preview. Who looks at the large picture sees nothing of it. Overlays drawn
# on the picture stay too. dicom-anonymizer takes both out. Nothing is said.
# Met in: whoever takes clinical photographs into a set: p3mdata reads no DICOM; export the pixels alone.
# Seen with dicognito 0.19.0, deid 0.4.13, dicom-anonymizer 2.1.0, pydicom 3.0.2, Python 3.11; a black picture, its icon bars:
#   dicognito: name gone, icon 32x32 contrast 100, overlay there; deid: the same; dicom-anonymizer: name, icon, overlay gone
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  dicognito==0.19.0 deid==0.4.13 dicom-anonymizer==2.1.0 pydicom==3.0.2 numpy==2.4.6 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(dicognito|deid|dicom.anonymizer|pydicom) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import pathlib

import numpy as np
import pydicom
from deid.config import DeidRecipe
from deid.dicom import replace_identifiers
from dicognito.anonymizer import Anonymizer
from dicomanonymizer import anonymize
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def picture(data, pixels):
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = pixels.tobytes()
    return data


photo = picture(Dataset(), np.zeros((64, 64), np.uint8))
photo.IconImageSequence = [picture(Dataset(), np.tile(np.repeat([20, 220], 4).astype(np.uint8), (32, 4)))]
photo.PatientName, photo.PatientID, photo.PatientBirthDate, photo.PatientSex = "Example^Anna", "0001", "19700101", "F"
photo.StudyDate, photo.StudyTime, photo.AccessionNumber, photo.Modality = "20200102", "101112", "1", "XC"
photo.StudyInstanceUID, photo.SeriesInstanceUID, photo.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
photo.SOPClassUID = SecondaryCaptureImageStorage
for element, kind, value in (
    (0x0010, "US", 64),
    (0x0011, "US", 64),
    (0x0040, "CS", "G"),
    (0x0050, "SS", [1, 1]),
    (0x0100, "US", 1),
    (0x0102, "US", 0),
    (0x3000, "OW", b"\xaa" * 512),
):
    photo.add_new((0x6000, element), kind, value)
photo.file_meta = FileMetaDataset()
photo.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
photo.save_as("photo.dcm", enforce_file_format=True)

data = pydicom.dcmread("photo.dcm")
Anonymizer().anonymize(data)
data.save_as("dicognito.dcm")
pathlib.Path("cleaned").mkdir()
(path,) = replace_identifiers(
    ["photo.dcm"], deid=DeidRecipe(), save=True, output_folder="cleaned", overwrite=True, remove_private=True
)
pathlib.Path(path).rename("deid.dcm")
anonymize("photo.dcm", "dicom-anonymizer.dcm", {}, True)

for tool in "dicognito", "deid", "dicom-anonymizer":
    data = pydicom.dcmread(f"{tool}.dcm")
    icon = "gone"
    if "IconImageSequence" in data:
        small = np.frombuffer(data.IconImageSequence[0].PixelData, np.uint8).reshape(32, 32)
        icon = f"32x32 contrast {small.std():.0f}"
    name = "there" if "Anna" in str(data.get("PatientName", "")) else "gone"
    print(f"RESULT {tool}: name {name}, icon {icon}, overlay {'there' if (0x6000, 0x3000) in data else 'gone'}")
PYTHON
grep "^RESULT" said
[ "$(grep "^RESULT" said | cut -d " " -f 2- | tr '\n' ';')" = "dicognito: name gone, icon 32x32 contrast 100, overlay there;\
deid: name gone, icon 32x32 contrast 100, overlay there;dicom-anonymizer: name gone, icon gone, overlay gone;" ] ||
  { echo "changed: the icon is dealt with"; exit 1; }
