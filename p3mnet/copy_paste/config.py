"""How faces are pasted: the settings of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from p3mdata.typing import Json

RECIPES: dict[str, Json] = {
    "none": {},
    "icp": {"rotation": 30.0, "scale": (0.8, 1.2), "start_epoch": 0},
    "fcp": {"rotation": 0.0, "scale": (0.3, 0.7), "start_epoch": 50},
}
# Of a face that is as large as its target already; FCP's smaller scales are for faces that fill half of a frame.
_FILLING = (0.8, 1.2)


class CopyPasteConfig(BaseModel):
    """How faces are pasted. What is not given is the recipe of the mode.

    Attributes:
        mode: "icp" pastes images, "fcp" features, "none" nothing.
        probability: Of a paste, for each image.
        rotation: The angle lies within plus and minus this, in degrees; 30 for ICP, 0 for FCP.
        scale: Range of the resizing; 0.8 to 1.2 for ICP and for faces that fill their targets, else 0.3 to 0.7 for FCP.
        fit: "fill" brings a face to the size of its target before it is resized, a variant in the authors' program;
            "framed" leaves it as large as CelebA-HQ's framing shows it, as the paper's text has it.
        flip: Probability that a face is mirrored; 0 in the paper's text, 0.5 in the authors' program.
        axes: Whether height and width are resized "together", or "apart", as in the authors' program.
        match: Which source a face gets: "none", any; "pose", one that is turned alike, as far as the dataset tells; or
            "pose+tone", one that also has its skin tone and light. See `p3mnet.copy_paste.match`.
        source_groups, target_groups: CSV files of coarse groups, such as age, of the sources and of the dataset's
            pictures: a source agrees with its target in as many of them as any source does. Both, or neither.
        start_epoch: First epoch, counted from 0, that pastes; 0 for ICP, 50 for FCP, of the recipe's 150; runs of
            another length take a third, see `p3mnet.training.config.TrainConfig`.
        layer: FCP's features: E_0, or the output of the encoder's first stage at stride 4. There, pooling indices and
            sBFI still show the target, and the source's pass takes the whole encoder.
        sources: FCP: "one" source per batch, as published, or one for "each" face, which is what chosen sources take
            unless this is given: one source can fit but one of the faces.
        detached: FCP: no gradient through the source's pass.
        frozen_norm: FCP: the source's pass uses the running statistics of batch norm and leaves them alone. Without
            this it uses the source's own and moves them; not for statistics that processes share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["none", "icp", "fcp"] = "none"
    probability: float = Field(0.5, ge=0, le=1)
    rotation: float = Field(0.0, ge=0, le=180)
    scale: tuple[float, float] = (1.0, 1.0)
    fit: Literal["framed", "fill"] = "framed"
    flip: float = Field(0.0, ge=0, le=1)
    axes: Literal["together", "apart"] = "together"
    match: Literal["none", "pose", "pose+tone"] = "none"
    source_groups: Path | None = None
    target_groups: Path | None = None
    start_epoch: int = Field(0, ge=0)
    layer: Literal["e0", "stage1"] = "e0"
    sources: Literal["one", "each"] = "one"
    detached: bool = True
    frozen_norm: bool = True

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        usual = dict(RECIPES.get(str(given.get("mode")), {}))
        if usual and given.get("fit") == "fill":
            usual["scale"] = _FILLING
        if given.get("match", "none") != "none" or given.get("source_groups") is not None:
            usual["sources"] = "each"
        return {**usual, **given}

    @model_validator(mode="after")
    def _sensible(self) -> CopyPasteConfig:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be above 0, the smaller one first, not {self.scale[0]}, {self.scale[1]}")
        if (self.source_groups is None) != (self.target_groups is None):
            raise ValueError("source_groups and target_groups go together: a file of sources, and one of pictures")
        return self

    @property
    def chooses(self) -> bool:
        """Whether sources are chosen at all, and not drawn from all."""
        return self.match != "none" or self.source_groups is not None

    def active(self, epoch: int) -> bool:
        """Whether an epoch pastes at all; epochs count from 0."""
        return self.mode != "none" and self.probability > 0 and epoch >= self.start_epoch
