"""Control tokens of a ``tokenizer.json``: which tokens text never becomes, which one leads a prompt, which ones end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.fields import Fields
from corral.checkpoints.vocabulary import Declared
from corral.core.errors import CheckpointRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """The control tokens of a vocabulary."""

    ids: Mapping[str, int]
    """By their texts, ordered by text."""
    bos_token_id: int | None
    """Token at the start of each prompt; None if the vocabulary wants none."""
    end_ids: frozenset[int]
    """Tokens that end an answer by the word of the vocabulary."""


def read_special_tokens(
    document: Fields,
    added: Sequence[Fields],
    ids: Mapping[str, int],
    declared: Declared,
    *,
    llama_names: Sequence[str],
) -> SpecialTokens:
    """Read the control tokens.

    Args:
        document: the ``tokenizer.json``.
        added: its ``added_tokens``.
        ids: of all pieces and added tokens.
        declared: what the checkpoint states beside it.
        llama_names: control tokens that need not be marked as such, and BOS and end where none is stated; may be empty.

    Raises:
        CheckpointRefused: a token is missing, or text could become it; the message names file and token.
    """
    stated = {declared.bos, *declared.ends}
    control = {
        content
        for content, is_special in (
            (token.required_text("content"), token.flag("special", default=False)) for token in added
        )
        if is_special or looks_special(content) or content in stated or ids[content] in stated
    }
    control_ids = {piece: ids[piece] for piece in sorted(control.union(llama_names)) if piece in ids}
    found = _Lookup(control_ids, ids, declared)
    bos = _bos(document, declared, default=llama_names[0] if llama_names else None)
    ends = declared.ends or llama_names[1:2]
    return SpecialTokens(
        ids=control_ids,
        bos_token_id=None if bos is None else found.control_id("bos_token", bos),
        end_ids=frozenset(found.control_id("eos_token", end) for end in ends),
    )


def looks_special(content: str) -> bool:
    """Return whether an added token is spelled as control tokens are, ``<|…|>``, whatever its flag says.

    Some files do not mark such tokens as special, for example those for filling in code. No text may become them.
    """
    return content.startswith("<|") and content.endswith("|>")


def _bos(document: Fields, declared: Declared, *, default: str | None) -> str | int | None:
    """Find the token that leads each prompt: by the flag beside the vocabulary, else by its template."""
    if declared.adds_bos is False:
        return None
    template = _template(document.member("post_processor"))
    leading = None if template is None else _leading_token(template)
    if declared.adds_bos is None:
        return default if template is None else leading
    for token in (declared.bos, leading, default):
        if token is not None:
            return token
    raise CheckpointRefused(f"{declared.file}: add_bos_token is true, but bos_token is missing.")


def _template(post_processor: Fields | None) -> Fields | None:
    """Find the template that adds tokens to a text; None if there is none, or one without a text."""
    if post_processor is None:
        return None
    steps = post_processor.members("processors") if post_processor.get("type") == "Sequence" else [post_processor]
    found: Fields | None = None
    for step in steps:
        match step.get("type"):
            case "ByteLevel":
                continue
            case "TemplateProcessing" if found is None:
                found = step if any(part.get("Sequence") is not None for part in step.members("single")) else None
            case _:
                raise step.refused("type", "only ByteLevel and one TemplateProcessing are supported")
    return found


def _leading_token(template: Fields) -> str | None:
    leading: list[str] = []
    for part in template.members("single"):
        token = part.member("SpecialToken")
        if token is None:
            break
        leading.append(token.required_text("id"))
    if len(leading) > 1:
        raise template.refused("single", "only one token before a text is supported")
    return leading[0] if leading else None


@dataclass(frozen=True, slots=True)
class _Lookup:
    control_ids: Mapping[str, int]
    ids: Mapping[str, int]
    declared: Declared

    def control_id(self, field: str, token: str | int) -> int:
        token_id = token if isinstance(token, int) else self.control_ids.get(token)
        if token_id is not None and token_id in self.control_ids.values():
            return token_id
        file = self.declared.file or "tokenizer.json"
        if token in self.ids or token in self.ids.values():
            raise CheckpointRefused(
                f"{file}: {field} is {as_written(token)}, which is an ordinary piece of the vocabulary, and text may "
                "become it. Name a control token."
            )
        raise CheckpointRefused(f"{file}: {field} is {as_written(token)}, which the vocabulary does not have.")
