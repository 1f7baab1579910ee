"""Which networks are trained and on what they are tested, from what was asked for and what is there. Pure.

What a picture shows is its domain: B, as the dataset has it; N, as it was photographed; or a method's name, for the
photograph with its facemask's area obfuscated anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p3mdata.config import Method
from p3mdata.errors import SettingsError
from p3mnet.traincheck.config import PROTOCOLS, TrainCheckSettings

BLURRED, NORMAL = "B", "N"


@dataclass(frozen=True)
class Test:
    """A validation set as it is shown to networks.

    Attributes:
        key: Short name, also of its folder.
        set: Name of the set in the dataset.
        domain: What its pictures show; the free set shows N as it is.
        rendered: Whether its pictures come from the originals.
    """

    key: str
    set: str
    domain: str
    rendered: bool

    @property
    def title(self) -> str:
        shown = {
            BLURRED: "as in the dataset",
            NORMAL: "as photographed" if self.rendered else "free of private content",
        }
        return f"{self.set}, {shown.get(self.domain, f'{self.domain}, rendered')}"


@dataclass(frozen=True)
class DesignRow:
    """A line of table 4: networks of a domain on a test."""

    protocol: str
    trained: str
    test: Test


@dataclass(frozen=True)
class Design:
    """What is trained and tested.

    Attributes:
        domains: Of the trainings, in order.
        tests: All tests.
        pairs: Domain of the networks and test, all that are predicted.
        rows: Table 4.
        methods: Domain by method of table 8; the dataset's own method is B. Those that no network is trained on are
            what the network of B is tested on.
        notes: Sentences about what cannot run, and why.
    """

    domains: tuple[str, ...]
    tests: tuple[Test, ...]
    pairs: tuple[tuple[str, Test], ...]
    rows: tuple[DesignRow, ...]
    methods: dict[str, str]
    notes: tuple[str, ...]

    def test(self, key: str) -> Test | None:
        return next((test for test in self.tests if test.key == key), None)

    @property
    def judged(self) -> Test | None:
        """Where the cost is judged: normal photographs of the obfuscated set."""
        return self.test("P-normal")


def design(settings: TrainCheckSettings, private: str | None, free: str | None, own: Method | None) -> Design:
    """Protocols, trainings and tests.

    Args:
        settings: What was asked for.
        private: Name of the obfuscated validation set, if it has pictures.
        free: Name of the validation set free of private content, if it has pictures.
        own: Method of the dataset, if it is known.

    Raises:
        SettingsError: Something that was asked for by name cannot run.
    """
    if private is None:
        raise SettingsError(
            "The dataset has no obfuscated validation set (P3M-500-P in the layout of P3M-10k) to test on. Build it "
            "with 'p3mdata build-split --validation'."
        )
    chosen, notes = _possible(settings, free)
    blurred = Test("P", private, BLURRED, False)
    normal = [Test("P-normal", private, NORMAL, True)] if settings.originals else []
    normal += [Test("NP", free, NORMAL, False)] if free else []
    rows = [
        DesignRow(protocol, protocol[0], test)
        for protocol in chosen
        for test in ([blurred] if protocol[-1] == BLURRED else normal)
    ]
    methods = {method.value: BLURRED if method is own else method.value for method in settings.methods}
    shown = {domain: blurred if domain == BLURRED else Test(f"P-{domain}", private, domain, True)
             for domain in methods.values()}  # fmt: skip
    # Table 8 asks how one network, trained as the dataset is, does on other obfuscations; the other question, which of
    # them teaches best, takes a network of each.
    taught = list(methods.values()) if settings.each_method else [BLURRED] if methods else []
    trained = list(dict.fromkeys([*(row.trained for row in rows), *taught]))
    domains = sorted(trained, key=lambda domain: (domain != BLURRED, domain != NORMAL, trained.index(domain)))
    pairs = [(row.trained, row.test) for row in rows]
    # Each network of a method on its own kind and on normal pictures; the dataset's networks on all kinds.
    for domain in methods.values():
        pairs += [(domain, test) for test in (shown[domain], *normal)] if domain in domains else []
        pairs += [(BLURRED, shown[domain])] if BLURRED in domains else []
    pairs += [(BLURRED, test) for test in normal] if methods and BLURRED in domains else []
    pairs = list(dict.fromkeys(pairs))
    tests = list(dict.fromkeys(test for _, test in pairs))
    return Design(tuple(domains), tuple(tests), tuple(pairs), tuple(rows), methods, tuple(notes))


def _possible(settings: TrainCheckSettings, free: str | None) -> tuple[list[str], list[str]]:
    """Protocols that can run, and sentences about those that cannot."""
    notes = []
    lacking: dict[str, str] = {}
    if settings.originals is None:
        for name in ("N:N", "N:B"):
            lacking[name] = "N:N and N:B need the photographs before anonymization (--originals DIR)"
        if free is None:
            lacking["B:N"] = "B:N needs --originals, or a validation set free of private content (build-split --free)"
    if free is None and settings.originals is not None:
        notes.append("The dataset has no validation set free of private content: nothing is tested on NP.")
    if settings.protocols is not None:
        if wrong := [lacking[name] for name in settings.protocols if name in lacking]:
            raise SettingsError(f"{wrong[0]}.")
        return [name for name in PROTOCOLS if name in settings.protocols], notes
    notes += [f"Not run: {sentence}." for sentence in dict.fromkeys(lacking.values())]
    return [name for name in PROTOCOLS if name not in lacking], notes


def trainings(domains: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Domain and seed of all trainings; seed by seed, so that an interrupted run has whole comparisons."""
    for seed in range(seeds):
        for domain in domains:
            yield domain, seed
