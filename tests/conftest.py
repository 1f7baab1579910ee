"""What tests share: the models, which take a second to load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p3mdata.faces.ensemble import FaceFinder


class KeptModels(FaceFinder):
    """Models that outlive a run."""

    def close(self) -> None:
        pass


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
