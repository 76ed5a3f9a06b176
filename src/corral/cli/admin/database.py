"""Runs the work of an admin command on the server's database.

Imports the database library only when a command uses it, so that other commands start faster.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from corral.core.errors import CorralError
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.service.accounts.accounts import Accounts
    from corral.service.accounts.services import AccountServices
    from corral.service.webhooks.webhooks import Webhooks
    from corral.store.store import Store

T = TypeVar("T")


class DatabaseFailed(CorralError):
    """The database refused a command's work, for example because the disk is full or the file is damaged."""


class RunWithAccounts(Protocol):
    """Runs a coroutine function with the accounts, API keys and usage of the database and returns its result."""

    def __call__(self, work: "Callable[[AccountServices], Awaitable[T]]") -> T:
        """Open the database, run *work*, close the database. Errors are ``CorralError``."""
        ...


class RunWithWebhooks(Protocol):
    """As ``RunWithAccounts``, for commands about webhooks."""

    def __call__(self, work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
        """Open the database, run *work*, close the database. Errors are ``CorralError``."""
        ...


def run_with_accounts(settings: Settings, work: "Callable[[AccountServices], Awaitable[T]]") -> T:
    """Run *work* on the database that *settings* name.

    Raises:
        BadSetting: the data directory or the database cannot be used.
    """
    from corral.bootstrap import open_accounts  # noqa: PLC0415 - takes half a second

    return _with_store(settings, lambda store: work(open_accounts(settings, store)))


def run_with_webhooks(settings: Settings, work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
    """Run *work* on the database that *settings* name, with its webhooks.

    Raises:
        BadSetting: the data directory or the database cannot be used.
    """
    from corral.bootstrap import open_accounts, open_webhooks  # noqa: PLC0415 - as above

    return _with_store(
        settings, lambda store: work(open_accounts(settings, store).accounts, open_webhooks(settings, store))
    )


def _with_store(settings: Settings, work: "Callable[[Store], Awaitable[T]]") -> T:
    from corral.bootstrap import open_store_for_commands  # noqa: PLC0415 - as above
    from corral.store.databases.failures import StoreFailed  # noqa: PLC0415 - as above

    store = open_store_for_commands(settings)

    async def run() -> T:
        try:
            return await work(store)
        except StoreFailed as error:  # a full disk or a damaged file
            raise DatabaseFailed(str(error)) from error
        except UnicodeEncodeError as error:
            raise DatabaseFailed(f"'{error.object}' contains bytes that are not UTF-8 text.") from error
        finally:
            await store.close()

    return asyncio.run(run())
