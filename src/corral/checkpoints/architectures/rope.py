"""Read how a configuration scales rotary positions."""

from collections.abc import Mapping
from math import isfinite, pi
from typing import Final, cast

from corral.checkpoints.architectures.fields import check_only, read_integer, read_number
from corral.checkpoints.architectures.shape import Rope
from corral.checkpoints.config import Config, as_list

DIVISORS: Final = "rope_freqs.weight"
"""Field with the divisors themselves. GGUF files have a tensor of this name; ``config.json`` has no such field."""

_MOST_THETA: Final = 1e12
_MOST_FACTOR: Final = 1e6
_MOST_TOKENS: Final = 2**24
_LLAMA3: Final = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {"default": (), "linear": ("factor",), "llama3": ("factor", *_LLAMA3)}
_ALWAYS_KNOWN: Final = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
_OPTIONAL: Final = "remove it if it was only added for longer prompts, else choose another checkpoint"
_REMEDIES: Final[Mapping[str, str]] = {"yarn": _OPTIONAL, "dynamic": _OPTIONAL}


def read_rope(config: Config, head_dim: int) -> Rope:
    """Read ``rope_theta`` and ``rope_scaling``, or ``rope_parameters``, where newer versions of Transformers put both.

    Raises:
        CheckpointRefused: the scaling is of another kind, or has other fields, than those that are computed.
    """
    nested = _nested(config)
    kind = _kind(nested)
    holder = nested if "rope_theta" in nested.values else config
    theta = read_number(holder, "rope_theta", least=1.0, most=_MOST_THETA, default=10_000.0)
    divisors = [1.0] * (head_dim // 2)
    match kind:
        case "linear":
            divisors = [_factor(nested)] * (head_dim // 2)
        case "llama3":
            divisors = _llama3_divisors(config, nested, Rope(theta=theta).frequencies(head_dim))
        case _:
            pass
    if (given := config.get(DIVISORS)) is not None:
        divisors = [own * more for own, more in zip(divisors, _check_divisors(config, given, head_dim), strict=True)]
    return Rope(theta=theta, divisors=None if set(divisors) == {1.0} else tuple(divisors))


def _nested(config: Config) -> Config:
    """Get the object with the scaling as a configuration of its own; empty if there is none."""
    scaling, parameters = config.get("rope_scaling"), config.get("rope_parameters")
    if scaling is not None and parameters is not None:
        raise config.refused("rope_scaling", scaling, "rope_parameters is there too: remove one of them")
    name, value = ("rope_scaling", scaling) if parameters is None else ("rope_parameters", parameters)
    if value is None:
        return Config(file=config.file, values={})
    if not isinstance(value, dict):
        raise config.refused(name, value, "it must be an object")
    values = cast("dict[str, object]", value)
    fields = {*values, *_ALWAYS_KNOWN, "factor", *_LLAMA3}
    spellings = {field: config.spellings.get(f"{name}.{field}", f"{name}.{field}"[:100]) for field in fields}
    return Config(file=config.file, values=values, spellings=spellings)


def _kind(nested: Config) -> str:
    name = "type" if "type" in nested.values and "rope_type" not in nested.values else "rope_type"
    kind = nested.get(name, "default")
    if not isinstance(kind, str) or kind not in _KNOWN:
        remedy = _REMEDIES.get(kind, "choose another checkpoint") if isinstance(kind, str) else "correct it"
        raise nested.refused(name, kind, f'only "default", "linear" and "llama3" are supported: {remedy}')
    check_only(nested, "type", kind, "rope_type says otherwise")
    check_only(nested, "partial_rotary_factor", 1.0)
    for field, value in nested.values.items():
        if field not in (*_ALWAYS_KNOWN, *_KNOWN[kind]) and value is not None:
            raise nested.refused(field, value, f'it has no known meaning with the rope_type "{kind}": remove it')
    return kind


def _factor(nested: Config) -> float:
    return read_number(nested, "factor", least=0.0, most=_MOST_FACTOR)


def _llama3_divisors(config: Config, nested: Config, frequencies: tuple[float, ...]) -> list[float]:
    """Divide low frequencies by ``factor``, high ones by nothing, those between by something between.

    Low and high are said by the number of turns that a pair makes in the context of the first training.
    """
    factor = _factor(nested)
    low = read_number(nested, "low_freq_factor", least=0.0, most=_MOST_FACTOR)
    high = read_number(nested, "high_freq_factor", least=0.0, most=_MOST_FACTOR)
    if high <= low:
        raise nested.refused("high_freq_factor", high, f"it must be above low_freq_factor, {low:g}")
    tokens = read_integer(nested, "original_max_position_embeddings", _MOST_TOKENS)
    if (said := config.get("original_max_position_embeddings", tokens)) != tokens:
        raise config.refused("original_max_position_embeddings", said, f"the scaling of positions says {tokens}")
    divisors: list[float] = []
    for frequency in frequencies:
        turns = tokens * frequency / (2 * pi)
        unscaled = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / ((1 - unscaled) / factor + unscaled))
    return divisors


def _check_divisors(config: Config, value: object, head_dim: int) -> list[float]:
    divisors = as_list(value) or []
    sound = all(isinstance(divisor, float) and isfinite(divisor) and divisor > 0 for divisor in divisors)
    if len(divisors) != head_dim // 2 or not sound:
        why = f"it must hold {head_dim // 2} positive numbers, one for each pair of a head"
        raise config.refused(DIVISORS, value, why)
    return cast("list[float]", divisors)
