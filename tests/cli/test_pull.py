"""``corral pull`` against a Hub on loopback: what is fetched, checked, kept and refused."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corral.catalog.local import LocalModels
from corral.cli.main import app
from tests.cli.processes import Result, run_in_pipes
from tests.hub import COMMIT, STRANGER, TOKEN, FakeHub, serving_hub, shards, tiny_files

NAME = "somebody/tiny-llama"
GATED = "meta-llama/Llama-2-7b-chat-hf"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def running() -> Iterator[FakeHub]:
    """One Hub for the module."""
    with serving_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a repository holds."""
    return tiny_files(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def hub(running: FakeHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> FakeHub:
    """The Hub with one repository on it, and settings that name it."""
    running.reset()
    running.publish(NAME, dict(files))
    monkeypatch.setenv("CORRAL_HUB_URL", running.url)
    monkeypatch.setenv("CORRAL_DATA_DIR", str(data_dir))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory."""
    return tmp_path / "data"


def pull(*arguments: str) -> Result:
    return run_in_pipes(app, ["pull", *arguments], b"")


def pulled(*arguments: str) -> str:
    """Stdout of a pull that must succeed."""
    done = pull(*arguments)
    assert done.status == 0, done.stderr.decode()
    return done.stdout.decode()


def refused(*arguments: str) -> str:
    """Error of a pull that must fail; stdout must be empty."""
    done = pull(*arguments)
    assert (done.status, done.stdout) == (1, b"")
    return done.stderr.decode().splitlines()[-1]


def folder(data_dir: Path, name: str = NAME) -> Path:
    return data_dir / "models" / name.replace("/", "--")


def start_pull(name: str = NAME) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "corral", "pull", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(path: Path, size_bytes: int) -> None:
    """Wait until so many bytes of a file are downloaded."""
    deadline = time.monotonic() + PATIENCE_S
    while not (path.exists() and path.stat().st_size >= size_bytes):
        assert time.monotonic() < deadline, f"{path} did not grow to {size_bytes} bytes"
        time.sleep(0.01)


# What a pull does


def test_pull_downloads_only_model_files(hub: FakeHub, files: dict[str, bytes], data_dir: Path) -> None:
    said = pulled(NAME)
    assert f"corral serve {NAME}" in said
    kept = {path.name: path.read_bytes() for path in (folder(data_dir) / COMMIT).iterdir()}
    wanted = [*shards(files), "config.json", "generation_config.json", "model.safetensors.index.json"]
    assert kept == {name: files[name] for name in [*wanted, "tokenizer.json", "tokenizer_config.json"]}
    assert [path.name for path in folder(data_dir).iterdir()] == [COMMIT]
    assert all(hub.transfers(name) == [0] for name in kept)
    assert {asked.headers["user-agent"] for asked in hub.asked} == {"corral/0.1.0"}


@pytest.mark.usefixtures("hub")
def test_pulled_files_are_regular_and_private_to_their_owner(data_dir: Path) -> None:
    pulled(NAME)
    for path in [*(data_dir / "models").rglob("*")]:
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.usefixtures("hub")
def test_pull_progress_in_a_pipe_is_plain_lines() -> None:
    done = pull(NAME, "--quantize", "f32")
    lines = done.stderr.decode().splitlines()
    assert lines[0] == f"Asking the Hub for {NAME}"
    assert any(re.fullmatch(rf"Fetching 3 files of {NAME} \([0-9.]+ kB\)", line) for line in lines)
    assert "Storing weights as f32" in lines


def test_second_pull_downloads_nothing(hub: FakeHub) -> None:
    pulled(NAME)
    hub.asked.clear()
    pulled(NAME)
    assert [asked.path for asked in hub.asked] == [f"/api/models/{NAME}"]


def test_a_new_commit_is_fetched_beside_the_old_one_and_registered(hub: FakeHub, data_dir: Path) -> None:
    pulled(NAME)
    newer = "f" * 40
    hub.repositories[NAME].commit = newer
    pulled(NAME)
    assert {path.name for path in folder(data_dir).iterdir()} == {COMMIT, newer}
    model = LocalModels(data_dir).find(NAME)
    assert model is not None
    assert (model.revision, model.quantize) == (newer, "int8")


def test_any_name_of_a_known_model_pulls_its_repository(hub: FakeHub, files: dict[str, bytes], data_dir: Path) -> None:
    hub.publish(GATED, dict(files))
    assert f"corral serve {GATED}" in pulled("meta/llama-2-7b-chat")
    for alias in ("meta/llama-2-7b-chat", GATED, GATED.upper()):
        model = LocalModels(data_dir).find(alias)
        assert model is not None
        assert model.name == GATED


# Transfers that break


def test_interrupted_download_is_resumed_at_once(hub: FakeHub, files: dict[str, bytes]) -> None:
    shard = shards(files)[1]
    hub.cut[shard] = 1000
    pulled(NAME)
    assert hub.transfers(shard) == [0, 1000]


def test_next_pull_requests_only_the_missing_bytes(hub: FakeHub, files: dict[str, bytes], data_dir: Path) -> None:
    first, second, third = shards(files)
    hub.cut[second] = 5000
    hub.down_after_cut = True
    assert "status 503. The bytes received are kept" in refused(NAME)
    assert LocalModels(data_dir).models() == ()
    hub.refusal = 0
    hub.asked.clear()
    pulled(NAME)
    assert hub.transfers(first) == []
    assert hub.transfers(second) == [5000]
    assert hub.transfers(third) == [0]
    assert (folder(data_dir) / COMMIT / second).read_bytes() == files[second]


def test_hub_without_range_support_sends_the_whole_file_again(
    hub: FakeHub, files: dict[str, bytes], data_dir: Path
) -> None:
    shard = shards(files)[0]
    hub.cut[shard] = 1000
    hub.ranges = False
    pulled(NAME)
    assert (folder(data_dir) / COMMIT / shard).read_bytes() == files[shard]


def test_concurrent_pull_waits_and_resumes_a_killed_pull(hub: FakeHub, files: dict[str, bytes], data_dir: Path) -> None:
    first, second, third = shards(files)
    hub.held[second] = 7000
    one = start_pull()
    wait_until(folder(data_dir) / f"{COMMIT}.unfinished" / f"{second}.part", 7000)
    other = start_pull()
    assert other.stderr is not None
    assert other.stderr.readline() == "Waiting for another command that pulls this model\n"
    one.send_signal(signal.SIGKILL)
    one.communicate()
    hub.go_on.set()
    assert other.communicate(timeout=PATIENCE_S)[0].splitlines()[1] == f"  corral serve {NAME}"
    assert other.returncode == 0
    assert [hub.transfers(name) for name in (first, second, third)] == [[0], [0, 7000], [0]]
    assert (folder(data_dir) / COMMIT / second).read_bytes() == files[second]


@pytest.mark.usefixtures("hub")
def test_unreachable_hub_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.catalog.hub._DELAYS_S", ())
    said = refused(NAME, "--hub-url", "http://127.0.0.1:9")
    assert said.startswith("corral: The connection to http://127.0.0.1:9 ")


def test_full_disk_is_reported_before_the_download(
    hub: FakeHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + 20_000))
    said = refused(NAME)
    assert re.search(r"needs [0-9.]+ kB more in .*, where 67\.1 MB are free\.$", said)
    assert all(hub.transfers(name) == [] for name in shards(files))


@pytest.mark.usefixtures("hub")
def test_disk_full_during_the_download_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("corral.catalog.hub._write", full)
    assert "The disk is full. The bytes received are kept" in refused(NAME)


# Who may


@pytest.mark.parametrize(
    ("terms", "token", "said"),
    [
        ({"gated": True}, None, "is gated: accept Meta's licence at {url}/{name}, then set a token with --token"),
        ({"gated": True}, STRANGER, "is gated, and this token's account may not read it: accept Meta's licence at"),
        ({"private": True}, None, "has no model {name}, or it is private: set a token with --token or in HF_TOKEN."),
        ({"private": True}, STRANGER, "has no model {name} that this token may read."),
        ({}, "hf_made-up", "does not accept the token of --token or HF_TOKEN: it may be revoked or expired."),
    ],
)
def test_unauthorized_pull_says_what_to_do(
    hub: FakeHub, files: dict[str, bytes], terms: dict[str, Any], token: str | None, said: str
) -> None:
    hub.publish(GATED, dict(files), **terms)
    sentence = refused(GATED, *(() if token is None else ("--token", token)))
    assert said.format(url=hub.url, name=GATED) in sentence
    assert token is None or token not in sentence


@pytest.mark.parametrize("way", ["flag", "HF_TOKEN", "CORRAL_HUB_TOKEN"])
def test_token_unlocks_a_gated_model_and_is_sent_only_to_the_hub(
    hub: FakeHub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    hub.publish(GATED, dict(files), gated=True)
    if way != "flag":
        monkeypatch.setenv(way, TOKEN)
    pulled(GATED, *(("--token", TOKEN) if way == "flag" else ()))
    tokens = {host: {asked.token for asked in hub.asked if asked.host == host} for host in ("127.0.0.1", "localhost")}
    assert tokens == {"127.0.0.1": {TOKEN}, "localhost": {None}}


@pytest.mark.usefixtures("hub")
def test_token_file_readable_by_others_is_not_sent() -> None:
    said = refused(NAME, "--hub-url", "http://mirror.example", "--token", TOKEN)
    assert "The token is not sent to http://mirror.example: without https" in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("somebody/else",), "has no model somebody/else, or it is private"),
        ((NAME, "--revision", "v9"), f"{NAME} has no revision 'v9'."),
        (("no-owner",), "'no-owner' cannot be a model's name: it must be owner/name"),
        (("a/../../b",), "cannot be a model's name"),
        (("a--b/c",), "cannot be a model's name"),
        (("corral/demo",), "corral/demo is the model that is shipped"),
        ((NAME, "--quantize", "int3"), "--quantize: 'int3' is not accepted. Give one of int8, int4"),
        ((NAME, "--hub-url", "ftp://x"), "--hub-url: "),
        ((NAME, "--token", "two words"), "--hub-token: the value is not accepted: it holds a space"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_invalid_pull_is_rejected_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


# Hubs that lie


def test_shard_with_wrong_checksum_is_rejected_and_deleted(
    hub: FakeHub, files: dict[str, bytes], data_dir: Path
) -> None:
    _, second, _ = shards(files)
    hub.instead[second] = files[second][:-1] + b"x"
    said = refused(NAME)
    assert re.search(rf"{second} has the checksum [0-9a-f]{{64}}; the Hub lists [0-9a-f]{{64}}\.", said)
    assert LocalModels(data_dir).models() == ()
    assert not list(folder(data_dir).rglob(f"{second}*"))
    hub.instead.clear()
    pulled(NAME)


def test_small_file_is_verified_by_its_git_hash(hub: FakeHub, files: dict[str, bytes]) -> None:
    hub.instead["config.json"] = files["config.json"].replace(b"64", b"32")
    assert re.search(r"config\.json has the checksum [0-9a-f]{40};", refused(NAME))


def test_file_longer_than_listed_is_rejected(hub: FakeHub, files: dict[str, bytes]) -> None:
    (shard, *_) = shards(files)
    hub.instead[shard] = files[shard] + b"x" * 2**20
    assert f"sent more for {shard} than the {len(files[shard])} bytes that it lists." in refused(NAME)


@pytest.mark.parametrize("name", ["../../evil.safetensors", "/etc/evil.safetensors", "a/../../x", "..\\x", "a\nb"])
def test_path_outside_the_repository_is_rejected(hub: FakeHub, data_dir: Path, name: str) -> None:
    hub.repositories[NAME].files[name] = b"x"
    assert "which is no path inside it" in refused(NAME)
    assert not folder(data_dir).exists()


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "model.bin", 7])
def test_index_that_lists_other_files_than_weights_is_rejected(hub: FakeHub, name: object) -> None:
    index = json.dumps({"weight_map": {"model.norm.weight": name}}).encode()
    hub.repositories[NAME].files["model.safetensors.index.json"] = index
    assert f"{NAME}: model.safetensors.index.json: {json.dumps(name)} is not a plain *.safetensors" in refused(NAME)


def test_an_index_that_names_an_absent_file_is_refused(hub: FakeHub, files: dict[str, bytes]) -> None:
    del hub.repositories[NAME].files[shards(files)[2]]
    assert f"index.json names files that are not there (1 of 3): {shards(files)[2]}." in refused(NAME)


@pytest.mark.parametrize(
    "listing",
    [
        b"{", b"[]", b"7", b"<html>", b"[" * 100_000, {}, {"sha": 7}, {"sha": "main", "siblings": []},
        {"sha": COMMIT, "siblings": 5}, {"sha": COMMIT, "siblings": [5]}, {"sha": COMMIT, "siblings": [{}]},
        {"sha": COMMIT, "siblings": [{"rfilename": 5}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": -1, "blobId": "0" * 40}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": 5, "blobId": "x"}]},
        {"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": 5, "blobId": "0" * 40, "lfs": 5}]},
        b'{"sha": "' + b"0" * 17 * 2**20,
    ],
    ids=lambda listing: str(listing)[:60],
)  # fmt: skip
def test_address_that_is_not_a_hub_is_reported(hub: FakeHub, listing: object) -> None:
    hub.listing = listing
    assert "is not one of a Hugging Face Hub; check the setting hub_url." in refused(NAME)


def test_unsupported_model_is_rejected_before_its_weights_are_downloaded(
    hub: FakeHub, files: dict[str, bytes], data_dir: Path
) -> None:
    hub.repositories[NAME].files["config.json"] = files["config.json"].replace(b"LlamaFor", b"MixtralFor")
    assert "MixtralForCausalLM" in refused(NAME)
    assert all(hub.transfers(name) == [] for name in shards(files))
    assert list(folder(data_dir).iterdir()) == []


def test_unsupported_weights_are_deleted(hub: FakeHub, files: dict[str, bytes], data_dir: Path) -> None:
    hub.repositories[NAME].files[shards(files)[0]] = b"no weights at all"
    assert shards(files)[0] in refused(NAME)
    assert list(folder(data_dir).iterdir()) == []
    assert LocalModels(data_dir).models() == ()


@pytest.mark.usefixtures("hub")
def test_offline_variable_of_the_hub_library_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pulled(NAME)


def test_other_variables_of_the_hub_library_are_ignored(hub: FakeHub, tmp_path: Path, files: dict[str, bytes]) -> None:
    hub.publish(GATED, dict(files), gated=True)
    (tmp_path / "token").write_text(TOKEN)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url.replace("127.0.0.1", "localhost"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HOME": str(tmp_path / "home"),
        "HF_DEBUG": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "corral", "pull", GATED], env=environment, capture_output=True, check=False, timeout=60
    )
    assert b"is gated: accept Meta's licence" in done.stderr
    assert {(asked.host, asked.token) for asked in hub.asked} == {("127.0.0.1", None)}
    assert not (tmp_path / "home").exists()
