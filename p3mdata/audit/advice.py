"""What `p3mdata advise` comes to: settings that were tried, what attackers find, what it costs, and which to take."""

from __future__ import annotations

from dataclasses import dataclass

from p3mdata.audit.costs import Measured
from p3mdata.base.intervals import Rate, people_needed
from p3mdata.config import Method, Settings
from p3mdata.run.attackers import WORDS
from p3mdata.run.layout import SCHEMA_VERSION
from p3mdata.typing import Json
from p3mdata.version import __version__


@dataclass(frozen=True)
class Tried:
    """One setting and what came of it.

    Attributes:
        settings: Method and parameters.
        rank1: Of the worst attacker.
        attacker: Its key in `run.attackers.WORDS`.
        distortion: Root mean square change of the hidden pixels in levels of 255: a proxy for what training on them
            costs.
        cost: What train-checks measured of it.
    """

    settings: Settings
    rank1: Rate
    attacker: str
    distortion: float
    cost: Measured | None = None

    def flags(self) -> str:
        """As the command line has it."""
        method, strength = self.settings.obfuscation()
        fixed = method in (Method.ZERO, Method.FLAT)
        flags = f"--method {method.value}" + ("" if fixed else f" --strength {strength:g}")
        return flags + (f" --epsilon {self.settings.epsilon:g}" if self.settings.epsilon else "")

    def to_json(self) -> Json:
        return {
            "method": self.settings.named(),
            "flags": self.flags(),
            "rank1": self.rank1.to_json(),
            "attacker": self.attacker,
            "distortion": self.distortion,
            "train_check": self.cost.to_json() if self.cost else None,
        }


@dataclass(frozen=True)
class Advice:
    """What was tried on a run's photographs, and what to take.

    Attributes:
        max_rank1: The wanted rate.
        photos, people, chance: Of the test.
        floor: What the worst attacker finds under black masks.
        tried: In the order in which they were.
    """

    max_rank1: float
    photos: int
    people: int
    chance: float
    floor: Rate
    tried: tuple[Tried, ...]

    def _least(self, sure: bool) -> Tried | None:
        below = [t for t in self.tried if (t.rank1.high if sure else t.rank1.value) <= self.max_rank1]
        # What a benchmark measured goes before the proxy, and is compared with nothing but its like.
        measured = [(t.cost.value, t.rank1.value, t) for t in below if t.cost and t.cost.benchmark]
        if measured:
            return min(measured, key=lambda entry: entry[:2])[2]
        return min(below, key=lambda t: (t.distortion, t.rank1.value), default=None)

    @property
    def chosen(self) -> Tried | None:
        """The setting of the least cost that surely stays below; else of those whose measured rate does.

        The cost is what train-checks measured, among the settings of which there is one by a benchmark; if there is
        none, the distortion.
        """
        return self._least(sure=True) or self._least(sure=False)

    @property
    def sure(self) -> bool:
        """Whether the interval of the chosen setting lies below the wanted rate."""
        return self._least(sure=True) is not None

    def sentence(self) -> str:
        """The advice in words."""
        limit, floor = f"{100 * self.max_rank1:g} %", f"{100 * self.floor.value:.1f} %"
        best = self.chosen
        if best is None:
            return (
                f"No setting keeps attackers below {limit}: what lies outside the masks alone lets them find {floor}. "
                "Hide more (--area head), crop, or publish without what identifies beside the face."
            )
        said = f"{best.flags()}: the worst attacker finds {100 * best.rank1.value:.1f} % ({WORDS[best.attacker]})"
        said += f", {floor} under black masks, guessing {100 * self.chance:.1f} %"
        if best.cost:
            said += f"; training on it costs {best.cost.words()}"
        if self.sure:
            return f"{said}; with {self.people} people that is at most {100 * best.rank1.high:.1f} %."
        needed = people_needed(self.max_rank1, best.rank1.value)
        wanted = f"it takes {needed} people" if needed else "no number of people is enough"
        return f"{said}; not sure: for at most {limit} {wanted}, {self.people} took part."

    def to_json(self) -> Json:
        """What advice.json holds."""
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"p3mdata {__version__}",
            "max_rank1": self.max_rank1,
            "photos": self.photos,
            "people": self.people,
            "chance": self.chance,
            "floor": self.floor.to_json(),
            "cost": "proxy: root mean square change of hidden pixels, levels of 255; no network was trained, but for "
            "train_check: difference in SAD to training on photographs as taken",
            "tried": [point.to_json() for point in self.tried],
            "chosen": self.chosen.to_json() if self.chosen else None,
            "sure": self.sure,
            "sentence": self.sentence(),
        }
