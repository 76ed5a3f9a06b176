"""Local models served by name: from pulling them from the Hub to an answer."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.bootstrap import build
from corral.catalog.local import LocalModel, LocalModels
from corral.cli.main import app
from corral.core.errors import BadSetting
from corral.settings import Settings, load_settings
from tests.cli.processes import run_in_pipes
from tests.hub import PIECES, FakeHub, serving_hub, tiny_files
from tests.oracle.llama import TinyLlama
from tests.server.test_serve_command import PATIENCE_S, banner_of, serve
from tests.unit.text.conftest import document_of

pytestmark = pytest.mark.anyio

KEY = "ck_of-the-test"
NAME = "acme/tiny-chat"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A Hub."""
    with serving_hub() as hub:
        yield hub


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=PATIENCE_S) as answer:
        return json.load(answer)


def test_a_pulled_model_is_served_by_the_name_it_was_pulled_as(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(NAME, tiny_files(tmp_path / "there"))
    places = {"CORRAL_DATA_DIR": str(tmp_path / "data"), "CORRAL_HUB_URL": hub.url}
    for variable, value in places.items():
        monkeypatch.setenv(variable, value)
    assert run_in_pipes(app, ["pull", NAME, "--quantize", "f32"], b"").status == 0
    with serve("ACME/tiny-chat", "--chat-format", "llama-2", CORRAL_API_KEY=KEY, **places) as process:
        banner = banner_of(process)
        assert "(openvino, f32, context 512 tokens)" in banner
        url = next(line.split()[-1] for line in banner.splitlines() if line.startswith("Corral answers at"))
        assert [model["id"] for model in ask(url, "/v1/models")["data"]] == [NAME]
        asked = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        answer = ask(url, "/v1/chat/completions", asked)
        assert (answer["model"], answer["usage"]["completion_tokens"] > 0) == (NAME, True)
    assert len(list((tmp_path / "data" / "cache" / "models").glob("*/source.json"))) == 1


def settings(tmp_path: Path, **chosen: Any) -> Settings:
    return load_settings({"model": "me/mine", "data_dir": tmp_path / "data", "api_key": KEY, **chosen}, {})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A checkpoint that is registered as me/mine."""
    checkpoint = TinyLlama(vocab=len(PIECES)).write(tmp_path / "tiny")
    (checkpoint / "tokenizer.json").write_text(json.dumps(document_of(PIECES, [])))
    local = LocalModels(tmp_path / "data")
    local.register(LocalModel(name="me/mine", path=checkpoint, revision=None, quantize="bf16"))
    return checkpoint


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(("chosen", "weights"), [({}, "bf16"), ({"quantize": "f32"}, "f32")])
async def test_weights_are_stored_as_they_were_converted_unless_the_settings_say_otherwise(
    tmp_path: Path, chosen: dict[str, str], weights: str
) -> None:
    made = build(settings(tmp_path, **chosen), lambda _: None)
    async with made.run():
        await made.engine.ready()
        assert (made.engine.info.weights, made.catalog.models()[0].id) == (weights, "me/mine")


def test_a_model_that_was_moved_away_is_named(tmp_path: Path, mine: Path) -> None:
    shutil.rmtree(mine)
    with pytest.raises(BadSetting, match=f"me/mine was at {mine}, which is not there any more"):
        build(settings(tmp_path), lambda _: None)


@pytest.mark.usefixtures("mine")
def test_weights_of_another_shape_are_rejected_unless_used_as_stand_in(tmp_path: Path) -> None:
    known = "meta/llama-2-7b-chat"
    with pytest.raises(BadSetting, match=f"cannot be {known}: hidden_size .* 4096"):
        build(settings(tmp_path, served_as=known), lambda _: None)
    with pytest.raises(BadSetting, match=r"\(--as\): 'mine' cannot be a model's name"):
        build(settings(tmp_path, served_as="mine"), lambda _: None)
    for chosen in ({"served_as": known}, {"stands_in": True}):
        with pytest.raises(BadSetting, match="corral/demo is served"):
            build(settings(tmp_path, model="corral/demo", **chosen), lambda _: None)


@pytest.mark.usefixtures("mine")
async def test_a_stand_in_answers_to_known_names_and_says_so(tmp_path: Path) -> None:
    made = build(settings(tmp_path, served_as="acme/tiny", stands_in=True), lambda _: None)
    assert [model.id for model in made.catalog.models() if not model.stands_in] == ["acme/tiny"]
    assert made.catalog.get("meta/llama-2-70b-chat").stands_in
    await made.store.close()


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("model", ["me/mine", "corral/demo"])
async def test_price_book_may_list_models_that_are_not_served(tmp_path: Path, model: str) -> None:
    price = "since = 2026-01-01\ninput_usd_per_million = '1'\noutput_usd_per_million = '1'\n"
    (tmp_path / "prices.toml").write_text("".join(f'[["{name}"]]\n{price}' for name in ("me/mine", "corral/demo")))
    made = build(settings(tmp_path, model=model, prices=tmp_path / "prices.toml"), lambda _: None)
    assert made.catalog.get(model).prices[-1].price.input_nusd == 1000
    await made.store.close()
