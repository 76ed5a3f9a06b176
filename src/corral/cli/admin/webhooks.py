"""``corral webhooks``: list and replay deliveries, show and rotate signing secrets. The server sends them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli.admin.database import RunWithWebhooks
from corral.cli.terminal.amounts import shown_time
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.tables import Column, print_json, print_table
from corral.core.webhooks import Delivery

if TYPE_CHECKING:
    from corral.service.accounts.accounts import Accounts
    from corral.service.webhooks.webhooks import Webhooks

OfAccount = Annotated[str, typer.Option("--account", metavar="ACCOUNT", help="Name or id of the account.")]


def webhook_commands(run: RunWithWebhooks) -> typer.Typer:
    """Create the command group, for ``app.add_typer``."""
    commands = WebhookCommands(run)
    app = typer.Typer(
        name="webhooks",
        add_completion=False,
        help="List deliveries, send one again, show or rotate secrets.",
        no_args_is_help=True,
    )
    app.command("list")(commands.list_deliveries)
    app.command("replay")(commands.replay)
    app.command("secret")(commands.secret)
    app.command("rotate")(commands.rotate)
    return app


class WebhookCommands:
    """One method per command."""

    def __init__(self, run: RunWithWebhooks) -> None:
        self._run = run

    def list_deliveries(
        self,
        account: Annotated[
            str | None, typer.Option(metavar="ACCOUNT", help="Name or id of an account.", show_default="all")
        ] = None,
        prediction: Annotated[
            str | None, typer.Option(metavar="ID", help="Id of a prediction.", show_default="all")
        ] = None,
        limit: Annotated[int, typer.Option(min=1, max=100, help="Most deliveries to list.")] = 100,
        as_json: AsJson = False,
    ) -> None:
        """List deliveries, newest first, without request and response bodies."""

        async def work(accounts: "Accounts", webhooks: "Webhooks") -> Sequence[Delivery]:
            wanted = None if account is None else (await accounts.find(account)).id
            return await webhooks.deliveries(wanted, prediction_id=prediction, limit=limit)

        found = self._run(work)
        if as_json:
            print_json([_document(delivery) for delivery in found])
        else:
            _print(found)

    def replay(self, delivery_id: Annotated[str, typer.Argument(metavar="ID", help="As in `webhooks list`.")]) -> None:
        """Send a delivery again with the same id. A running server sends it, or the next one that starts."""

        async def work(_accounts: "Accounts", webhooks: "Webhooks") -> Delivery:
            return await webhooks.replay(delivery_id)

        replayed = self._run(work)
        typer.echo(f"{replayed.id}: due now")

    def secret(self, account: OfAccount) -> None:
        """Print the secret with which an account's webhook receivers verify signatures."""

        async def work(accounts: "Accounts", webhooks: "Webhooks") -> str:
            return await webhooks.secret((await accounts.find(account)).id)

        typer.echo(self._run(work))

    def rotate(self, account: OfAccount) -> None:
        """Create a new secret and print it. The previous secret stays valid for 24 hours."""

        async def work(accounts: "Accounts", webhooks: "Webhooks") -> str:
            return await webhooks.rotate((await accounts.find(account)).id)

        secret = self._run(work)
        typer.echo("The previous secret stays valid for 24 hours.", err=True)
        typer.echo(secret)


def _print(deliveries: Sequence[Delivery]) -> None:
    columns = (
        Column(heading="Id"),
        Column(heading="Prediction"),
        Column(heading="Event"),
        Column(heading="State"),
        Column(heading="Attempts", number=True),
        Column(heading="Last"),
        Column(heading="Created"),
        Column(heading="Url"),
    )
    rows = [
        (
            each.id,
            each.prediction_id,
            each.event.value,
            each.state.value,
            str(each.attempts),
            str(each.last_status or each.last_error or ""),
            shown_time(each.created_at_ms),
            each.url,
        )
        for each in deliveries
    ]
    print_table(columns, rows)


def _document(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "account_id": delivery.account_id,
        "prediction_id": delivery.prediction_id,
        "event": delivery.event,
        "url": delivery.url,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "created_at": shown_time(delivery.created_at_ms),
        "due_at": shown_time(delivery.due_at_ms),
        "ended_at": None if delivery.ended_at_ms is None else shown_time(delivery.ended_at_ms),
    }
