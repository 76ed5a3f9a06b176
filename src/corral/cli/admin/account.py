"""``corral account``: who pays. Reads amounts, asks the service, shows what it says; must not know of SQL."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from corral.cli.admin.books import Consult
from corral.cli.terminal.amounts import Limit, count_limit, shown_time, signed_usd, usd_amount, usd_limit
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.accounts import Account, Limits
from corral.core.pricing import usd

if TYPE_CHECKING:
    from corral.service.accounts.accounts import Accounts, Spend

Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name or id of the account.")]
_USD_LIMIT: Final = "USD|none"
_COUNT_LIMIT: Final = "N|none"
LimitDay = Annotated[
    Limit | None,
    typer.Option("--limit-day", parser=usd_limit, metavar=_USD_LIMIT, help="Dollars it may spend per day in UTC."),
]
LimitMonth = Annotated[
    Limit | None,
    typer.Option("--limit-month", parser=usd_limit, metavar=_USD_LIMIT, help="Dollars it may spend per month in UTC."),
]
RequestsPerMinute = Annotated[
    Limit | None,
    typer.Option("--requests-per-minute", parser=count_limit, metavar=_COUNT_LIMIT, help="Requests per minute."),
]
TokensPerMinute = Annotated[
    Limit | None,
    typer.Option(
        "--tokens-per-minute", parser=count_limit, metavar=_COUNT_LIMIT, help="Tokens per minute, in and out."
    ),
]
ConcurrentRuns = Annotated[
    Limit | None,
    typer.Option("--concurrent-runs", parser=count_limit, metavar=_COUNT_LIMIT, help="Runs at once."),
]
_LIMIT_WORDS: Final = {
    "spend_per_day_nusd": "per day",
    "spend_per_month_nusd": "per month",
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "concurrent_runs": "runs at once",
}


def account_commands(consult: Consult) -> typer.Typer:
    """The commands, for ``app.add_typer``."""
    commands = AccountCommands(consult)
    app = typer.Typer(
        name="account", add_completion=False, help="Make accounts, give them credit and limits.", no_args_is_help=True
    )
    app.command("create")(commands.create)
    app.command("list")(commands.list_accounts)
    app.command("show")(commands.show)
    # So that a negative amount is an amount, not an option.
    app.command("credit", context_settings={"ignore_unknown_options": True})(commands.credit)
    app.command("limits")(commands.limits)
    return app


class AccountCommands:
    """One method a command."""

    def __init__(self, consult: Consult) -> None:
        self._consult = consult

    def create(
        self,
        name: Annotated[str, typer.Argument(help="A name that no other account has.")],
        credit: Annotated[
            int | None, typer.Option(parser=usd_amount, metavar="USD", help="Credit to begin with.")
        ] = None,
        unlimited: Annotated[bool, typer.Option("--unlimited", help="Runs without credit.")] = False,
        limit_day: LimitDay = None,
        limit_month: LimitMonth = None,
        requests_per_minute: RequestsPerMinute = None,
        tokens_per_minute: TokensPerMinute = None,
        concurrent_runs: ConcurrentRuns = None,
    ) -> None:
        """Make an account; without --credit and --unlimited it can run only what is free."""
        limits = Limits(
            **_given(
                spend_per_day_nusd=limit_day,
                spend_per_month_nusd=limit_month,
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                concurrent_runs=concurrent_runs,
            )
        )

        async def work(books: "Accounts") -> Account:
            return await books.create_account(name, unlimited=unlimited, limits=limits, credit_nusd=credit or 0)

        made = self._consult(work)
        typer.echo(f"{made.id}  {made.name}: {_credit(made)}")

    def list_accounts(self, as_json: AsJson = False) -> None:
        """List every account, oldest first."""

        async def work(books: "Accounts") -> Sequence[Account]:
            return await books.accounts()

        found = self._consult(work)
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
        """Show one account: credit, holds, what it spent, its limits."""

        async def work(books: "Accounts") -> "tuple[Account, Spend]":
            found = await books.account(account)
            return found, await books.spend(found.id)

        found, spend = self._consult(work)
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
            typer.Argument(parser=signed_usd, metavar="USD", help="Dollars, such as 2.50; negative takes credit back."),
        ],
        note: Annotated[str | None, typer.Option(help="Kept in the ledger beside the amount.")] = None,
    ) -> None:
        """Give an account credit, or take back what is not held."""

        async def work(books: "Accounts") -> Account:
            found = await books.account(account)
            return await books.credit(found.id, amount, note=note)

        after = self._consult(work)
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
        """Change the limits that are given; 'none' takes one away, the others stay."""
        changes = _given(
            spend_per_day_nusd=limit_day,
            spend_per_month_nusd=limit_month,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrent_runs=concurrent_runs,
        )

        async def work(books: "Accounts") -> Account:
            found = await books.account(account)
            return await books.change_limits(found.id, changes)

        after = self._consult(work)
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
