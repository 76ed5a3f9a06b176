"""Train the demo model from nothing and write it where the package ships it.

``training/demo/train.py`` starts it.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from training.demo.batches import Batch, draw_batches
from training.demo.corpus import Corpus, draw_conversation, held_out_conversations, load_corpus
from training.demo.encoding import IGNORED, Encoder
from training.demo.evaluate import exact, greedy, quantized, rounded
from training.demo.export import export
from training.demo.model import Llama, LlamaShape
from training.demo.muon import Muon
from training.demo.tokenizer import learn_tokenizer

SEED = 20
BATCH_TOKENS = 4096
MATRIX_RATE = 0.02  # Muon's learning rate, for the matrices of the layers
OTHER_RATE = 0.003  # Adam's, for the embedding and the norms
TOKENIZER_CONVERSATIONS = 30_000
_LOG_STEPS = 20
_SAVE_STEPS = 200

logger = logging.getLogger("training.demo")


@dataclass(frozen=True)
class Stage:
    """A training stage: its data mix, and its learning rates as shares of the full ones."""

    steps: int
    cut_share: float  # of the last answers; the rest is learned to its end
    warmup_steps: int
    first_rate: float  # held for hold_share of the stage ...
    last_rate: float  # ... then approached in a straight line
    hold_share: float
    seed: int

    def rate(self, step: int, share: float) -> float:
        """Return the learning rate multiplier at a step and a share of the stage."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        fallen = max(0.0, share - self.hold_share) / (1.0 - self.hold_share)
        return warm * (self.first_rate + fallen * (self.last_rate - self.first_rate))


# First the answers; then, now that these are known by heart, mostly the choice among them; then twice more, to settle.
# The weights that ship are the mean of the last two ends, which is better than either.
STAGES = (
    Stage(steps=600, cut_share=0.5, warmup_steps=30, first_rate=1.0, last_rate=0.4, hold_share=0.53, seed=20),
    Stage(steps=205, cut_share=0.8, warmup_steps=10, first_rate=0.4, last_rate=0.0, hold_share=0.0, seed=22),
    Stage(steps=56, cut_share=0.8, warmup_steps=10, first_rate=0.25, last_rate=0.0, hold_share=0.0, seed=23),
    Stage(steps=74, cut_share=0.8, warmup_steps=10, first_rate=0.4, last_rate=0.0, hold_share=0.2, seed=24),
)


@dataclass(frozen=True)
class Clock:
    """Time limit of a stage; it ends after its steps or this time, whichever is first."""

    started_s: float
    limit_s: float

    @property
    def spent_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started_s


def tokenizer_for(corpus: Corpus, vocab: int) -> Tokenizer:
    """Learn the tokenizer from conversations of their own seed."""
    rng = Random(SEED + 1)

    def texts() -> Iterator[str]:
        for _ in range(TOKENIZER_CONVERSATIONS):
            conversation = draw_conversation(corpus, rng)
            if conversation.system is not None and rng.random() < 0.3:
                yield f"[INST] <<SYS>>\n{conversation.system}\n<</SYS>>\n\nHello [/INST]"
            for turn in conversation.turns:
                yield f"[INST] {turn.user} [/INST] {turn.answer}"

    return learn_tokenizer(texts(), vocab)


def shipped_tokenizer(directory: Path) -> Tokenizer:
    """Return the tokenizer of the weights that training continues from."""
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def optimisers_for(model: Llama) -> list[torch.optim.Optimizer]:
    """Give layer matrices to Muon, and the embedding and norms to Adam."""
    layers = list(model.model.layers.parameters())
    matrices = [weight for weight in layers if weight.dim() == 2]
    others = [weight for weight in model.parameters() if all(weight is not m for m in matrices)]
    return [
        Muon(matrices, lr=MATRIX_RATE),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def batch_loss(model: Llama, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy, in nats per answer token, as a scalar."""
    states = model.hidden_states(batch.ids, batch.positions)
    learned = batch.labels != IGNORED
    return functional.cross_entropy(model.logits(states[learned]), batch.labels[learned])


def fit(model: Llama, batches: Iterator[Batch], stage: Stage, clock: Clock, work: Path) -> None:
    """Train for one stage, logging and saving as it goes."""
    optimisers = optimisers_for(model)
    full_rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    losses: list[float] = []
    tokens = 0
    while (share := max(len(losses) / stage.steps, clock.spent_s / clock.limit_s)) < 1.0:
        batch = next(batches)
        loss = batch_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, rate in zip(optimisers, full_rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * stage.rate(len(losses), share)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += batch.ids.numel()
        if len(losses) % _LOG_STEPS == 0:
            logger.info(
                "step %d  loss %.4f  %.0f tokens/s  %.1f min",
                len(losses), _mean(losses[-_LOG_STEPS:]), tokens / clock.spent_s, clock.spent_s / 60,
            )  # fmt: skip
        if len(losses) % _SAVE_STEPS == 0:
            torch.save(model.state_dict(), work / "checkpoint.pt")
    torch.save(model.state_dict(), work / "checkpoint.pt")
    logger.info("%d steps in %.1f minutes, loss %.4f", len(losses), clock.spent_s / 60, _mean(losses[-100:]))


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def mean_of(ends: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of several sets of weights."""
    return {name: torch.stack([end[name] for end in ends]).mean(dim=0) for name in ends[0]}


def report(model: Llama, encoder: Encoder, corpus: Corpus) -> None:
    """Log held-out accuracy, with BF16 and with int8 weights, and every miss."""
    cases = held_out_conversations(corpus)
    conversations = [conversation for _, conversation in cases]
    shipped = rounded(model)
    verdicts = exact(shipped, encoder, conversations)
    eight_bit = exact(quantized(shipped), encoder, conversations)
    for (name, conversation), right in zip(cases, verdicts, strict=True):
        if not right:
            ids = greedy(shipped, encoder.prompt(conversation), max_tokens=24)
            logger.info("missed %s: %r -> %r", name, conversation.turns[0].user, encoder.decode(ids))
    known = [right for (name, _), right in zip(cases, verdicts, strict=True) if name != "fallback"]
    logger.info(
        "held-out prompts answered exactly: %d of %d (known topics %d of %d); with int8 weights %d",
        sum(verdicts), len(verdicts), sum(known), len(known), sum(eight_bit),
    )  # fmt: skip


def main() -> None:
    """Parse the command line, train, report, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/corral/demo"))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "corral-train-demo")
    parser.add_argument("--minutes", type=float, default=240.0, help="a cap per stage; steps decide")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="go on from these weights of a stage before")
    parser.add_argument("--stage", type=int, default=0, help="the first stage to run, from 0")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    arguments.work.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus()
    shape = LlamaShape()
    tokenizer = tokenizer_for(corpus, shape.vocab) if arguments.start is None else shipped_tokenizer(arguments.out)
    model = Llama(shape)
    if arguments.start is not None:
        model.load_state_dict(torch.load(arguments.start))
    logger.info("%d parameters, %d token ids", model.parameter_count(), tokenizer.get_vocab_size())
    encoder = Encoder(tokenizer)
    ends: list[dict[str, torch.Tensor]] = []
    for stage in STAGES[arguments.stage :]:
        batches = draw_batches(corpus, encoder, Random(stage.seed), BATCH_TOKENS, stage.cut_share)
        fit(model, batches, stage, Clock(time.monotonic(), arguments.minutes * 60), arguments.work)
        ends.append({name: weight.clone() for name, weight in model.state_dict().items()})
    model.load_state_dict(mean_of(ends[-2:]))
    export(model, tokenizer, arguments.out)
    report(model, encoder, corpus)


if __name__ == "__main__":
    main()
