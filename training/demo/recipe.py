"""Train the demo model from nothing and write it where the package ships it.

``training/demo/train.py`` starts it.
"""

import argparse
import logging
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
STEPS = 1150
BATCH_TOKENS = 4096
MATRIX_RATE = 0.02  # Muon's learning rate, for the matrices of the layers
OTHER_RATE = 0.003  # Adam's, for the embedding and the norms
WARMUP_STEPS = 30
DECAY_SHARE = 0.6  # the last part of the run, over which the rates fall to zero
TOKENIZER_CONVERSATIONS = 30_000
_LOG_STEPS = 20
_SAVE_STEPS = 200

logger = logging.getLogger("training.demo")


@dataclass
class Progress:
    """How far a run is; it ends after its steps, or when its time is up."""

    steps: int
    limit_s: float
    started_s: float
    step: int = 0

    @property
    def share(self) -> float:
        """Return the share of the run that is over, 0 to 1."""
        return max(self.step / self.steps, (time.monotonic() - self.started_s) / self.limit_s)

    @property
    def rate_factor(self) -> float:
        """Return what the learning rates are multiplied by now."""
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        return warm * min(1.0, max(0.0, 1.0 - self.share) / DECAY_SHARE)


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


def fit(model: Llama, batches: Iterator[Batch], progress: Progress, work: Path) -> float:
    """Train until the progress is over; return the loss averaged over the last 100 steps."""
    optimisers = optimisers_for(model)
    base_rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    losses: list[float] = []
    tokens = 0
    while progress.share < 1.0:
        batch = next(batches)
        loss = batch_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, rate in zip(optimisers, base_rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * progress.rate_factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        progress.step += 1
        tokens += batch.ids.numel()
        losses.append(loss.item())
        if progress.step % _LOG_STEPS == 0:
            spent_s = time.monotonic() - progress.started_s
            recent = sum(losses[-_LOG_STEPS:]) / _LOG_STEPS
            logger.info(
                "step %d  loss %.4f  %.0f tokens/s  %.1f min",
                progress.step, recent, tokens / spent_s, spent_s / 60,
            )  # fmt: skip
        if progress.step % _SAVE_STEPS == 0:
            torch.save(model.state_dict(), work / "checkpoint.pt")
    return sum(losses[-100:]) / max(1, len(losses[-100:]))


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
    parser.add_argument("--work", type=Path, default=Path("build/train-demo"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, default=240.0, help="a cap; steps decide")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="weights to go on from, instead of random ones")
    parser.add_argument("--seed", type=int, default=SEED, help="of the batches")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    arguments.work.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus()
    shape = LlamaShape()
    tokenizer = tokenizer_for(corpus, shape.vocab)
    model = Llama(shape)
    if arguments.start is not None:
        model.load_state_dict(torch.load(arguments.start))
    logger.info("%d parameters, %d token ids", model.parameter_count(), tokenizer.get_vocab_size())
    encoder = Encoder(tokenizer)
    batches = draw_batches(corpus, encoder, arguments.seed, BATCH_TOKENS)
    progress = Progress(arguments.steps, arguments.minutes * 60, time.monotonic())
    loss = fit(model, batches, progress, arguments.work)
    torch.save(model.state_dict(), arguments.work / "checkpoint.pt")
    minutes = (time.monotonic() - progress.started_s) / 60
    logger.info("%d steps in %.1f minutes, final loss %.4f", progress.step, minutes, loss)
    export(model, tokenizer, arguments.out)
    report(model, encoder, corpus)


if __name__ == "__main__":
    main()
