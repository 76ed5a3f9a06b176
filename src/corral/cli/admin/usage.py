"""``corral usage``: sums of tokens and cost."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from corral.cli.admin.database import RunWithAccounts
from corral.cli.terminal.amounts import day
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.pricing import usd

if TYPE_CHECKING:
    from corral.service.accounts.services import AccountServices
    from corral.service.accounts.usage import Dimension, Usage

_DIMENSIONS: Final["dict[str, Dimension]"] = {
    "day": "day",
    "model": "model",
    "key": "key_id",
    "door": "door",
    "account": "account_id",
}
_DEFAULT_BY: Final = "day,model,key,door"


def usage_command(run: RunWithAccounts) -> Callable[..., None]:
    """Create the command, for ``app.command("usage")``."""

    def usage(
        account: Annotated[
            str | None, typer.Option(metavar="ACCOUNT", help="Name or id of an account.", show_default="all")
        ] = None,
        by: Annotated[str, typer.Option(help="Group by any of day, model, key, door, account.")] = _DEFAULT_BY,
        since: Annotated[
            str | None, typer.Option(parser=day, metavar="DATE", help="First day (UTC), such as 2026-01-31.")
        ] = None,
        until: Annotated[
            str | None, typer.Option(parser=day, metavar="DATE", help="Last day (UTC), inclusive.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Print sums of tokens and cost: a table on a terminal, tab-separated in a pipe."""
        split = _split(by)

        async def work(services: "AccountServices") -> "Sequence[Usage]":
            wanted = None if account is None else (await services.accounts.find(account)).id
            return await services.usage.totals(
                account_id=wanted, by=tuple(split.values()), since_day=since, until_day=until
            )

        found = run(work)
        if as_json:
            print_json([_document(row, split) for row in found])
        else:
            _print(found, split)

    return usage


def _split(by: str) -> "dict[str, Dimension]":
    names = [name.strip() for name in by.split(",")]
    for name in names:
        if name not in _DIMENSIONS or names.count(name) > 1:
            raise typer.BadParameter(
                f"'{name}' is not one of {', '.join(_DIMENSIONS)}, each at most once.", param_hint="--by"
            )
    return {name: _DIMENSIONS[name] for name in names}


def _print(rows: "Sequence[Usage]", split: "dict[str, Dimension]") -> None:
    columns = [
        *(Column(heading=name.capitalize()) for name in split),
        *(Column(heading=heading, number=True) for heading in ("Predictions", "Prompt", "Completion", "Cost USD")),
    ]
    shown = [
        (
            *(str(getattr(row, dimension)) for dimension in split.values()),
            *_numbers(row.predictions, row.prompt_tokens, row.completion_tokens, row.cost_nusd),
        )
        for row in rows
    ]
    sums = _numbers(
        sum(row.predictions for row in rows),
        sum(row.prompt_tokens for row in rows),
        sum(row.completion_tokens for row in rows),
        sum(row.cost_nusd for row in rows),
    )
    print_table(columns, shown, total=("total", *[""] * (len(split) - 1), *sums))


def _numbers(predictions: int, prompt_tokens: int, completion_tokens: int, cost_nusd: int) -> tuple[str, ...]:
    return f"{predictions}", f"{prompt_tokens}", f"{completion_tokens}", usd(cost_nusd)


def _document(row: "Usage", split: "dict[str, Dimension]") -> dict[str, Any]:
    return {
        **{dimension: getattr(row, dimension) for dimension in split.values()},
        "predictions": row.predictions,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cost_usd": usd(row.cost_nusd),
    }
