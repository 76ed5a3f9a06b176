"""Raw prompts write the vocabulary's own control tokens, and get a BOS only where the vocabulary wants one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.errors import InvalidRequest
from corral.text.chat.control_tokens import ControlTokens
from corral.text.chat.runs import ControlToken
from tests.prompts import encoder, user
from tests.unit.text.chat.byte_level import byte_level_tokenizer

CONTROL = ["<|begin|>", "<|im_start|>", "<|im_end|>", "<|im_end|>>", "<unk>"]
WITH_BOS = byte_level_tokenizer(CONTROL, bos="<|begin|>", ends=["<|im_end|>"])
WITHOUT = byte_level_tokenizer(CONTROL, ends=["<|im_end|>"])
WRITTEN = st.lists(st.sampled_from([*CONTROL, "<|im_", "<", "|>", ">", " ", "user", "\n", "\u00e9", "\U0001f999"])).map(
    "".join
)


def test_a_chat_written_as_a_raw_prompt_has_the_ids_of_the_chat() -> None:
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    for tokenizer in (WITH_BOS, WITHOUT):
        assert encoder(tokenizer, "chatml").raw_ids(text) == encoder(tokenizer, "chatml").chat_ids([user("Hi")])


def test_a_bos_leads_once_where_the_vocabulary_wants_one() -> None:
    bos, text = WITH_BOS.control_ids["<|begin|>"], WITH_BOS.encode("Hi")
    for prompt in ("Hi", "<|begin|>Hi", "<|begin|><|begin|>Hi"):
        assert encoder(WITH_BOS, "chatml").raw_ids(prompt) == [bos, *text]
    assert encoder(WITHOUT, "chatml").raw_ids("Hi") == text
    assert encoder(WITHOUT, "chatml").raw_ids("<|begin|><|begin|>Hi") == [bos, bos, *text]


def test_a_prompt_without_any_token_is_refused() -> None:
    assert encoder(WITH_BOS, "plain").raw_ids("") == [WITH_BOS.bos_token_id]
    with pytest.raises(InvalidRequest, match="prompt must not be empty: this model's prompts have no BOS") as refusal:
        encoder(WITHOUT, "plain").raw_ids("")
    assert refusal.value.param == "prompt"


def test_the_longer_of_two_control_tokens_is_found() -> None:
    tokens = ControlTokens({text: index for index, text in enumerate(["<a>", "<a>>", "<ab>", "[x]", "a"])})
    assert tokens.split("<a>><ab><a>b[x]a<a") == [
        *(
            ControlToken("<a>>"),
            ControlToken("<ab>"),
            ControlToken("<a>"),
            "b",
            ControlToken("[x]"),
            ControlToken("a"),
            "<",
        ),
        ControlToken("a"),
    ]
    assert ControlTokens({}).split("<a>") == ["<a>"]


@given(WRITTEN.filter(bool))
def test_the_pieces_of_a_byte_level_prompt_are_the_prompt_byte_for_byte(text: str) -> None:
    for tokenizer in (WITH_BOS, WITHOUT):
        prompts = encoder(tokenizer, "chatml")
        ids = prompts.raw_ids(text)
        pieces = prompts.written_pieces(ids, text=text)
        assert len(pieces) == len(ids)
        assert b"".join(pieces).decode() == text
        assert prompts.raw_ids(b"".join(prompts.written_pieces(ids)).decode()) == ids
        assert prompts.least_tokens(prompts.raw_runs(text)) <= len(ids)


def test_the_text_of_a_control_token_is_known_by_its_id() -> None:
    prompts = encoder(WITH_BOS, "chatml")
    assert (prompts.bos_text, prompts.eos_text) == ("<|begin|>", "<|im_end|>")
    assert prompts.control_text(WITH_BOS.control_ids["<|im_start|>"]) == "<|im_start|>"
    assert prompts.control_text(WITH_BOS.control_ids["<unk>"]) == ""
    assert prompts.control_text(0) == ""
    assert encoder(WITHOUT, "chatml").bos_text == ""
