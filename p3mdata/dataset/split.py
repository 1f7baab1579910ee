"""Who goes into which set: pure, seeded, and stable when images are added.

Images of one group (near-duplicates, one series, one person) stay together. Each group has a number in [0, 1) that
depends on the seed and its members only. A validation share takes the groups below it, so that an added image moves no
other one out of validation; a validation count takes the lowest of each stratum, and keeps an earlier split's choice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from p3mdata.base.disjoint import DisjointSets
from p3mdata.errors import SettingsError

_DOMAIN = "p3mdata.split.v1"

Size = int | float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may enter a set.

    Attributes:
        id: Its id.
        group: Number of its group.
        unit: What its place is drawn by: the declared person or series, else the id.
        stratum: Its traits.
        free: Whether it may enter the set that is published as it was.
        shown: Whether it shows faces by permission: it may enter no other set.
    """

    id: str
    group: int
    unit: str
    stratum: tuple[str, ...]
    free: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Sets:
    """Names of the sets that are filled; None leaves one out."""

    training: str
    validation: str | None
    free: str | None


def join_groups(count: int, *groupings: Sequence[object]) -> list[int]:
    """Union of groupings of the same items: equal labels in any of them make one group; None joins nobody.

    Returns:
        For each item the smallest index of its group.
    """
    joined = DisjointSets(count)
    for labels in groupings:
        first: dict[object, int] = {}
        for i, label in enumerate(labels):
            if label is not None:
                joined.join(first.setdefault(label, i), i)
    return [joined.root(i) for i in range(count)]


def place(unit: str, seed: int) -> float:
    """Number in [0, 1) that a unit has for a seed."""
    digest = hashlib.sha256(f"{_DOMAIN}/{seed}/{unit}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class _Group:
    place: float
    members: tuple[Candidate, ...]

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def free(self) -> bool:
        return all(member.free for member in self.members)

    @property
    def stratum(self) -> tuple[str, ...]:
        return self.members[0].stratum

    def obfuscated(self) -> _Group | None:
        """The group without images that are shown by permission; None where nothing is left."""
        members = tuple(member for member in self.members if not member.shown)
        return _Group(self.place, members) if members else None


def _groups(candidates: Iterable[Candidate], seed: int) -> list[_Group]:
    """Groups from the lowest place to the highest; of several units in a group the lowest place counts.

    The minimum only falls when members are added: a group never leaves validation for having grown.
    """
    by_group: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        by_group.setdefault(candidate.group, []).append(candidate)
    groups = []
    while by_group:
        placed = [(place(member.unit, seed), member.id, member) for member in by_group.popitem()[1]]
        placed.sort(key=lambda member: member[:2])
        groups.append(_Group(placed[0][0], tuple(candidate for _, _, candidate in placed)))
    # One key after the other: a million pairs of keys would be the largest thing in memory.
    groups.sort(key=lambda group: group.members[0].id)
    groups.sort(key=lambda group: group.place)
    return groups


def assign(
    candidates: Sequence[Candidate],
    sets: Sets,
    validation: Size,
    free: Size = 0,
    seed: int = 0,
    previous: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Set of each image.

    Args:
        candidates: All images of the dataset.
        sets: Names of the sets.
        validation: A count, or a share (float) of the images.
        free: The same for the set without private content; drawn from images declared free, whole groups only.
        seed: Draws another split.
        previous: Sets of an earlier split; its validation images stay in validation, its free ones in the free set.

    Returns:
        Set name by id. Images that are shown by permission and were not drawn into the free set are in none.

    Raises:
        SettingsError: The data has not enough images, or nothing would be left to train on.
    """
    previous = {} if previous is None else previous
    groups = _groups(candidates, seed)
    chosen: dict[str, str] = {}
    rest = groups
    if sets.free and free:
        kept, others = _partition([g for g in groups if g.free], previous, sets.free)
        # An image that was trained on is no test image any more.
        others = [g for g in others if not any(m.id in previous for m in g.members)]
        chosen |= _named(_pick(kept, others, free, f"images free to go into {sets.free}"), sets.free)
        rest = [group for group in groups if group.members[0].id not in chosen]
    rest = [group for before in rest if (group := before.obfuscated()) is not None]
    if sets.validation and validation:
        kept, others = _partition(rest, previous, sets.validation)
        chosen |= _named(_pick(kept, others, validation, f"images for {sets.validation}"), sets.validation)
    for group in rest:
        for member in group.members:
            chosen.setdefault(member.id, sets.training)
    if sets.training not in chosen.values():
        raise SettingsError(f"nothing is left for {sets.training}: {len(chosen)} images. Ask for smaller other sets.")
    return chosen


def _partition(groups: list[_Group], previous: Mapping[str, str], name: str) -> tuple[list[_Group], list[_Group]]:
    """Groups of which an image was in a set before, and the others."""
    kept: list[_Group] = []
    others: list[_Group] = []
    for group in groups:
        (kept if any(previous.get(member.id) == name for member in group.members) else others).append(group)
    return kept, others


def _named(groups: list[_Group], name: str) -> dict[str, str]:
    return {member.id: name for group in groups for member in group.members}


def _pick(kept: list[_Group], others: list[_Group], wanted: Size, what: str) -> list[_Group]:
    if isinstance(wanted, float):
        if not 0 < wanted <= 1:
            raise SettingsError(f"{what}: a share of {wanted:g} is not between 0 and 1.")
        below = [group for group in others if group.place < wanted]
        # A set that was asked for is not empty.
        return kept + (below or ([] if kept else others[:1]))
    total = sum(group.size for group in (*kept, *others))
    if wanted > total:
        raise SettingsError(f"{what}: {wanted} are wanted and there are {total}. Ask for fewer.")
    return kept + _by_strata(others, wanted - sum(group.size for group in kept), what)


def _by_strata(groups: list[_Group], wanted: int, what: str) -> list[_Group]:
    """Groups of `wanted` images in all, the lowest places of each stratum in proportion to its size."""
    sizes = Counter[tuple[str, ...]]()
    for group in groups:
        sizes[group.stratum] += group.size
    quotas = _quotas(sizes, wanted)
    picked, left = [], max(wanted, 0)
    waiting = []
    for group in groups:
        if group.size <= min(quotas[group.stratum], left):
            quotas[group.stratum] -= group.size
            left -= group.size
            picked.append(group)
        else:
            waiting.append(group)
    for group in waiting:
        # What whole groups left over goes to whoever fits.
        if group.size <= left:
            left -= group.size
            picked.append(group)
    if left:
        raise SettingsError(f"{what}: groups that stay together do not add up to {wanted}; {wanted - left} would do.")
    return picked


def _quotas(sizes: Counter[tuple[str, ...]], wanted: int) -> Counter[tuple[str, ...]]:
    """Shares of `wanted` in proportion to sizes, by largest remainders."""
    total = sizes.total()
    exact = {stratum: wanted * size / total for stratum, size in sizes.items()} if total else {}
    quotas = Counter({stratum: int(value) for stratum, value in exact.items()})
    order = sorted(exact, key=lambda stratum: (int(exact[stratum]) - exact[stratum], stratum))
    for stratum in order[: max(0, wanted - quotas.total())]:
        quotas[stratum] += 1
    return quotas
