"""Methods that P3M-Net is compared with (paper, section 'Experiments'), behind one small interface.

    alpha = method.predict(image, trimap)      uint8 HxWx3 RGB, uint8 HxW of 0, 128, 255 -> float32 HxW in 0..1

`CATALOGUE` names them; nothing in it needs torch or pymatting before a method is opened (`p3mnet.baselines.opening`).
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]


class Family(str, Enum):
    """Groups of the paper's tables."""

    CLASSIC = "trimap-based, classic"
    DEEP = "trimap-based, deep"
    FREE = "trimap-free"


class Method(ABC):
    """One method, opened.

    Attributes:
        needs_trimap: Whether `predict` wants one.
        trained: Whether its alphas mean anything; a network without a checkpoint can be timed and counted only.
        parameters: Trained values, as the paper counts them; None where there are none or nobody knows.
        device: What it runs on, in words.
        identity: Plain values on which its alphas depend; part of the key under which they are kept.
    """

    needs_trimap: bool = True
    trained: bool = True
    parameters: int | None = None
    device: str = ""
    identity: Mapping[str, Any]

    @abstractmethod
    def predict(self, image: Image, trimap: Image | None) -> Alpha:
        """Alpha of one picture, of its size.

        Args:
            image: RGB, HxWx3.
            trimap: HxW of 0 (background), 128 (unknown), 255 (foreground); None for methods that need none.

        Returns:
            HxW in 0..1.

        Raises:
            p3mdata.errors.BrokenInput: This picture cannot be done.
        """

    def timed(self, image: Image, trimap: Image | None) -> None:
        """What is timed at 512x512: `predict`, or for networks one pass at that size, as in the paper."""
        self.predict(image, trimap)


@dataclass(frozen=True)
class Entry:
    """One method of the catalogue.

    Attributes:
        name: On the command line.
        title: In tables, with authors and year.
        family: Its group.
        package: Package without which it cannot run; "" if none is missing ever.
        extra: Extra of p3mdata that brings the package.
        model: Of networks: arguments of `p3mnet.registry.create_model`; `p3mnet train` trains them.
    """

    name: str
    title: str
    family: Family
    package: str = ""
    extra: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether `p3mnet train` trains it."""
        return bool(self.model)

    @property
    def obstacle(self) -> str:
        """Why it cannot run here, in one line; "" if it can."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"needs {self.package}: run pip install 'p3mdata[{self.extra}]'"
        return ""


def _classic(name: str, title: str) -> Entry:
    return Entry(name, title, Family.CLASSIC, "pymatting", "release")


def _network(name: str, title: str, model: str, family: Family = Family.FREE, **flags: bool) -> Entry:
    return Entry(name, title, family, "torch", "train", {"name": model, **flags})


_ENTRIES = (
    _classic("closed-form", "Closed-form (Levin et al. 2008)"),
    _classic("knn", "KNN (Chen et al. 2013)"),
    _classic("learning-based", "Learning-based (Zheng and Kambhamettu 2009)"),
    _classic("large-kernel", "Large kernel (He et al. 2010)"),
    _classic("random-walk", "Random walk (Grady et al. 2005)"),
    _classic("shared", "Shared sampling (Gastal and Oliveira 2010)"),
    Entry("global", "Global sampling (He et al. 2011)", Family.CLASSIC),
    _classic("robust", "Robust sampling (Wang and Cohen 2007)"),
    _classic("comprehensive", "Comprehensive sampling (Shahrian et al. 2013)"),
    _classic("information-flow", "Information-flow (Aksoy et al. 2017)"),
    _network("dim", "DIM (Xu et al. 2017)", "dim", Family.DEEP),
    _network("dim_refined", "DIM with refinement (Xu et al. 2017)", "dim_refined", Family.DEEP),
    _network("alphagan", "AlphaGAN (Lutz et al. 2018)", "alphagan", Family.DEEP),
    _network("indexnet", "IndexNet (Lu et al. 2019)", "indexnet", Family.DEEP),
    _network("gca", "GCA (Li and Lu 2020)", "gca", Family.DEEP),
    _network("fba", "FBA (Forte and Pitie 2020)", "fba", Family.DEEP),
    _network("shm", "SHM (Chen et al. 2018)", "shm"),
    _network("lf", "LF (Zhang et al. 2019)", "lf"),
    _network("hatt", "HATT (Qiao et al. 2020)", "hatt"),
    _network("gfm", "GFM (Li et al. 2022)", "gfm_resnet34"),
    _network("modnet", "MODNet (Ke et al. 2022)", "modnet"),
    _network("basic", "BASIC (Ma et al. 2023)", "p3mnet_resnet34", tfi=False, sbfi=False, dbfi=False),
    _network("p3mnet_tfi", "BASIC + TFI (Ma et al. 2023)", "p3mnet_resnet34", sbfi=False, dbfi=False),
    _network("p3mnet_tfi_sbfi", "BASIC + TFI + sBFI (Ma et al. 2023)", "p3mnet_resnet34", dbfi=False),
    _network("p3mnet_tfi_dbfi", "BASIC + TFI + dBFI (Ma et al. 2023)", "p3mnet_resnet34", sbfi=False),
    _network("p3mnet_resnet34", "P3M-Net, ResNet-34 (Ma et al. 2023)", "p3mnet_resnet34"),
    _network("p3mnet_swin_t", "P3M-Net, Swin-T (Ma et al. 2023)", "p3mnet_swin_t"),
    _network("p3mnet_vitae_s", "P3M-Net, ViTAE-S (Ma et al. 2023)", "p3mnet_vitae_s"),
)
CATALOGUE: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}
