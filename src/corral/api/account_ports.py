"""Interfaces of the account services that doors use; ``corral.service.accounts`` implements them."""

from typing import Protocol

from corral.api.auth import KeyRing
from corral.core.accounts import Account, ApiKey
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.scoped_tokens import TokenTerms
from corral.service.accounts.usage import Dimension, Usage


class AccountReader(Protocol):
    """Gets accounts. See ``Accounts``."""

    async def get(self, account_id: str) -> Account:
        """Get an account by its id.

        Raises:
            NotFound: no account has this id.
        """
        ...


class KeyManager(KeyRing, Protocol):
    """Manages API keys and scoped tokens. See ``ApiKeys``."""

    async def list(self, account_id: str | None = None) -> list[ApiKey]:
        """List all API keys of the account, revoked ones included, oldest first."""
        ...

    async def create(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """Create an API key. Its secret cannot be shown again.

        Raises:
            InvalidRequest: a bad name.
        """
        ...

    async def revoke(self, key_id: str) -> ApiKey:
        """Revoke an API key; later requests with it fail.

        Raises:
            NotFound: no key has this id.
        """
        ...

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """Create a scoped token signed with the account's API key.

        Raises:
            InvalidRequest: there is no such key, or it cannot sign.
        """
        ...

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:
        """Get the key and limits of a scoped token; None if it is invalid or expired."""
        ...


class UsageReader(Protocol):
    """Sums usage. See ``UsageReports``."""

    async def totals(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sum tokens and cost by the given dimensions over an inclusive range of days."""
        ...
