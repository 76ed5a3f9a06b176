"""Account services over a real store, with a clock that the test moves."""

from corral.service.accounts.services import AccountServices
from corral.store.store import Store
from tests.contract.store.books import NOON

PEPPER = b"p" * 32


class ClockedServices:
    """Accounts, API keys and usage of a store; the time is *now_ms*."""

    def __init__(self, store: Store) -> None:
        services = AccountServices.over(store, pepper=PEPPER, clock=lambda: self.now_ms / 1000)
        self.now_ms = NOON
        self.store = store
        self.accounts = services.accounts
        self.keys = services.keys
        self.usage = services.usage
