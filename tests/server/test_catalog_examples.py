"""The catalog's examples are reproducible with the shipped model: each is run again with its seed."""

from collections.abc import AsyncIterator

import pytest

from corral.bootstrap import Server, build
from corral.catalog.catalog import demo_catalog
from corral.catalog.page import Example
from corral.core.caller import Caller
from tests.demo_server import demo_settings
from tools.demo_examples import run_example

pytestmark = pytest.mark.anyio

EXAMPLES = {
    f"{example.model}: {example.input['prompt']}": example
    for model in demo_catalog().models()
    for example in model.page.examples
}


@pytest.fixture(scope="module")
async def server_and_caller(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Server, Caller]]:
    """The service that ``corral serve`` creates, without HTTP."""
    server = build(demo_settings(tmp_path_factory.mktemp("data")), lambda _: None)
    async with server.run():
        await server.engine.ready()
        caller = await server.account_services.keys.authenticate(server.api_key)
        assert caller is not None
        yield server, caller


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
async def test_catalog_example_is_reproduced(server_and_caller: tuple[Server, Caller], example: Example) -> None:
    server, caller = server_and_caller
    model = server.catalog.get(example.model)
    again = await run_example(server, caller, model, {**example.input, "seed": example.seed})
    assert "".join(again.output) == "".join(example.output)
    assert again.finish_reason == example.finish_reason
    assert (again.prompt_tokens, again.completion_tokens) == (example.prompt_tokens, example.completion_tokens)
