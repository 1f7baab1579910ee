"""What tests share: the models, which take a second to load, and one thread for each worker of pytest-xdist."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, cast

from tests import surroundings

# Before anything is imported that reads variables once.
surroundings.settle()
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores already; read when numpy, torch and OpenCV are imported, here and in processes of tests.
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(_variable, "1")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from p3mdata.base import console, system  # noqa: E402
from p3mdata.faces.detectors import Box, Detector  # noqa: E402
from p3mdata.faces.ensemble import FaceFinder  # noqa: E402
from p3mdata.faces.face_mesh import FaceMesh  # noqa: E402
from p3mdata.faces.landmarks import Points  # noqa: E402
from p3mdata.faces.pyramid import Pyramid  # noqa: E402
from p3mdata.imaging.jpeg import library  # noqa: E402

# No case fails because the machine is busy.
# One commit has one verdict in CI; elsewhere each run looks at other examples.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("untimed")

# Runs that are compared byte for byte have one secret: those of this process by it, those of others by a file.
SECRET = "5ec4e7" + 58 * "0"


@pytest.fixture(scope="session", autouse=True)
def one_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All runs that are given no secret get this one."""
    file = tmp_path_factory.mktemp("secret") / "secret"
    file.write_text(SECRET)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("p3mdata.run.secret.new_secret", lambda: SECRET)
        monkeypatch.setenv("P3MDATA_SECRET_FILE", str(file))
        yield


@pytest.fixture(autouse=True)
def signals_heard() -> Iterator[None]:
    """An interrupted command ignores the next signals; one that ran in this process would leave later tests so."""
    yield
    surroundings.hear_signals()


class KeptModels(FaceFinder):
    """Models that outlive a run."""

    def close(self) -> None:
        pass


class Remembered:
    """A detector or landmark model that is asked about each picture once: it gives its answer again.

    For tests of what comes after detection, which look at the same few pictures many times.
    """

    def __init__(self, model: Any) -> None:
        self.name = getattr(model, "name", "")
        self._ask = model.detect if hasattr(model, "detect") else model.locate
        self._answers: dict[bytes, Any] = {}

    def detect(self, rgb: NDArray[np.uint8]) -> Any:
        """What the model says; a copy, so that no test changes what the next one is told."""
        key = hashlib.sha256(repr(rgb.shape).encode() + np.ascontiguousarray(rgb).tobytes()).digest()
        if key not in self._answers:
            self._answers[key] = self._ask(rgb)
        return copy.deepcopy(self._answers[key])

    locate = detect


class RememberedMesh(FaceMesh):
    """Landmarks that are looked for once: as runs in processes of their own place them, so do runs in this one."""

    def __init__(self, mesh: FaceMesh) -> None:
        self._kept = mesh
        self._located = Remembered(mesh)
        self._placed: dict[tuple[bytes, str], Points | None] = {}

    def locate(self, crop: NDArray[np.uint8]) -> Points | None:
        return cast("Points | None", self._located.locate(crop))

    def place(self, image: Pyramid, hits: Sequence[Box]) -> Points | None:
        key = hashlib.sha256(repr(image.size).encode() + image.at(max(image.size))[0].tobytes()).digest(), repr(hits)
        if key not in self._placed:
            self._placed[key] = self._kept.place(image, hits)
        return copy.deepcopy(self._placed[key])

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test depends on the working folder, or leaves anything there."""
    folder = tmp_path_factory.getbasetemp() / "nowhere"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    yield
    assert not os.listdir(folder), f"left in the working folder: {os.listdir(folder)}"


@pytest.fixture(autouse=True)
def open_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged JPEG file closes the library's own memory for the process; the next test finds it open."""
    monkeypatch.setattr(library._Guard, "closed", False)


@pytest.fixture(autouse=True)
def own_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test runs in this process prints as it likes; the next test's does not follow it."""
    monkeypatch.setattr(console, "out", console.Output())


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Calls that choose their workers choose one, in this process: processes, each of which starts Python and loads
    OpenCV, are what another test is about."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(system, "cores", lambda: 1)
        yield


@pytest.fixture(scope="session")
def models() -> Iterator[FaceFinder]:
    """The models of this test process."""
    kept = KeptModels()
    yield kept
    FaceFinder.close(kept)


@pytest.fixture(scope="session")
def remembering(models: FaceFinder) -> FaceFinder:
    """The same models, each asked about a picture once."""
    detectors: dict[str, Detector] = {name: Remembered(detector) for name, detector in models._detectors.items()}
    assert isinstance(models._landmarks, FaceMesh)
    return KeptModels(detectors, RememberedMesh(models._landmarks))


@pytest.fixture(scope="module")
def kept_models(remembering: FaceFinder) -> Iterator[FaceFinder]:
    """Runs in this process share their models and what these said: detection costs tests of other things little."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in ("p3mdata.faces.models", "p3mdata.faces.ensemble"):
            monkeypatch.setattr(f"{module}.FaceFinder", lambda: remembering)
        yield remembering
