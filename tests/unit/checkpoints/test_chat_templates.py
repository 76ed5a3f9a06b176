"""Where the chat template of a checkpoint is read from. It is only read, never run."""

import json
from pathlib import Path

import pytest

from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from tests.oracle.gguf_llama import GgufLlama

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def read(directory: Path, **config: object) -> str | None:
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return open_source(directory).chat_template()


def test_a_directory_without_a_template_has_none(tmp_path: Path) -> None:
    assert open_source(tmp_path).chat_template() is None
    assert read(tmp_path, bos_token="<s>") is None
    assert read(tmp_path, chat_template=None) is None


def test_the_template_of_the_tokenizer_config_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, chat_template=TEMPLATE) == TEMPLATE


def test_of_several_templates_the_default_one_is_read(tmp_path: Path) -> None:
    tools = {"name": "tool_use", "template": "tools"}
    assert read(tmp_path, chat_template=[tools, {"name": "default", "template": TEMPLATE}]) == TEMPLATE
    assert read(tmp_path, chat_template=[tools, "text", {"name": "default", "template": 5}]) is None


def test_the_template_file_goes_before_the_tokenizer_config(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert read(tmp_path, chat_template="another") == TEMPLATE


@pytest.mark.parametrize(("value", "written"), [(5, "5"), (True, "true"), ({"name": "default"}, '{"name": "default"}')])
def test_a_template_that_is_no_text_is_refused_by_value(tmp_path: Path, value: object, written: str) -> None:
    with pytest.raises(CheckpointRefused) as refusal:
        read(tmp_path, chat_template=value)
    assert f"tokenizer_config.json: chat_template is {written}" in str(refusal.value)


def test_a_template_file_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(CheckpointRefused, match=r"chat_template\.jinja has 1048577 bytes; at most 1048576"):
        open_source(tmp_path).chat_template()


def test_the_template_of_a_gguf_file_is_in_its_metadata(tmp_path: Path) -> None:
    model = GgufLlama()
    without = model.write_gguf(tmp_path / "without.gguf", **{"tokenizer.chat_template": None})
    given = model.write_gguf(tmp_path / "given.gguf", **{"tokenizer.chat_template": TEMPLATE})
    number = model.write_gguf(tmp_path / "number.gguf", **{"tokenizer.chat_template": 5})
    assert open_source(without).chat_template() is None
    assert open_source(given).chat_template() == TEMPLATE
    with pytest.raises(CheckpointRefused, match=r"number\.gguf: tokenizer\.chat_template is 5"):
        open_source(number).chat_template()
