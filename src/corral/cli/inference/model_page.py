"""Text of ``corral model info``, in the format of ``deepctl model info``. The texts come from the server."""

from typing import Final

import msgspec

from corral.cli.client.connection import RequestFailed

_CENTS_PER_USD: Final = 100
_TOKENS: Final = 1000
"""Number of tokens that a price is quoted for."""


class Pricing(msgspec.Struct):
    """Price of a model in DeepInfra's API."""

    type: str
    cents_per_sec: float | None = None
    cents_per_output_token: float | None = None


class Meta(msgspec.Struct):
    """Links of a model."""

    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    cover_img_url: str | None = None
    readme: str | None = None


class ModelPage(msgspec.Struct):
    """The printed fields of a model's record."""

    type: str
    version: str
    curl_inv: str
    cmdline_inv: str
    txt_docs: str
    out_example: str
    out_docs: str
    pricing: Pricing
    public: bool | None = None
    mask_token: str | None = None
    description: str | None = None
    meta: Meta | None = None


def model_page(name: str, page: ModelPage) -> str:
    """Format the page, ending with a line break.

    Raises:
        RequestFailed: the record has no price of its pricing type.
    """
    meta = page.meta or Meta()
    lines = [
        f"model: {name}",
        f"type: {page.type}",
        f"version: {page.version}",
        f"public: {'false' if page.public is False else 'true'}",
        f"pricing: {_price(page.pricing)}",
    ]
    for label, value in (
        ("mask token", page.mask_token),
        ("description", page.description),
        ("github", meta.github_url),
        ("paper", meta.paper_url),
        ("license", meta.license_url),
        ("cover_image", _link(meta.cover_img_url)),
    ):
        if value:
            lines.append(f"{label}: {value}")
    if readme := _link(meta.readme):
        lines += ["README:", readme]
    lines.append("")
    for heading, text in (
        ("CURL invocation", f" {page.curl_inv}"),
        ("deepctl invocation", f" {page.cmdline_inv}"),
        ("Field description", page.txt_docs),
        ("output example", page.out_example),
        ("output fields description", page.out_docs),
    ):
        lines += [f"{heading}:", "", text, ""]
    return "\n".join([*lines, ""])


def _price(pricing: Pricing) -> str:
    if pricing.type == "time" and pricing.cents_per_sec is not None:
        return f"${pricing.cents_per_sec / _CENTS_PER_USD:.4f}/sec"
    if pricing.type != "time" and pricing.cents_per_output_token is not None:
        return f"${pricing.cents_per_output_token * _TOKENS / _CENTS_PER_USD:.4f}/Ktoken"
    raise RequestFailed(f"The server did not send a valid Corral response: no price for pricing type '{pricing.type}'.")


def _link(value: str | None) -> str | None:
    """Return a URL or text unchanged, but replace a data URL."""
    return "(binary)" if value is not None and value.startswith("data:") else value
