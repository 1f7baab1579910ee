"""What a GPU has to show: the targets of `benchmarks.gpu`, held against what its parts found, and what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
# What an H100 should give, by what tells a row; arithmetic on the profile of version 0.3, see RESULTS.
EXPECTED: dict[tuple[Any, ...], str] = {
    ("p3mnet_resnet34", 8, False): "110-145",
    ("p3mnet_resnet34", 32, False): "205-240",
    ("p3mnet_resnet34", 32, True): "250-290",
    ("p3mnet_swin_t", 32, False): "80-95",
    ("p3mnet_vitae_s", 32, False): "80-95",
    ("batch 32",): "190-225",
    ("batch 32, compiled",): "230-275",
    ("swin_t, batch 32",): "75-90",
    ("vitae_s, batch 32",): "75-90",
    ("earlier, its recipe",): "64 (0.3's figure)",
    ("earlier, bare steps of batch 32",): "195 (0.3's figure)",
    ("p3mnet_resnet34", "512x512", False): "8.4 (0.3's figure)",
    ("p3mnet_swin_t", "512x512", False): "12.6 (0.3's figure)",
    ("p3mnet_vitae_s", "512x512", False): "18.6 (0.3's figure)",
    ("p3mnet_resnet34", "512x512", True): "3.3-3.8",
    ("p3mnet_swin_t", "512x512", True): "6-7",
    ("p3mnet_vitae_s", "512x512", True): "9-10",
    ("gfm_resnet34", "512x512", True): "2.5-3",
}
# Pictures of an epoch of P3M-10k.
EPOCH = 9421
# Names of runs and networks by what they are of.
LOOPS = {
    "p3mnet_resnet34": "batch 32",
    "p3mnet_swin_t": "swin_t, batch 32",
    "p3mnet_vitae_s": "vitae_s, batch 32",
}
# Where no earlier checkout was beside it: what version 0.3 gave on an H100 (RESULTS).
_THEN = {"recipe": 64.0, "bare": 195.0}


@dataclass(frozen=True)
class Target:
    """One thing asked for.

    Attributes:
        what: In words.
        asked: The bound, in words.
        found: What the parts came to; None where they did not get so far.
        met: Whether it holds; None where nothing was found, or where another GPU is asked for.
        of: What it was made of.
    """

    what: str
    asked: str
    found: float | None
    met: bool | None
    of: str = ""


class _Found:
    """Rows of the parts, by what tells them."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self.rows = {str(part["part"]): [row for row in part["rows"] if "failed" not in row] for part in parts}
        self.failed = {str(part["part"]): part["failed"] for part in parts}

    def all(self, part: str, **about: Any) -> list[Row]:
        found: list[Row] = self.rows.get(part, [])
        return [row for row in found if all(row.get(key) == value for key, value in about.items())]

    def one(self, part: str, value: str, **about: Any) -> float | None:
        """A value of the row that is of these."""
        rows = [row for row in self.all(part, **about) if row.get(value) is not None]
        return float(rows[0][value]) if rows else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _held(found: float | None, least: float | None = None, most: float | None = None) -> bool | None:
    if found is None:
        return None
    return (least is None or found >= least) and (most is None or found <= most)


def targets(parts: Sequence[Mapping[str, Any]], device: str) -> list[Target]:
    """What was asked for, and whether it was found.

    Args:
        parts: Of `benchmarks.gpu.run_apart`.
        device: Name of the GPU: figures in seconds and images are asked of an H100, ratios of any.
    """
    return [*_training(_Found(parts), "H100" in device), *_results(_Found(parts)), *_waits(_Found(parts))]


def _training(found: _Found, h100: bool) -> Iterator[Target]:
    loop = found.one("end", "images/s", run="batch 32")
    old, told = found.one("old", "images/s", run="earlier, its recipe"), "beside it"
    bare_then = found.one("old", "images/s", run="earlier, bare steps of batch 32")
    if old is None and h100:
        old, told = _THEN["recipe"], "0.3's figure on an H100"
    faster = _ratio(loop, old)
    yield Target("ResNet-34, batch 32, against 0.3's loop and recipe", ">= 3.2", faster, _held(faster, 3.2), told)
    met = _held(loop, 205) if h100 else None
    yield Target("ResNet-34, batch 32, images/s", ">= 205 (H100)", loop, met)
    epoch = _ratio(EPOCH, loop)
    yield Target("an epoch of 9,421, s", "<= 46 (H100)", epoch, _held(epoch, most=46) if h100 else None)
    for network, run in LOOPS.items():
        bare = found.one("steps", "images/s", network=network, batch=32, compiled=False)
        slower = _ratio(bare, found.one("end", "images/s", run=run))
        yield Target(f"{network}: its loop takes, of bare steps", "<= 1.1", slower, _held(slower, most=1.1))
    best = [
        row["images/s"]
        for part in ("steps", "compiled")
        for row in found.all(part, network="p3mnet_resnet34", batch=32)
    ]
    told = "the faster of eager and compiled; " + ("beside it" if bare_then is not None else "0.3's figure on an H100")
    if bare_then is None and h100:
        bare_then = _THEN["bare"]
    gained = _ratio(max(best, default=None), bare_then)
    yield Target("bare steps against 0.3's eager ones", ">= 1.25", gained, _held(gained, 1.25), told)


def _results(found: _Found) -> Iterator[Target]:
    exact = [max(row["global"], row["local"]) for row in found.all("correctness", precision="float32")]
    worst = max(exact, default=None)
    yield Target("float32 against the golden outputs, largest difference", "<= 1e-4", worst, _held(worst, most=1e-4))
    twice = [row["repeatable"] for row in found.all("correctness", precision="float32")]
    share = sum(twice) / len(twice) if twice else None
    yield Target("networks whose pass gives the same bits twice", "all", share, _held(share, 1))
    unpooling = _ratio(found.one("correctness", "ms", network="unpooling"), found.one("correctness", "PyTorch's, ms"))
    yield Target("unpooling in order, of PyTorch's time", "< 9", unpooling, _held(unpooling, most=9))
    rows = found.rows.get("determinism", [])
    same = [row["same bits"] for row in rows if row["deterministic"]]
    share = sum(same) / len(same) if same and not found.failed.get("determinism") else None
    yield Target("networks trained to the same bits twice", "all", share, _held(share, 1))
    seconds = {wanted: found.one("determinism", "s per step", network="p3mnet_resnet34", deterministic=wanted)
               for wanted in (False, True)}  # fmt: skip
    yield Target("price of deterministic, of a step", "told", _ratio(seconds[True], seconds[False]), None)


def _waits(found: _Found) -> Iterator[Target]:
    for network in LOOPS:
        times = {
            recorded: found.one("inference", "ms", network=network, size="512x512", recorded=recorded)
            for recorded in (False, True)
        }
        faster = _ratio(times[False], times[True])
        yield Target(f"{network}: inference at batch 1, recorded against plain", ">= 2", faster, _held(faster, 2))
    seconds = found.one("memory", "seconds")
    yield Target("a batch that is too large is told, s", "<= 20 (70 in 0.3)", seconds, _held(seconds, most=20))
    # Half of a budget is for trainings, whatever came before: a short one is exceeded by that, one of minutes is not.
    seconds, budget = (found.one("traincheck", name) for name in ("seconds", "budget"))
    over = None if seconds is None or budget is None else seconds - budget
    yield Target("train-check, start and end included, beyond its budget, s", "<= 30", over, _held(over, most=30))
    steps = found.one("traincheck", "steps in 10 minutes")
    yield Target("steps of each of its six trainings in 10 minutes", "told", steps, None)


def table(found: Sequence[Target]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| asked for | bound | found | met | of |"
    yield "|---|---|---|---|---|"
    for target in found:
        value = "-" if target.found is None else f"{target.found:.3g}"
        met = {None: "-", True: "yes", False: "no"}[target.met]
        yield f"| {target.what} | {target.asked} | {value} | {met} | {target.of} |"
