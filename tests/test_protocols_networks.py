"""Protocols and tables for every network: N rows of the benchmark, methods and train-checks side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from p3mdata.base.files import sha256  # noqa: E402
from p3mdata.base.ids import sample_id  # noqa: E402
from p3mdata.errors import RunFolderError, SettingsError  # noqa: E402
from p3mnet.baselines import CATALOGUE  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.model import count_parameters  # noqa: E402
from p3mnet.traincheck import Scale, TrainCheckSettings  # noqa: E402
from p3mnet.traincheck.compare import comparison  # noqa: E402
from p3mnet.traincheck.config import VARIANTS, recipe  # noqa: E402
from tests.factories import encoded, synthetic_portrait  # noqa: E402
from tests.test_benchmark import PICTURES, SIDE, bench, write_dataset  # noqa: E402


def test_table_7_is_in_the_catalogue() -> None:
    counts = []
    for name in ("basic", "p3mnet_tfi", "p3mnet_tfi_sbfi", "p3mnet_tfi_dbfi", "p3mnet_resnet34"):
        with torch.device("meta"):
            counts.append(
                count_parameters(create_model(**CATALOGUE[name].model, encoder_weights="random"), as_published=True)
            )
    assert counts == [37_666_860, 38_929_452, 39_171_628, 39_235_884, 39_478_060]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_has_a_recipe_at_both_scales(variant: str) -> None:
    settings = TrainCheckSettings(variant=variant, encoder_weights="random")
    settings.check()
    full, smoke = (recipe(settings, scale) for scale in (Scale.FULL, Scale.SMOKE))
    assert full.model["name"] == VARIANTS[variant]["name"]
    flags = {key: value for key, value in VARIANTS[variant].items() if key != "name"}
    assert all(smoke.model[key] == full.model[key] == value for key, value in flags.items())
    assert (full.training.get("optimizer", {}).get("name") == "sgd") == (variant == "modnet") == (full.batch == 16)
    assert full.data["colours"] == smoke.data["colours"] == "estimate"


def test_obfuscated_sets_are_tested_as_photographed_too(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    secret = tmp_path / "photos"
    for number in range(PICTURES):
        path = secret / f"p{number}.png"
        path.parent.mkdir(exist_ok=True)
        # The photograph differs inside the facemask alone.
        rgb, _, facemask = synthetic_portrait(SIDE, 100 + number)
        clear = rgb.copy()
        clear[facemask > 0] = 255 - clear[facemask > 0]
        path.write_bytes(encoded(clear, "PNG"))
    found = bench(dataset, tmp_path / "out", "closed-form", originals=secret)
    assert list(found.sets) == ["validation", "validation-normal", "free"]
    (result,) = found.results
    assert all(result.sets[name].evaluated == PICTURES for name in found.sets), result.sentence
    assert "validation-normal" in (tmp_path / "out/benchmark.md").read_text()
    # Alphas alone are left, and no picture of the photographs is on the page.
    page = (tmp_path / "out/benchmark.html").read_text()
    assert "Closed-form, SAD" in page and page.count("<img") == 3 * (PICTURES + PICTURES + PICTURES)
    shown = re.findall(r"image/jpeg;base64,([^\"]+)", page)
    assert len(shown) == 3 * PICTURES and shown[:PICTURES] == shown[PICTURES : 2 * PICTURES]
    assert str(secret) not in (tmp_path / "out/benchmark.json").read_text() + page
    # Under an id that only who has the run's secret can tell.
    key = 32 * "5e"
    (tmp_path / "secret").write_text(key)
    name = sample_id(sha256((secret / "p1.png").read_bytes()), "", 0, key)
    for path in (dataset / "validation").glob("*/p1.png"):
        path.rename(path.with_name(f"{name}.png"))
    with pytest.raises(SettingsError, match=f"has no photograph of 1 of 3 pictures: {name}.* --secret-file"):
        bench(dataset, tmp_path / "ids", "closed-form", originals=secret)
    keyed = bench(dataset, tmp_path / "ids", "closed-form", originals=secret, secret_file=tmp_path / "secret")
    assert keyed.results[0].sets["validation-normal"].evaluated == PICTURES
    assert str(tmp_path / "secret") not in (tmp_path / "ids/benchmark.json").read_text()
    for path in (dataset / "validation").glob(f"*/{name}.png"):
        path.rename(path.with_name("p1.png"))
    (secret / "p1.png").unlink()
    with pytest.raises(SettingsError, match="has no photograph of 1 of 3 pictures: p1"):
        bench(dataset, tmp_path / "more", "closed-form", originals=secret)
    with pytest.raises(SettingsError, match="none of the sets tested on is obfuscated"):
        bench(dataset, tmp_path / "free", "closed-form", originals=secret, sets=("free",))


def test_the_rule_of_networks_is_told(tmp_path: Path) -> None:
    found = bench(write_dataset(tmp_path / "data"), tmp_path / "out", "modnet", mode="legacy_resize", limit=1)
    assert "'legacy_resize', that of published figures" in " ".join(found.notes)
    assert not any("legacy" in note for note in bench(tmp_path / "data", tmp_path / "two", "global", limit=1).notes)


def test_train_checks_beside_each_other(tmp_path: Path) -> None:
    for name, sad in (("basic", 9.0), ("resnet34", 8.0)):
        spread = {"value": sad, "sd": 0.5, "seeds": 3}
        rows = [{"protocol": "B:B", "test": "P", "metrics": {"SAD": spread}},
                {"protocol": "N:B", "test": "P", "metrics": {"SAD": spread | {"value": sad + 1}}}]  # fmt: skip
        report = {"kind": "benchmark", "settings": {"variant": name, "copy_paste": "none"}, "table_4": rows}
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    rows, text = comparison([tmp_path / "basic", tmp_path / "resnet34"])
    assert len(rows) == 4 and "| network | B:B P | N:B P |" in text
    assert "| basic | 9 ± 0.5 | 10 ± 0.5 |" in text and "| resnet34 | 8 ± 0.5 | 9 ± 0.5 |" in text
    with pytest.raises(RunFolderError, match="holds no train-check"):
        comparison([tmp_path / "nothing"])
    path = tmp_path / "basic" / "report.json"
    path.write_text(path.read_text().replace('"seeds": 3', '"seeds": "three"'))
    with pytest.raises(RunFolderError, match=r"report\.json: is damaged, or of another version \('table_4.0.metrics"):
        comparison([tmp_path / "basic"])


def test_recipes_of_tables_name_their_stages(tmp_path: Path) -> None:
    from p3mdata.cli.recipes import read_recipe
    from p3mdata.cli.tools import _STAGES

    steps = read_recipe(Path("modules"), {"dataset": "d", "out": "o"}, _STAGES)
    assert [step.arguments.get("variant") for step in steps[:-1]] == [
        "basic",
        "tfi",
        "tfi-sbfi",
        "tfi-dbfi",
        "resnet34",
    ]
    assert steps[-1].arguments["checks"] == [
        Path(f"o/{name}") for name in ("basic", "tfi", "tfi-sbfi", "tfi-dbfi", "resnet34")
    ]
    pasted = read_recipe(Path("pasting"), {"variant": "gfm", "faces": "f"}, _STAGES)
    assert [step.arguments.get("cp") for step in pasted[:-1]] == [None, "icp", "fcp"]
    assert {step.arguments["variant"] for step in pasted[:-1]} == {"gfm"}
    # Datasets whose pictures have ids want the run's secret.
    for name in ("modules", "pasting", "protocols", "obfuscations"):
        steps = read_recipe(Path(name), {"secret_file": "run/private/secret"}, _STAGES)
        checks = [step for step in steps if "dataset" in step.arguments]
        assert checks and all(step.arguments["secret_file"] == Path("run/private/secret") for step in checks)
