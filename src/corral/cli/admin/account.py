"""``corral account``: create and list accounts, change their credit and limits."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from corral.cli.admin.database import RunWithAccounts
from corral.cli.terminal.amounts import Limit, count_limit, shown_time, signed_usd, usd_amount, usd_limit
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.accounts import Account, Limits
from corral.core.pricing import usd

if TYPE_CHECKING:
    from corral.service.accounts.services import AccountServices
    from corral.service.accounts.usage import Spend

Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name or id of the account.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _LimitOption:
    """Option that sets or removes a limit."""

    flag: str
    parser: Callable[[str], Limit]
    metavar: str
    help: str
    unit: str
    """Written after the value in the list of limits."""


_USD_LIMIT: Final = "USD|none"
_COUNT_LIMIT: Final = "N|none"
_LIMITS: Final[Mapping[str, _LimitOption]] = {
    "spend_per_day_nusd": _LimitOption(
        flag="--limit-day", parser=usd_limit, metavar=_USD_LIMIT, help="Spend limit per day (UTC).", unit="per day"
    ),
    "spend_per_month_nusd": _LimitOption(
        flag="--limit-month",
        parser=usd_limit,
        metavar=_USD_LIMIT,
        help="Spend limit per month (UTC).",
        unit="per month",
    ),
    "requests_per_minute": _LimitOption(
        flag="--requests-per-minute",
        parser=count_limit,
        metavar=_COUNT_LIMIT,
        help="Requests per minute.",
        unit="requests per minute",
    ),
    "tokens_per_minute": _LimitOption(
        flag="--tokens-per-minute",
        parser=count_limit,
        metavar=_COUNT_LIMIT,
        help="Prompt and completion tokens per minute.",
        unit="tokens per minute",
    ),
    "concurrent_runs": _LimitOption(
        flag="--concurrent-runs",
        parser=count_limit,
        metavar=_COUNT_LIMIT,
        help="Concurrent runs.",
        unit="concurrent runs",
    ),
}
"""Options by the field of ``Limits``."""


def _with_limits(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each limit to *command*; its argument *limits* gets the given ones, by the field of ``Limits``.

    Typer reads the options from the signature, so they are added there.
    """

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        given: dict[str, Limit | None] = {name: options.pop(name) for name in _LIMITS}
        limits = {name: limit.value for name, limit in given.items() if limit is not None}
        command(*arguments, **options, limits=limits)

    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "limits"]
    run.__dict__["__signature__"] = signature.replace(parameters=[*own, *map(_limit_parameter, _LIMITS)])
    return run


def _limit_parameter(name: str) -> inspect.Parameter:
    option = _LIMITS[name]
    declared = typer.Option(option.flag, parser=option.parser, metavar=option.metavar, help=option.help)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Limit | None, declared]
    )


def account_commands(run: RunWithAccounts) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    commands = AccountCommands(run)
    app = typer.Typer(
        name="account", add_completion=False, help="Manage accounts, their credit and limits.", no_args_is_help=True
    )
    app.command("create")(commands.create)
    app.command("list")(commands.list_accounts)
    app.command("show")(commands.show)
    # Otherwise a negative amount would be parsed as an option.
    app.command("credit", context_settings={"ignore_unknown_options": True})(commands.credit)
    app.command("limits")(commands.limits)
    return app


class AccountCommands:
    """One method per command."""

    def __init__(self, run: RunWithAccounts) -> None:
        self._run = run

    @_with_limits
    def create(
        self,
        name: Annotated[str, typer.Argument(help="Unique name.")],
        credit: Annotated[int | None, typer.Option(parser=usd_amount, metavar="USD", help="Initial credit.")] = None,
        unlimited: Annotated[bool, typer.Option("--unlimited", help="May run models without credit.")] = False,
        *,
        limits: Mapping[str, int | None],
    ) -> None:
        """Create an account. Without --credit or --unlimited it can use free models only."""

        async def work(services: "AccountServices") -> Account:
            return await services.accounts.create(
                name, unlimited=unlimited, limits=Limits(**limits), credit_nusd=credit or 0
            )

        created = self._run(work)
        typer.echo(f"{created.id}  {created.name}: {_credit(created)}")

    def list_accounts(self, as_json: AsJson = False) -> None:
        """List all accounts, oldest first."""

        async def work(services: "AccountServices") -> Sequence[Account]:
            return await services.accounts.list()

        found = self._run(work)
        if as_json:
            print_json([_document(account) for account in found])
            return
        columns = (
            Column(heading="Id"),
            Column(heading="Name"),
            Column(heading="Credit", number=True),
            Column(heading="Held", number=True),
            Column(heading="Unlimited"),
        )
        rows = [
            (each.id, each.name, usd(each.available_nusd), usd(each.held_nusd), "yes" if each.unlimited else "")
            for each in found
        ]
        print_table(columns, rows)

    def show(self, account: Name, as_json: AsJson = False) -> None:
        """Show one account: credit, holds, spending, limits."""

        async def work(services: "AccountServices") -> "tuple[Account, Spend]":
            found = await services.accounts.find(account)
            return found, await services.usage.spend(found.id)

        found, spend = self._run(work)
        if as_json:
            spent = {"today_usd": usd(spend.today_nusd), "this_month_usd": usd(spend.this_month_nusd)}
            print_json({**_document(found), "spent": spent})
            return
        for label, value in (
            ("id", found.id),
            ("name", found.name),
            ("credit", _credit(found)),
            ("held", f"${usd(found.held_nusd)}"),
            ("spent", f"${usd(spend.today_nusd)} today, ${usd(spend.this_month_nusd)} this month (UTC)"),
            ("limits", _limits(found.limits)),
            ("created", shown_time(found.created_at_ms)),
        ):
            typer.echo(f"{label:<8} {value}")

    def credit(
        self,
        account: Name,
        amount: Annotated[
            int,
            typer.Argument(parser=signed_usd, metavar="USD", help="Dollars, such as 2.50; negative withdraws credit."),
        ],
        note: Annotated[str | None, typer.Option(help="Stored in the ledger with the amount.")] = None,
    ) -> None:
        """Add credit to an account, or withdraw credit that is not held."""

        async def work(services: "AccountServices") -> Account:
            found = await services.accounts.find(account)
            return await services.accounts.credit(found.id, amount, note=note)

        after = self._run(work)
        typer.echo(f"{after.id}  {after.name}: {_credit(after)}")

    @_with_limits
    def limits(self, account: Name, *, limits: Mapping[str, int | None]) -> None:
        """Change the given limits; 'none' removes a limit, the others stay unchanged."""

        async def work(services: "AccountServices") -> Account:
            found = await services.accounts.find(account)
            return await services.accounts.change_limits(found.id, limits)

        after = self._run(work)
        typer.echo(f"{after.id}  {after.name}: {_limits(after.limits)}")


def _credit(account: Account) -> str:
    amount = f"${usd(account.available_nusd)}" if account.available_nusd >= 0 else f"-${usd(-account.available_nusd)}"
    return f"{amount}, unlimited" if account.unlimited else amount


def _limits(limits: Limits) -> str:
    shown = [
        f"${usd(value)} {_LIMITS[name].unit}" if name.endswith("_nusd") else f"{value} {_LIMITS[name].unit}"
        for name, value in asdict(limits).items()
        if value is not None
    ]
    return ", ".join(shown) or "no limits"


def _document(account: Account) -> dict[str, Any]:
    limits = {
        name.replace("_nusd", "_usd"): usd(value) if name.endswith("_nusd") and value is not None else value
        for name, value in asdict(account.limits).items()
    }
    return {
        "id": account.id,
        "name": account.name,
        "unlimited": account.unlimited,
        "available_usd": usd(account.available_nusd),
        "held_usd": usd(account.held_nusd),
        "limits": limits,
        "created_at": shown_time(account.created_at_ms),
    }
