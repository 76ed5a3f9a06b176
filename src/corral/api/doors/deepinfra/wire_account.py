"""What the account's routes read and write, as JSON."""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.doors.deepinfra.wire_answers import Amount
from corral.api.wire_fields import WHOLE, Usd, Wire, within
from corral.core.ranges import Range
from corral.service.accounts.scoped_tokens import MAX_LIFE_S, MAX_MODELS

MAX_REQUEST_IDS = 100
MAX_UNIX_S = 2**40
"""A time far beyond the year that a token may live."""


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
    """The account."""

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
    """What the account may use at once, and in a minute; null is no limit."""

    rate_limit: int | None
    tpm_rate_limit: int | None


class Token(TypedDict):
    """An API key. Its secret is shown once, by the answer that made it; later ``token`` is the id."""

    token: str
    token_id: str
    name: str
    created_at: int
    allowed_ips: None


class Tokens(RootModel[list[Token]]):
    """The account's keys."""


class SignedToken(TypedDict):
    """A token that a key signed."""

    token: str


class JwtTerms(TypedDict):
    """What a token may do; null is what its key may."""

    expires_at: int
    models: list[str] | None
    spending_limit: Amount | None


class RequestCost(TypedDict):
    """What a request cost."""

    requestId: str
    costNanoUsd: int


class RequestCosts(TypedDict):
    """Those of the requests that are known and over."""

    requests: list[RequestCost]


class UsedModel(TypedDict):
    """What was used."""

    provider: str
    model_name: str
    task: str


class UsageItem(TypedDict):
    """What a month's runs of a model took; costs are cents."""

    model: UsedModel
    units: int
    rate: Amount
    cost: Amount
    pricing_type: Literal["tokens"]
    requests: int
    input_tokens: int
    output_tokens: int


class Interval(TypedDict):
    """Unix times in seconds, the first included, the second not."""

    fr: int
    to: int


class UsageMonth(TypedDict):
    """A month."""

    period: str
    interval: Interval
    items: list[UsageItem]
    total_cost: Amount
    invoice_id: str


class UsageMonths(TypedDict):
    """The months that were asked for, oldest first."""

    months: list[UsageMonth]
    initial_month: str


class LogEntries(TypedDict):
    """Seconds since 1970 with their fraction, and a line; oldest first."""

    entries: list[list[Any]]
