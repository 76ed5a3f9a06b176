"""Accounts, API keys, scopes and limits. Times are Unix milliseconds, money is nano-dollars."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Permission of an API key."""

    INFERENCE = "inference"
    """Run models; read and cancel the account's predictions."""
    READ = "read"
    """Read predictions, usage and balance."""
    ADMIN = "admin"
    """Manage accounts and keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of an account; None is no limit."""

    spend_per_day_nusd: int | None = None
    """Days and months are calendar ones in UTC; costs held for running predictions count as spent."""
    spend_per_month_nusd: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and completion tokens; a running prediction counts with the most tokens that it can use."""
    concurrent_runs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account: owns API keys, predictions and credit."""

    id: str
    """``acct_`` and 16 characters."""
    name: str
    unlimited: bool
    """May run models without credit. Its usage is recorded like that of other accounts."""
    limits: Limits
    created_at_ms: int
    available_nusd: int
    """Credit not held for running predictions; below 0 only for unlimited accounts."""
    held_nusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key as stored, without its secret."""

    id: str
    """``key_`` and 16 characters; names the key in logs and lists."""
    account_id: str
    name: str
    scopes: frozenset[Scope]
    models: tuple[str, ...] | None
    """Model names that the key may use, in lower case; None allows all."""
    expires_at_ms: int | None
    spend_limit_nusd: int | None
    """For the key's whole lifetime; costs held for running predictions count."""
    spent_nusd: int
    """Settled and held cost."""
    privacy: bool
    """Input and output of the key's predictions are never stored."""
    revoked_at_ms: int | None
    created_at_ms: int
    salt: bytes | None = None
    """Input, with the server's pepper, to derive the secret again; None for keys whose secret cannot be derived."""
