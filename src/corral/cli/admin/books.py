"""Opens the books for one command: the same database that a running server has. Must not know what is done with them.

What it needs is imported when a command asks, so that the others start without it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from corral.core.errors import CorralError
from corral.settings import Settings

if TYPE_CHECKING:
    from corral.service.accounts.accounts import Accounts
    from corral.service.webhooks.webhooks import Webhooks
    from corral.store.store import Store

T = TypeVar("T")


class BooksFailed(CorralError):
    """The database refused a command's work: its disk is full, or the file is damaged."""


class Consult(Protocol):
    """Runs a piece of work on the books and gives what it returns; every refusal is a ``CorralError``."""

    def __call__(self, work: "Callable[[Accounts], Awaitable[T]]") -> T:
        """Open the books, do *work*, close them."""
        ...


class ConsultWebhooks(Protocol):
    """As ``Consult``, for work that has to do with webhooks."""

    def __call__(self, work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
        """Open the books, do *work*, close them."""
        ...


def consult(settings: Settings, work: "Callable[[Accounts], Awaitable[T]]") -> T:
    """Do *work* on the books that *settings* name.

    Raises:
        BadSetting: the data directory or the database cannot be used.
    """
    from corral.bootstrap import open_accounts  # noqa: PLC0415 - half a second, as for ``serve``

    return _with_store(settings, lambda store: work(open_accounts(settings, store)))


def consult_webhooks(settings: Settings, work: "Callable[[Accounts, Webhooks], Awaitable[T]]") -> T:
    """Do *work* on the books that *settings* name, and on their webhooks.

    Raises:
        BadSetting: the data directory or the database cannot be used.
    """
    from corral.bootstrap import open_accounts, open_webhooks  # noqa: PLC0415 - as above

    return _with_store(settings, lambda store: work(open_accounts(settings, store), open_webhooks(settings, store)))


def _with_store(settings: Settings, work: "Callable[[Store], Awaitable[T]]") -> T:
    from corral.bootstrap import open_books  # noqa: PLC0415 - as above
    from corral.store.databases.failures import StoreFailed  # noqa: PLC0415 - as above

    store = open_books(settings)

    async def run() -> T:
        try:
            return await work(store)
        except StoreFailed as error:  # a full disk or a damaged file; for a server that is a bug or an alarm
            raise BooksFailed(str(error)) from error
        except UnicodeEncodeError as error:
            raise BooksFailed(f"'{error.object}' holds bytes that are not UTF-8 text.") from error
        finally:
            await store.close()

    return asyncio.run(run())
