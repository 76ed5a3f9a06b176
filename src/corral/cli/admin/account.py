"""``corral account``: create and list accounts, change their credit and limits."""

from collections.abc import Sequence
from dataclasses import asdict
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
_USD_LIMIT: Final = "USD|none"
_COUNT_LIMIT: Final = "N|none"
LimitDay = Annotated[
    Limit | None,
    typer.Option("--limit-day", parser=usd_limit, metavar=_USD_LIMIT, help="Spend limit per day (UTC)."),
]
LimitMonth = Annotated[
    Limit | None,
    typer.Option("--limit-month", parser=usd_limit, metavar=_USD_LIMIT, help="Spend limit per month (UTC)."),
]
RequestsPerMinute = Annotated[
    Limit | None,
    typer.Option("--requests-per-minute", parser=count_limit, metavar=_COUNT_LIMIT, help="Requests per minute."),
]
TokensPerMinute = Annotated[
    Limit | None,
    typer.Option(
        "--tokens-per-minute", parser=count_limit, metavar=_COUNT_LIMIT, help="Prompt and completion tokens per minute."
    ),
]
ConcurrentRuns = Annotated[
    Limit | None,
    typer.Option("--concurrent-runs", parser=count_limit, metavar=_COUNT_LIMIT, help="Concurrent runs."),
]
_LIMIT_WORDS: Final = {
    "spend_per_day_nusd": "per day",
    "spend_per_month_nusd": "per month",
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "concurrent_runs": "concurrent runs",
}


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

    def create(
        self,
        name: Annotated[str, typer.Argument(help="Unique name.")],
        credit: Annotated[int | None, typer.Option(parser=usd_amount, metavar="USD", help="Initial credit.")] = None,
        unlimited: Annotated[bool, typer.Option("--unlimited", help="May run models without credit.")] = False,
        limit_day: LimitDay = None,
        limit_month: LimitMonth = None,
        requests_per_minute: RequestsPerMinute = None,
        tokens_per_minute: TokensPerMinute = None,
        concurrent_runs: ConcurrentRuns = None,
    ) -> None:
        """Create an account. Without --credit or --unlimited it can use free models only."""
        limits = Limits(
            **_given(
                spend_per_day_nusd=limit_day,
                spend_per_month_nusd=limit_month,
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                concurrent_runs=concurrent_runs,
            )
        )

        async def work(services: "AccountServices") -> Account:
            return await services.accounts.create(name, unlimited=unlimited, limits=limits, credit_nusd=credit or 0)

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

    def limits(
        self,
        account: Name,
        limit_day: LimitDay = None,
        limit_month: LimitMonth = None,
        requests_per_minute: RequestsPerMinute = None,
        tokens_per_minute: TokensPerMinute = None,
        concurrent_runs: ConcurrentRuns = None,
    ) -> None:
        """Change the given limits; 'none' removes a limit, the others stay unchanged."""
        changes = _given(
            spend_per_day_nusd=limit_day,
            spend_per_month_nusd=limit_month,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrent_runs=concurrent_runs,
        )

        async def work(services: "AccountServices") -> Account:
            found = await services.accounts.find(account)
            return await services.accounts.change_limits(found.id, changes)

        after = self._run(work)
        typer.echo(f"{after.id}  {after.name}: {_limits(after.limits)}")


def _given(**limits: Limit | None) -> dict[str, int | None]:
    return {name: limit.value for name, limit in limits.items() if limit is not None}


def _credit(account: Account) -> str:
    amount = f"${usd(account.available_nusd)}" if account.available_nusd >= 0 else f"-${usd(-account.available_nusd)}"
    return f"{amount}, unlimited" if account.unlimited else amount


def _limits(limits: Limits) -> str:
    shown = [
        f"${usd(value)} {_LIMIT_WORDS[name]}" if name.endswith("_nusd") else f"{value} {_LIMIT_WORDS[name]}"
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
