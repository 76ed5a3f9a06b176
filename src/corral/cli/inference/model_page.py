"""The page that ``deepctl model info`` prints of a model, heading for heading. Every text in it is the server's own."""

from typing import Final

import msgspec

from corral.cli.client.connection import RequestFailed

_CENTS_PER_USD: Final = 100
_TOKENS: Final = 1000
"""To which a price is quoted."""


class Pricing(msgspec.Struct):
    """What a model costs, as DeepInfra's API says it."""

    type: str
    cents_per_sec: float | None = None
    cents_per_output_token: float | None = None


class Meta(msgspec.Struct):
    """Where more is told."""

    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    cover_img_url: str | None = None
    readme: str | None = None


class ModelPage(msgspec.Struct):
    """A model's record, as far as it is printed."""

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
    """The page, ending with a line end.

    Raises:
        RequestFailed: the record names no price that belongs to its type of pricing.
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
    raise RequestFailed(f"The server's answer is not what Corral sends: no price for pricing of type '{pricing.type}'.")


def _link(value: str | None) -> str | None:
    """An address or a text as it is; what would fill the screen with base64 only named."""
    return "(binary)" if value is not None and value.startswith("data:") else value
