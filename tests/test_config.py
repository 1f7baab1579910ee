"""Settings: who wins over whom, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from p3mdata.base.parsing import read_yaml
from p3mdata.config import Execution, Format, Method, Preset, Settings, resolve
from p3mdata.errors import SettingsError


def test_flag_over_environment_over_file_over_default() -> None:
    file = {"quality": 10, "min_side": 10, "format": "png"}
    environment = {"P3MDATA_QUALITY": "20", "P3MDATA_MIN_SIDE": "20"}
    settings, _ = resolve({"quality": 30, "format": None}, file, environment)
    assert (settings.quality, settings.min_side, settings.format) == (30, 20, Format.PNG)
    assert settings.preset is Preset.P3M


def test_a_flag_that_is_false_was_given() -> None:
    settings, execution = resolve({"recursive": False}, {"recursive": True, "overwrite": True}, {})
    assert settings.recursive is False and execution.overwrite is True


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P3MDATA_WORKERS", "3")
    monkeypatch.setenv("P3MDATA_TRUST_NO_FACE", "true")
    settings, execution = resolve({})
    assert settings.trust_no_face and execution.workers == 3


def test_the_old_name_of_task_is_still_read() -> None:
    for given in (({"shard": "2/3"},), ({}, {"shard": "2/3"}), ({}, {}, {"P3MDATA_SHARD": "2/3"})):
        assert resolve(*given)[1].task_number == (2, 3)
    # As today's name: a flag wins over the environment, that over the file.
    assert resolve({"task": "1/3"}, {"task": "3/3"}, {"P3MDATA_SHARD": "2/3"})[1].task == "1/3"
    assert resolve({}, {"shard": "3/3"}, {"P3MDATA_TASK": "2/3"})[1].task == "2/3"
    with pytest.raises(SettingsError, match="'shard' is the old name of 'task'"):
        resolve({"task": "1/3", "shard": "2/3"})


def test_how_a_run_is_carried_out_is_no_part_of_what_it_does() -> None:
    assert resolve({"workers": 1, "limit": 5}, {}, {})[0] == resolve({"workers": 9}, {}, {})[0] == Settings()
    assert not set(Settings.model_fields) & set(Execution.model_fields)


@pytest.mark.parametrize("key", ["metod", 7, None, "settings"])
def test_an_unknown_name_is_named(key: Any) -> None:
    with pytest.raises(SettingsError, match=f"my.yaml: unknown setting '{key}'.*method") as caught:
        resolve({}, {"method": "blur", key: 1}, {}, where="my.yaml")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strength", 0),
        ("strength", 1.01),
        ("strength", float("nan")),
        ("strength", float("inf")),
        ("strength", "strong"),
        ("transition_width", -0.01),
        ("transition_width", 0.21),
        ("transition_width", None),
        ("quality", 0),
        ("quality", 101),
        ("quality", 90.5),
        ("min_side", -1),
        ("max_pixels", 0),
        ("seed", -1),
        ("method", "pixelate"),
        ("preset", "Max"),
        ("area", ["p3m"]),
        ("format", "tiff"),
        ("workers", -1),
        ("limit", 0),
        ("recursive", "perhaps"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"here: '{key}' cannot be "):
        resolve({}, {key: value}, {}, where="here")


@pytest.mark.parametrize(
    ("key", "value"), [("strength", 1), ("transition_width", 0.2), ("quality", 1), ("quality", 100)]
)
def test_the_ends_of_the_ranges_are_allowed(key: str, value: float) -> None:
    assert getattr(resolve({key: value}, {}, {})[0], key) == value


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (Method.BLUR, 0.25)),
        ({"preset": "yang"}, (Method.BLUR, 0.1)),
        ({"preset": "max"}, (Method.ZERO, 1.0)),
        ({"method": "mosaic"}, (Method.MOSAIC, 0.2)),
        ({"method": "mosaic", "preset": "max"}, (Method.MOSAIC, 0.2)),
        ({"method": "blur", "preset": "max"}, (Method.BLUR, 0.25)),
        ({"method": "blur", "preset": "yang"}, (Method.BLUR, 0.1)),
        ({"method": "zero", "preset": "yang"}, (Method.ZERO, 1.0)),
        ({"preset": "yang", "strength": 0.4}, (Method.BLUR, 0.4)),
        ({"method": "mosaic", "strength": 0.5}, (Method.MOSAIC, 0.5)),
    ],
)
def test_method_and_strength_win_over_the_preset(given: dict[str, Any], expected: tuple[Method, float]) -> None:
    assert Settings(**given).obfuscation() == expected


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().quality = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "content",
    [b"a: [1", b"- a\n- b", b"just words", b"\xff\xfe\x00", b"a: 2020-13-45", b"[" * 3000],
    ids=["open bracket", "list", "text", "bytes", "impossible date", "deep"],
)
def test_a_file_that_is_no_mapping_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"my\.yaml: ") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_empty_ones(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_yaml(path)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}
