"""Build the descriptions of models: lists, details, prices, schemas."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from corral.api.doors.deepinfra.answers import dollars
from corral.api.doors.deepinfra.errors import NotFound
from corral.api.doors.deepinfra.texts import (
    curl_invocation,
    deepctl_invocation,
    output_example,
    output_fields,
    parameters,
)
from corral.api.doors.deepinfra.wire import InferenceRequest, json_default
from corral.api.doors.deepinfra.wire_answers import (
    InferenceAnswer,
    InField,
    ListedModel,
    ModelInfo,
    ModelMeta,
    SchemaVariant,
    StreamEvent,
    TokenPricing,
    Version,
)
from corral.api.inputs import InputField
from corral.api.operation import Dialogue
from corral.catalog.model import CatalogModel
from corral.core.pricing import Price, usd

TYPE: Final = "text-generation"
_INFERENCE: Final = Dialogue(body=InferenceRequest, answer=InferenceAnswer, event=StreamEvent)
INFERENCE: Final = "default"
"""Key of the schema of native inference."""
_CENTS_PER_USD: Final = 100
_TOKENS_PER_QUOTE: Final = 10**6
_TAGS: Final = frozenset({"json"})
"""Model tags that DeepInfra's clients know. Never ``tools``: clients would send some."""


def from_price(price: Price) -> TokenPricing:
    """Price in cents per token."""
    line = f"${_million(price.input_nusd)}/${_million(price.output_nusd)} in/out Mtoken"
    return {
        "type": "tokens",
        "cents_per_input_token": _cents(price.input_nusd),
        "cents_per_output_token": _cents(price.output_nusd),
        "rate_per_input_token_cached": None,
        "rate_per_input_token_cache_write": None,
        "short": line,
        "full": line,
        "table": None,
    }


def listed(model: CatalogModel, price: Price, *, base_url: str) -> ListedModel:
    """Build the entry of a model in a list."""
    return {
        "model_name": model.id,
        "type": TYPE,
        "reported_type": TYPE,
        "description": model.description,
        "cover_img_url": _cover_url(model, base_url),
        "tags": _tags(model),
        "pricing": from_price(price),
        "max_tokens": model.context_tokens,
        "replaced_by": None,
        "deprecated": None,
        "quantization": None,
        "mmlu": None,
        "expected": None,
        "private": 0,
        "is_partner": False,
    }


def described(
    model: CatalogModel,
    price: Price,
    fields: tuple[InputField, ...],
    *,
    version: str,
    base_url: str,
    full_text: bool,
    variants: Iterable[str],
) -> ModelInfo:
    """Build the details of one *version* of a model.

    *fields* are its inputs with the defaults that count here, *variants* the routes beside inference whose schemas can
    be had, and *full_text* is whether a native text begins with the prompt.
    """
    return {
        "model_name": model.id,
        "type": TYPE,
        "tags": _tags(model),
        "reported_type": TYPE,
        "version": version,
        "featured": False,
        "public": True,
        "description": model.description,
        "owner": model.owner,
        "mask_token": None,
        "curl_inv": curl_invocation(model.id, base_url),
        "cmdline_inv": deepctl_invocation(model.id),
        "txt_docs": parameters(fields),
        "out_example": output_example(full_text=full_text),
        "out_docs": output_fields(full_text=full_text),
        "in_fields": in_fields(fields),
        "in_schema": _schema(InferenceRequest),
        "out_schema": _schema(InferenceAnswer),
        "pricing": from_price(price),
        "schemas": [
            {"key": key, "url": f"{base_url}/models/{model.id}/schema/{key}"} for key in (INFERENCE, *variants)
        ],
        "meta": _meta(model, base_url),
        "max_tokens": model.context_tokens,
        "max_output_tokens": model.context_tokens,
        "replaced_by": None,
        "deprecated": None,
        "quantization": None,
        "mmlu": None,
        "expected": None,
    }


def versions(model: CatalogModel) -> list[Version]:
    """List the versions of a model, current first."""
    return [
        {"model_name": model.id, "version": known.short_id, "uploaded_at": known.created_at_s}
        for known in model.versions
    ]


def schema(variant: str, fields: Iterable[InputField], variants: Mapping[str, Dialogue]) -> SchemaVariant:
    """Build a route's request and response schemas for a model.

    Args:
        variant: the route: ``INFERENCE`` or one of *variants*.
        fields: of inference.
        variants: other routes.

    Raises:
        NotFound: there is no such variant.
    """
    if variant == INFERENCE:
        types, listed_fields = _INFERENCE, in_fields(fields)
    elif variant in variants:
        types = variants[variant]
        listed_fields = _fields_of(types.body)
    else:
        raise NotFound(f"There is no schema '{variant}' but these: {', '.join((INFERENCE, *variants))}.")
    return {
        "variant": variant,
        "schema_in": _schema(types.body),
        "schema_out": _schema(types.answer),
        "schema_stream": _schema(types.event),
        "fields_in": listed_fields,
    }


def _fields_of(body: type) -> list[InField]:
    """List the top-level fields of a JSON body, in the form of ``in_fields``."""
    schema: dict[str, Any] = TypeAdapter(body).json_schema()
    return [_field_of(name, described) for name, described in schema["properties"].items()]


def _field_of(name: str, described: Mapping[str, Any]) -> InField:
    kinds = [kind for kind in described.get("anyOf", [described]) if kind.get("type") != "null"]
    first: Mapping[str, Any] = kinds[0] if kinds else {}
    return {
        "name": name,
        "parent": None,
        "ftype": first.get("type", "object"),
        "description": described.get("description", ""),
        "allowed": None,
        "default": described.get("default"),
        "examples": None,
        "minimum": _bound(first.get("minimum")),
        "exclusiveMinimum": _bound(first.get("exclusiveMinimum")),
        "maximum": _bound(first.get("maximum")),
        "exclusiveMaximum": _bound(first.get("exclusiveMaximum")),
    }


def in_fields(fields: Iterable[InputField]) -> list[InField]:
    """List the parameters of inference."""
    return [
        {
            "name": field.name,
            "parent": None,
            "ftype": field.type,
            "description": field.description,
            "allowed": None,
            "default": json_default(field),
            "examples": None,
            "minimum": _bound(field.minimum),
            "exclusiveMinimum": _bound(field.exclusive_minimum),
            "maximum": _bound(field.maximum),
            "exclusiveMaximum": _bound(field.exclusive_maximum),
        }
        for field in fields
        if not field.hidden
    ]


def _bound(number: float | None) -> float | None:
    """Convert a bound beyond 64-bit integers to a float, so that the JSON encoder accepts it."""
    return number if number is None or abs(number) < 2**63 else float(number)


def _schema(kind: Any) -> orjson.Fragment:
    """JSON Schema of a type, encoded by the standard library because one bound exceeds 64 bits."""
    return orjson.Fragment(json.dumps(TypeAdapter(kind).json_schema()))


def _meta(model: CatalogModel, base_url: str) -> ModelMeta:
    return {
        "github_url": model.page.github_url,
        "paper_url": model.page.paper_url,
        "license_url": model.page.license_url,
        "cover_img_url": _cover_url(model, base_url),
        "readme": model.page.readme,
    }


def _cover_url(model: CatalogModel, base_url: str) -> str:
    return f"{base_url}/static/covers/{model.page.cover_image}"


def _tags(model: CatalogModel) -> list[str]:
    return [tag for tag in model.page.tags if tag in _TAGS]


def _cents(nusd: int) -> orjson.Fragment:
    return dollars(nusd * _CENTS_PER_USD)


def _million(nusd: int) -> str:
    return usd(nusd * _TOKENS_PER_QUOTE)
