"""Constrained answers match with every kind of vocabulary, read from the file that prompts are encoded with."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from jsonschema_rs import Draft202012Validator

from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.core.generation import Constraint
from corral.engines.base import EndReason
from corral.engines.openvino.options import OpenVinoOptions
from corral.engines.queued import QueuedEngine
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import CONTROL, byte_level_bytes, byte_level_config, byte_level_metadata, pieces
from tests.contract.test_constraints import (
    PATTERNS,
    PERSON,
    SCHEMAS,
    any_schema,
    asking,
    checked_engine,
    regex,
    schema,
)
from tests.engines import generate
from tests.oracle.gguf_llama import GgufLlama, vocabulary_metadata
from tests.oracle.llama import GQA
from tests.vocabulary import PIECES

pytestmark = pytest.mark.anyio

SCRIPTS = (
    "[\u0e01-\u0e2e]{2}\u3042+[\u4e00-\u4e10]",
    "[\U0001f600-\U0001f64f]{3}\u2028?[\u00e9\u00df]",
    "(<\\|im_end\\|>|<think>){2}",
)
"""Characters that are parts of several tokens, and texts that spell tokens."""


def write_byte_level(directory: Path) -> Path:
    """A directory with a byte-level ``tokenizer.json``."""
    checkpoint = replace(GQA, logit_gain=0.7, vocab=len(pieces()) + 5).write(directory)
    (checkpoint / "tokenizer.json").write_bytes(byte_level_bytes("qwen2"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(byte_level_config()))
    return checkpoint


def write_byte_level_gguf(directory: Path) -> Path:
    """A GGUF file with a byte-level vocabulary, padded."""
    metadata = byte_level_metadata("llama-bpe")
    model = GgufLlama(logit_gain=0.7, vocab=len(pieces()) + 2, kind="F32")
    changes = {key.replace(".", "__"): value for key, value in metadata.items()}
    return model.write_gguf(directory / "tiny.gguf", **changes, tokenizer__ggml__scores=None)


def write_broken_beside_good(directory: Path) -> Path:
    """A directory with a ``tokenizer.json`` that is refused, beside a good ``tokenizer.model``."""
    directory.mkdir(parents=True)
    source = GgufLlama().write_gguf(directory / "source.gguf", **_spelled(vocabulary_metadata(list(PIECES))))
    with GgufFile(source) as file:
        model = gguf_vocabulary(file).content
    source.unlink()
    checkpoint = replace(GQA, logit_gain=0.7, vocab=len(PIECES) + 5).write(directory)
    (checkpoint / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    (checkpoint / "tokenizer.model").write_bytes(model)
    return checkpoint


def _spelled(metadata: dict[str, object]) -> dict[str, object]:
    return {key.replace(".", "__"): value for key, value in metadata.items()}


WRITERS: dict[str, Callable[[Path], Path]] = {
    "byte-level directory": write_byte_level,
    "byte-level GGUF file": write_byte_level_gguf,
    "broken tokenizer.json beside tokenizer.model": write_broken_beside_good,
}


class Served:
    """An engine on a random model, with the tokenizer that a server would use."""

    def __init__(self, engine: QueuedEngine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self.tokenizer = tokenizer

    async def texts(self, constraint: Constraint, *, count: int = 12) -> list[str]:
        """Those of *count* answers that ended by themselves; no token in them stands for nothing."""
        asked = [asking(constraint, seed=seed) for seed in range(count)]
        made = await asyncio.gather(*(generate(self.engine, one) for one in asked))
        answers = [ids[:-1] for ids, end in made if end is EndReason.EOS]
        assert all(self.tokenizer.piece_bytes(token_id) for ids in answers for token_id in ids)
        return [b"".join(map(self.tokenizer.piece_bytes, ids)).decode() for ids in answers]


@pytest.fixture(scope="module", params=WRITERS)
async def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    directory = tmp_path_factory.mktemp("vocabularies")
    checkpoint = WRITERS[request.param](directory / "checkpoint")
    options = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(directory / "cache"), kv_blocks=128)
    engine = checked_engine(options)
    async with engine.run():
        await engine.ready()
        yield Served(engine, load_tokenizer(checkpoint))


async def test_every_answer_matches_its_schema(served: Served) -> None:
    for name, (source, matches) in SCHEMAS.items():
        texts = await served.texts(schema(source))
        assert all(matches(json.loads(text)) for text in texts), name
    assert await served.texts(schema(PERSON))


async def test_every_answer_matches_a_random_schema(served: Served) -> None:
    draw = Random(1)
    for _ in range(8):
        source = any_schema(draw)
        validator = Draft202012Validator(source)
        texts = await served.texts(schema(source), count=6)
        assert [text for text in texts if not validator.is_valid(json.loads(text))] == [], source


async def test_every_answer_matches_its_regular_expression(served: Served) -> None:
    for source in (*PATTERNS, *SCRIPTS):
        texts = await served.texts(regex(source))
        assert texts, source
        assert [text for text in texts if not re.fullmatch(source, text)] == [], source


async def test_spelled_control_tokens_are_written_in_plain_pieces(served: Served) -> None:
    (text, *_) = await served.texts(regex(re.escape(CONTROL[2])))
    assert text == CONTROL[2]
