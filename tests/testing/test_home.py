import tomllib

import pytest

from codex_actors.testing import codex_home


def config(home):
    return tomllib.loads((home.path / "config.toml").read_text())


def test_a_home_points_codex_to_the_model_and_to_nothing_else(tmp_path):
    written = config(codex_home(tmp_path, "http://127.0.0.1:1/s/fix/v1"))
    assert written["model_provider"] == "scripted"
    assert written["model_providers"]["scripted"]["base_url"] == "http://127.0.0.1:1/s/fix/v1"
    assert written["analytics"] == {"enabled": False}
    assert written["features"] == {"plugins": False, "apps": False, "shell_snapshot": False}


def test_retries_and_patience_are_those_asked_for(tmp_path):
    home = codex_home(
        tmp_path, "http://x", request_max_retries=4, stream_max_retries=5, stream_idle_timeout_seconds=0.25
    )
    provider = config(home)["model_providers"]["scripted"]
    assert (provider["request_max_retries"], provider["stream_max_retries"]) == (4, 5)
    assert provider["stream_idle_timeout_ms"] == 250


def test_settings_are_added_tables_too(tmp_path):
    settings = 'web_search = "live"\n[mcp_servers.tiny]\ncommand = "true"'
    written = config(codex_home(tmp_path, "http://x", model='a "model"', settings=settings))
    assert (written["web_search"], written["model"]) == ("live", 'a "model"')
    assert written["mcp_servers"]["tiny"] == {"command": "true"}
    assert "scripted" in written["model_providers"]


def test_its_environment_keeps_everything_inside_the_home(tmp_path):
    home = codex_home(tmp_path / "new" / "home", "http://x")
    assert home.environment["CODEX_HOME"] == str(tmp_path / "new" / "home")
    assert home.environment["TMPDIR"].startswith(str(tmp_path / "new" / "home"))


def test_a_home_that_is_in_use_is_not_overwritten(tmp_path):
    codex_home(tmp_path, "http://x")
    with pytest.raises(FileExistsError):
        codex_home(tmp_path, "http://y")
    assert "http://x" in (tmp_path / "config.toml").read_text()
