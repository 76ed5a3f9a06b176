"""Who pays, and with which keys. Values only; times are Unix milliseconds, money is nano-dollars."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key may do."""

    INFERENCE = "inference"
    """Run models, and see and cancel the account's predictions."""
    READ = "read"
    """See predictions, usage and balance."""
    ADMIN = "admin"
    """Manage accounts and keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an account may use at most; None is no limit."""

    spend_per_day_nusd: int | None = None
    """Calendar days and months in UTC; running holds count as spent."""
    spend_per_month_nusd: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and completion; a running prediction counts with its worst case."""
    concurrent_runs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who pays."""

    id: str
    """``acct_`` and 16 characters."""
    name: str
    unlimited: bool
    """Runs without credit; what it uses is recorded all the same."""
    limits: Limits
    created_at_ms: int
    available_nusd: int
    """Credit that is not held; below 0 only for unlimited accounts."""
    held_nusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as stored: never its secret."""

    id: str
    """``key_`` and 16 characters; names the key in logs and lists."""
    account_id: str
    name: str
    scopes: frozenset[Scope]
    models: tuple[str, ...] | None
    """Names that it may ask for, in lower case; None is any."""
    expires_at_ms: int | None
    spend_limit_nusd: int | None
    """Over the key's whole life, running holds included."""
    spent_nusd: int
    """Settled and held."""
    privacy: bool
    """Neither input nor output of its predictions is ever stored."""
    revoked_at_ms: int | None
    created_at_ms: int
    salt: bytes | None = None
    """From which the secret can be made again, with the server's pepper; None for keys of which it cannot."""
