"""Settings: a misspelt or ill-typed one stops the start, by name; passwords are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfcore.config import SETTINGS, load_config, settings_table
from perfcore.errors import ConfigurationError

README = Path(__file__).parents[1] / "README.md"


def test_defaults_are_valid() -> None:
    config = load_config({})
    assert config.slow_query_ms == 100
    assert not config.store_parameters
    assert config.targets == ()


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match="PERFCORE_STROE.*did you mean PERFCORE_STORE"):
        load_config({"PERFCORE_STROE": "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERFCORE_PORT", "eighty"),
        ("PERFCORE_SLOW_QUERY_MS", "-1"),
        ("PERFCORE_SLOW_QUERY_MS", "nan"),
        ("PERFCORE_PARAMETERS", "some"),
        ("PERFCORE_TARGETS", "postgresql://no-name/db"),
    ],
)
def test_an_ill_typed_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_config({name: value})


def test_passwords_stay_out_of_messages_and_reprs() -> None:
    secret = "postgresql://u:hunter2@h/d"
    config = load_config({"PERFCORE_STORE": secret, "PERFCORE_TARGETS": f"a={secret}"})
    assert "hunter2" not in repr(config)
    with pytest.raises(ConfigurationError) as caught:
        load_config({"PERFCORE_TARGETS": secret})
    assert "hunter2" not in str(caught.value)


def test_the_readme_lists_every_setting() -> None:
    assert settings_table() in README.read_text()
    assert len({s.name for s in SETTINGS}) == len(SETTINGS)
