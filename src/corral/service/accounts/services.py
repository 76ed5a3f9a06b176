"""Accounts, API keys and usage together, for programs that need all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from corral.service.accounts.accounts import Accounts
from corral.service.accounts.api_keys import ApiKeys
from corral.service.accounts.usage import UsageReports
from corral.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountServices:
    """Services over the accounts of one store."""

    accounts: Accounts
    keys: ApiKeys
    usage: UsageReports

    @classmethod
    def over(cls, store: Store, *, pepper: bytes, clock: Callable[[], float]) -> Self:
        """Create the services over *store*; *clock* returns Unix time in seconds.

        Raises:
            ValueError: the pepper is shorter than 32 bytes.
        """
        return cls(
            accounts=Accounts(store, clock=clock),
            keys=ApiKeys(store, pepper=pepper, clock=clock),
            usage=UsageReports(store, clock=clock),
        )
