"""Every setting, in one frozen object: a TOML file, then ``CORRAL_*``, then the command line, the last one winning.

An unknown name or a bad value is an error that names it, never ignored. The only module that reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from corral.core.addresses import base_url, host_name, is_any_address
from corral.core.errors import BadSetting
from corral.settings.deployments import (
    KV_PRECISIONS,
    LLAMA2_OTHERS,
    LLAMA2_PROMPTS,
    QUANTIZATIONS,
    DeploymentSettings,
    check_one_way,
    read_deployments,
)
from corral.settings.values import expected, nearest, shown

PREFIX: Final = "CORRAL_"
CONFIG_VARIABLE: Final = "CORRAL_CONFIG"
"""Path of the TOML file; the only variable that is not itself a setting."""
_HUB_VARIABLE: Final = "HF_TOKEN"
"""The Hub library's variable for its token."""

_FLAGS: Final = {"served_as": "--as"}
"""Flags with another name than their setting."""
_ORIGIN: Final = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#@]+")
_PATHS: Final = ("data_dir", "prices")
_SIZE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(KiB|MiB|GiB|TiB|kB|MB|GB|TB)", re.IGNORECASE)
_UNIT_BYTES: Final = {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("ib", 1024), ("b", 1000))
}


def default_data_dir() -> Path:
    """``$XDG_DATA_HOME/corral``, by default ``~/.local/share/corral``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "corral"


def default_config_dir() -> Path:
    """``$XDG_CONFIG_HOME/corral``, by default ``~/.config/corral``: files of the user, not of the server."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "corral"


class Settings(BaseModel):
    """Settings of a server. Field descriptions are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    model: str = Field(
        "",
        description="Catalog name, or path of a checkpoint: a directory or a .gguf file. Empty is `smollm2` if it is "
        "installed, else `corral/demo`.",
    )
    served_as: str = Field(
        "",
        max_length=200,
        description="Name, `owner/name`, that the checkpoint answers to: what you know the weights to be.",
    )
    deployments: tuple[DeploymentSettings, ...] = Field(
        (), description="Several models at once, one table `[[deployments]]` each, instead of `model`."
    )
    stands_in: bool = Field(
        False, description="Let the checkpoint answer to the names of known models too, free and marked as a stand-in."
    )
    chat_format: str = Field(
        "", max_length=100, description="Chat format of the checkpoint, such as `chatml`. Empty recognises it."
    )
    llama2_prompts: LLAMA2_PROMPTS = Field(
        "auto",
        description="Raw prompts in Llama 2's chat format are rendered in the format of the model that answers: for "
        "models named as Llama 2 (`auto`), for all (`always`) or for none (`never`).",
    )
    llama2_others: LLAMA2_OTHERS = Field(
        "raw",
        description="Whether other raw prompts for these models are used as they are (`raw`) or refused (`refuse`).",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; `0.0.0.0` or `::` for every one.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Where keys, the database and models are kept."
    )
    api_key: SecretStr | None = Field(
        None, min_length=12, max_length=512, description="The first API key, instead of a generated one."
    )
    url: str = Field(
        "",
        description="Server that client commands talk to; empty: the one of `corral auth login`, else host and port.",
    )
    hub_url: str = Field(
        "https://huggingface.co",
        description="Hugging Face Hub, or a mirror of it, that `corral pull` fetches from.",
    )
    hub_token: SecretStr | None = Field(
        None, max_length=512, description="Token for the Hub, for gated models; by default what `HF_TOKEN` holds."
    )
    prices: Path | None = Field(None, description="TOML file with prices of your own; see docs/billing.md.")
    database_url: str = Field(
        "", description="Database: `postgresql://…`, or `sqlite:///…`; empty: `corral.db` in the data directory."
    )
    retention_s: int = Field(
        3600, ge=0, le=10**9, description="Seconds for which input and output text are kept; 0 keeps them for ever."
    )
    public_url: str = Field(
        "",
        max_length=2048,
        description="Where clients reach this server, for the addresses that it hands out; empty: as each was reached.",
    )
    concurrent_per_model: int = Field(
        200, ge=0, le=2**20, description="Runs that one account may have of one model at once; 0: as many as fit."
    )
    deepinfra_repetition_penalty: float = Field(
        1.0,
        ge=0.01,
        le=5,
        description="Default of DeepInfra's native inference; its page of 2023 had 1.2, later ones 1.",
    )
    deepinfra_full_text: bool = Field(
        False,
        description="Whether `generated_text` of native inference begins with the prompt, as the page of 2023 said.",
    )
    deepinfra_stream_done: bool = Field(
        False, description="Whether `data: [DONE]` follows the last event of a native stream."
    )
    deepinfra_stream_eos_text: bool = Field(
        False, description="Whether a native stream shows its end of sequence as the text `</s>`, as in 2023."
    )
    replicate_creates_per_minute: int = Field(
        600,
        ge=0,
        le=10**6,
        description="Predictions that an account may create through Replicate's API; 0: any number.",
    )
    replicate_requests_per_minute: int = Field(
        3000, ge=0, le=10**6, description="Other requests of an account to Replicate's API; 0: any number."
    )
    replicate_aborted_status: bool = Field(
        False,
        description="Whether predictions that were stopped before they began are `aborted` instead of `canceled`.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Host names that requests may ask for besides loopback, `host` and `public_url`; `*`: any.",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins of web pages that may call the APIs, such as `https://app.example`; `*`: any."
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (IPv4Network("127.0.0.1"), IPv6Network("::1")),
        description="Networks of proxies in front: their `X-Forwarded-*` headers count, their connections do not.",
    )
    max_connections_per_address: int = Field(
        1024, ge=0, le=10**6, description="Connections open at once from one IPv4 address or IPv6 /64; 0: any number."
    )
    keep_alive_s: int = Field(
        75, ge=1, le=86400, description="Seconds after which a connection without a request is closed."
    )
    header_timeout_s: float = Field(
        30, gt=0, le=86400, description="Seconds for a request's headers, and for a new connection to send any."
    )
    body_timeout_s: float = Field(120, gt=0, le=86400, description="Seconds for a request's body; longer is 408.")
    send_timeout_s: float = Field(
        300, gt=0, le=86400, description="Seconds for which a client may read nothing of its answer."
    )
    stop_grace_s: float = Field(
        5, ge=0, le=86400, description="Seconds for which open requests may finish when the server is stopped."
    )
    webhook_allow_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="Networks that webhooks may go to besides public addresses, such as `10.1.0.0/16`."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged; `debug`: settings in force, every request, the engine's counters."
    )
    quantize: QUANTIZATIONS = Field("int8", description="How weights are stored when a checkpoint is converted.")
    memory_budget: int = Field(
        0, ge=0, le=2**50, description="Memory for all deployments together, such as `6GiB`; 0: what is available."
    )
    kv_cache: KV_PRECISIONS = Field(
        "auto", description="Precision of the KV cache; auto is f32 where a whole context is small, else u8."
    )
    kv_cache_tokens: int = Field(
        0, ge=0, le=2**24, description="Tokens that the KV cache holds for all requests together; 0: by memory."
    )
    max_batched_tokens: int = Field(
        512, ge=32, le=2**16, description="Tokens computed in one step; a larger number delays others' next token."
    )
    max_sequences: int = Field(256, ge=1, le=4096, description="Sequences computed at once.")
    max_waiting: int = Field(1024, ge=0, le=2**20, description="Requests that may wait for a place.")
    max_queue_wait_s: float = Field(
        60, gt=0, le=86400, description="A request that would wait longer, by the rate so far, is refused at once."
    )
    prefix_caching: bool = Field(
        True, description="Keep the KV cache of prompts' beginnings; callers can tell by timing what others asked."
    )
    max_body_bytes: int = Field(2 * 2**20, ge=1024, le=2**30, description="Largest request body.")
    max_engine_outage_s: float = Field(
        3600,
        ge=0,
        le=10**6,
        description="Background and idempotent runs wait so long for an engine that cannot be started, then they fail.",
    )
    step_timeout_s: float = Field(60, gt=0, le=86400, description="A step of the engine that takes longer is a hang.")
    load_timeout_s: float = Field(900, gt=0, le=86400, description="Silence this long while loading is a hang.")

    @field_validator("*", mode="before")
    @classmethod
    def _check_what_types_let_pass(cls, given: object, info: ValidationInfo) -> object:
        name = info.field_name or ""
        if isinstance(given, bool) and cls.model_fields[name].annotation is not bool:
            raise ValueError("true and false are for switches")
        if isinstance(given, str) and "\0" in given:
            raise ValueError("it holds a null character")
        if given == "" and name in _PATHS:
            raise ValueError("it is empty")
        return given

    @field_validator("memory_budget", mode="before")
    @classmethod
    def _read_size(cls, given: object) -> object:
        match = _SIZE.fullmatch(given.strip()) if isinstance(given, str) else None
        return given if match is None else int(float(match[1]) * _UNIT_BYTES[match[2].lower()])

    @field_validator("api_key", "hub_token")
    @classmethod
    def _key_fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = "x" if key is None else key.get_secret_value()
        if not (text and all("!" <= character <= "~" for character in text)):
            raise ValueError("it holds a space, or a character that is not ASCII")
        if _is_quoted(text):
            raise ValueError("the quotes around it are part of it here; leave them out")
        return key

    @field_validator("host")
    @classmethod
    def _host_can_be_listened_on(cls, host: str) -> str:
        return host_name(host)

    @field_validator("public_url", "url")
    @classmethod
    def _is_a_base_url(cls, url: str) -> str:
        return base_url(url) if url else url

    @field_validator("hub_url")
    @classmethod
    def _hub_url_is_a_host(cls, url: str) -> str:
        return base_url(url, path=False)

    @field_validator(*_PATHS)
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser()
        except RuntimeError as error:
            raise ValueError("there is no home directory of that user") from error

    @field_validator("allowed_hosts", "cors_origins", "trusted_proxies", "webhook_allow_networks", mode="before")
    @classmethod
    def _split_list(cls, given: object) -> object:
        return tuple(filter(None, (part.strip() for part in given.split(",")))) if isinstance(given, str) else given

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no origin: write scheme, host and port only, as https://app.example")
        return origins

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_can_match(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host if host == "*" else host_name(host) for host in hosts)


def load_settings(chosen: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file that ``CORRAL_CONFIG`` names, the environment, and *chosen* on the command line.

    Args:
        chosen: values given on the command line; None means not given.
        environ: stands for the process environment.

    Raises:
        BadSetting: an unknown name, a bad value or an unreadable file; the message names it where it was set.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if token := environ.get(_HUB_VARIABLE, "").strip():
        values["hub_token"], origins["hub_token"] = token, _HUB_VARIABLE
    if CONFIG_VARIABLE in environ:
        path = Path(environ[CONFIG_VARIABLE])
        for name, value in _read_toml(path).items():
            values[name], origins[name] = value, f"{name} in {path}"
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable != CONFIG_VARIABLE:
            name = variable.removeprefix(PREFIX).lower()
            values[name], origins[name] = environ[variable], variable
            if _is_quoted(environ[variable]):
                raise BadSetting(f"{variable}: the quotes around the value are part of it here; leave them out.")
    given = {name: value for name, value in chosen.items() if value is not None}
    check_one_way(values, origins, given)
    for name, value in given.items():
        values[name], origins[name] = value, _FLAGS.get(name) or "--" + name.replace("_", "-")
    if "deployments" in values:
        values["deployments"] = read_deployments(values["deployments"], origin=origins["deployments"])
    try:
        return Settings(**values)
    except ValidationError as error:
        raise BadSetting(_sentence(error, values, origins)) from None


def shown_settings(settings: Settings) -> dict[str, str]:
    """Format every setting for the log; for secrets, only whether they are set."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {name: ("set" if value else "not set") if name in _SECRET else str(value) for name, value in values.items()}


def served_hosts(settings: Settings) -> tuple[str, ...]:
    """Accepted Host headers: ``allowed_hosts``, the host of ``public_url``, and the listen address."""
    public = (urlsplit(settings.public_url).hostname,) if settings.public_url else ()
    own = () if is_any_address(settings.host) else (settings.host,)
    return (*settings.allowed_hosts, *(host_name(name) for name in public if name), *own)


def worker_environment() -> dict[str, str]:
    """Environment for child processes, without settings and tokens, so that no secret leaks."""
    return {name: value for name, value in os.environ.items() if not (name.startswith(PREFIX) or name == _HUB_VARIABLE)}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"{CONFIG_VARIABLE}: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadSetting(f"{CONFIG_VARIABLE}: {path} is not TOML in UTF-8: {error}.") from error


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


_SECRET: Final = frozenset({"api_key", "hub_token", "database_url"})
_EXPECTED: Final = {
    "api_key": "12 to 512 visible ASCII characters without spaces",
    "hub_token": "1 to 512 visible ASCII characters without spaces",
    "url": "a URL such as http://127.0.0.1:8000",
    "data_dir": "the path of a directory",
    "prices": "the path of a TOML file",
    "host": "an IP address or a host name without a port, such as 0.0.0.0",
    "public_url": "a URL such as https://ai.example.org or https://example.org/ai",
    "hub_url": "a URL without a path, such as https://huggingface.co",
    "allowed_hosts": "host names or IP addresses without scheme and port, such as ai.example.org, or *",
    "cors_origins": "origins of scheme, host and port only, such as https://app.example.org, or *",
    "trusted_proxies": "networks such as 10.1.0.0/16, whose address is 0 after the prefix",
    "webhook_allow_networks": "networks such as 10.1.0.0/16, whose address is 0 after the prefix",
    "memory_budget": "a size such as 6GiB, a number of bytes, or 0",
}
"""Accepted values of settings, where the type is not enough."""


def _sentence(error: ValidationError, values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    sentences: list[str] = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        origin = origins.get(name, name)
        if problem["type"] == "extra_forbidden":
            spell = f"{PREFIX}{{}}" if origin.startswith(PREFIX) else "{}"
            names = {known.upper() if spell != "{}" else known: known for known in Settings.model_fields}
            given = name.upper() if spell != "{}" else name
            sentences.append(f"{origin}: there is no such setting.{nearest(given, names, spell=spell)}")
            continue
        why = problem["msg"].removeprefix("Value error, ") if problem["type"] == "value_error" else ""
        value = problem["input"] if len(problem["loc"]) > 1 else values.get(name)
        text = shown(value)
        reason = f": {why}" if why and text not in why else ""
        subject = "the value" if name in _SECRET or "@" in str(value) else text  # a URL may hold a password
        accepts = expected(Settings.model_fields[name], spelled=_EXPECTED, name=name)
        sentences.append(f"{origin}: {subject} is not accepted{reason}. Give {accepts}.")
    return " ".join(dict.fromkeys(sentences))  # a type that is a union has a problem for each of its members
