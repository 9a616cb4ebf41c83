"""Settings: what the README says of them, and what they refuse."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from graph.config import Environment, Settings

README = Path(__file__).parents[2] / "README.md"


def settings(**given: object) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[arg-type, call-arg]  # a test's choice


def table() -> str:
    """The settings as a Markdown table."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = default.value if isinstance(default, Environment) else default
        if isinstance(default, tuple):
            shown = ",".join(map(str, default))
        told = f"`{shown}`" if shown not in (None, "") else ""
        rows.append(f"| `{name.upper()}` | {told} | {field.description} |")
    return "\n".join(rows)


def test_the_readme_lists_every_setting_with_its_default() -> None:
    assert table() in README.read_text(), f"the README needs this table:\n{table()}"


def test_embedded_signing_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    made = settings(data_dir=tmp_path).url_keys()

    again = settings(data_dir=tmp_path).url_keys()

    assert made == again
    assert (tmp_path / "signing-key").stat().st_mode & 0o777 == 0o600


def test_several_signing_keys_are_given_apart_by_commas() -> None:
    keys = settings(signing_keys=f"{'a' * 32}, {'b' * 32}").url_keys()

    assert keys == [b"a" * 32, b"b" * 32]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_has_a_local_viewer_in_development_only(host: str) -> None:
    assert settings(host=host).has_local_viewer
    assert not settings(host=host, environment="production").has_local_viewer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_address_that_others_reach_has_no_local_viewer(host: str) -> None:
    assert not settings(host=host).has_local_viewer


@pytest.mark.parametrize(
    "given",
    [
        {"public_url": "example.org"},
        {"objects_url": "file://"},
        {"database_url": "sqlite://"},
        {"max_pixels": 0},
        {"port": 0},
    ],
)
def test_a_value_that_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_no_secret_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = repr(settings(database_url="postgresql://u:hidden@h/d", signing_keys="hidden" * 6))

    assert "hidden" not in shown
