"""OpenAPI operations of this API."""

from typing import Final

from corral.api.doors.openai.wire import ChatCompletionRequest, CompletionRequest
from corral.api.doors.openai.wire_answers import (
    ChatChunk,
    ChatCompletion,
    Completion,
    CompletionChunk,
    CostEstimate,
    ErrorAnswer,
    InvalidAnswer,
    Model,
    ModelList,
)
from corral.api.operation import FOR_BODY, FOR_KEY, FOR_RUN, RUN_HEADERS, Dialogue, Operation

TYPES: Final = (
    ChatCompletionRequest,
    CompletionRequest,
    ChatCompletion,
    Completion,
    CostEstimate,
    ModelList,
    Model,
    ErrorAnswer,
    InvalidAnswer,
)
"""Types that the operations below refer to."""

DIALOGUES: Final = {
    "openai-chat-completions": Dialogue(body=ChatCompletionRequest, answer=ChatCompletion, event=ChatChunk),
    "openai-completions": Dialogue(body=CompletionRequest, answer=Completion, event=CompletionChunk),
}
"""Request and response types by DeepInfra's names for these schemas of a model."""

CHAT: Final = Operation(
    summary="Answer a conversation",
    bodies=(ChatCompletionRequest,),
    answer=ChatCompletion,
    error=ErrorAnswer,
    invalid=InvalidAnswer,
    statuses=FOR_KEY + FOR_BODY + FOR_RUN,
    streams=True,
    parameters=RUN_HEADERS,
)
COMPLETION: Final = Operation(
    summary="Go on with a prompt",
    bodies=(CompletionRequest,),
    answer=Completion,
    error=ErrorAnswer,
    invalid=InvalidAnswer,
    statuses=FOR_KEY + FOR_BODY + FOR_RUN,
    streams=True,
    parameters=RUN_HEADERS,
)
ESTIMATE: Final = Operation(
    summary="Price a request without running it",
    bodies=(ChatCompletionRequest, CompletionRequest),
    answer=CostEstimate,
    error=ErrorAnswer,
    invalid=InvalidAnswer,
    statuses=(*FOR_KEY, *FOR_BODY, 404, 405, 503),
)
MODELS: Final = Operation(summary="List the models", answer=ModelList, error=ErrorAnswer, statuses=FOR_KEY)
MODEL: Final = Operation(
    summary="Describe a model",
    answer=Model,
    error=ErrorAnswer,
    statuses=(*FOR_KEY, 404),
    parameters=({"name": "model", "in": "path", "required": True, "schema": {"type": "string"}},),
)
