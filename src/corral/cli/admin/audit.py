"""``corral receipt``, ``verify-receipt`` and ``reconcile``: print and check bills.

A receipt is verified from its own content, without the database, so that callers can do it on their own machines.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import orjson
import typer

from corral.cli.admin.database import RunWithAccounts
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.streams import read_standard_input
from corral.cli.terminal.tables import print_json
from corral.core.errors import InvalidRequest
from corral.core.pricing import usd, verify

if TYPE_CHECKING:
    from corral.service.accounts.services import AccountServices

_MAX_BYTES: Final = 4 * 2**20
"""Enough for a prediction with its text."""


def receipt_command(run: RunWithAccounts) -> Callable[..., None]:
    """Create the command, for ``app.command("receipt")``."""

    def receipt(
        prediction_id: Annotated[
            str, typer.Argument(metavar="ID", help="Id of a prediction, as in the header corral-prediction.")
        ],
    ) -> None:
        """Print the receipt of an ended prediction as JSON."""

        async def work(services: "AccountServices") -> dict[str, Any]:
            return await services.usage.receipt(prediction_id)

        print_json(run(work))

    return receipt


def verify_receipt(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON of a receipt, or of a prediction with one.")],
) -> None:
    """Recompute a receipt and print every mismatch; exit status 1 if there is one."""
    document = _receipt_in(_read(file))
    problems = _check(document)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    tokens = f"{document['prompt_tokens']} prompt and {document['completion_tokens']} completion tokens"
    typer.echo(f"The receipt is valid: ${usd(document['total_nusd'])} for {tokens} at {document['price_version']}.")


def reconcile_command(run: RunWithAccounts) -> Callable[..., None]:
    """Create the command, for ``app.command("reconcile")``."""

    def reconcile(as_json: AsJson = False) -> None:
        """Compare ledger, balances, receipts, usage and engine counters; exit status 1 if anything differs."""

        async def work(services: "AccountServices") -> list[str]:
            return await services.usage.reconcile()

        differences = run(work)
        if as_json:
            print_json(differences)
        else:
            typer.echo("\n".join(differences) or "no difference")
        if differences:
            raise typer.Exit(1)

    return reconcile


def _read(file: str) -> object:
    try:
        if file == "-":
            data = read_standard_input(_MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a null character raises ValueError
        raise InvalidRequest(f"{file} cannot be read: {getattr(error, 'strerror', error)}.") from error
    if len(data) > _MAX_BYTES:
        raise InvalidRequest(f"{file} is longer than {_MAX_BYTES} bytes.")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{file} is not JSON: {error}.") from None


def _receipt_in(document: object) -> dict[str, Any]:
    if isinstance(document, dict):
        fields = cast("dict[str, Any]", document)
        inner = fields.get("receipt", fields)
        if isinstance(inner, dict):
            return cast("dict[str, Any]", inner)
    raise InvalidRequest("No receipt found: expected a JSON object that is a receipt, or has a field 'receipt'.")


def _check(document: dict[str, Any]) -> list[str]:
    nested = [name for name, value in document.items() if isinstance(value, list | dict)]
    return [f"{name} must be text or a number." for name in nested] or verify(document)
