"""Read the sliding window of attention: a layer with one looks back on that many tokens, itself included."""

from typing import Final

from corral.checkpoints.architectures.fields import read_boolean, read_integer
from corral.checkpoints.config import Config, as_list

_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
_MOST_WINDOW: Final = 2**24
_DEFAULT_WINDOW: Final = 4096
_DEFAULT_UNWINDOWED_LAYERS: Final = 28
_MOST_LAYERS: Final = 1024


def read_window(config: Config) -> int | None:
    """Read ``sliding_window`` of an architecture where it counts in all layers. If it is missing, it is 4096."""
    if config.get("sliding_window", _DEFAULT_WINDOW) is None:
        check_layers_are_full(config)
        return None
    window = read_integer(config, "sliding_window", _MOST_WINDOW, default=_DEFAULT_WINDOW, least=2)
    _has_sliding_layers(config)
    return window


def read_switched_window(config: Config) -> int | None:
    """Read ``sliding_window`` of an architecture where ``use_sliding_window`` and the layers decide if it counts."""
    if not read_boolean(config, "use_sliding_window", default=False):
        check_layers_are_full(config)
        return None
    if config.get("sliding_window", _DEFAULT_WINDOW) is None:
        check_layers_are_full(config)
        return None
    window = read_integer(config, "sliding_window", _MOST_WINDOW, default=_DEFAULT_WINDOW, least=2)
    layers = read_integer(config, "num_hidden_layers", _MOST_LAYERS)
    unwindowed = read_integer(config, "max_window_layers", _MOST_LAYERS, default=_DEFAULT_UNWINDOWED_LAYERS, least=0)
    by_name = _has_sliding_layers(config)
    return window if (unwindowed < layers if by_name is None else by_name) else None


def check_layers_are_full(config: Config) -> None:
    """Refuse ``layer_types`` with another entry than ``full_attention``."""
    if _has_sliding_layers(config):
        why = f'without a sliding window, only "{_FULL}" is supported: correct the field'
        raise config.refused("layer_types", config.get("layer_types"), why)


def _has_sliding_layers(config: Config) -> bool | None:
    """Return whether a layer in ``layer_types`` has a window; None if there is no such field."""
    value = config.get("layer_types")
    if value is None:
        return None
    kinds = as_list(value) or [value]
    if not all(kind in (_FULL, _SLIDING) for kind in kinds):
        why = f'only "{_FULL}" and "{_SLIDING}" are supported: choose another checkpoint'
        raise config.refused("layer_types", value, why)
    return _SLIDING in kinds
