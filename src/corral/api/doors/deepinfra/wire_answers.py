"""Response types of inference, models and deploys."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import RootModel, WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

Amount = Annotated[Any, WithJsonSchema({"type": "number", "minimum": 0})]
"""Exact decimals: JSON text that was made from integers, never from a float."""


Schema = Annotated[Any, WithJsonSchema({"type": "object"})]
"""A JSON Schema as JSON text."""


class GeneratedText(TypedDict):
    """One generated text."""

    generated_text: str


class InferenceStatus(TypedDict):
    """Status, token counts and cost in dollars of a request."""

    status: Literal["unknown", "queued", "running", "succeeded", "failed"]
    runtime_ms: int
    cost: Amount
    tokens_generated: int
    tokens_input: int


class InferenceAnswer(TypedDict):
    """Body of an inference response."""

    results: list[GeneratedText]
    num_tokens: int
    num_input_tokens: int
    request_id: str
    inference_status: InferenceStatus


class StreamToken(TypedDict):
    """One streamed token."""

    id: int
    text: str
    logprob: float
    special: bool


class StreamDetails(TypedDict):
    """End of a stream."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    generated_tokens: int
    input_tokens: int
    seed: int | None


class StreamEvent(TypedDict):
    """Stream event: one token; the last one also has the whole text and details."""

    token: StreamToken
    generated_text: str | None
    details: StreamDetails | None
    request_id: NotRequired[str]
    num_output_tokens: NotRequired[int]
    num_input_tokens: NotRequired[int]
    estimated_cost: NotRequired[Amount]


class ErrorText(TypedDict):
    """Body of every error response except validation errors."""

    error: str


class Instances(TypedDict):
    """Number of engines of a deploy by state."""

    running: int
    pending: int


class DeployConfig(TypedDict):
    """Weights that a deploy runs."""

    weights: str
    stands_in: bool


class DeploySettings(TypedDict):
    """Minimum and maximum number of engines of a deploy."""

    min_instances: int
    max_instances: int


DeployStatus = Literal["initializing", "deploying", "running", "stopped", "failed"]


class Deploy(TypedDict):
    """A model that this server runs."""

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
    """Prices in cents per token."""

    type: Literal["tokens"]
    cents_per_input_token: Amount
    cents_per_output_token: Amount
    rate_per_input_token_cached: None
    rate_per_input_token_cache_write: None
    short: str
    full: str
    table: None


class ListedModel(TypedDict):
    """Entry of a list of models."""

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
    """Links and readme of a model."""

    github_url: str | None
    paper_url: str | None
    license_url: str | None
    cover_img_url: str
    readme: str


class SchemaLink(TypedDict):
    """Link to one of a model's schemas."""

    key: str
    url: str


class InField(TypedDict):
    """Parameter of inference."""

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
    """Details of a model."""

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
    """Request and response schemas of one route for a model."""

    variant: str
    schema_in: Schema
    schema_out: Schema
    schema_stream: Schema
    fields_in: list[InField]


class CliVersion(TypedDict):
    """Supported versions of deepctl."""

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
    """Body of a response that is never sent."""
