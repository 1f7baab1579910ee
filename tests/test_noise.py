"""dp-pix: the arithmetic of differentially private pixelisation, and noise that nobody without the secret can tell."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p3mdata.anonymize.inputs import Inputs
from p3mdata.anonymize.masks import patch_of
from p3mdata.anonymize.noise import Noise, _minus_ln
from p3mdata.anonymize.obfuscate import obfuscate
from p3mdata.anonymize.pipeline import anonymize
from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import read_rows
from p3mdata.config import Execution, Job, Method, Settings, resolve
from p3mdata.errors import SettingsError
from p3mdata.faces.ensemble import Detection
from p3mdata.records import Action, Decision, Outcome, Sample
from p3mdata.run.inputs import read_inputs
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import MANIFEST, SECRET
from tests.factories import astronaut, astronaut_face, encoded
from tests.runs import portraits

MANIFESTS = Path(__file__).parents[1] / "manifests"
SECRET_HERE = b"a secret"


def noisy(pixels: Any, strength: float, width: float, noise: Noise) -> Any:
    out = pixels.copy()
    obfuscate(out, patch_of(np.ones(pixels.shape[:2], bool)), Method.DP_PIX, strength, width, noise)
    return out


@pytest.mark.parametrize("m", [1, 16])
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("side", [4, 16])
def test_the_scale_is_that_of_the_paper(m: int, epsilon: float, side: int) -> None:
    # Fan 2018, for grey pictures of 8 bits: Laplace noise of 255 m / (b^2 epsilon) on the mean of each b x b cell.
    noise = Noise(epsilon, m, SECRET_HERE)
    found = noise.scales(np.array([float(side**2)]), 92.0, channels=1, top=255)
    assert found[0] == pytest.approx(255 * m / (side**2 * epsilon))
    # Three channels share epsilon.
    assert noise.scales(np.array([float(side**2)]), 92.0, 3, 255)[0] == pytest.approx(3 * found[0])


def test_m_grows_with_the_area_of_a_face_so_that_large_faces_lose_alike() -> None:
    noise = Noise(1.0, 16, SECRET_HERE)
    small, large = (noise.scales(np.array([(0.2 * width) ** 2]), width, 3, 255)[0] for width in (100.0, 800.0))
    assert small == pytest.approx(large)
    assert noise.pixels_of(30.0) == 16


def test_any_m_pixels_cost_epsilon_and_no_more() -> None:
    noise = Noise(0.7, 16, SECRET_HERE)
    counts = np.array([100.0, 100.0, 37.0, 9.0])
    scales = noise.scales(counts, 100.0, 3, 255)
    # All m pixels go from black to white in all channels, spread over the cells in any way.
    for spread in ([16, 0, 0, 0], [4, 4, 4, 4], [0, 0, 7, 9], [0, 7, 0, 9]):
        loss = sum(3 * 255 * k / n / b for k, n, b in zip(spread, counts, scales, strict=True))
        assert loss == pytest.approx(0.7)


def test_logarithms_are_right_to_their_last_digits_and_integers_all_the_way() -> None:
    numbers = np.array([0, 1, 2, 6, 2**31, 2**32 - 1, 2**62, 2**63 - 2, 2**63 - 1], np.uint64)
    expected = [63 * np.log(2) - np.log(int(n) + 1) for n in numbers]
    assert np.allclose(_minus_ln(numbers), expected, rtol=0, atol=2e-9)
    rng = np.random.default_rng(0)
    drawn = _minus_ln(rng.integers(0, 2**63, 20_000, dtype=np.uint64))
    # Exponential variates: mean and standard deviation are 1.
    assert drawn.min() >= 0 and abs(drawn.mean() - 1) < 0.03 and abs(drawn.std() - 1) < 0.04


def test_noise_is_laplace_around_the_means() -> None:
    pixels = np.full((400, 400, 3), 32768, np.uint16)
    noise = Noise(20.0, 1, SECRET_HERE)
    found = noisy(pixels, 0.1, 40.0, noise)[::4, ::4].astype(float) - 32768
    scale = 3 * 65535 * 1 / (16 * 20.0)
    assert abs(np.median(found)) < 0.05 * scale
    assert np.abs(found).mean() == pytest.approx(scale, rel=0.03)
    # Half of a Laplace distribution lies within ln 2 scales.
    assert (np.abs(found) < np.log(2) * scale).mean() == pytest.approx(0.5, abs=0.02)


def test_noise_follows_from_secret_content_and_parameters() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    first = noisy(pixels, 0.2, 60.0, Noise(50.0, 16, SECRET_HERE))
    assert np.array_equal(first, noisy(pixels.copy(), 0.2, 60.0, Noise(50.0, 16, SECRET_HERE)))
    one_more = pixels.copy()
    one_more[0, 0, 0] ^= 1
    before = first.astype(int) - noisy(pixels, 0.2, 60.0, Noise(1e9, 16, SECRET_HERE))
    for other in (
        noisy(pixels, 0.2, 60.0, Noise(50.0, 16, b"another")),
        noisy(one_more, 0.2, 60.0, Noise(50.0, 16, SECRET_HERE)),
        # With the same draw a second release of twice the epsilon would give the means away.
        noisy(pixels, 0.2, 60.0, Noise(100.0, 16, SECRET_HERE)),
        noisy(pixels, 0.2, 60.0, Noise(50.0, 17, SECRET_HERE)),
    ):
        drawn = other.astype(int) - noisy(pixels, 0.2, 60.0, Noise(1e9, 16, SECRET_HERE))
        alike = np.corrcoef(before[::12, ::12].ravel(), drawn[::12, ::12].ravel())[0, 1]
        assert abs(alike) < 0.5, "independent noise"


def test_without_noise_there_is_no_dp_pix() -> None:
    with pytest.raises(ValueError, match="needs noise"):
        obfuscate(astronaut(), patch_of(np.ones((512, 512), bool)), Method.DP_PIX, 0.2, 90.0)
    inputs = Inputs(encoded(astronaut()))
    done = anonymize(
        Sample(0, "0123456789ab", "a.jpg", "0" * 64), inputs, Settings(method=Method.DP_PIX), None,  # type: ignore[arg-type]
        Detection((astronaut_face(),), ()),
    )  # fmt: skip
    assert (done.result.outcome, done.result.reason, done.files) == (Outcome.BROKEN, "no_secret", {})


def test_settings_of_noise_need_the_method() -> None:
    assert resolve({"method": "dp-pix", "epsilon": 0.5})[0].named() == "dp-pix 0.2 epsilon 0.5 m 16"
    assert Settings().named() == "blur 0.25"
    with pytest.raises(SettingsError, match="epsilon goes with method dp-pix"):
        resolve({"epsilon": 0.5})
    with pytest.raises(SettingsError, match="dp_pixels"):
        resolve({"method": "flat", "dp_pixels": 3})
    with pytest.raises(SettingsError, match="epsilon"):
        resolve({"method": "dp-pix", "epsilon": 0})
    assert "epsilon 2 for pictures that differ in 16" in Settings(method=Method.DP_PIX, epsilon=2).in_words("card")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portraits(tmp_path_factory.mktemp("noise") / "src", "a.jpg", "b.png")


def job(source: Path, out: Path, **settings: Any) -> Job:
    how = Execution(workers=1, secret_file=settings.pop("secret_file", None))
    return Job(source=source, out=out, settings=Settings(method=Method.DP_PIX, **settings), execution=how)


def images(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "images").iterdir())}


def test_a_run_proves_and_records_it_and_its_secret_makes_its_bytes(
    source: Path, tmp_path: Path, kept_models: Any
) -> None:
    assert anonymize_job(job(source, tmp_path / "one")).released == 2
    rows = list(read_rows(tmp_path / "one" / MANIFEST))
    assert {row["method"] for row in rows} == {"dp-pix 0.2 epsilon 1 m 16"}
    schema = json.loads((MANIFESTS / "record.schema.json").read_text(encoding="utf-8"))
    assert all(re.fullmatch(schema["properties"]["method"]["pattern"], row["method"]) for row in rows)
    anonymize_job(job(source, tmp_path / "same", secret_file=tmp_path / "one" / SECRET))
    assert images(tmp_path / "one") == images(tmp_path / "same")
    (tmp_path / "secret").write_text("b" * 64)
    anonymize_job(job(source, tmp_path / "other", secret_file=tmp_path / "secret"))
    assert not set(images(tmp_path / "one").values()) & set(images(tmp_path / "other").values())


def test_the_secret_goes_where_noise_is_drawn_and_nowhere_else(source: Path, tmp_path: Path) -> None:
    sample = Sample(0, "x", "a.jpg", sha256((source / "a.jpg").read_bytes()))
    noisy_job = job(source, tmp_path)
    assert read_inputs(sample, noisy_job).secret is None, "a run of before secrets"
    write_atomic(tmp_path / SECRET, b"f" * 64 + b"\n")
    assert read_inputs(sample, noisy_job).secret == b"f" * 64
    blurred = Job(source=source, out=tmp_path, settings=Settings())
    assert read_inputs(sample, blurred).secret is None
    one_picture = replace(sample, decision=Decision(Action.REDO, settings={"method": "dp-pix"}))
    assert read_inputs(one_picture, blurred).secret == b"f" * 64
    assert "ffff" not in repr(read_inputs(sample, noisy_job))
