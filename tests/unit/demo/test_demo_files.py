"""The shipped demo model is complete, small, and what its config says."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[3] / "src" / "corral" / "demo"
MAX_BYTES = 40 * 1024 * 1024


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((DEMO / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[int]]:
    with safe_open(DEMO / "model.safetensors", framework="numpy") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer()


def load_tokenizer() -> Tokenizer:
    loaded = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    loaded.encode_special_tokens = True
    return loaded


TOKENIZER = load_tokenizer()


def test_the_whole_folder_is_at_most_40_mib() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir() if path.is_file()) <= MAX_BYTES


def test_the_folder_holds_what_a_llama_checkpoint_needs() -> None:
    names = {path.name for path in DEMO.iterdir()}
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert needed | {"README.md", "__init__.py"} <= names


def test_the_model_has_5_to_20_million_parameters(shapes: dict[str, list[int]]) -> None:
    count = sum(_elements(shape) for shape in shapes.values())
    assert 5_000_000 <= count <= 20_000_000


def test_every_tensor_has_the_name_and_shape_that_the_config_implies(
    config: dict[str, Any], shapes: dict[str, list[int]]
) -> None:
    assert shapes == _expected_shapes(config)


def test_every_tensor_is_stored_as_bf16() -> None:
    with safe_open(DEMO / "model.safetensors", framework="numpy") as weights:
        types = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert types == {"BF16"}


def test_the_config_describes_a_llama_2_model(config: dict[str, Any]) -> None:
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"
    assert config["hidden_act"] == "silu"
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_theta"] == 10000.0
    assert config["max_position_embeddings"] == 4096
    assert config["tie_word_embeddings"] is True


def test_the_special_ids_are_those_of_llama_2(config: dict[str, Any], tokenizer: Tokenizer) -> None:
    generation = json.loads((DEMO / "generation_config.json").read_text(encoding="utf-8"))
    assert [tokenizer.token_to_id(text) for text in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    for described in (config, generation):
        assert (described["bos_token_id"], described["eos_token_id"]) == (1, 2)


def test_the_256_byte_tokens_follow_the_special_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)] == list(range(3, 259))


def test_the_tokenizer_has_as_many_ids_as_the_embedding_has_rows(config: dict[str, Any], tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == config["vocab_size"]


def test_no_learned_piece_has_a_space_inside(tokenizer: Tokenizer) -> None:
    assert not [piece for piece in tokenizer.get_vocab() if "\u2581" in piece[1:]]


def test_digits_are_always_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("2048").tokens == ["\u2581", "2", "0", "4", "8"]


def test_a_newline_is_its_byte(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a\nb").tokens == ["\u2581a", "<0x0A>", "b"]


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_round_trips_through_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["<s>", "</s>", "<unk>", "[INST]", " ", "a", "\u00e9"])))
def test_no_text_becomes_a_special_id(parts: list[str]) -> None:
    assert not {0, 1, 2} & set(TOKENIZER.encode("".join(parts)).ids)


def test_the_ten_prompts_are_ten_conversations_with_answers() -> None:
    listed = tomllib.loads(Path(__file__).with_name("ten_prompts.toml").read_text(encoding="utf-8"))["prompt"]
    assert len(listed) == 10
    assert len({prompt["name"] for prompt in listed}) == 10
    for prompt in listed:
        assert prompt["messages"][-1]["role"] == "user"
        assert prompt["answer"].strip()


def _elements(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _expected_shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    expected = {
        "model.embed_tokens.weight": [config["vocab_size"], hidden],
        "model.norm.weight": [hidden],
    }
    for layer in range(config["num_hidden_layers"]):
        of_layer = {
            "input_layernorm": [hidden],
            "post_attention_layernorm": [hidden],
            "self_attn.q_proj": [hidden, hidden],
            "self_attn.k_proj": [keys, hidden],
            "self_attn.v_proj": [keys, hidden],
            "self_attn.o_proj": [hidden, hidden],
            "mlp.gate_proj": [ffn, hidden],
            "mlp.up_proj": [ffn, hidden],
            "mlp.down_proj": [hidden, ffn],
        }
        expected |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    return expected
