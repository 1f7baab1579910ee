"""The records that flow through a run: Sample (with a Decision) -> Face, Doubt, Proofs -> ImageResult -> ShardStats.

Frozen dataclasses; everything that is written to JSON has `to_json` / `from_json`, and numbers are rounded when the
record is made, so that a record read back equals the one that was written.
"""

from p3mdata.records.decisions import Action, Decision, Suspect
from p3mdata.records.faces import XYXY, Doubt, Face, Mask, boxes_of
from p3mdata.records.results import RELEASED, ImageResult, Outcome, Proofs, ShardStats
from p3mdata.records.samples import Sample, one_ending

__all__ = [
    "RELEASED",
    "XYXY",
    "Action",
    "Decision",
    "Doubt",
    "Face",
    "ImageResult",
    "Mask",
    "Outcome",
    "Proofs",
    "Sample",
    "ShardStats",
    "Suspect",
    "boxes_of",
    "one_ending",
]
