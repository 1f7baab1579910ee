"""Audits with invented figures, for what reads them."""

from __future__ import annotations

from p3mdata.base.intervals import Rate
from p3mdata.config import Method
from p3mdata.run.attackers import Attackers, Score
from p3mdata.run.audit import Audit, AuditRow, SweepPoint, Threshold

RATE = Rate(0.25, 0.1, 0.4, 40)


def some_audit(manifest_sha256: str) -> Audit:
    """40 photographs of 20 people, a quarter of them found."""
    return Audit(
        manifest_sha256=manifest_sha256,
        recogniser=("some recogniser", "0" * 64),
        method=Method.BLUR,
        strength=0.25,
        area="p3m",
        sources=41,
        photos=40,
        identities=20,
        left_out={"not released": 1},
        chance=0.05,
        threshold=Threshold(0.5, 1e-3, 5000, 1e-3),
        rows=tuple(AuditRow(key, RATE, RATE, 0.1) for key in ("clear", "naive", "adapted")),
        sweep=(SweepPoint(Method.ZERO, 1.0, RATE, RATE),),
    )


def some_attackers(manifest_sha256: str) -> Attackers:
    """A network that finds a quarter of 20 people, and a floor that finds as many."""
    score = Score(RATE, None, None, 0.5, 0.1)
    return Attackers(
        manifest_sha256=manifest_sha256,
        method="dp-pix 0.2 epsilon 1 m 16",
        photos=40,
        people=20,
        folds=3,
        seed=77123,
        left_out={},
        not_run={},
        chance=0.05,
        scores={"network": score, "floor_adapted": score},
    )
