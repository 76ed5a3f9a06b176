"""Recognise a directory or repository by the names in it, so that a refusal says what it holds and what to do.

Names are those at the top; a directory ends with a slash.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

ADAPTER_CONFIG: Final = "adapter_config.json"
_MOST_SHOWN: Final = 5
_MOST_NAME_CHARS: Final = 100
_TRAINING: Final = re.compile(
    r"(optimizer|scheduler|scaler)\.(pt|bin)|rng_state.*\.pth|training_args\.bin|trainer_state\.json|zero_to_fp32\.py"
    r"|(checkpoint|global_step)-?\d+/"
)
_TRAINING_STEP: Final = re.compile(r"(checkpoint|global_step)-?\d+/")
_PICKLE: Final = re.compile(r".*\.(bin|pt|pth|ckpt)")
_TRANSFORMERS_PICKLE: Final = re.compile(r"pytorch_model.*\.bin")

FORMATS: Final = (
    "Corral reads a directory in the Transformers format (config.json, *.safetensors, tokenizer.json or "
    "tokenizer.model) or a .gguf file."
)
_ORIGINAL: Final = "Use the model's own repository in the Transformers format (BF16, F16 or F32 safetensors)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryKind:
    """What a directory is or holds in place of a checkpoint that is read."""

    what: str
    """Predicate of a sentence: ``holds …``, ``is …``."""
    advice: str
    """Sentences that say what to do."""

    def of(self, place: str) -> str:
        """Return the sentences about *place*."""
        return f"{place} {self.what}. {self.advice}"


def top_level(paths: Collection[str]) -> frozenset[str]:
    """Reduce the file paths of a repository to the names at its top."""
    return frozenset(path.partition("/")[0] + ("/" if "/" in path else "") for path in paths)


def foreign_kind(names: Collection[str]) -> DirectoryKind | None:
    """Return what a directory is that is no language model, whatever weights are in it; None if it may be one."""
    if ADAPTER_CONFIG in names:
        return DirectoryKind(
            what=f"is a LoRA adapter ({ADAPTER_CONFIG}), not a whole model",
            advice="Merge it into its base model first (in the peft package: `merge_and_unload()`, then "
            f"`save_pretrained()`), and use the merged model. If the weights beside it are merged, delete "
            f"{ADAPTER_CONFIG}.",
        )
    if "model_index.json" in names:
        return DirectoryKind(
            what="is a Diffusers pipeline (model_index.json), which makes images",
            advice=f"Only language models are served. {FORMATS}",
        )
    if "modules.json" in names and "config_sentence_transformers.json" in names:
        return DirectoryKind(
            what="is a sentence-transformers model (modules.json), which makes embeddings",
            advice=f"Only language models are served. {FORMATS}",
        )
    return None


def without_weights(names: Collection[str], place: str) -> DirectoryKind:
    """Return what a directory without safetensors and GGUF weights holds.

    Args:
        names: at the top of the directory.
        place: path of the directory, or name of the repository, for a command that converts it.
    """
    for rule in _RULES:
        if found := _matching(names, rule.names):
            return DirectoryKind(what=rule.what.format(shown_names(found)), advice=rule.advice)
    training = _matching(names, _TRAINING)
    if pickles := [name for name in _matching(names, _PICKLE) if name not in training]:
        return _pickled(pickles, place)
    if training:
        return _training_state(training)
    if not names:
        return DirectoryKind(what="is empty", advice=FORMATS)
    return DirectoryKind(what=f"holds no weights: there is only {shown_names(names)}", advice=FORMATS)


def shown_names(names: Collection[str]) -> str:
    """Format names for a message: the first few, and how many more."""
    first = sorted(names)[:_MOST_SHOWN]
    more = len(names) - len(first)
    return ", ".join(map(_shown, first)) + (f" and {more} more" if more else "")


def _shown(name: str) -> str:
    """Shorten a name, and replace control characters, which a terminal would obey."""
    short = name if len(name) <= _MOST_NAME_CHARS else name[:_MOST_NAME_CHARS] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Recognises weights in another format by a name."""

    names: re.Pattern[str]
    what: str
    """Predicate, with ``{}`` for the names."""
    advice: str


_RULES: Final = (
    _Rule(
        names=re.compile(r"openvino_.*model\.xml"),
        what="is a model exported for OpenVINO ({})",
        advice=f"Corral converts the original weights itself. {_ORIGINAL}, or a .gguf file of it.",
    ),
    _Rule(
        names=re.compile(r".*\.onnx|onnx/"),
        what="is a model exported to ONNX ({})",
        advice=f"{_ORIGINAL}, or a .gguf file of it.",
    ),
    _Rule(
        names=re.compile(r".*\.npz"),
        what="holds its weights as NumPy arrays ({}), as MLX does",
        advice=f"{_ORIGINAL}, or a .gguf file of it.",
    ),
    _Rule(
        names=re.compile(r"consolidated\.\d+\.pth"),
        what="holds weights in Meta's original format ({})",
        advice=f"{_ORIGINAL}: its name often ends with -hf, as in meta-llama/Llama-2-7b-chat-hf.",
    ),
    _Rule(
        names=re.compile(r"consolidated.*\.safetensors"),
        what="holds weights in Mistral's own format only ({})",
        advice="Download the files of the Transformers format too: config.json and model*.safetensors.",
    ),
    _Rule(
        names=re.compile(r"tf_model.*\.h5|flax_model.*\.msgpack|model\.ckpt.*|saved_model\.pb"),
        what="holds weights of TensorFlow or Flax ({})",
        advice=f"{_ORIGINAL}.",
    ),
    _Rule(
        names=re.compile(r"snapshots/"),
        what="is a folder of the Hugging Face cache ({})",
        advice="Give the path of the snapshot that is in it: snapshots/<commit>.",
    ),
)


def _pickled(pickles: Collection[str], place: str) -> DirectoryKind:
    convert = (
        " If you trust the files, convert them where the transformers package is installed, and copy the tokenizer's "
        "files to the result:\n"
        "from transformers import AutoModelForCausalLM as Model\n"
        f'Model.from_pretrained({place!r}, torch_dtype="auto").save_pretrained("converted")'
    )
    return DirectoryKind(
        what=f"holds its weights only as pickles ({shown_names(pickles)}), which can run code when they are loaded",
        advice=f"Only *.safetensors are read.{convert if _matching(pickles, _TRANSFORMERS_PICKLE) else ''}",
    )


def _training_state(names: Collection[str]) -> DirectoryKind:
    steps = _matching(names, _TRAINING_STEP)
    saved = shown_names(steps) if steps else "the one with config.json and *.safetensors"
    return DirectoryKind(
        what=f"holds the state of a training ({shown_names(names)}), and no weights",
        advice=f"Give the directory of the saved model: {saved}.",
    )


def _matching(names: Collection[str], pattern: re.Pattern[str]) -> list[str]:
    return sorted(name for name in names if pattern.fullmatch(name))
