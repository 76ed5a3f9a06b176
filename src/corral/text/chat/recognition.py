"""Recognise the chat format of a checkpoint."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

from corral.core.errors import BadSetting
from corral.text.chat.format import ChatFormat, chat_formats
from corral.text.chat.template_digest import template_digest
from corral.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The chat format of a deployment, and why it has it."""

    format: ChatFormat | None
    """None if it is not known: then chats are refused."""
    default_system: str | None = None
    """System text of conversations without one; None writes none."""
    evidence: str
    """What decided, as a sentence for operators."""
    warning: str | None = None
    """That the checkpoint's own template may write something else, as a sentence for operators; None if it may not."""


class KnownTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published chat template."""

    digest: str
    label: str
    """The models that have it."""
    format: str
    default_system: str | None = None
    """None: the format's own."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    template: tuple[KnownTemplate, ...]


@cache
def known_templates() -> Mapping[str, KnownTemplate]:
    """Get the published templates by their digests."""
    document = files("corral.text.chat").joinpath("templates.toml").read_text(encoding="utf-8")
    table = msgspec.convert(tomllib.loads(document), _Table)
    return {known.digest: known for known in table.template}


def recognise(
    template: str | None, tokenizer: Tokenizer, *, setting: str | None = None, suggested: str | None = None
) -> Recognised:
    """Decide the chat format of a checkpoint.

    What decides is, in this order: the setting, a known template, the name of the model, and a vocabulary whose control
    tokens only one format has. The template is compared with known ones and never run.

    Args:
        template: the checkpoint's own chat template.
        tokenizer: its vocabulary.
        setting: the operator's ``chat_format``.
        suggested: name of the format of the known model that the checkpoint is, by the operator's word.

    Raises:
        BadSetting: there is no format *setting* or *suggested*, or the vocabulary cannot have *setting*.
    """
    if suggested is not None and suggested not in chat_formats():
        raise BadSetting(
            f"The model's card names the chat format '{suggested[:100]}'. There are: {', '.join(chat_formats())}."
        )
    known = None if template is None else known_templates().get(template_digest(template))
    if setting is not None:
        return _recognised(_set_format(setting, tokenizer), "It is set as chat_format.", template, known)
    if known is not None and chat_formats()[known.format].misfit(tokenizer) is None:
        return _recognised(
            chat_formats()[known.format], f"The chat template is that of {known.label}.", template, known
        )
    if suggested is not None and chat_formats()[suggested].misfit(tokenizer) is None:
        return _recognised(chat_formats()[suggested], "The model's name stands for it.", template, known)
    shown = [each for each in chat_formats().values() if _is_shown(each, tokenizer)]
    if len(shown) == 1 and shown[0].vocabulary is not None:
        tokens = " and ".join(shown[0].vocabulary.holds[:2])
        return _recognised(shown[0], f"The vocabulary has the control tokens {tokens}.", template, known)
    return Recognised(format=None, evidence=_unknown(template, tokenizer))


def fitting_formats(tokenizer: Tokenizer) -> list[str]:
    """List the names of the formats that a vocabulary can have."""
    return [name for name, each in chat_formats().items() if each.misfit(tokenizer) is None]


def _set_format(name: str, tokenizer: Tokenizer) -> ChatFormat:
    fitting = ", ".join(fitting_formats(tokenizer))
    if name not in chat_formats():
        raise BadSetting(f"chat_format is '{name[:100]}', which is no chat format. Set it to one of {fitting}.")
    chosen = chat_formats()[name]
    if (misfit := chosen.misfit(tokenizer)) is not None:
        raise BadSetting(f"chat_format is '{name}'. {misfit} Set it to one of {fitting}.")
    return chosen


def _recognised(chosen: ChatFormat, evidence: str, template: str | None, known: KnownTemplate | None) -> Recognised:
    is_its_own = known is not None and known.format == chosen.name
    own_default = known.default_system if known is not None and is_its_own else None
    return Recognised(
        format=chosen,
        default_system=chosen.system.default if own_default is None else own_default,
        evidence=evidence,
        warning=None if template is None or is_its_own else _difference(chosen, template, known),
    )


def _difference(chosen: ChatFormat, template: str, known: KnownTemplate | None) -> str:
    if known is not None:
        return f"The checkpoint's own chat template is that of {known.label}, which has the format {known.format}."
    return (
        f"The checkpoint's own chat template (digest {template_digest(template)[:12]}) is not known; it may write "
        f"other prompts than the format {chosen.name}."
    )


def _is_shown(chat_format: ChatFormat, tokenizer: Tokenizer) -> bool:
    evidence, control = chat_format.vocabulary, tokenizer.control_ids
    if evidence is None or chat_format.misfit(tokenizer) is not None:
        return False
    return all(token in control for token in evidence.holds) and not any(token in control for token in evidence.lacks)


def _unknown(template: str | None, tokenizer: Tokenizer) -> str:
    has = "no chat template" if template is None else f"an unknown template (digest {template_digest(template)[:12]})"
    return (
        f"The checkpoint has {has}, and its vocabulary fits several chat formats or none. "
        f"Set chat_format to one of {', '.join(fitting_formats(tokenizer))}."
    )
