"""Build response bodies of models, versions, collections and deployments."""

from collections.abc import Mapping
from typing import Final

from corral.api.doors.replicate.chunks import shown
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.openapi_schema import openapi_schema
from corral.api.doors.replicate.times import rfc3339
from corral.api.doors.replicate.wire import (
    AccountAnswer,
    CollectionAnswer,
    DeploymentAnswer,
    Hardware,
    ModelAnswer,
    PredictionAnswer,
    SearchedModel,
    VersionAnswer,
)
from corral.catalog.collection import Collection
from corral.catalog.model import CatalogModel
from corral.catalog.page import Example
from corral.catalog.versions import ModelVersion
from corral.core.accounts import Account

COG_VERSION: Final = "0.8.6"
"""As Replicate's last public Llama 2 versions have it. Its Python client reads schemas of Cog below 0.3.9 otherwise."""
HARDWARE: Final[tuple[Hardware, ...]] = ({"sku": "cpu", "name": "CPU"},)


class ModelAnswers:
    """Converts catalog entries into response bodies with URLs below one base."""

    def __init__(self, *, base_url: str, run_counts: Mapping[str, int]) -> None:
        """*run_counts* are by model id."""
        self._base_url = base_url
        self._run_counts = run_counts

    def model(self, model: CatalogModel) -> ModelAnswer:
        """Build a model with its version and first example."""
        page = model.page
        return {
            "url": f"{self._base_url}/{model.id}",
            "owner": model.owner,
            "name": model.name,
            "description": model.description,
            "visibility": "public",
            "is_official": page.is_official,
            "github_url": page.github_url,
            "paper_url": page.paper_url,
            "license_url": page.license_url,
            "run_count": self._run_counts.get(model.id, 0),
            "cover_image_url": f"{self._base_url}/static/covers/{page.cover_image}",
            "default_example": self.example(model, page.examples[0]) if page.examples else None,
            "latest_version": version_answer(model, model.versions[0]),
            "created_at": rfc3339(1000 * model.created),
        }

    def found(self, model: CatalogModel, *, rank: int) -> SearchedModel:
        """Build a search result; *rank* counts from 0."""
        tags = list(model.page.tags)
        return {
            "model": self.model(model),
            "metadata": {"generated_description": model.description, "tags": tags, "score": 1 / (1 + rank)},
        }

    def collection(self, collection: Collection, *, whole: bool = False) -> CollectionAnswer:
        """Build a collection; *whole* includes its models."""
        answer: CollectionAnswer = {
            "name": collection.name,
            "slug": collection.slug,
            "description": collection.description,
        }
        if whole:
            answer["full_description"] = collection.description
            answer["models"] = [self.model(model) for model in collection.models]
        return answer

    def example(self, model: CatalogModel, example: Example) -> PredictionAnswer:
        """Build an example run as a prediction object."""
        took_s = (example.completed_at_ms - example.admitted_at_ms) / 1000
        here = f"{self._base_url}/v1/predictions/{example.id}"
        return {
            "id": example.id,
            "model": model.id,
            "version": model.version,
            "input": dict(example.input),
            "output": shown(example.output),
            "logs": f"Random seed used: `{example.seed}`\n",
            "error": None,
            "status": "succeeded",
            "created_at": rfc3339(example.created_at_ms),
            "started_at": rfc3339(example.admitted_at_ms),
            "completed_at": rfc3339(example.completed_at_ms),
            "data_removed": False,
            "source": "api",
            "metrics": {
                "predict_time": took_s,
                "total_time": (example.completed_at_ms - example.created_at_ms) / 1000,
                "input_token_count": example.prompt_tokens,
                "output_token_count": example.completion_tokens,
                "tokens_per_second": example.completion_tokens / took_s if took_s else 0.0,
                "time_to_first_token": (example.started_at_ms - example.admitted_at_ms) / 1000,
            },
            "urls": {
                "get": here,
                "cancel": f"{here}/cancel",
                "web": f"{self._base_url}/{model.id}?example={example.id}",
            },
        }


def version_answer(model: CatalogModel, version: ModelVersion) -> VersionAnswer:
    """Build a version. The inputs are those of the loaded weights, which answer for every version."""
    return {
        "id": version.id,
        "created_at": rfc3339(1000 * version.created_at_s),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi_schema(INPUTS.for_model(model)),
    }


def account_answer(account: Account) -> AccountAnswer:
    """Build the account of the API key."""
    return {"type": "organization", "username": account.id, "name": account.name, "github_url": None}


def deployment_answer(model: CatalogModel) -> DeploymentAnswer:
    """Build the deployment of a served model: one instance, always on."""
    maker: AccountAnswer = {"type": "organization", "username": model.owner, "name": model.owner, "github_url": None}
    return {
        "owner": model.owner,
        "name": model.name,
        "current_release": {
            "number": 1,
            "model": model.id,
            "version": model.version,
            "created_at": rfc3339(1000 * model.created),
            "created_by": maker,
            "configuration": {"hardware": HARDWARE[0]["sku"], "min_instances": 1, "max_instances": 1},
        },
    }
