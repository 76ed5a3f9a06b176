"""Request and response types of the account routes."""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.doors.deepinfra.wire_answers import Amount
from corral.api.wire_fields import WHOLE, Usd, Wire, within
from corral.core.ranges import Range
from corral.service.accounts.scoped_tokens import MAX_LIFE_S, MAX_MODELS

MAX_REQUEST_IDS = 100
MAX_UNIX_S = 2**40
"""Upper bound of expiry times; far beyond the year that a token may live."""


class NewToken(Wire):
    """Body of ``POST /v1/api-tokens``."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class NewScopedJwt(Wire):
    """Body of ``POST /v1/scoped-jwt``."""

    api_key_name: Annotated[str, Field(max_length=200)] | None = None
    api_token_name: Annotated[str, Field(max_length=200)] | None = None
    models: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=MAX_MODELS)] | None = None
    expires_delta: Annotated[int, within(Range(minimum=1, maximum=MAX_LIFE_S)), WHOLE] | None = None
    expires_at: Annotated[int, within(Range(minimum=1, maximum=MAX_UNIX_S)), WHOLE] | None = None
    spending_limit: Usd | None = None


class RequestIds(Wire):
    """Body of ``POST /v1/request-costs``."""

    request_ids: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(alias="requestIds", max_length=MAX_REQUEST_IDS)
    ]


class Me(TypedDict):
    """Body of ``GET /v1/me``."""

    uid: str
    email: str
    email_verified: bool
    account_setup: bool
    display_name: str
    provider: str
    picture: str
    is_admin: bool
    name: str
    first_name: str
    last_name: str
    country: str
    is_business_account: bool
    company: str
    website: str
    title: str


class RateLimit(TypedDict):
    """Limits of the account: concurrent runs and requests per minute; null is unlimited."""

    rate_limit: int | None
    tpm_rate_limit: int | None


class Token(TypedDict):
    """API key. ``token`` is the secret in the response that created it, the id afterwards."""

    token: str
    token_id: str
    name: str
    created_at: int
    allowed_ips: None


class Tokens(RootModel[list[Token]]):
    """API keys of the account."""


class SignedToken(TypedDict):
    """Scoped JWT."""

    token: str


class JwtTerms(TypedDict):
    """Limits of a scoped JWT; null is no limit beyond those of its key."""

    expires_at: int
    models: list[str] | None
    spending_limit: Amount | None


class RequestCost(TypedDict):
    """Cost of one request."""

    requestId: str
    costNanoUsd: int


class RequestCosts(TypedDict):
    """Costs of the requests that are known and finished."""

    requests: list[RequestCost]


class UsedModel(TypedDict):
    """Model of a usage item."""

    provider: str
    model_name: str
    task: str


class UsageItem(TypedDict):
    """Usage of one model in one month; costs are in cents."""

    model: UsedModel
    units: int
    rate: Amount
    cost: Amount
    pricing_type: Literal["tokens"]
    requests: int
    input_tokens: int
    output_tokens: int


class Interval(TypedDict):
    """Half-open interval of Unix times in seconds."""

    fr: int
    to: int


class UsageMonth(TypedDict):
    """Usage of one month."""

    period: str
    interval: Interval
    items: list[UsageItem]
    total_cost: Amount
    invoice_id: str


class UsageMonths(TypedDict):
    """Usage of the requested months, oldest first."""

    months: list[UsageMonth]
    initial_month: str


class LogEntries(TypedDict):
    """Pairs of Unix time in seconds and log line, oldest first."""

    entries: list[list[Any]]
