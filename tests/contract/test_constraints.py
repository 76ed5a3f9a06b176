"""Constrained answers of a random model at temperature 1 match, or the constraint is rejected."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from jsonschema_rs import Draft202012Validator

from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint, Sampling
from corral.engines.base import EndReason, Engine, EngineRequest
from corral.engines.checker import CHECKER_STEP_TIMEOUT_S, make_checker
from corral.engines.openvino.limits import read_limits
from corral.engines.openvino.options import OPENVINO_CAPABILITIES, OpenVinoOptions
from corral.engines.queued import QueuedEngine
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from tests.engines import generate, request, scripted_engine, until_idle, worker_pid
from tests.oracle.llama import GQA
from tests.vocabulary import text_of, write_with_vocabulary

pytestmark = pytest.mark.anyio

WARM = Sampling(temperature=1.0)


def checked_engine(options: OpenVinoOptions) -> QueuedEngine:
    """An engine and its checker, as a server has them."""

    def launch(*, checker_model: bool) -> WorkerLaunch:
        chosen = asdict(replace(options, checker_model=checker_model))
        return WorkerLaunch(engine="openvino", options=chosen, environment=dict(os.environ))

    limits = read_limits(options, max_sequences=256)
    checker_worker = SubprocessWorker(launch(checker_model=True), step_timeout_s=CHECKER_STEP_TIMEOUT_S)
    return QueuedEngine(
        [SubprocessWorker(launch(checker_model=False))],
        limits=limits,
        capabilities=OPENVINO_CAPABILITIES,
        checker=make_checker(checker_worker, vocab_size=limits.vocab_size),
    )


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[QueuedEngine]:
    """A flat random model, so that nothing but the constraint shapes its answers."""
    directory = tmp_path_factory.mktemp("constrained")
    checkpoint = write_with_vocabulary(replace(GQA, logit_gain=0.7), directory / "checkpoint")
    options = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(directory / "cache"), kv_blocks=128)

    made = checked_engine(options)
    async with made.run():
        await made.ready()
        yield made


def schema(value: object) -> Constraint:
    return Constraint(kind="json_schema", source=json.dumps(value))


def regex(source: str) -> Constraint:
    return Constraint(kind="regex", source=source)


def asking(constraint: Constraint | None, *, seed: int = 0, max_new_tokens: int = 150) -> EngineRequest:
    asked = request(5, 6, 7, sampling=WARM, seed=seed, max_new_tokens=max_new_tokens)
    return replace(asked, constraint=constraint)


async def answers(engine: Engine, constraint: Constraint, *, count: int = 24) -> list[str]:
    """Those of *count* answers that ended by themselves."""
    made = await asyncio.gather(*(generate(engine, asking(constraint, seed=seed)) for seed in range(count)))
    return [text_of(ids).decode() for ids, end in made if end is EndReason.EOS]


def any_schema(draw: Random, depth: int = 0) -> dict[str, Any]:
    """A schema of the kinds that are enforced, nested up to three times."""
    low = draw.randrange(0, 300)
    makers: list[Callable[[], dict[str, Any]]] = [
        lambda: {"enum": draw.choices(ENUM, k=draw.randrange(1, 9))},
        lambda: {"type": "integer", "minimum": low, "maximum": low + draw.randrange(900)},
        lambda: {"type": draw.choice(["boolean", "null", "integer", "number"])},
        lambda: {"type": "string", "maxLength": draw.randrange(8)},
    ]
    if depth < 3:
        names = draw.sample(NAMES, draw.randrange(5))
        makers += [
            lambda: {"anyOf": [any_schema(draw, depth + 1) for _ in range(draw.randrange(1, 4))]},
            lambda: {"type": "array", "items": any_schema(draw, depth + 1), "maxItems": draw.randrange(4)},
            lambda: {"type": "object", "additionalProperties": any_schema(draw, depth + 1)},
            lambda: {
                "type": "object",
                "properties": {name: any_schema(draw, depth + 1) for name in names},
                "required": [name for name in names if draw.random() < 0.5],
                "additionalProperties": False,
            },
        ]
    return draw.choice(makers)()


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ENUM = [*range(-20, 21), "low", "lower", "l", 'a"b', "\u00e9", None, True]
TREE = {
    "$defs": {
        "node": {
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
            },
            "required": ["value", "children"],
        }
    },
    "$ref": "#/$defs/node",
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}, "email": {"type": "null"}},
    "required": ["name", "age"],
}
NAMES = [
    '"',
    "\\",
    "a\nb",
    "\x01",
    "\x7f",
    "\u00e9",
    "\u65e5\u672c",
    "\U0001f999",
    "\u2028",
    "",
    "a",
    "ab",
    "$ref",
    "{",
    "]",
]
NAMED = {
    "type": "object",
    "properties": {name: {"type": "integer", "minimum": 0, "maximum": 9} for name in NAMES},
    "required": NAMES[::2],
}
SCHEMAS: dict[str, tuple[object, Callable[[Any], object]]] = {
    "object": (PERSON, lambda v: {"name", "age"} <= set(v) <= set(PERSON["properties"]) and len(v["name"]) <= 9),
    "any object": ({"type": "object"}, lambda v: isinstance(v, dict)),
    "anything": ({}, lambda _: True),
    "map of integers": ({"additionalProperties": {"type": "integer"}}, lambda v: all(map(is_integer, v.values()))),
    "string of a length": ({"type": "string", "minLength": 3, "maxLength": 12}, lambda v: 3 <= len(v) <= 12),
    "pattern": ({"type": "string", "pattern": "^.[^a]{2}$"}, lambda v: re.fullmatch(".[^a]{2}", v)),
    "date": ({"type": "string", "format": "date"}, lambda v: re.fullmatch(r"\d{4}-\d\d-\d\d", v)),
    "options that begin alike": ({"anyOf": [PERSON, {"enum": ENUM}, {"items": PERSON}]}, lambda v: v is not False),
    "range": ({"type": "integer", "minimum": 99, "exclusiveMaximum": 1013}, lambda v: 99 <= v < 1013),
    "range about zero": ({"type": "integer", "minimum": -20, "maximum": 20}, lambda v: -20 <= v <= 20),
    "enum": ({"enum": ENUM}, lambda v: v in ENUM),
    "array": ({"items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}, lambda v: 2 <= len(v) <= 3),
    "tuple": ({"prefixItems": [{"type": "null"}, {"type": "integer"}]}, lambda v: v[0] is None and is_integer(v[1])),
    "nullable": ({"type": ["integer", "null"]}, lambda v: v is None or is_integer(v)),
    "tree": (TREE, lambda v: is_integer(v["value"]) and len(v["children"]) <= 1),
    "names with quotes, controls and letters of any script": (NAMED, lambda v: set(NAMES[::2]) <= set(v) <= set(NAMES)),
    "time": ({"type": "string", "format": "date-time"}, datetime.fromisoformat),
    "uuid": ({"type": "string", "format": "uuid"}, UUID),
    "range without end": ({"type": "integer", "minimum": 12}, lambda v: v >= 12),
}
PATTERNS = (
    "[a-z]{3,8}-[0-9]{2}",
    "(cat|dog)s? .{1,9}",
    r"\(\d{3}\) \d{3}-\d{4}",
    "aabb|aac|acab|bbb|bbcc|cc",
    "[^a-z]{9}",
    r"\S+?\s[\u0400-\u04ff]{2}",
)


@pytest.mark.parametrize("name", SCHEMAS)
async def test_every_answer_matches_its_schema(engine: Engine, name: str) -> None:
    source, matches = SCHEMAS[name]
    texts = await answers(engine, schema(source))
    assert texts
    assert all(matches(json.loads(text)) for text in texts)


async def test_every_answer_matches_a_random_schema(engine: Engine) -> None:
    draw = Random(0)
    for _ in range(25):
        source = any_schema(draw)
        validator = Draft202012Validator(source)
        texts = await answers(engine, schema(source), count=6)
        assert [text for text in texts if not validator.is_valid(json.loads(text))] == [], source


@pytest.mark.parametrize(
    "source",
    [
        {"properties": {"x": {"type": "boolean"}}, "required": ["x"]},
        PERSON,
        {"items": {"type": "integer"}, "maxItems": 3},
    ],
)
async def test_json_whitespace_between_tokens_is_bounded(engine: Engine, source: object) -> None:
    texts = await answers(engine, schema(source))
    assert len(texts) == 24  # none ran on to max_tokens
    gaps = {gap for text in texts for gap in re.findall(r"\s+", re.sub(r'"([^"\\]|\\.)*"', '""', text))}
    assert all(re.fullmatch(r" |\n {0,16}", gap) for gap in gaps)


@pytest.mark.parametrize("source", PATTERNS)
async def test_every_answer_matches_its_regular_expression(engine: Engine, source: str) -> None:
    texts = await answers(engine, regex(source))
    assert texts
    assert all(re.fullmatch(source, text) for text in texts)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(top_k=1),
        Sampling(top_p=0.01),
        Sampling(min_p=0.9),
        Sampling(repetition_penalty=3.0),
        Sampling(presence_penalty=2.0, frequency_penalty=2.0),
        Sampling(temperature=5.0),
    ],
    ids=str,
)
async def test_no_sampling_value_breaks_a_constraint(engine: Engine, sampling: Sampling) -> None:
    ids, end = await generate(engine, replace(asking(regex(PATTERNS[0])), sampling=sampling))
    assert re.fullmatch(PATTERNS[0], text_of(ids).decode())
    assert end is EndReason.EOS


async def test_constrained_and_free_answers_share_a_batch_without_interference(engine: Engine) -> None:
    asked = [asking(schema(PERSON) if seed % 2 else None, seed=seed, max_new_tokens=60) for seed in range(8)]
    alone = [await generate(engine, one) for one in asked]
    assert await asyncio.gather(*(generate(engine, one) for one in asked)) == alone


async def test_constrained_answer_at_its_token_limit_ends_with_length(engine: Engine) -> None:
    ids, end = await generate(engine, asking(schema({"type": "string", "minLength": 100}), max_new_tokens=20))
    assert (len(ids), end) == (20, EndReason.LENGTH)
    assert text_of(ids).startswith(b'"')


async def test_a_constrained_run_survives_the_death_of_its_worker(engine: QueuedEngine) -> None:
    asked = replace(asking(schema({"items": {"type": "integer"}, "minItems": 150}), max_new_tokens=300))
    undisturbed = await generate(engine, asked)
    restarts = engine.stats().restarts
    ids: list[int] = []
    end = None
    async with engine.open(asked) as run:
        async for batch in run:
            ids, end = [*ids, *batch.ids], batch.end
            if len(ids) >= 30 and engine.stats().restarts == restarts and (pid := worker_pid(engine)):
                os.kill(pid, signal.SIGKILL)
                while engine.stats().restarts == restarts:
                    await asyncio.sleep(0)
    assert (ids, end) == undisturbed
    assert engine.stats().restarts == restarts + 1


async def test_resumed_constrained_answer_continues_with_the_same_tokens(engine: Engine) -> None:
    asked = asking(schema(PERSON))
    whole, end = await generate(engine, asked)
    assert await generate(engine, replace(asked, emitted_ids=tuple(whole[:5]))) == (whole[5:], end)


@pytest.mark.parametrize(
    "constraint",
    [
        schema({"not": {}}),
        schema({"$ref": "https://example.com"}),
        regex("("),
        regex("(?=a)"),
        regex("((a{100}){100}){100}"),
        regex("([a-z ]{0,9}[0-9]?){30}" * 2),
        Constraint(kind="json_schema", source="{" * 10**5),
        Constraint(kind="json_schema", source='{"a":' * 10**4),
    ],
    ids=lambda one: one.source[:30],
)
async def test_hostile_constraint_is_rejected_and_other_runs_continue(engine: Engine, constraint: Constraint) -> None:
    before, pid = engine.stats(), worker_pid(engine)
    neighbour = asyncio.ensure_future(generate(engine, asking(None, max_new_tokens=200)))
    with pytest.raises(InvalidRequest) as refused:
        await generate(engine, asking(constraint))
    assert refused.value.param == "response_format"
    await neighbour
    assert engine.stats().restarts == before.restarts
    assert worker_pid(engine) == pid
    await until_idle(engine)


async def test_constraint_decides_the_answer_length(engine: Engine) -> None:
    for change in ({"min_new_tokens": 3}, {"ignore_eos": True}):
        with pytest.raises(InvalidRequest):
            await generate(engine, replace(asking(regex("a")), **change))


async def test_checkpoint_without_a_tokenizer_rejects_constraints(tmp_path: Path) -> None:
    checkpoint = GQA.write(tmp_path / "checkpoint")
    options = OpenVinoOptions(checkpoint=str(checkpoint), cache_dir=str(tmp_path / "cache"), kv_blocks=16)
    engine = checked_engine(options)
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest, match="cannot be constrained"):
            await generate(engine, asking(regex("a")))
        await generate(engine, asking(None))


async def test_engine_without_a_checker_rejects_constraints() -> None:
    engine = scripted_engine(answer=(5, 6))
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest, match="cannot be constrained"):
            await generate(engine, asking(regex("a")))
