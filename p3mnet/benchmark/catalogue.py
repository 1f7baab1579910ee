"""What `--methods list` shows."""

from __future__ import annotations

from p3mdata.typing import Json
from p3mnet.baselines import CATALOGUE, Family
from p3mnet.baselines.opening import GROUPS


def listing_rows() -> list[Json]:
    """The catalogue as plain values."""
    return [
        {
            "name": entry.name, "title": entry.title, "family": entry.family.value, "trainable": entry.trainable,
            "needs_trimap": entry.family is not Family.FREE, "obstacle": entry.obstacle,
        }
        for entry in CATALOGUE.values()
    ]  # fmt: skip


def listing() -> str:
    """The catalogue for people, by family."""
    width = max(map(len, CATALOGUE))
    lines = []
    for family in Family:
        lines.append(f"{family.value}:")
        for entry in CATALOGUE.values():
            if entry.family is family:
                tail = entry.obstacle or ("trained by `p3mnet train`" if entry.trainable else "")
                lines.append(f"  {entry.name:<{width}}  {entry.title}{f': {tail}' if tail else ''}")
    lines.append(f"groups: {', '.join(GROUPS)}")
    lines.append("of others: onnx:NAME=FILE (a network), pngs:NAME=FOLDER (its alphas, in a folder per set or in one)")
    return "\n".join(lines)
