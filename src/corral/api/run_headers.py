"""Response headers that every door sends."""

from urllib.parse import quote

from corral.catalog.model import CatalogModel
from corral.service.ports import PredictionEvents


def weights_header(model: CatalogModel) -> dict[str, str]:
    """Header that names the weights that answer; percent-encoded."""
    return {"corral-weights": quote(model.weights, safe="/:+@ ")}


def run_headers(run: PredictionEvents) -> dict[str, str]:
    """Headers with the prediction id and whether an idempotency key matched."""
    return {"corral-prediction": run.id, **({"idempotency-replayed": "true"} if run.attached else {})}
