"""Request and response types for the OpenAPI document. Bodies are validated in ``inputs`` and ``body``."""

from typing import (
    Any,
    Literal,
    NotRequired,  # pydantic reads typing's own from Python 3.12 on
)

from pydantic import RootModel
from typing_extensions import TypedDict

WebhookEventName = Literal["start", "output", "logs", "completed"]


class PredictionBody(TypedDict):
    """Body that creates a prediction of the model in the path."""

    input: dict[str, Any]
    stream: NotRequired[bool | None]
    webhook: NotRequired[str | None]
    webhook_completed: NotRequired[str | None]
    webhook_events_filter: NotRequired[list[WebhookEventName] | None]


class VersionedPredictionBody(PredictionBody):
    """Body that creates a prediction and names the model by ``version``."""

    version: str


class PredictionUrls(TypedDict):
    """URLs of a prediction. The stream's URL is signed and needs no API key."""

    get: str
    cancel: str
    web: str
    stream: NotRequired[str]


class PredictionAnswer(TypedDict):
    """A prediction."""

    id: str
    model: str
    version: str
    input: dict[str, Any]
    output: list[str] | None
    logs: str
    error: str | None
    status: Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]
    created_at: str
    started_at: str | None
    completed_at: str | None
    data_removed: bool
    source: Literal["api", "web"]
    metrics: dict[str, float]
    urls: PredictionUrls
    deadline: NotRequired[str]
    deployment: NotRequired[str]
    webhook: NotRequired[str]
    webhook_completed: NotRequired[str]
    webhook_events_filter: NotRequired[list[WebhookEventName]]


class PredictionPage(TypedDict):
    """Predictions, newest first."""

    previous: str | None
    next: str | None
    results: list[PredictionAnswer]


class VersionAnswer(TypedDict):
    """A version of a model."""

    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


class VersionPage(TypedDict):
    """Versions, newest first."""

    previous: str | None
    next: str | None
    results: list[VersionAnswer]


class ModelAnswer(TypedDict):
    """A model."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["public"]
    is_official: bool
    github_url: str | None
    paper_url: str | None
    license_url: str | None
    run_count: int
    cover_image_url: str
    default_example: PredictionAnswer | None
    latest_version: VersionAnswer
    created_at: str


class ModelPage(TypedDict):
    """Models."""

    previous: str | None
    next: str | None
    results: list[ModelAnswer]


class SearchMetadata(TypedDict):
    """Metadata of a search result."""

    generated_description: str
    tags: list[str]
    score: float


class SearchedModel(TypedDict):
    """Search result."""

    model: ModelAnswer
    metadata: SearchMetadata


class CollectionAnswer(TypedDict):
    """A collection; lists of collections omit the models and the full description."""

    name: str
    slug: str
    description: str
    full_description: NotRequired[str]
    models: NotRequired[list[ModelAnswer]]


class CollectionPage(TypedDict):
    """Collections."""

    previous: str | None
    next: str | None
    results: list[CollectionAnswer]


class SearchAnswer(TypedDict):
    """Search results."""

    query: str
    models: list[SearchedModel]
    collections: list[CollectionAnswer]
    pages: list[dict[str, str]]


class AccountAnswer(TypedDict):
    """Account of the API key."""

    type: Literal["organization"]
    username: str
    name: str
    github_url: str | None


class WebhookSecret(TypedDict):
    """Secret that receivers of webhooks verify signatures with."""

    key: str


class Hardware(TypedDict):
    """Kind of hardware."""

    sku: str
    name: str


class ReleaseConfiguration(TypedDict):
    """Hardware and instances of a deployment."""

    hardware: str
    min_instances: int
    max_instances: int


class Release(TypedDict):
    """Model and version of a deployment."""

    number: int
    model: str
    version: str
    created_at: str
    created_by: AccountAnswer
    configuration: ReleaseConfiguration


class DeploymentAnswer(TypedDict):
    """A model that this server runs."""

    owner: str
    name: str
    current_release: Release


class DeploymentPage(TypedDict):
    """Deployments."""

    previous: str | None
    next: str | None
    results: list[DeploymentAnswer]


class FileBody(TypedDict):
    """Form of a file upload."""

    content: bytes
    metadata: NotRequired[dict[str, Any]]


class Checksums(TypedDict):
    """Hexadecimal checksums of a file."""

    sha256: str
    md5: str


class FileUrls(TypedDict):
    """URLs of a file."""

    get: str
    download: str
    """Needs no key."""


class FileAnswer(TypedDict):
    """An uploaded file; kept for a day."""

    id: str
    name: str
    content_type: str
    size: int
    """Bytes."""
    etag: str
    checksums: Checksums
    metadata: dict[str, Any]
    created_at: str
    expires_at: str
    urls: FileUrls


class FilePage(TypedDict):
    """Files."""

    previous: str | None
    next: str | None
    results: list[FileAnswer]


class InvalidField(TypedDict):
    """One invalid field."""

    type: str
    field: str
    description: str


class ProblemAnswer(TypedDict):
    """Problem document (RFC 9457)."""

    title: str
    detail: str
    status: int
    invalid_fields: NotRequired[list[InvalidField]]
    retry_after: NotRequired[int]


class HardwareList(RootModel[list[Hardware]]):
    """Hardware that models run on."""
