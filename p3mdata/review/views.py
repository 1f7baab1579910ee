"""Pictures of one image for the review page, made in memory: nothing of a clear photograph is written to disk."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from p3mdata.anonymize.areas import mask, transition_of
from p3mdata.anonymize.inputs import Inputs, Loaded, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.pipeline import as_made, render
from p3mdata.config import Job
from p3mdata.faces.ensemble import Detection
from p3mdata.imaging import Picture, decode, encode_mask
from p3mdata.imaging.draw import fit
from p3mdata.imaging.metadata.png import PNG_SIGNATURE
from p3mdata.records import Doubt, ImageResult, Mask
from p3mdata.run.layout import KINDS
from p3mdata.typing import Json

# Longer sides are shown, and drawn on, reduced.
_MOST_SIDE = 4096
_QUALITY = 92


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that the header of a PNG file with 8 bits or less tells; None for anything else."""
    if data[:8] != PNG_SIGNATURE or data[12:16] != b"IHDR" or len(data) < 26 or data[24] > 8:
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


@dataclass(frozen=True)
class View:
    """A decoded photograph, the areas that follow from its row, and the size at which both are shown."""

    loaded: Loaded
    masked: Masked
    row: ImageResult
    job: Job

    @classmethod
    def of(cls, inputs: Inputs, row: ImageResult, job: Job) -> View:
        """Decode the inputs of an image and make its areas again.

        Raises:
            BrokenInput: They cannot be used.
        """
        loaded = load(inputs, job.settings)
        loaded = as_made(loaded, row)
        return cls(loaded, mask(loaded, Detection(row.faces, ()), job.settings), row, job)

    @property
    def factor(self) -> float:
        """Shown pixels per pixel of the photograph, at most 1."""
        return min(1.0, _MOST_SIDE / max(self.loaded.picture.size))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown."""
        height, width = self.loaded.picture.size
        return max(1, round(height * self.factor)), max(1, round(width * self.factor))

    def faces(self) -> list[Json]:
        """Boxes in shown pixels, and who saw them."""
        return [
            {
                "box": [round(v * self.factor, 1) for v in face.box],
                "score": face.score,
                "seen_by": list(face.seen_by),
                "landmarks": face.landmarks is not None,
            }
            for face in self.row.faces
        ]

    def doubt(self, doubt: Doubt) -> Json:
        """A doubt, with the numbers of the faces that it is about."""
        numbers = [number for number, face in enumerate(self.row.faces) if face.box in doubt.boxes]
        return {"code": doubt.code, "sentence": doubt.sentence, "faces": numbers}

    def photo(self) -> bytes:
        """The clear photograph, JPEG."""
        return self._jpeg(self.loaded.picture)

    def result(self) -> bytes:
        """The released file, or what it would be without the doubts; JPEG."""
        if self.row.outcome.released:
            name = self.row.files["images"][0]
            data = (self.job.out / KINDS[-1] / name).read_bytes()
        else:
            data = render(self.loaded, self.masked, self.job.settings)[0]
        return self._jpeg(decode(data, self.job.settings.max_pixels))

    def private(self) -> bytes:
        """Private areas before the transition area is subtracted; PNG, 255 = set."""
        area = np.zeros(self.loaded.picture.size, bool)
        for patch in self.masked.private:
            patch.paint(area)
        return self._png(area)

    def transition(self) -> bytes:
        """Transition area of the whole photograph; PNG, 255 = set."""
        return self._png(transition_of(self.loaded, self.job.settings))

    def facemask(self) -> bytes:
        """What is obfuscated; PNG, 255 = set."""
        return self._png(self.masked.facemask)

    def drawn(self, png: bytes) -> Mask | None:
        """A mask drawn on the shown or the full size as a full-size mask; None when it is neither, or no picture."""
        # A few bytes can hold a picture of any size: what the header says is looked at before it is decoded.
        if _png_size(png) not in (self.size, self.loaded.picture.size):
            return None
        array = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        if array is None or array.dtype != np.uint8 or array.shape[:2] not in (self.size, self.loaded.picture.size):
            return None
        if array.ndim == 3 and array.shape[2] == 4 and array[:, :, 3].min() < 255:
            array = array[:, :, 3]
        elif array.ndim == 3:
            array = array[:, :, :3].max(axis=2)
        height, width = self.loaded.picture.size
        return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST) > 127)

    def _jpeg(self, picture: Picture) -> bytes:
        height, width = self.size
        sink = io.BytesIO()
        Image.fromarray(fit(picture, width, height)).save(sink, "JPEG", quality=_QUALITY, subsampling=0)
        return sink.getvalue()

    def _png(self, area: Mask) -> bytes:
        height, width = self.size
        small = cv2.resize(area.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        return encode_mask(small > 0)
