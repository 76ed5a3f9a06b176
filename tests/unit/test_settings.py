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
        "model": "x", "served_as": "a/b", "stands_in": "true", "chat_format": "chatml",
        "llama2_prompts": "never", "llama2_others": "refuse",
        "host": "::1", "port": "9", "data_dir": "/d", "api_key": "k" * 12, "url": "http://u", "allowed_hosts": "a, b",
        "log_level": "error", "quantize": "int4", "kv_cache": "u8", "kv_cache_tokens": "64", "max_queue_wait_s": "5",
        "memory_budget": "6GiB",
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
        "replicate_creates_per_minute": "0", "replicate_requests_per_minute": "1", "replicate_aborted_status": "true",
    }  # fmt: skip
    assert values.keys() == Settings.model_fields.keys() - {"deployments"}  # a list of tables, which only a file holds
    settings = load_settings({}, {f"CORRAL_{name.upper()}": value for name, value in values.items()})
    changed = {name for name in values if getattr(settings, name) != getattr(Settings(), name)}  # pyright: ignore[reportCallIssue]
    assert changed == values.keys()
    assert settings.allowed_hosts == ("a", "b")
    assert list(map(str, settings.webhook_allow_networks)) == ["127.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CORRAL_PROT", "1", "CORRAL_PROT: there is no such setting. Did you mean CORRAL_PORT?"),
        ("CORRAL_CORS_ORIGINS", "https://a.example/", "is not accepted. Give origins of scheme, host and port only"),
        *(
            ("CORRAL_PORT", port, f"CORRAL_PORT: '{port}' is not accepted. Give a whole number from 0 to 65535.")
            for port in ("eighty", "70000", "-1", "9" * 30, "80.5", "1e3", "", "nan")
        ),
        *(
            (
                "CORRAL_STEP_TIMEOUT_S",
                s,
                f"CORRAL_STEP_TIMEOUT_S: '{s}' is not accepted. Give a number above 0 to 86400.",
            )
            for s in ("0", "nan", "inf", "1e400", "soon")
        ),
        ("CORRAL_QUANTIZE", "int3", "'int3' is not accepted. Give one of int8, int4, bf16, f32."),
        ("CORRAL_PREFIX_CACHING", "maybe", "'maybe' is not accepted. Give true or false."),
        ("CORRAL_MODEL", "a\0b", "it holds a null character"),
        ("CORRAL_DATA_DIR", "", "CORRAL_DATA_DIR: '' is not accepted: it is empty. Give the path of a directory."),
        ("CORRAL_DATA_DIR", "~nobody-of-that-name/x", "there is no home directory of that user"),
        *(
            ("CORRAL_WEBHOOK_ALLOW_NETWORKS", net, f"'{net}' is not accepted. Give networks such as 10.1.0.0/16, whose")
            for net in ("10.0.0.1/8", "example.org")
        ),
        *(
            (
                "CORRAL_ALLOWED_HOSTS",
                f"a.example, {host}",
                f"'{host}' is neither a host name nor an IP address. Give host",
            )
            for host in ("http://x", "x:80", "*.example.org", "a b", "x/", "ümlaut.example", "[::1]:80", "-x", "a..b")
        ),
        *(("CORRAL_HOST", host, "is not accepted") for host in ("", "x:80", "http://x", "[::", "a b")),
        ("CORRAL_API_KEY", "two words here", "the value is not accepted: it holds a space"),
        ("CORRAL_API_KEY", "ck_short-11", "the value is not accepted. Give 12 to 512 visible ASCII characters without"),
        ("CORRAL_API_KEY", "'my-own-long-key'", "the quotes around the value are part of it here; leave them out."),
        ("CORRAL_HOST", '"127.0.0.1"', "CORRAL_HOST: the quotes around the value are part of it here; leave them out."),
        *(
            (
                "CORRAL_PUBLIC_URL",
                url,
                f"CORRAL_PUBLIC_URL: '{url}' is not accepted: {why}. Give a URL such as https://",
            )
            for url, why in (
                ("corral.example", "it does not begin with http:// or https://"),
                ("https:corral.example", "it does not begin with http:// or https://"),
                ("https://x.example?a=b", "it contains a user, a query or a fragment"),
                ("https://x.example:70000", "its port is not between 1 and 65535"),
                ("https://x.example:http", "its port is not between 1 and 65535"),
                ("https:///path", "it has no host"),
                ("https://a b", "it contains white space, a backslash or a control character"),
            )
        ),
        ("CORRAL_URL", "127.0.0.1:8000", "it does not begin with http:// or https://. Give a URL such as http://127.0"),
        ("CORRAL_CONFIG", "/nowhere/at/all.toml", "CORRAL_CONFIG: /nowhere/at/all.toml cannot be read: No such file"),
        ("CORRAL_CONFIG", "/etc", "CORRAL_CONFIG: /etc cannot be read: Is a directory."),
    ],
)
def test_an_unknown_or_bad_setting_is_named_in_a_sentence(variable: str, value: str, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, {variable: value})
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{variable}: ")
    for riddle in ("pattern", "Input should", "String should", "Value error"):
        assert riddle not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prot = 1", "prot in {file}: there is no such setting. Did you mean port?"),
        ("[server]\nport = 1", "server in {file}: there is no such setting."),
        ("port = true", "port in {file}: 'true' is not accepted: true and false are for switches. Give a whole number"),
        ("port = 80.5", "port in {file}: '80.5' is not accepted. Give a whole number from 0 to 65535."),
        ("port = 99999999999999999999999", "port in {file}: '99999999999999999999999' is not accepted."),
        ("allowed_hosts = [1]", "allowed_hosts in {file}: '1' is not accepted."),
        ("api_key = \"'my-own-long-key'\"", "api_key in {file}: the value is not accepted: the quotes around it are"),
        ("host = []", "host in {file}: '[]' is not accepted."),
        ("port =", "CORRAL_CONFIG: {file} is not TOML in UTF-8: "),
    ],
)
def test_a_bad_line_of_the_file_is_named_as_it_is_written_there(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "corral.toml"
    file.write_text(line)
    with pytest.raises(BadSetting) as caught:
        load_settings({}, {"CORRAL_CONFIG": str(file)})
    assert str(caught.value).startswith(said.format(file=file))


def test_a_password_in_a_url_is_not_repeated() -> None:
    for variable in ("CORRAL_PUBLIC_URL", "CORRAL_HUB_URL", "CORRAL_URL"):
        with pytest.raises(BadSetting, match="it contains a user, a query or a fragment") as caught:
            load_settings({}, {variable: "https://user:hunter2@corral.example"})
        assert "hunter2" not in str(caught.value)


def test_hosts_are_kept_as_requests_name_them() -> None:
    hosts = load_settings({}, {"CORRAL_ALLOWED_HOSTS": "AI.Example.org., [2001:DB8:0::1], *"}).allowed_hosts
    assert hosts == ("ai.example.org", "2001:db8::1", "*")
    assert load_settings({"host": "[::]"}, {}).host == "::"
    assert load_settings({}, {"CORRAL_PUBLIC_URL": "HTTPS://Ai.example"}).public_url == "https://Ai.example"


def test_a_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(BadSetting, match=r"^--port: "):
        load_settings({"port": -1}, {})


def test_a_bad_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(BadSetting) as caught:
        load_settings({}, {"CORRAL_API_KEY": "secret words"})
    assert "secret" not in str(caught.value)
    assert "ck_hidden" not in repr(load_settings({}, {"CORRAL_API_KEY": "ck_hidden-key"}))


def test_the_hubs_own_variable_stands_for_its_token_until_another_is_set() -> None:
    def token(**environ: str) -> str | None:
        chosen = load_settings({}, environ).hub_token
        return None if chosen is None else chosen.get_secret_value()

    assert token(HF_TOKEN=" ") is None
    assert token(HF_TOKEN="hf_a\n") == "hf_a"
    assert token(HF_TOKEN="hf_a", CORRAL_HUB_TOKEN="hf_b") == "hf_b"
    with pytest.raises(BadSetting, match=r"^HF_TOKEN: the value is not accepted: it holds a space") as caught:
        load_settings({}, {"HF_TOKEN": "secret words"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x", "huggingface.co", "https://user:word@x", "https://x/path", "https://x?y"])
def test_the_hubs_address_is_a_host_and_nothing_more(url: str) -> None:
    with pytest.raises(BadSetting, match=r"^CORRAL_HUB_URL: "):
        load_settings({}, {"CORRAL_HUB_URL": url})


def test_workers_inherit_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
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
