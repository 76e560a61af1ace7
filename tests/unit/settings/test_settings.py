"""Where a setting's value comes from: a variable, a secret's file, the operator's TOML file, in this order."""

from pathlib import Path

import pytest

from server.settings import GatewaySettings
from video_jobs.fragment import read_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COGVIDEOX_REDIS_URL", "REDIS_URL", "COGVIDEOX_LINK_HOURS"):
        monkeypatch.delenv(name, raising=False)


def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    monkeypatch.setenv("COGVIDEOX_CONFIG", str(path))


def test_file_is_read_and_a_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config(tmp_path, monkeypatch, 'link_hours = 48\nport = 9000\nredis_url = "redis://in-the-file/0"\n')
    monkeypatch.setenv("COGVIDEOX_PORT", "9001")

    found = read_settings(GatewaySettings)

    assert (found.link_hours, found.port) == (48, 9001)
    assert found.redis_url.get_secret_value() == "redis://in-the-file/0"


def test_secret_comes_from_its_file_and_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@cache/0\n")
    (tmp_path / "key").write_text("sk-hunter3\n")
    monkeypatch.setenv("COGVIDEOX_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("COGVIDEOX_REWRITER_KEY_FILE", str(tmp_path / "key"))

    found = read_settings(GatewaySettings)

    assert found.redis_url.get_secret_value() == "redis://:hunter2@cache/0"
    assert found.rewriter_key is not None
    assert found.rewriter_key.get_secret_value() == "sk-hunter3"
    assert "hunter" not in repr(found) + found.model_dump_json()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("link_hours = 1000", "COGVIDEOX_LINK_HOURS: Input should be less than"),
        ('port = "http"\nlink_hours = 0', "COGVIDEOX_PORT: Input should be a valid integer"),
        ('links = "public"', "COGVIDEOX_LINKS=public needs COGVIDEOX_LINK_BASE"),
        ("port = ", "settings.toml: Invalid value"),
    ],
)
def test_wrong_settings_get_a_line_each_and_two(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config(tmp_path, monkeypatch, text)

    with pytest.raises(SystemExit) as exit_:
        read_settings(GatewaySettings)

    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == text.count("\n") + 1


def test_missing_file_is_named_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COGVIDEOX_CONFIG", "/nowhere/settings.toml")

    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)

    assert capsys.readouterr().err.count("COGVIDEOX_CONFIG") == 1


def test_wrong_secret_is_not_echoed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COGVIDEOX_REWRITER_TIMEOUT_S", "sk-pasted-into-the-wrong-variable")

    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)

    assert "sk-pasted" not in capsys.readouterr().err


def test_secret_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COGVIDEOX_REWRITER_KEY_FILE", "/nowhere/key")

    with pytest.raises(SystemExit) as ended:
        read_settings(GatewaySettings)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("COGVIDEOX_REWRITER_KEY_FILE=/nowhere/key: ")
