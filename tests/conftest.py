"""What tests share: the models, which take a second to load, and one thread for each worker of pytest-xdist."""

from __future__ import annotations

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores already; read when numpy, torch and OpenCV are imported, here and in processes of tests.
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(_variable, "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

from p3mdata.base import console  # noqa: E402
from p3mdata.faces.ensemble import FaceFinder  # noqa: E402

# No case fails because the machine is busy.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("untimed")


class KeptModels(FaceFinder):
    """Models that outlive a run."""

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def own_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test runs in this process prints as it likes; the next test's does not follow it."""
    monkeypatch.setattr(console, "out", console.Output())


@pytest.fixture(scope="session")
def models() -> Iterator[FaceFinder]:
    """The models of this test process."""
    kept = KeptModels()
    yield kept
    FaceFinder.close(kept)


@pytest.fixture(scope="module")
def kept_models(models: FaceFinder) -> Iterator[FaceFinder]:
    """Runs in this process share their models, so that many runs load them once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in ("p3mdata.faces.models", "p3mdata.faces.ensemble"):
            monkeypatch.setattr(f"{module}.FaceFinder", lambda: models)
        yield models
