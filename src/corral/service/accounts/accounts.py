"""Accounts: create, list, find, credit and limits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from corral.core.accounts import Account, Limits
from corral.core.errors import InvalidRequest, NotFound
from corral.store.books import accounts
from corral.store.store import Connection, Store


class Accounts:
    """Creates, lists and finds accounts, and changes their credit and limits."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """Create the service over *store*; *clock* returns Unix time in seconds."""
        self._store = store
        self._clock = clock

    async def create(
        self, name: str, *, unlimited: bool = False, limits: Limits | None = None, credit_nusd: int = 0
    ) -> Account:
        """Create an account with a unique name.

        Raises:
            InvalidRequest: the name is taken or not printable, or a limit or the credit is out of range.
        """
        now_ms = self._now_ms()

        def work(connection: Connection) -> Account:
            created = accounts.create_account(connection, name=name, unlimited=unlimited, limits=limits, now_ms=now_ms)
            if credit_nusd == 0:
                return created
            return accounts.credit(connection, created.id, credit_nusd, now_ms=now_ms)

        return await self._store.write(work)

    async def get(self, account_id: str) -> Account:
        """Get an account by its id.

        Raises:
            NotFound: no account has this id.
        """
        found = await self._store.read(partial(accounts.get_account, account_id=account_id))
        if found is None:
            raise NotFound(f"There is no account '{account_id}'.", param="account")
        return found

    async def find(self, name_or_id: str) -> Account:
        """Find an account by its id or its name, as an operator gives it.

        Raises:
            InvalidRequest: no account has this id or name.
        """
        for account in await self.list():
            if name_or_id in {account.id, account.name}:
                return account
        raise InvalidRequest(f"No account is called '{name_or_id}'; `corral account list` shows them.")

    async def credit(
        self, account_id: str, amount_nusd: int, *, note: str | None = None, idempotency_key: str | None = None
    ) -> Account:
        """Add credit to an account; a negative amount withdraws credit.

        With the *idempotency_key* of an earlier credit of the account, nothing is added.

        Raises:
            IdempotencyConflict: the earlier credit had another amount or note.
            NotFound: the account does not exist.
            InvalidRequest: the amount is 0, or it or the new balance is out of range.
            InsufficientCredit: the withdrawal exceeds the credit that is not held for runs.
        """
        credit = partial(
            accounts.credit,
            account_id=account_id,
            amount_nusd=amount_nusd,
            note=note,
            idempotency_key=idempotency_key,
            now_ms=self._now_ms(),
        )
        return await self._store.write(credit)

    async def change_limits(self, account_id: str, changes: Mapping[str, int | None]) -> Account:
        """Set the limits in *changes* (names as in ``Limits``; None removes a limit). Other limits stay unchanged.

        Raises:
            NotFound: the account does not exist.
            InvalidRequest: a limit is out of range.
        """

        def work(connection: Connection) -> Account:
            accounts.lock_account(connection, account_id)
            account = accounts.get_account(connection, account_id)
            limits = Limits() if account is None else account.limits
            return accounts.set_limits(connection, account_id, replace(limits, **changes))

        return await self._store.write(work)

    async def list(self) -> list[Account]:
        """List all accounts, oldest first."""
        return await self._store.read(accounts.list_accounts)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
