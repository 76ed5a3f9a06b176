"""Login and logout, and the server and key that commands use."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cli.main import app
from tests.cli.fake_server import KEY, FakeServer, ScriptedAnswer
from tests.cli.processes import Result, Terminal, run_in_pipes

ME = {"uid": "acc_1", "display_name": "ann"}
Corral = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeServer) -> Path:
    """A person's home with no setting; the server knows one key."""
    for name in os.environ:
        if name.startswith("CORRAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    fake.answer("GET /v1/me", ME)
    return tmp_path


@pytest.fixture
def corral(home: Path) -> Corral:
    """Run the ``corral`` command to its end."""
    assert home.is_dir()

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        return run_in_pipes(app, arguments, stdin)

    return run


def login_file(home: Path) -> Path:
    return home / "config" / "corral" / "login.json"


def test_login_stores_an_accepted_key_readable_by_its_owner_only(home: Path, corral: Corral, fake: FakeServer) -> None:
    done = corral("auth", "login", "--url", f"{fake.url}/v1/", stdin=f"{KEY}\n".encode())
    assert (done.status, done.stdout, done.stderr) == (0, b"login successful\n", b"")
    assert (fake.requests[-1].path, fake.requests[-1].key) == ("/v1/me", KEY)
    assert json.loads(login_file(home).read_text()) == {"url": fake.url, "token": KEY}
    assert stat.S_IMODE(login_file(home).stat().st_mode) == 0o600
    assert [path.name for path in login_file(home).parent.iterdir()] == ["login.json"]


def test_commands_after_login_use_the_server_of_the_login(corral: Corral, fake: FakeServer) -> None:
    assert corral("auth", "set-token", KEY, "--url", fake.url).stdout == b"token stored successfully\n"
    assert corral("models").status == 0
    assert fake.requests[-1].key == KEY
    assert corral("auth", "token").stdout == f"{KEY}\n".encode()


def test_rejected_key_is_neither_stored_nor_printed(home: Path, corral: Corral, fake: FakeServer) -> None:
    fake.answer("GET /v1/me", ScriptedAnswer(status=401, document={"error": "no"}))
    done = corral("auth", "set-token", "sk-mistyped", "--url", fake.url)
    assert (done.status, done.stdout) == (1, b"")
    assert b"did not accept the API key" in done.stderr
    assert b"sk-mistyped" not in done.stderr
    assert not login_file(home).exists()


@pytest.mark.parametrize("key", [b"", b"\n", b"k" * 9000])
def test_malformed_key_is_not_sent(corral: Corral, fake: FakeServer, key: bytes) -> None:
    assert corral("auth", "login", "--url", fake.url, stdin=key).status == 1
    assert fake.requests == []


def test_logout_deletes_the_login_once(home: Path, corral: Corral, fake: FakeServer) -> None:
    corral("auth", "set-token", KEY, "--url", fake.url)
    assert corral("auth", "logout").stdout == b"logout done\n"
    assert not login_file(home).exists()
    done = corral("auth", "logout")
    assert (done.status, done.stderr) == (1, b"corral: Not logged in.\n")
    done = corral("auth", "token")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr == b"corral: Not logged in. Run `corral auth login`.\n"


def test_options_override_settings_and_settings_override_the_login(
    corral: Corral, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    corral("auth", "set-token", KEY, "--url", fake.url)
    monkeypatch.setenv("CORRAL_API_KEY", "sk-of-the-environment")
    assert corral("auth", "token").stdout == b"sk-of-the-environment\n"
    monkeypatch.setenv("CORRAL_URL", "http://127.0.0.1:9")
    assert b"No server answers at http://127.0.0.1:9" in corral("models").stderr
    assert corral("models", "--url", fake.url).status == 1
    assert fake.requests[-1].key == "sk-of-the-environment"


def test_token_is_sent_only_to_the_server_of_the_login(corral: Corral, fake: FakeServer) -> None:
    corral("auth", "set-token", KEY, "--url", fake.url)
    elsewhere = fake.url.replace("127.0.0.1", "localhost")
    assert corral("models", "--url", elsewhere).status == 1
    assert fake.requests[-1].key == ""
    assert corral("auth", "token", "--url", "https://corral.example").status == 1


def test_local_key_file_is_used_for_the_local_server_only(home: Path, corral: Corral, fake: FakeServer) -> None:
    (home / "data" / "corral").mkdir(parents=True)
    (home / "data" / "corral" / "api-key").write_text(KEY)
    assert corral("models", "--url", fake.url).status == 0
    assert corral("auth", "token").stdout == f"{KEY}\n".encode()
    assert corral("auth", "token", "--url", "https://corral.example").status == 1


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ('{"url": "http://x", "token": "t"}', 0o644, "other users can read your token"),
        ('{"url": "http://x"', 0o600, "is damaged"),
        ('{"url": "http://x", "tokn": "t"}', 0o600, "is damaged"),
    ],
)
def test_unsafe_or_incomplete_login_file_is_rejected(
    home: Path, corral: Corral, content: str, mode: int, said: str
) -> None:
    login_file(home).parent.mkdir(parents=True)
    login_file(home).write_text(content)
    login_file(home).chmod(mode)
    done = corral("models")
    assert (done.status, done.stdout) == (1, b"")
    assert said in done.stderr.decode()
    assert corral("auth", "logout").status == 0


def test_key_prompt_on_a_terminal_does_not_echo(home: Path, fake: FakeServer) -> None:
    with Terminal([sys.executable, "-m", "corral", "auth", "login", "--url", fake.url]) as terminal:
        terminal.wait_for(f"API key for {fake.url}: ")
        terminal.type(f"{KEY}\n")
        assert KEY not in terminal.wait_for("login successful")
        assert terminal.wait_for_end() == 0
    assert login_file(home).exists()
