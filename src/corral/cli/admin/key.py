"""``corral key``: create, list and revoke API keys. A secret is shown once, when it is created."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from corral.cli.admin.database import RunWithAccounts
from corral.cli.terminal.amounts import Expiry, expiry, shown_time, usd_amount
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.accounts import Account, ApiKey, Scope
from corral.core.pricing import usd

if TYPE_CHECKING:
    from corral.service.accounts.services import AccountServices


_SHOWN_ONCE: Final = (
    "The secret is shown only once. The server stores a digest and a salt, which are useless without its key-pepper:"
)


def key_commands(run: RunWithAccounts) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    commands = KeyCommands(run)
    app = typer.Typer(name="key", add_completion=False, help="Create, list and revoke API keys.", no_args_is_help=True)
    app.command("create")(commands.create)
    app.command("list")(commands.list_keys)
    app.command("revoke")(commands.revoke)
    return app


class KeyCommands:
    """One method per command."""

    def __init__(self, run: RunWithAccounts) -> None:
        self._run = run

    def create(
        self,
        account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Name or id of the account that pays.")],
        name: Annotated[str, typer.Option(help="Name of the key in lists.")] = "key",
        scope: Annotated[
            list[Scope] | None,
            typer.Option(help="Permission of the key; repeatable.", show_default="inference, read"),
        ] = None,
        model: Annotated[
            list[str] | None,
            typer.Option(help="A model that the key may use; repeatable.", show_default="any"),
        ] = None,
        expires: Annotated[
            Expiry | None,
            typer.Option(
                parser=expiry, metavar="30d|DATE", help="After days (d), hours (h) or minutes (m), or on a date."
            ),
        ] = None,
        spend_limit: Annotated[
            int | None,
            typer.Option(parser=usd_amount, metavar="USD", help="Dollars that the key may spend in total."),
        ] = None,
        privacy: Annotated[bool, typer.Option("--privacy", help="Never store input or output text.")] = False,
    ) -> None:
        """Create a key and print its secret once, to standard output; its id and terms go to standard error."""

        async def work(services: "AccountServices") -> tuple[Account, ApiKey, str]:
            from corral.service.accounts.api_keys import DEFAULT_SCOPES, KeyTerms  # noqa: PLC0415 - slow

            owner = await services.accounts.find(account)
            terms = KeyTerms(
                name=name,
                scopes=frozenset(scope) if scope else DEFAULT_SCOPES,
                models=tuple(model) if model else None,
                expires_at_ms=None if expires is None else expires.resolve(services.keys.now_ms()),
                spend_limit_nusd=spend_limit,
                privacy=privacy,
            )
            return owner, *await services.keys.create(owner.id, terms)

        owner, key, secret = self._run(work)
        typer.echo(f"{key.id} of {owner.name}: {_terms(key)}.", err=True)
        typer.echo(_SHOWN_ONCE, err=True)
        typer.echo(secret)

    def list_keys(
        self,
        account: Annotated[
            str | None, typer.Option(metavar="ACCOUNT", help="Name or id of an account.", show_default="all")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """List keys, oldest first, without secrets."""

        async def work(services: "AccountServices") -> tuple[dict[str, str], Sequence[ApiKey], int]:
            wanted = None if account is None else (await services.accounts.find(account)).id
            names = {each.id: each.name for each in await services.accounts.list()}
            return names, await services.keys.list(wanted), services.keys.now_ms()

        names, found, now_ms = self._run(work)
        if as_json:
            print_json([_document(key, now_ms) for key in found])
        else:
            _print(names, found, now_ms)

    def revoke(self, key_id: Annotated[str, typer.Argument(metavar="ID", help="As in `corral key list`.")]) -> None:
        """Revoke a key: refuse all further requests with it. Running predictions continue."""
        if not key_id.startswith("key_"):
            # Without the value: it may be a secret, pasted by mistake.
            raise typer.BadParameter("the id of a key starts with 'key_'; see `corral key list`.", param_hint="ID")

        async def work(services: "AccountServices") -> ApiKey:
            return await services.keys.revoke(key_id)

        revoked = self._run(work)
        typer.echo(f"{revoked.id}  {revoked.name}: revoked")


def _print(names: Mapping[str, str], keys: Sequence[ApiKey], now_ms: int) -> None:
    columns = (
        Column(heading="Id"),
        Column(heading="Name"),
        Column(heading="Account"),
        Column(heading="State"),
        Column(heading="Terms"),
        Column(heading="Spent", number=True),
    )
    rows = [
        (
            key.id,
            key.name,
            names.get(key.account_id, key.account_id),
            _state(key, now_ms),
            _terms(key),
            usd(key.spent_nusd),
        )
        for key in keys
    ]
    print_table(columns, rows)


def _terms(key: ApiKey) -> str:
    terms = [", ".join(sorted(key.scopes))]
    if key.models is not None:
        terms.append(f"only {', '.join(key.models)}")
    if key.expires_at_ms is not None:
        terms.append(f"until {shown_time(key.expires_at_ms)}")
    if key.spend_limit_nusd is not None:
        terms.append(f"at most ${usd(key.spend_limit_nusd)}")
    if key.privacy:
        terms.append("no text is stored")
    return "; ".join(terms)


def _state(key: ApiKey, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return "revoked"
    expired = key.expires_at_ms is not None and key.expires_at_ms <= now_ms
    return "expired" if expired else "active"


def _document(key: ApiKey, now_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "account_id": key.account_id,
        "state": _state(key, now_ms),
        "scopes": sorted(key.scopes),
        "models": key.models,
        "expires_at": None if key.expires_at_ms is None else shown_time(key.expires_at_ms),
        "spend_limit_usd": None if key.spend_limit_nusd is None else usd(key.spend_limit_nusd),
        "spent_usd": usd(key.spent_nusd),
        "privacy": key.privacy,
        "revoked_at": None if key.revoked_at_ms is None else shown_time(key.revoked_at_ms),
        "created_at": shown_time(key.created_at_ms),
    }
