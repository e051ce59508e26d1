"""What `up` hands to a second shell: the same keys at every start, and the user's own values first."""

import subprocess
from pathlib import Path

import pytest

from ops.local import environment
from shared.crypto import KeyRing
from shared.settings import Settings


def test_the_secret_key_of_the_first_start_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "env"
    first = environment.secret_keys(file)
    KeyRing.parse(first)
    environment.write(file, {environment.SECRET_KEYS: first})
    assert environment.secret_keys(file) == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_settings_and_shells_read_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    monkeypatch.delenv("AMQP_URL", raising=False)
    url = "amqp://palomar:it's#\\odd $HOME@127.0.0.1:5672/%2F"
    environment.write(file, {"AMQP_URL": url})
    assert Settings(_env_file=file).amqp_url.get_secret_value() == url


def test_what_the_user_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALOMAR_PUBLIC_URL", "https://tunnel.example")
    monkeypatch.setenv("PALOMAR_LLM_API_KEY", "")
    monkeypatch.setenv("EDITOR", "vi")
    settled = environment.settle({"PALOMAR_PUBLIC_URL": "http://127.0.0.1:8080", "PALOMAR_LLM_API_KEY": "sandbox"})
    assert settled["PALOMAR_PUBLIC_URL"] == "https://tunnel.example"
    assert settled["PALOMAR_LLM_API_KEY"] == "sandbox"
    assert "EDITOR" not in settled


def test_a_shell_can_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    environment.write(file, {"DATABASE_URL": "postgresql://o@/palomar?host=%2Fa%20b&x=1"})
    shown = subprocess.run(["sh", "-c", f'. {file}; printf %s "$DATABASE_URL"'], capture_output=True, check=True)
    assert shown.stdout.decode() == "postgresql://o@/palomar?host=%2Fa%20b&x=1"
