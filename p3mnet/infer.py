"""Alpha mattes and cut-outs of a folder of pictures: `infer(images, out, checkpoint)`; one is for `p3mnet.predict`."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from p3mdata.base.files import holds_nothing, owned_folder, sha256, write_atomic
from p3mdata.base.jsonl import read_json, write_json
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress
from p3mdata.errors import (
    EXIT_HELD_BACK,
    EXIT_OK,
    MAKE_ROOM,
    BrokenInput,
    RunFolderError,
    SettingsError,
    SetupError,
    unwritable,
)
from p3mdata.imaging import SUFFIXES, Picture, decode, encode, encode_grey
from p3mdata.imaging.listing import list_files
from p3mnet.devices import arithmetic, gpu_guarded, pick_device
from p3mnet.graphs import replaying
from p3mnet.memory import MEMORY_ERRORS, out_of_memory
from p3mnet.model import MattingNetwork, folded
from p3mnet.predict import MAX_SIDE, MODES, Mode, open_network, predict_alphas, seen_sizes, to_8_bit
from p3mnet.trimap_finder import TrimapFinder, trimap_finder

ALPHAS, CUTOUTS = "alpha", "cutout"
INFERENCE_PRECISIONS = ("auto", "float32", "tf32")
_MOST_HELPERS = 8
RECORD = "infer.json"


@dataclass
class Inferred:
    """What a call of `infer` did.

    Attributes:
        out: The folder.
        pictures: Pictures in the source folder.
        made: Of these, made by this call.
        kept: Of these, there already.
        broken: Name and reason of pictures that cannot be used.
        with_opacity: Of those made, pictures with an opacity of their own, which was not looked at.
        batch: Pictures that were seen at a time in the end: fewer than asked for where memory did not hold as many.
    """

    out: Path
    pictures: int
    made: int = 0
    kept: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    with_opacity: int = 0
    batch: int = 1

    @property
    def exit_code(self) -> int:
        """0, or 3 when pictures are broken."""
        return EXIT_HELD_BACK if self.broken else EXIT_OK


def _pictures(folder: Path) -> dict[str, str]:
    """Names of pictures below a folder, sorted, and what their results are called, without an ending.

    Raises:
        SettingsError: There are none.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder}: is no folder. Give a folder of pictures.")
    names = sorted(
        path.relative_to(folder).as_posix() for path in list_files(folder, True) if path.suffix.lower() in SUFFIXES
    )
    if not names:
        raise SettingsError(f"{folder}: holds no pictures.")
    stems = {name: Path(name).with_suffix("").as_posix() for name in names}
    # a.jpg, a.png and a.jpg.webp must not end in one file, nor A.jpg and a.png where upper and lower case are one.
    uses = Counter(stem.casefold() for stem in stems.values())
    full = {name.casefold() for name in names}
    return {
        name: stem if uses[stem.casefold()] == 1 and stem.casefold() not in full else name
        for name, stem in stems.items()
    }


@dataclass(frozen=True)
class _Record:
    """What a folder is made with, content of infer.json: the checkpoint's SHA-256 and the settings."""

    checkpoint: str
    mode: Mode
    max_side: int
    cutouts: bool


@contextlib.contextmanager
def _claimed(out: Path, made_with: _Record) -> Iterator[None]:
    """Hold a folder: begin in an empty one, or go on in one of an equal call.

    Raises:
        RunFolderError: The folder is of another call, of something else, or in use.
    """
    path, record = out / RECORD, asdict(made_with)
    if path.is_file():
        earlier = read_json(path)
        if changed := sorted(key for key in record.keys() | earlier.keys() if record.get(key) != earlier.get(key)):
            raise RunFolderError(f"{out}: was made with another {', '.join(changed)}. Give a new folder.")
    elif out.exists() and (not out.is_dir() or not holds_nothing(out)):
        raise RunFolderError(f"{out}: is not empty and not of `p3mnet infer`. Give a new folder.")
    with owned_folder(out):
        if not path.is_file():
            write_json(path, record)
        yield


def _results(picture: Picture, alpha: NDArray[np.float32], targets: dict[str, Path]) -> Iterator[tuple[Path, bytes]]:
    """Files of one picture; the alpha last, for it says that the picture is done."""
    matte = to_8_bit(alpha)
    if CUTOUTS in targets:
        cutout = Picture(picture.rgb8(), matte, "PNG", picture.icc, 1)
        yield targets[CUTOUTS], encode(cutout, "PNG")[0]
    yield targets[ALPHAS], encode_grey(matte)


def infer(
    images: Path,
    out: Path,
    checkpoint: Path,
    mode: Mode = "hybrid",
    max_side: int = MAX_SIDE,
    cutouts: bool = True,
    device: str = "auto",
    published: str | None = None,
    progress: Progress | None = None,
    precision: str = "auto",
    trimaps: Path | None = None,
    trimap_network: Path | None = None,
    batch: int = 1,
) -> Inferred:
    """Write `out/alpha/NAME.png` (8-bit grey) and `out/cutout/NAME.png` (RGBA) for each picture of a folder.

    Each picture is seen alone, so that its result does not depend on the others, unless `batch` is larger than 1. A
    second call goes on where the first ended; to have a picture made again, delete its alpha.

    Cut-outs keep the picture's colours everywhere, also where alpha is 0: who opens one without its alpha sees the
    whole photograph, so keep cut-outs of private pictures private. An opacity that a picture brings along is not looked
    at: the network sees its colours, and the alpha written is the network's.

    Args:
        images: Pictures, in subfolders too; the subfolders are kept.
        out: A new folder, or one of an earlier call with the same settings.
        checkpoint: See `open_network`.
        mode: "hybrid", "resize" or "legacy_resize", see the module.
        max_side: Cap of the side that the network sees. Hybrid on a CPU takes about 1.5 KB of memory per pixel seen
            (resnet34 1.4, swin_t 1.5, vitae_s 1.0): 4 GB at 1600x1600.
        cutouts: Whether to write cut-outs.
        device: "auto", "cpu", "cuda" or "cuda:N". Devices differ by rounding.
        published: See `open_network`.
        progress: Takes the number of pictures and gives a function to call after each of them.
        precision: Of a GPU's products: "float32", or "tf32", which is faster (alpha differs by up to 2e-4, less than
            half a step of 8 bits); "auto" is tf32. A CPU computes in float32.
        trimaps: For networks that need trimaps: folder of them (0, 128, 255) of the pictures' names.
        trimap_network: Instead, weights of a network that finds trimaps itself, such as P3M-Net's.
        batch: Pictures that the network sees at a time, of those that follow each other and that it sees in the same
            size; alphas may then depend on these neighbours by rounding. Where memory does not hold as many, the rest
            is done with half as many, and so on.

    Returns:
        What was done; broken pictures are named there and skipped.

    Raises:
        SettingsError: A setting cannot be used, the folder holds no pictures, or memory does not suffice.
        SetupError: The checkpoint cannot be used.
        RunFolderError: `out` is of another call or cannot be written.
    """
    if mode not in MODES:
        raise SettingsError(f"mode must be {', '.join(MODES[:-1])} or {MODES[-1]}, not '{mode}'.")
    if max_side < 32:
        raise SettingsError(f"max_side must be at least 32, not {max_side}.")
    if batch < 1:
        raise SettingsError(f"batch must be at least 1, not {batch}.")
    if batch > 1 and mode == "legacy_resize":
        raise SettingsError("legacy_resize is for published figures, picture by picture: leave --batch out.")
    names = _pictures(images)
    try:
        digest = sha256(checkpoint.read_bytes())
    except OSError as error:
        raise SetupError(f"The weights file {checkpoint} cannot be read: {error.strerror or error}.") from error
    if precision not in INFERENCE_PRECISIONS:
        raise SettingsError(f"precision must be {' or '.join(INFERENCE_PRECISIONS)}, not '{precision}'.")
    place = pick_device(device)
    model = folded(open_network(checkpoint, published)).to(place)
    finder = trimap_finder(model, images, trimaps, trimap_network, max_side)
    done = Inferred(out, len(names), batch=batch)
    lost = "What is written is whole: when it is back, run the same command again."
    with arithmetic(place, tf32=precision != "float32"), gpu_guarded(lost):
        # Trimaps of known areas differ from picture to picture in more than their values.
        seen = model if model.needs_trimap else replaying(model)
        record = _Record(digest, mode, max_side, cutouts)
        _Call(images, out, record, seen, finder, done).all(names, progress)
    return done


class _Given(NamedTuple):
    """A picture that is to be seen, its trimap where the network needs one, and its files."""

    name: str
    picture: Picture
    rgb: NDArray[np.uint8]
    trimap: NDArray[np.uint8] | None
    targets: dict[str, Path]


@dataclass(frozen=True)
class _Call:
    """One call of `infer`.

    Attributes:
        images: Folder of the pictures.
        out: Where results go.
        record: How they are made.
        model: On its device.
        trimap: Gives the trimap of a picture.
        done: Counts what is done.
    """

    images: Path
    out: Path
    record: _Record
    model: MattingNetwork
    trimap: TrimapFinder
    done: Inferred

    def all(self, names: Mapping[str, str], progress: Progress | None) -> None:
        """Every picture: others decode the next ones and encode the last ones while the network sees this one."""
        hands = _helpers(next(self.model.parameters()).device)
        ahead = max(2 * hands, self.done.batch)
        show = progress(len(names)) if progress else lambda: None
        try:
            with (
                _claimed(self.out, self.record),
                ThreadPoolExecutor(hands, "decode") as readers,
                ThreadPoolExecutor(hands, "encode") as writers,
            ):
                begun: deque[tuple[str, dict[str, Path], Future[Picture] | None]] = deque()
                ended: deque[Future[None]] = deque()
                together: list[_Given] = []

                def settle() -> None:
                    for given, alpha in self._alphas(together):
                        ended.append(writers.submit(_write, given.picture, alpha, given.targets))
                        while len(ended) > 2 * hands or (ended and ended[0].done()):
                            self._finished(ended.popleft())
                        show()
                    together.clear()

                left = iter(names.items())
                try:
                    while True:
                        for name, stem in itertools.islice(left, ahead - len(begun)):
                            targets = self._targets(stem)
                            there = all(path.is_file() for path in targets.values())
                            begun.append((name, targets, None if there else readers.submit(_read, self.images / name)))
                        if not begun:
                            break
                        name, targets, reading = begun.popleft()
                        if reading is None:
                            self.done.kept += 1
                            show()
                        elif (given := self._given(name, reading, targets)) is None:
                            show()
                        else:
                            if together and self._sizes(given) != self._sizes(together[0]):
                                settle()
                            together.append(given)
                            if len(together) >= self.done.batch:
                                settle()
                    settle()
                    while ended:
                        self._finished(ended.popleft())
                finally:
                    # What was not begun is not; what was predicted is written.
                    for _, _, reading in begun:
                        if reading is not None:
                            reading.cancel()
        except OSError as error:
            so_far = f"{self.done.made + self.done.kept} of {len(names)} pictures are done."
            raise unwritable(self.out, error, f"{so_far} {MAKE_ROOM}") from error

    def _targets(self, stem: str) -> dict[str, Path]:
        """Files of a picture by kind."""
        kinds = (ALPHAS, CUTOUTS) if self.record.cutouts else (ALPHAS,)
        return {kind: self.out / kind / f"{stem}.png" for kind in kinds}

    def _given(self, name: str, reading: Future[Picture], targets: dict[str, Path]) -> _Given | None:
        """A picture as the network takes it; None, and the reason noted, where it cannot be used."""
        try:
            picture = reading.result()
            self.done.with_opacity += picture.opacity is not None
            rgb = picture.rgb8()
            return _Given(name, picture, rgb, self.trimap(name, rgb), targets)
        except BrokenInput as error:
            self.done.broken.append((name, error.sentence))
            return None
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            raise self._too_large(name) from error

    def _sizes(self, given: _Given) -> tuple[tuple[int, int], ...]:
        """In which the network sees a picture: those that it sees together have the same."""
        height, width = given.rgb.shape[:2]
        return seen_sizes(self.model, height, width, self.record.mode, self.record.max_side)

    def _alphas(self, together: Sequence[_Given]) -> Iterator[tuple[_Given, NDArray[np.float32]]]:
        """Pictures of the same sizes and their alphas, in order; in parts where memory does not hold them at a time."""
        left = list(together)
        while left:
            part = left[: self.done.batch]
            try:
                found = predict_alphas(
                    self.model, [given.rgb for given in part], self.record.mode, self.record.max_side,
                    [given.trimap for given in part],
                )  # fmt: skip
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise self._too_large(part[0].name) from error
                self.done.batch = len(part) // 2
                found = []
            if found:
                yield from zip(part, found, strict=True)
                del left[: len(part)]
            elif next(self.model.parameters()).is_cuda:
                # Only here is what the failed pass held given back.
                torch.cuda.empty_cache()

    def _too_large(self, name: str) -> SettingsError:
        return SettingsError(
            f"{name}: needs more memory than there is with a max_side of {self.record.max_side}. Give a smaller one."
        )

    def _finished(self, written: Future[None]) -> None:
        """Count a picture whose files are there; raises what their writer did."""
        written.result()
        self.done.made += 1


def _helpers(device: torch.device) -> int:
    """Threads that decode, and as many that encode: enough to feed a GPU; on a CPU the network wants the cores."""
    return min(_MOST_HELPERS, max(1, default_workers() // 2)) if device.type == "cuda" else 1


def _read(path: Path) -> Picture:
    """A picture of a file.

    Raises:
        BrokenInput: It cannot be used.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BrokenInput("cannot_read", f"cannot be read ({error.strerror or error}).") from error
    return decode(data)


def _write(picture: Picture, alpha: NDArray[np.float32], targets: dict[str, Path]) -> None:
    # All are encoded before the first is written.
    for target, content in list(_results(picture, alpha, targets)):
        write_atomic(target, content)


def summary_row(done: Inferred) -> dict[str, object]:
    """`Inferred` as plain values for JSON."""
    return {**asdict(done), "out": str(done.out), "exit_code": done.exit_code}
