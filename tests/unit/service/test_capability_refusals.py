"""Features that a model's engine lacks are rejected by field name, before anything is held, charged or stored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import Unsupported
from corral.core.generation import Constraint, RawPrompt, Sampling
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES
from tests.engines import scripted_limits, scripted_worker
from tests.unit.service.harness import DOLLAR, ByteTokenizer, limited, open_account, serving

pytestmark = pytest.mark.anyio

REGEX = Constraint(kind="regex", source="a+")
RAW = RawPrompt("Hi")


@pytest.mark.parametrize(
    ("lacks", "asks", "field", "message"),
    [
        ({"echo": False}, {"echo": True}, "echo", "'echo' is not supported by the engine of this model: leave it out"),
        ({"logprobs": False}, {"pieces": True}, "logprobs", "'logprobs' is not supported by the engine of this model:"),
        (
            {"prompt_logprobs": False},
            {"echo": True, "pieces": True},
            "logprobs",
            "'logprobs' is not supported by the engine of this model together with 'echo': leave it out",
        ),
        ({"constraints": False}, {"constraint": REGEX}, "response_format", "'response_format' is not supported by the"),
        ({}, {"pieces": True, "top_logprobs": 2}, "top_logprobs", "'top_logprobs' of 2 is not supported"),
        ({"top_logprobs": 3}, {"pieces": True, "top_logprobs": 4}, "top_logprobs", "reports at most 3 of the most"),
        ({}, {"prompt": RAW, "pieces": True, "top_logprobs": 2}, "logprobs", "use 0, which gives the probability"),
        (
            {},
            {"sampling": Sampling(temperature=1), "pieces": True, "top_logprobs": 1},
            "top_logprobs",
            "1 is supported with 'temperature' 0",
        ),
    ],
)
async def test_feature_that_the_engine_lacks_is_rejected_by_field_and_costs_nothing(
    database: Path, lacks: dict[str, Any], asks: dict[str, Any], field: str, message: str
) -> None:
    engine = QueuedEngine(
        [scripted_worker(vocab_size=ByteTokenizer.vocab_size)],
        limits=scripted_limits(vocab_size=ByteTokenizer.vocab_size),
        capabilities=replace(SCRIPTED_CAPABILITIES, **lacks),
    )
    async with engine.run(), serving(database, engine) as harness:
        await open_account(harness)
        await engine.ready()
        with pytest.raises(Unsupported) as refused:
            async with harness.service.open(harness.ask(limited(5, **asks))):
                pass
        assert refused.value.param == field
        assert message in str(refused.value)
        account = await harness.account()
        assert (account.held_nusd, account.available_nusd) == (0, DOLLAR)
        assert await harness.service.page(harness.caller) == []
        assert engine.stats().emitted_tokens == 0
        assert len((await harness.answer(limited(5))).choices[0].ids) == 5
        await harness.balanced()
