"""The demo corpus is reproducible from a seed and excludes held-out questions."""

from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from training.demo.corpus import Conversation, Corpus, Turn, draw_conversation, held_out_conversations, load_corpus
from training.demo.encoding import IGNORED, Encoder

DEMO = Path(__file__).parents[3] / "src" / "corral" / "demo"
BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(Tokenizer.from_file(str(DEMO / "tokenizer.json")))


def test_same_seed_gives_the_same_conversations(corpus: Corpus) -> None:
    first, second = Random(7), Random(7)
    assert [draw_conversation(corpus, first) for _ in range(200)] == [
        draw_conversation(corpus, second) for _ in range(200)
    ]


def test_every_pattern_expands_to_text_without_marks_of_the_grammar(corpus: Corpus) -> None:
    rng = Random(1)
    patterns = [pattern for intent in corpus.intents.values() for pattern in intent.questions]
    for pattern in [*patterns, *corpus.fallback["patterns"]]:
        text = corpus.grammar.expand(pattern, rng)
        assert text
        assert "$" not in text
        assert "|" not in text


def test_held_out_questions_are_never_drawn(corpus: Corpus) -> None:
    rng = Random(2)
    held_out = {conversation.turns[0].user.casefold() for _, conversation in held_out_conversations(corpus)}
    drawn = {turn.user.casefold() for _ in range(5000) for turn in draw_conversation(corpus, rng).turns}
    assert len(held_out) > 200
    assert not held_out & drawn


def test_a_conversation_is_encoded_turn_by_turn_with_the_system_prompt_in_the_first(encoder: Encoder) -> None:
    conversation = Conversation((Turn("Hi", "Hello"), Turn("Bye", "")), system="Be brief.")
    closed = encoder.text("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello ")
    opened = encoder.text("[INST] Bye [/INST]")
    assert encoder.prompt(conversation) == [BOS, *closed, EOS, BOS, *opened]


def test_every_label_is_the_next_token_of_an_answer_or_its_end(encoder: Encoder) -> None:
    sample = encoder.sample(Conversation((Turn("Hi", "Hello there"),)))
    learned = [label for label in sample.labels if label != IGNORED]
    assert learned == [*encoder.text("Hello there"), EOS]
    assert sample.labels[-1] == EOS
    assert len(sample.ids) == len(sample.labels) == len(sample.positions)


def test_foreign_history_is_masked_from_the_loss(encoder: Encoder) -> None:
    history = Turn("Hi", "Bonjour", learn=False)
    sample = encoder.sample(Conversation((history, Turn("Bye", "Goodbye"))))
    assert [label for label in sample.labels if label != IGNORED] == [*encoder.text("Goodbye"), EOS]


def test_a_continued_answer_adds_up_to_the_whole_answer(encoder: Encoder) -> None:
    answer = "A llama is a domesticated animal from the Andes."
    conversation = Conversation((Turn("What is a llama?", answer),), kind="continued")
    for seed in range(20):
        sample = encoder.continued(conversation, Random(seed))
        written = sample.ids[len(encoder.prompt(conversation)) :]
        assert encoder.decode(written) == answer


def test_every_answer_survives_the_tokenizer(corpus: Corpus, encoder: Encoder) -> None:
    for name in corpus.intents:
        for chef in (False, True):
            answer = corpus.answer_to(name, chef=chef)
            assert encoder.decode(encoder.text(answer)) == answer
