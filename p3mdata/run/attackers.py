"""attackers.json: what attackers find who learn, as a record that reports and cards read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p3mdata.base.intervals import Rate, people_needed
from p3mdata.run.audit import about_release, understood
from p3mdata.run.layout import ATTACKERS, SCHEMA_VERSION
from p3mdata.typing import Json
from p3mdata.version import __version__

# In the order of the table; floors see the same photographs under black masks.
WORDS = {
    "clear": "clear faces: what the recogniser can do at best",
    "naive": "recogniser, among clear photographs",
    "adapted": "recogniser, among photographs obfuscated alike",
    "mapped": "recogniser and a map to clear faces, learnt from pairs of other people",
    "metric": "recogniser or coarse colours in a metric learnt from other people",
    "wiener_naive": "blur undone with known strength, among clear photographs",
    "wiener_adapted": "blur undone with known strength, among others treated alike",
    "wiener_mapped": "blur undone with known strength, then the learnt map",
    "wiener_metric": "blur undone with known strength, in a metric learnt from other people",
    "guessed_mapped": "blur undone with a guessed strength, then the learnt map",
    "network": "network trained on obfuscated faces, among clear photographs",
    "network_adapted": "network trained on pairs of obfuscated faces, blurs undone, among others treated alike",
    "restored_naive": "restored by a network, among clear photographs",
    "restored_adapted": "restored by a network, among others restored",
    "outline": "the silhouette in the matte alone, in a learnt metric",
    "determined": "determined: what finds most on people of their own, several together",
    "floor_adapted": "black masks: recogniser, among others like that",
    "floor_mapped": "black masks: recogniser and a learnt map",
    "floor_metric": "black masks: recogniser or coarse colours in a learnt metric",
    "floor_determined": "black masks: determined",
    "floor_network": "black masks: network trained on them",
}
# What the mask leaves outside, or what is clear, is not the obfuscation's.
NO_ATTACKS = frozenset({"clear", *(key for key in WORDS if key.startswith("floor"))})


@dataclass(frozen=True)
class Score:
    """What one attacker gets.

    Attributes:
        rank1: How often the nearest photograph of the test fold shows the right person, mean over people; the interval
            takes a person's photographs as one observation.
        tar, far: Share of pairs of one person accepted, and of different persons; None where there are too few pairs.
        worst_person: The rank-1 rate of the person who is found most often.
        often: Share of people who are found more often than not.
        groups: Rank-1 by group.
        by_person: Rank-1 of each person, in the order of their numbers, to compare attackers person by person; it is
            not told in JSON.
    """

    rank1: Rate
    tar: Rate | None
    far: float | None
    worst_person: float
    often: float
    groups: dict[str, Rate] = field(default_factory=dict)
    by_person: tuple[float, ...] = field(default=(), compare=False)

    def to_json(self) -> Json:
        return {
            "rank1": self.rank1.to_json(),
            "tar": self.tar.to_json() if self.tar else None,
            "far": self.far,
            "worst_person": self.worst_person,
            "found_more_often_than_not": self.often,
            "groups": {name: rate.to_json() for name, rate in sorted(self.groups.items())},
        }

    @classmethod
    def from_json(cls, row: Json) -> Score:
        return cls(
            rank1=Rate.from_json(row["rank1"]),
            tar=None if row["tar"] is None else Rate.from_json(row["tar"]),
            far=row["far"],
            worst_person=row["worst_person"],
            often=row["found_more_often_than_not"],
            groups={name: Rate.from_json(rate) for name, rate in row["groups"].items()},
        )


@dataclass(frozen=True)
class Attackers:
    """Figures of all attackers on one run; nobody's name is in it.

    Attributes:
        manifest_sha256: What was attacked.
        method: Method and parameters.
        photos, people, folds, seed: Of the test.
        left_out: Photographs by reason.
        not_run: Attackers that could not be run, and why.
        chance: Rank-1 of guessing.
        scores: By key of WORDS.
        max_rank1: The claim that was asked for.
        words: What the attacker of a key does. Of a file they are its own: another version's may do something else.
    """

    manifest_sha256: str
    method: str
    photos: int
    people: int
    folds: int
    seed: int
    left_out: dict[str, int]
    not_run: dict[str, str]
    chance: float
    scores: dict[str, Score] = field(default_factory=dict)
    max_rank1: float | None = None
    words: Mapping[str, str] = field(default_factory=lambda: WORDS, compare=False)

    @property
    def worst(self) -> str:
        """Key of the attack on the released faces with the highest rank-1 rate."""
        return max((key for key in self.scores if key not in NO_ATTACKS), key=lambda k: self.scores[k].rank1.value)

    @property
    def floor(self) -> Score:
        """The highest of what black masks leave."""
        return max((s for k, s in self.scores.items() if k.startswith("floor")), key=lambda s: s.rank1.value)

    @property
    def passed(self) -> bool:
        """Whether the worst attack stays within the claim, with what the number of people leaves open; True without."""
        return self.max_rank1 is None or self.scores[self.worst].rank1.high <= self.max_rank1

    def claim(self) -> str:
        """What may be said of the release, and how many people it would take where too few took part."""
        worst = self.scores[self.worst].rank1
        said = f"the worst attacker ({self.words[self.worst]}) finds {100 * worst.value:.1f} %, "
        said += f"at most {100 * worst.high:.1f} % of {self.people} people; guessing finds {100 * self.chance:.1f} %, "
        said += f"the worst under black masks {100 * self.floor.rank1.value:.1f} %"
        if self.max_rank1 is None or self.passed:
            return said
        limit = f"{100 * self.max_rank1:g} %"
        needed = people_needed(self.max_rank1, worst.value)
        if needed is None:
            return f"{said}. A claim of at most {limit} is refused"
        return f"{said}. A claim of at most {limit} is refused: it takes {needed} people, {self.people} took part"

    def to_json(self) -> Json:
        """What attackers.json holds."""
        return {
            "schema": SCHEMA_VERSION,
            "tool": f"p3mdata {__version__}",
            "manifest_sha256": self.manifest_sha256,
            "method": self.method,
            "photos": self.photos,
            "people": self.people,
            "folds": self.folds,
            "seed": self.seed,
            "left_out": dict(sorted(self.left_out.items())),
            "not_run": dict(sorted(self.not_run.items())),
            "chance": self.chance,
            "scores": {key: {"words": self.words[key], **found.to_json()} for key, found in self.scores.items()},
            "worst": self.worst,
            "claim": {
                "max_rank1": self.max_rank1,
                "passed": self.passed,
                "sentence": self.claim(),
                "people_needed_if_nobody_is_found": people_needed(self.max_rank1 or 0.1),
            },
        }

    @classmethod
    def from_json(cls, row: Json) -> Attackers:
        attackers = cls(
            manifest_sha256=row["manifest_sha256"],
            method=row["method"],
            photos=row["photos"],
            people=row["people"],
            folds=row["folds"],
            seed=row["seed"],
            left_out=dict(row["left_out"]),
            not_run=dict(row["not_run"]),
            chance=row["chance"],
            # In their order; one that this version does not know is a ValueError.
            scores={key: Score.from_json(row["scores"][key]) for key in sorted(row["scores"], key=list(WORDS).index)},
            max_rank1=row["claim"]["max_rank1"],
            words={key: str(found["words"]) for key, found in row["scores"].items()},
        )
        # Without an attack, or without a floor, there is no worst one, which is a ValueError.
        attackers.claim()
        return attackers


def read_attackers(out: Path) -> Attackers | None:
    """What attackers found on a run; None when none were let at it, or at other released files.

    Raises:
        RunFolderError: attackers.json is damaged.
    """
    row = about_release(out, ATTACKERS)
    command = f"p3mdata audit {out} --attackers"
    return None if row is None else understood(out / ATTACKERS, row, Attackers.from_json, command)
