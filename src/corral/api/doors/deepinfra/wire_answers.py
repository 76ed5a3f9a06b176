"""What this door writes, as JSON. Knows nothing of where the values come from."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import RootModel, WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

Amount = Annotated[Any, WithJsonSchema({"type": "number", "minimum": 0})]
"""Exact decimals: JSON text that was made from integers, never from a float."""


Schema = Annotated[Any, WithJsonSchema({"type": "object"})]
"""A JSON Schema as JSON text."""


class GeneratedText(TypedDict):
    """One answer."""

    generated_text: str


class InferenceStatus(TypedDict):
    """How a request went and what it cost, in dollars."""

    status: Literal["unknown", "queued", "running", "succeeded", "failed"]
    runtime_ms: int
    cost: Amount
    tokens_generated: int
    tokens_input: int


class InferenceAnswer(TypedDict):
    """Body of an answer."""

    results: list[GeneratedText]
    num_tokens: int
    num_input_tokens: int
    request_id: str
    inference_status: InferenceStatus


class StreamToken(TypedDict):
    """One token of a stream."""

    id: int
    text: str
    logprob: float
    special: bool


class StreamDetails(TypedDict):
    """How a stream ended."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    generated_tokens: int
    input_tokens: int
    seed: int | None


class StreamEvent(TypedDict):
    """One event of a stream: a token, and with the last one the whole text and what it took."""

    token: StreamToken
    generated_text: str | None
    details: StreamDetails | None
    request_id: NotRequired[str]
    num_output_tokens: NotRequired[int]
    num_input_tokens: NotRequired[int]
    estimated_cost: NotRequired[Amount]


class ErrorText(TypedDict):
    """Body of every refusal of this door but those of validation."""

    error: str


class Instances(TypedDict):
    """How many engines a deploy has."""

    running: int
    pending: int


class DeployConfig(TypedDict):
    """What a deploy runs: here, what really answers."""

    weights: str
    stands_in: bool


class DeploySettings(TypedDict):
    """Between how many engines a deploy may have."""

    min_instances: int
    max_instances: int


DeployStatus = Literal["initializing", "deploying", "running", "stopped", "failed"]


class Deploy(TypedDict):
    """A running model of this server."""

    type: Literal["llm"]
    deploy_id: str
    model_name: str
    version: str
    task: str
    status: DeployStatus
    fail_reason: str
    created_at: str
    updated_at: str
    instances: Instances
    config: DeployConfig
    settings: DeploySettings


class TokenPricing(TypedDict):
    """Cents per single token."""

    type: Literal["tokens"]
    cents_per_input_token: Amount
    cents_per_output_token: Amount
    rate_per_input_token_cached: None
    rate_per_input_token_cache_write: None
    short: str
    full: str
    table: None


class ListedModel(TypedDict):
    """An entry of a list of models."""

    model_name: str
    type: str
    reported_type: str
    description: str
    cover_img_url: str
    tags: list[str]
    pricing: TokenPricing
    max_tokens: int
    replaced_by: None
    deprecated: None
    quantization: None
    mmlu: None
    expected: None
    private: Literal[0]
    is_partner: bool


class ModelMeta(TypedDict):
    """Links and texts of a model's page."""

    github_url: str | None
    paper_url: str | None
    license_url: str | None
    cover_img_url: str
    readme: str


class SchemaLink(TypedDict):
    """Where one of a model's schemas is."""

    key: str
    url: str


class InField(TypedDict):
    """One parameter of inference."""

    name: str
    parent: None
    ftype: str
    description: str
    allowed: None
    default: Any
    examples: None
    minimum: float | None
    exclusiveMinimum: float | None
    maximum: float | None
    exclusiveMaximum: float | None


class ModelInfo(TypedDict):
    """All that is told of a model."""

    model_name: str
    type: str
    tags: list[str]
    reported_type: str
    version: str
    featured: bool
    public: bool
    description: str
    owner: str
    mask_token: None
    curl_inv: str
    cmdline_inv: str
    txt_docs: str
    out_example: str
    out_docs: str
    in_fields: list[InField]
    in_schema: Schema
    out_schema: Schema
    pricing: TokenPricing
    schemas: list[SchemaLink]
    meta: ModelMeta
    max_tokens: int
    max_output_tokens: int
    replaced_by: None
    deprecated: None
    quantization: None
    mmlu: None
    expected: None


class Version(TypedDict):
    """A version of a model."""

    model_name: str
    version: str
    uploaded_at: int


class SchemaVariant(TypedDict):
    """What one route takes and gives for a model."""

    variant: str
    schema_in: Schema
    schema_out: Schema
    schema_stream: Schema
    fields_in: list[InField]


class CliVersion(TypedDict):
    """Which deepctl may talk to this server."""

    min: str
    update: str
    latest: str


class ListedModels(RootModel[list[ListedModel]]):
    """Body of a list of models."""


class Versions(RootModel[list[Version]]):
    """Body of a list of versions."""


class DeployList(RootModel[list[Deploy]]):
    """Body of a list of deploys."""


class Nothing(TypedDict):
    """Body of an answer that is never given."""
