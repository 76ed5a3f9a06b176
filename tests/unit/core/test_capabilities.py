"""Requests for more log probabilities than the engine reports."""

from dataclasses import replace

import pytest

from corral.core.capabilities import check_top_logprobs
from corral.core.errors import Unsupported
from corral.core.generation import ChatPrompt, Constraint, GenerationRequest, Message, RawPrompt, Role, Sampling

CHAT = ChatPrompt((Message(role=Role.USER, content="Hello"),))
GREEDY = GenerationRequest(model="a/b", prompt=CHAT, sampling=Sampling(temperature=0), top_logprobs=1)


def test_one_is_supported_everywhere_when_the_chosen_token_is_the_most_likely() -> None:
    check_top_logprobs(GREEDY, supported=0)
    for other in (
        replace(GREEDY, sampling=Sampling(temperature=1)),
        replace(GREEDY, sampling=Sampling(temperature=0, frequency_penalty=1)),
        replace(GREEDY, constraint=Constraint(kind="regex", source="a")),
        replace(GREEDY, echo=True),
    ):
        check_top_logprobs(other, supported=1)
        with pytest.raises(Unsupported, match="'top_logprobs' of 1 is not supported"):
            check_top_logprobs(other, supported=0)


def test_the_refusal_names_the_field_of_the_endpoint_and_the_limit() -> None:
    five = replace(GREEDY, top_logprobs=5)
    check_top_logprobs(five, supported=5)
    with pytest.raises(Unsupported, match="at most 4 of the most likely tokens") as chat:
        check_top_logprobs(five, supported=4)
    with pytest.raises(Unsupported, match="use 0, which gives") as completion:
        check_top_logprobs(replace(five, prompt=RawPrompt("a")), supported=0)
    assert (chat.value.param, completion.value.param) == ("top_logprobs", "logprobs")
