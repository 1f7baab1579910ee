"""What differs between two plans, in words: settings by key, sources by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from p3mdata.records import Sample
from p3mdata.run.planned import Maker

_SHOWN = 3
# Of a source; hand-drawn masks may be added.
_FROZEN = ("sha256", "alpha", "trimap")
# What plans do not say.
_UNSAID = {"names": "id"}


def differing_settings(old: Maker, new: Maker) -> list[str]:
    """Keys, with both values, that keep a run from being resumed; empty when it can."""
    before, after = ({"tool": made.tool, **_UNSAID, **made.settings} for made in (old, new))
    different = [
        f"{key} ({_shown(before.get(key))} -> {_shown(after.get(key))})"
        for key in {**after, **before}
        if before.get(key) != after.get(key)
    ]
    return different + (["the model files"] if old.weights != new.weights else [])


def to_go_on(old: Maker, new: Maker) -> str:
    """What it takes to go on with what another call has begun; of another version nothing else would do."""
    return "the same settings and files" if old.tool == new.tool else f"{old.tool}, which made it, to go on"


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def differing_sources(old: Iterable[Sample], new: Iterable[Sample]) -> str:
    """Which source files or companions are not those of an earlier call, in words. Both are sorted by path.

    A file that could not be read, then or now, does not differ: its own image tells.
    """
    shown: list[str] = []
    more = 0
    for before, after in _paired(iter(old), iter(new)):
        if before is None or after is None:
            what = f"{after.source} is new" if after else f"{before.source} is gone" if before else ""
        else:
            changed = [what for what in _FROZEN if _differ(getattr(before, what), getattr(after, what))]
            if not changed:
                continue
            what = f"the {changed[0].replace('sha256', 'content')} of {before.source} changed"
        shown += [what] if len(shown) < _SHOWN else []
        more += 1
    return "; ".join(shown) + (f" and {more - _SHOWN} more" if more > _SHOWN else "")


def _differ(old: Any, new: Any) -> bool:
    if isinstance(old, tuple) and isinstance(new, tuple):
        return old[0] != new[0] or _differ(old[1], new[1])
    return old != new and "" not in (old, new)


def readable_now(old: Sample, new: Sample) -> Sample:
    """A sample of a plan with what could not be read when it was planned, and with hand-drawn masks as they are now."""

    def as_now(before: tuple[str, str] | None, now: tuple[str, str] | None) -> tuple[str, str] | None:
        return now if before is not None and not before[1] else before

    return replace(
        old,
        sha256=old.sha256 or new.sha256,
        alpha=as_now(old.alpha, new.alpha),
        trimap=as_now(old.trimap, new.trimap),
        mask=new.mask,
        problem=new.problem,
    )


def _paired(old: Iterator[Sample], new: Iterator[Sample]) -> Iterator[tuple[Sample | None, Sample | None]]:
    """Samples of two lists side by side, None where one has no such path."""
    before, after = next(old, None), next(new, None)
    while before or after:
        if after is None or (before is not None and before.source < after.source):
            yield before, None
            before = next(old, None)
        elif before is None or after.source < before.source:
            yield None, after
            after = next(new, None)
        else:
            yield before, after
            before, after = next(old, None), next(new, None)
