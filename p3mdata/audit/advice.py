"""`p3mdata advise`: which method and strength keeps attackers below a rate, at the least cost; with its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.advice_plot import draw
from p3mdata.audit.attackers import NO_ATTACKS, WORDS, attacked, gather
from p3mdata.audit.costs import Measured, read_costs
from p3mdata.audit.looks import Looks
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.protocol import folds, guessing, people_needed
from p3mdata.audit.recogniser import DlibRecogniser, Recogniser
from p3mdata.base.files import write_atomic
from p3mdata.base.intervals import Rate
from p3mdata.base.jsonl import write_json
from p3mdata.base.progress import Progress
from p3mdata.config import Method, Settings
from p3mdata.errors import SettingsError, unwritable
from p3mdata.run.identities import AUTO
from p3mdata.run.layout import ADVICE, ADVICE_PLOT
from p3mdata.run.locks import only_run
from p3mdata.run.rows import SCHEMA_VERSION
from p3mdata.typing import Json
from p3mdata.version import __version__

TRIED = (
    *((Method.BLUR, strength, None) for strength in (0.10, 0.25, 0.50)),
    *((Method.MOSAIC, strength, None) for strength in (0.20, 0.33, 0.50)),
    *((Method.PIXELISE_THEN_BLUR, strength, None) for strength in (0.33, 0.50)),
    *((Method.DP_PIX, 0.20, epsilon) for epsilon in (4.0, 1.0)),
    (Method.FLAT, 1.0, None),
    (Method.ZERO, 1.0, None),
)


@dataclass(frozen=True)
class Tried:
    """One setting and what came of it.

    Attributes:
        settings: Method and parameters.
        rank1: Of the worst attacker.
        attacker: Its key in `attackers.WORDS`.
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
        tried: In the order of TRIED.
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


def advise_run(
    out: Path,
    max_rank1: float,
    identities: str | Path = AUTO,
    seed: int = 0,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
    tried: Sequence[tuple[Method, float, float | None]] = TRIED,
    train_checks: Sequence[Path] = (),
) -> Advice:
    """Render a run's faces with every setting in memory, attack them, and propose one; writes advice.json and .png.

    The attackers are those without networks of `attack_run`.

    Args:
        out: A finished run folder; its own method does not matter.
        max_rank1: Rank-1 rate that the worst attacker must not pass, in (0, 1).
        identities, seed, recogniser: As for `attack_run`.
        progress: Gets the number of photographs; gives a function that is called after each.
        tried: Method, strength and epsilon of what to try.
        train_checks: Folders of train-checks: what they measured goes before the proxy.

    Raises:
        RunFolderError, SettingsError, SetupError: As for `attack_run`.
    """
    if not 0 < max_rank1 < 1:
        raise SettingsError(f"--max-rank1 cannot be {max_rank1:g}. Give a share between 0 and 1.")
    settings = [Settings(method=method, strength=strength, epsilon=epsilon) for method, strength, epsilon in tried]
    costs = read_costs(train_checks)
    looks = Looks(recogniser or DlibRecogniser())
    changes: list[list[tuple[float, int]]] = []

    def look(portrait: Portrait) -> None:
        windows = [rendered(portrait, each) for each in settings]
        looks.add(
            portrait, {each.named(): (each.obfuscation(), made) for each, made in zip(settings, windows, strict=True)}
        )
        changes.append([_change(portrait, window) for window in windows])

    kept, people, _ = gather(out, identities, None, Counter(), progress, look)
    parts = folds(people, seed)
    points, floors = [], []
    for number, each in enumerate(settings):
        scores = attacked(looks.faces(each.named(), kept, people), parts, seed, None, None, {})
        worst = max((key for key in scores if key not in NO_ATTACKS), key=lambda key: scores[key].rank1.value)
        floors.append(max((s.rank1 for key, s in scores.items() if key.startswith("floor")), key=lambda r: r.value))
        squares, pixels = (sum(changes[i][number][part] for i in kept) for part in (0, 1))
        distortion = round(float(np.sqrt(squares / max(pixels, 1))), 2)
        points.append(Tried(each, scores[worst].rank1, worst, distortion, costs.get(each.named())))
    found = Advice(max_rank1, len(people), len(np.unique(people)), guessing(parts, people), floors[-1], tuple(points))
    try:
        with only_run(out):
            write_atomic(out / ADVICE_PLOT, draw(found.to_json()))
            write_json(out / ADVICE, found.to_json())
    except OSError as exc:
        raise unwritable(out, exc) from exc
    return found


def rendered(portrait: Portrait, settings: Settings) -> NDArray[np.uint8]:
    """The portrait's window as these settings obfuscate it, without encoding; the noise is that of no release."""
    noise = settings.privacy()
    return portrait.obfuscated(*settings.obfuscation(), *(noise[:1] if noise else ()))


def _change(portrait: Portrait, window: NDArray[np.uint8]) -> tuple[float, int]:
    """Sum of the squared changes of hidden values, and how many they are."""
    gap = (window.astype(float) - portrait.clear)[portrait.covered]
    return float((gap**2).sum()), gap.size
