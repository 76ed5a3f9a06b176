"""The ``[[deployments]]`` tables of the settings file: weights, engines and names of deployments."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from corral.core.errors import BadSetting
from corral.settings.values import expected, nearest, shown

QUANTIZATIONS = Literal["int8", "int4", "bf16", "f32"]
LLAMA2_PROMPTS = Literal["auto", "always", "never"]
LLAMA2_OTHERS = Literal["raw", "refuse"]
KV_PRECISIONS = Literal["auto", "u8", "f16", "f32"]
MAX_DEPLOYMENTS: Final = 64
MAX_WEIGHTS_CHARS: Final = 4096
_SHOWN_CHARS: Final = 100
_UNACCEPTED: Final = re.compile("[\0\ud800-\udfff]")
"""Null, and lone surrogates, which stand for bytes that are not UTF-8."""
_OF_ONE_MODEL: Final = ("model", "served_as", "stands_in", "chat_format")
"""Settings about the one model that is served where there is no list of deployments."""
_ON_COMMAND_LINE: Final = {
    "deployments": "the models on the command line",
    "model": "the model on the command line",
    "served_as": "--as",
    "stands_in": "--stands-in",
    "chat_format": "--chat-format",
}
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9])?"
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, strict=True)
_SPELLED: Final = {
    "name": "a name of letters, digits, '-', '_', '.' and '/'",
    "models": 'a list of names, `owner/name`, such as ["meta/llama-2-7b-chat"]',
    "weights": "the path of a checkpoint, or the name of a model that was pulled or added",
    "openvino": "a table with the options of the engine",
    "scripted": "a table with the options of the engine",
}


class OpenVinoSettings(BaseModel):
    """Options of the engine ``openvino``; those left out are the server's settings of the same names."""

    model_config = _STRICT

    kv_cache: KV_PRECISIONS | None = Field(None, description="Precision of the KV cache.")
    kv_cache_tokens: int | None = Field(None, ge=0, le=2**24, description="Tokens that the KV cache holds.")
    max_batched_tokens: int | None = Field(None, ge=32, le=2**16, description="Tokens computed in one step.")
    max_sequences: int | None = Field(None, ge=1, le=4096, description="Sequences computed at once.")
    prefix_caching: bool | None = Field(None, description="Keep the KV cache of prompts' beginnings.")


class DeploymentSettings(BaseModel):
    """One entry of ``[[deployments]]``."""

    model_config = _STRICT

    name: str = Field(
        "", pattern=rf"^(?:{_NAME})?$", description="Unique on this server; by default the first model's."
    )
    models: tuple[str, ...] = Field(
        (), description="Names that it answers to, `owner/name`: what you know the weights to be."
    )
    weights: str = Field(
        min_length=1,
        max_length=MAX_WEIGHTS_CHARS,
        description="Path of a checkpoint, or name of a model that was pulled or added.",
    )
    engine: Literal["openvino", "scripted"] = Field(
        "openvino", description="What computes; `scripted` gives tokens without a model, for tests."
    )
    stands_in: bool | None = Field(
        None,
        description="Answer to the names of known models that nothing else holds, free and marked; by default only the "
        "first shipped model does.",
    )
    load: Literal["start", "on-demand"] = Field("start", description="Load with the server, or at the first request.")
    idle_unload_s: float | None = Field(
        None, gt=0, le=10**7, description="Seconds without a run after which it is unloaded."
    )
    quantize: QUANTIZATIONS | None = Field(None, description="How weights are stored; by default the server's setting.")
    chat_format: str = Field("", max_length=100, description="Chat format of the model; empty recognises it.")
    llama2_prompts: LLAMA2_PROMPTS | None = Field(
        None, description="Which models' raw prompts in Llama 2's format are rendered in the model's own."
    )
    llama2_others: LLAMA2_OTHERS | None = Field(None, description="What becomes of their other raw prompts.")
    openvino: OpenVinoSettings = Field(
        default_factory=OpenVinoSettings.model_construct, description="Options of the engine `openvino`."
    )
    scripted: dict[str, Any] = Field(default_factory=dict[str, Any], description="Options of the engine `scripted`.")

    @classmethod
    def of_one_model(cls, weights: str, *, served_as: str, stands_in: bool, chat_format: str) -> Self:
        """Convert the settings of a single model to one deployment.

        Raises:
            BadSetting: *weights* is neither a path nor a name.
        """
        if not 0 < len(weights) <= MAX_WEIGHTS_CHARS or _UNACCEPTED.search(weights):
            raise BadSetting(
                f"model: {weights[:_SHOWN_CHARS]!r} is neither a path nor a name, which have 1 to {MAX_WEIGHTS_CHARS} "
                "characters of UTF-8 and no null character."
            )
        models = [served_as] if served_as else []
        return cls.model_validate(
            {"weights": weights, "models": models, "stands_in": stands_in or None, "chat_format": chat_format}
        )

    @field_validator("models", mode="before")
    @classmethod
    def _freeze(cls, given: object) -> object:
        return tuple(cast("list[object]", given)) if isinstance(given, list) else given

    @field_validator("weights")
    @classmethod
    def _refuse_null(cls, given: str) -> str:
        if "\0" in given:
            raise ValueError("it holds a null character")
        return given


def check_one_way(values: dict[str, Any], origins: Mapping[str, str], chosen: Mapping[str, Any]) -> None:
    """Reject a list of deployments combined with settings about one model.

    Args:
        values: from file and environment; those that several models on the command line replace are removed.
        origins: what to call each of *values* in messages.
        chosen: from the command line.

    Raises:
        BadSetting: names both.
    """
    if "deployments" in chosen:
        for name in ("served_as", "stands_in", "chat_format"):
            if name in chosen:
                raise BadSetting(
                    f"{_ON_COMMAND_LINE[name]} is about one checkpoint, and {len(chosen['deployments'])} are given. "
                    "Serve one, or list them as [[deployments]] in the file of CORRAL_CONFIG, each with its `models`."
                )
        for name in _OF_ONE_MODEL:
            values.pop(name, None)
    if "deployments" not in values:
        return
    for name in ("deployments", *_OF_ONE_MODEL):
        if name in chosen or (name in values and name != "deployments"):
            other = _ON_COMMAND_LINE[name] if name in chosen else origins[name]
            raise BadSetting(f"{origins['deployments']} and {other}: both say what is served. Leave one of them out.")


def read_deployments(given: object, *, origin: str) -> tuple[DeploymentSettings, ...]:
    """Read the list of deployments.

    Args:
        given: what the file or the command line has.
        origin: what to call it in messages: ``deployments in /etc/corral.toml``.

    Raises:
        BadSetting: names the deployment, the field, its value, and what is accepted.
    """
    if (
        not isinstance(given, list)
        or not given
        or not all(isinstance(one, dict) for one in cast("list[object]", given))
    ):
        raise BadSetting(f"{origin}: give one table [[deployments]] for each deployment, in the file of CORRAL_CONFIG.")
    entries = cast("list[dict[str, Any]]", given)
    if len(entries) > MAX_DEPLOYMENTS:
        raise BadSetting(f"{origin}: there are {len(entries)} deployments; at most {MAX_DEPLOYMENTS} are possible.")
    return tuple(_read(entry, f"{_label(entry, number)} of {origin}") for number, entry in enumerate(entries, start=1))


def _label(entry: dict[str, Any], number: int) -> str:
    name = entry.get("name")
    return f"entry {number} ({shown(name)})" if isinstance(name, str) and name else f"entry {number}"


def _read(entry: dict[str, Any], origin: str) -> DeploymentSettings:
    try:
        made = DeploymentSettings(**entry)
    except ValidationError as error:
        problems = [_sentence(entry, problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()]
        raise BadSetting(" ".join(f"{origin}: {problem}" for problem in dict.fromkeys(problems))) from None
    for engine in ("openvino", "scripted"):
        if engine != made.engine and engine in entry:
            raise BadSetting(f"{origin}: the table {engine} is for the engine {engine}, and engine is {made.engine}.")
    if made.load == "start" and made.idle_unload_s is not None:
        raise BadSetting(
            f"{origin}: idle_unload_s is {made.idle_unload_s:g}, and load is start. Only a deployment with "
            "load = 'on-demand' is unloaded when it is idle."
        )
    return made


def _sentence(entry: dict[str, Any], place: Sequence[int | str], kind: str, message: str) -> str:
    model, field, given = DeploymentSettings, str(place[0]), entry.get(str(place[0]))
    within = ""
    if field == "openvino" and len(place) > 1:
        model, field, within = OpenVinoSettings, str(place[1]), " in its table openvino"
        given = cast("dict[str, Any]", given)[field] if isinstance(given, dict) else given
    if kind == "extra_forbidden":
        return f"there is no field {shown(field)}{within}.{nearest(field, model.model_fields)}"
    accepts = expected(model.model_fields[field], spelled=_SPELLED, name=field)
    if kind == "missing":
        return f"{field} is missing. Give {accepts}."
    why = f": {message.removeprefix('Value error, ')}" if kind == "value_error" else ""
    return f"{field}{within}: {shown(given)} is not accepted{why}. Give {accepts}."
