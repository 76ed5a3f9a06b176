"""Refusals of requests for what an engine cannot compute; the message names the field and what is supported instead."""

from corral.core.errors import Unsupported
from corral.core.generation import ChatPrompt, GenerationRequest, Sampling


def check_top_logprobs(request: GenerationRequest, *, supported: int) -> None:
    """Refuse longer lists of the most likely tokens than the engine reports.

    A list of one passes on every engine when greedy sampling makes the chosen token the most likely one.

    Args:
        request: whose ``top_logprobs`` is checked.
        supported: how many of the most likely tokens the engine reports for each token.

    Raises:
        Unsupported: ``param`` is the field that the endpoint of *request* calls it by.
    """
    wanted = request.top_logprobs
    if wanted <= supported or (wanted == 1 and _picks_most_likely(request)):
        return
    if isinstance(request.prompt, ChatPrompt):
        param, instead = "top_logprobs", "leave it out"
    else:
        param, instead = "logprobs", "use 0, which gives the probability of each chosen token"
    limit = (
        "the engine reports the log probability of the chosen token only"
        if supported == 0
        else f"the engine reports at most {supported} of the most likely tokens"
    )
    raise Unsupported(
        f"'{param}' of {wanted} is not supported: {limit}; {instead}. "
        "1 is supported with 'temperature' 0, without penalties, response_format and echo.",
        param=param,
    )


def _picks_most_likely(request: GenerationRequest) -> bool:
    sampling = request.sampling
    greedy = Sampling(temperature=0, top_p=sampling.top_p, top_k=sampling.top_k, min_p=sampling.min_p)
    return sampling == greedy and request.constraint is None and not request.echo
