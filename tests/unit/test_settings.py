"""Settings: every source is honoured, nothing unknown or bad passes silently."""

from pathlib import Path

import pytest

from corral.core.errors import BadSetting
from corral.settings import Settings, load_settings, worker_environment


def test_the_command_line_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "corral.toml"
    file.write_text("port = 1\nhost = 'a'\nlog_level = 'debug'\n")
    environ = {"CORRAL_CONFIG": str(file), "CORRAL_PORT": "2", "CORRAL_HOST": "b"}
    settings = load_settings({"port": 3, "host": None}, environ)
    assert (settings.port, settings.host, settings.log_level) == (3, "b", "debug")


def test_every_setting_can_be_set_by_its_variable() -> None:
    values = {
        "model": "x", "served_as": "a/b", "stands_in": "true",
        "host": "::1", "port": "9", "data_dir": "/d", "api_key": "k", "url": "u", "allowed_hosts": "a, b",
        "log_level": "error", "quantize": "int4", "kv_cache": "u8", "kv_cache_tokens": "64", "max_queue_wait_s": "5",
        "prefix_caching": "false", "max_batched_tokens": "64",
        "max_sequences": "2", "max_waiting": "3", "max_body_bytes": "2048", "step_timeout_s": "1.5",
        "max_engine_outage_s": "30",
        "load_timeout_s": "2", "prices": "/p.toml", "database_url": "sqlite:////c.db", "retention_s": "0",
        "public_url": "https://corral.example/pre", "hub_url": "https://mirror.example", "hub_token": "hf_t",
        "webhook_allow_networks": "127.0.0.0/8, fd00::/8",
        "cors_origins": "https://a.example, http://localhost:3000",
        "trusted_proxies": "10.0.0.0/8", "max_connections_per_address": "9", "keep_alive_s": "5",
        "header_timeout_s": "1", "body_timeout_s": "1", "send_timeout_s": "1", "stop_grace_s": "0",
        "concurrent_per_model": "9", "deepinfra_repetition_penalty": "1.2",
        "deepinfra_full_text": "true", "deepinfra_stream_done": "true",
        "deepinfra_stream_eos_text": "true",
        "replicate_creates_per_minute": "0", "replicate_requests_per_minute": "1",
    }  # fmt: skip
    assert values.keys() == Settings.model_fields.keys()
    settings = load_settings({}, {f"CORRAL_{name.upper()}": value for name, value in values.items()})
    changed = {name for name in values if getattr(settings, name) != getattr(Settings(), name)}  # pyright: ignore[reportCallIssue]
    assert changed == values.keys()
    assert settings.allowed_hosts == ("a", "b")
    assert list(map(str, settings.webhook_allow_networks)) == ["127.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CORRAL_PROT", "1", "CORRAL_PROT: there is no such setting. Did you mean CORRAL_PORT?"),
        ("CORRAL_PORT", "eighty", "CORRAL_PORT: Input should be a valid integer"),
        ("CORRAL_PORT", "70000", "CORRAL_PORT: Input should be less than or equal to 65535"),
        ("CORRAL_QUANTIZE", "int3", "CORRAL_QUANTIZE: Input should be 'int8', 'int4', 'bf16' or 'f32'"),
        ("CORRAL_WEBHOOK_ALLOW_NETWORKS", "10.0.0.1/8", "CORRAL_WEBHOOK_ALLOW_NETWORKS: "),
        ("CORRAL_API_KEY", "two words", "CORRAL_API_KEY: must be visible ASCII without spaces."),
        ("CORRAL_PUBLIC_URL", "corral.example", "CORRAL_PUBLIC_URL: String should match pattern"),
        ("CORRAL_PUBLIC_URL", "https://user@corral.example", "CORRAL_PUBLIC_URL: String should match pattern"),
        ("CORRAL_CORS_ORIGINS", "https://a.example/", "'https://a.example/' is no origin: write scheme, host and port"),
        ("CORRAL_CONFIG", "/nowhere/at/all.toml", "CORRAL_CONFIG: /nowhere/at/all.toml cannot be read"),
    ],
)
def test_an_unknown_or_bad_setting_is_named_in_a_sentence(variable: str, value: str, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, {variable: value})
    assert said in str(caught.value)


def test_a_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(BadSetting, match=r"^--port: "):
        load_settings({"port": -1}, {})


def test_a_bad_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, {"CORRAL_API_KEY": "secret words"})
    assert "secret" not in str(caught.value)
    assert "ck_hidden" not in repr(load_settings({}, {"CORRAL_API_KEY": "ck_hidden"}))


def test_the_hubs_own_variable_stands_for_its_token_until_another_is_set() -> None:
    def token(**environ: str) -> str | None:
        chosen = load_settings({}, environ).hub_token
        return None if chosen is None else chosen.get_secret_value()

    assert token(HF_TOKEN=" ") is None
    assert token(HF_TOKEN="hf_a\n") == "hf_a"
    assert token(HF_TOKEN="hf_a", CORRAL_HUB_TOKEN="hf_b") == "hf_b"
    with pytest.raises(BadSetting, match=r"^HF_TOKEN: must be visible ASCII") as caught:
        load_settings({}, {"HF_TOKEN": "secret words"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x", "huggingface.co", "https://user:word@x", "https://x/path", "https://x?y"])
def test_the_hubs_address_is_a_host_and_nothing_more(url: str) -> None:
    with pytest.raises(BadSetting, match=r"^CORRAL_HUB_URL: "):
        load_settings({}, {"CORRAL_HUB_URL": url})


def test_workers_inherit_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEY", "ck_hidden")
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    monkeypatch.setenv("SOME_LIBRARY_PATH", "/x")
    environment = worker_environment()
    assert "SOME_LIBRARY_PATH" in environment
    assert not any(name.startswith("CORRAL_") for name in environment)
    assert "HF_TOKEN" not in environment


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`CORRAL_{name.upper()}`" in page
        assert field.description
        assert field.description in page
