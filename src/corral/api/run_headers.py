"""Headers that every door's answers have. Knows no dialect."""

from urllib.parse import quote

from corral.catalog.model import CatalogModel
from corral.service.ports import Run


def weights_header(model: CatalogModel) -> dict[str, str]:
    """The header that says what really answers; percent-encoded where a directory's name does not fit a header."""
    return {"corral-weights": quote(model.weights, safe="/:+@ ")}


def run_headers(run: Run) -> dict[str, str]:
    """The headers that name the prediction, and say whether an idempotency key led to it."""
    return {"corral-prediction": run.id, **({"idempotency-replayed": "true"} if run.attached else {})}
