"""``corral receipt``, ``verify-receipt`` and ``reconcile``: how anyone checks a bill. Must not know of SQL.

A receipt is verified from its own content, without the books, so that a caller can do it on another machine.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import orjson
import typer

from corral.cli.admin.books import Consult
from corral.cli.terminal.options import AsJson
from corral.cli.terminal.streams import read_standard_input
from corral.cli.terminal.tables import print_json
from corral.core.errors import InvalidRequest
from corral.core.pricing import usd, verify

if TYPE_CHECKING:
    from corral.service.accounts.accounts import Accounts

_MAX_BYTES: Final = 4 * 2**20
"""A prediction with its text may be large; nothing of use is larger."""


def receipt_command(consult: Consult) -> Callable[..., None]:
    """The command, for ``app.command("receipt")``."""

    def receipt(
        prediction_id: Annotated[
            str, typer.Argument(metavar="ID", help="Of a prediction, as in the header corral-prediction.")
        ],
    ) -> None:
        """Print the receipt of a prediction that is over, as JSON."""

        async def work(books: "Accounts") -> dict[str, Any]:
            return await books.receipt(prediction_id)

        print_json(consult(work))

    return receipt


def verify_receipt(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON of a receipt, or of a prediction that has one.")],
) -> None:
    """Compute a receipt anew, and print what does not hold; exit status 1 if anything does not."""
    document = _receipt_in(_read(file))
    problems = _check(document)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    tokens = f"{document['prompt_tokens']} prompt and {document['completion_tokens']} completion tokens"
    typer.echo(f"The receipt holds: ${usd(document['total_nusd'])} for {tokens} at {document['price_version']}.")


def reconcile_command(consult: Consult) -> Callable[..., None]:
    """The command, for ``app.command("reconcile")``."""

    def reconcile(as_json: AsJson = False) -> None:
        """Compare ledger, balances, receipts, usage and engine counters; exit status 1 if anything differs."""

        async def work(books: "Accounts") -> list[str]:
            return await books.reconcile()

        differences = consult(work)
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
    except (OSError, ValueError) as error:  # a path that holds a null character is a ValueError
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
    raise InvalidRequest("There is no receipt in it: expected a JSON object, or one with a 'receipt' in it.")


def _check(document: dict[str, Any]) -> list[str]:
    nested = [name for name, value in document.items() if isinstance(value, list | dict)]
    return [f"{name} must be text or a number." for name in nested] or verify(document)
