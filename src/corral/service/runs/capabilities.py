"""Refusals of what the engine of a deployment cannot do, by field name, before anything is held."""

from corral.core.capabilities import check_top_logprobs
from corral.core.errors import Unsupported
from corral.core.generation import GenerationRequest
from corral.engines.base import Capabilities


def check_capabilities(request: GenerationRequest, capabilities: Capabilities) -> None:
    """Compare a request with the features of the engine that would compute it.

    Raises:
        Unsupported: names the first field that the engine does not support.
    """
    wanted = (
        ("echo", request.echo, capabilities.echo),
        ("logprobs", request.pieces, capabilities.logprobs),
        ("logprobs", request.echo and request.pieces, capabilities.prompt_logprobs),
        ("response_format", request.constraint is not None, capabilities.constraints),
    )
    for field, is_wanted, is_supported in wanted:
        if is_wanted and not is_supported:
            with_echo = " together with 'echo'" if field == "logprobs" and capabilities.logprobs else ""
            raise Unsupported(
                f"'{field}' is not supported by the engine of this model{with_echo}: leave it out, or use another.",
                param=field,
            )
    check_top_logprobs(request, supported=capabilities.top_logprobs)
