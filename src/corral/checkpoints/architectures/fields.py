"""Read fields of a configuration with their types and ranges checked.

Each function raises ``CheckpointRefused`` for a bad value; the message contains the field's name and value.
"""

from corral.checkpoints.config import Config, as_written


def read_integer(config: Config, name: str, most: int, *, default: int | None = None, least: int = 1) -> int:
    """Read an integer in [least, most]; null or a missing field is *default*, and refused without one."""
    value = config.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise config.refused(name, value, f"it must be an integer in [{least}, {most}]")
    return value


def read_number(config: Config, name: str, *, least: float, most: float, default: float | None = None) -> float:
    """Read a number in (least, most]; a missing field is *default*, and refused without one."""
    value = config.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least < value <= most:
        raise config.refused(name, value, f"it must be a number in ({least:g}, {most:g}]")
    return float(value)


def read_boolean(config: Config, name: str, *, default: bool) -> bool:
    """Read true or false; a missing field is *default*."""
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise config.refused(name, value, "it must be true or false")
    return value


def check_only(config: Config, name: str, only: object, remedy: str = "choose another checkpoint") -> None:
    """Refuse a field with another value than *only*; it may be missing."""
    value = config.get(name, only)
    if value != only or isinstance(value, bool) != isinstance(only, bool):
        raise config.refused(name, value, f"only {as_written(only)} is supported: {remedy}")
