"""What the settings say about weights: which checkpoint is meant, how the engine has it, and this machine's library.

Apart from ``bootstrap``, so that commands which only handle files start without the server's libraries.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.catalog.cards import known_card, model_cards
from corral.catalog.catalog import DEMO, demo_checkpoint
from corral.catalog.local import LocalModels, Quantization
from corral.core.errors import BadSetting
from corral.deployments.library import Library
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import check_config
from corral.engines.openvino.memory import BLOCK_TOKENS
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions, WeightsFormat
from corral.engines.stepper import Report
from corral.settings import Settings
from corral.text.load import load_tokenizer

if TYPE_CHECKING:
    from corral.catalog.hub import Hub


_MAX_SHOWN_CHARACTERS: Final = 200


def prepare_data_dir(path: Path) -> None:
    """Make the data directory, readable by its owner only.

    Raises:
        BadSetting: it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadSetting(f"data_dir: {path} cannot be written: {error.strerror}.") from error


def choose_model(settings: Settings) -> tuple[str | None, Path, Settings]:
    """The name that the model is registered by, if any, its checkpoint, and the settings with its own where it has any.

    Raises:
        BadSetting: there is no such model on this machine.
    """
    model = settings.model
    if model == DEMO:
        return DEMO, demo_checkpoint(), settings
    if (path := _local_path(model)) is not None:
        return None, path, settings
    registered = LocalModels(settings.data_dir).find(model)
    if registered is None:
        raise BadSetting(_absent(model))
    if not registered.path.exists():
        raise BadSetting(f"model: {registered.name} was at {registered.path}, which is not there any more.")
    if "quantize" not in settings.model_fields_set:
        settings = settings.model_copy(update={"quantize": registered.quantize})
    return registered.name, registered.path, settings


def openvino_options(settings: Settings, checkpoint: Path) -> OpenVinoOptions:
    """How the engine is to have the checkpoint."""
    return OpenVinoOptions(
        checkpoint=str(checkpoint.absolute()),
        cache_dir=str(_cache_dir(settings)),
        weights=WeightsFormat(settings.quantize),
        kv_precision=None if settings.kv_cache == "auto" else KvPrecision(settings.kv_cache),
        kv_blocks=-(-settings.kv_cache_tokens // BLOCK_TOKENS) or None,
        max_batched_tokens=settings.max_batched_tokens,
        prefix_caching=settings.prefix_caching,
    )


def open_library(settings: Settings) -> Library:
    """The models of this machine.

    Raises:
        BadSetting: the data directory cannot be used.
    """
    prepare_data_dir(settings.data_dir)

    def open_hub() -> "Hub":
        from corral.catalog.hub import Hub  # noqa: PLC0415 - most of a second of imports that serving does without

        token = settings.hub_token
        return Hub(settings.hub_url, None if token is None else token.get_secret_value())

    return Library(LocalModels(settings.data_dir), _OpenVinoCheckpoints(settings), open_hub)


class _OpenVinoCheckpoints:
    """What the engine and the tokenizers do to checkpoints, for the library."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def accept(self, given: str) -> Path:
        path = _local_path(given)
        if path is None:
            raise BadSetting(f"{given} is neither a directory nor a file.")
        return path

    def check_description(self, directory: Path) -> None:
        check_config(directory)
        load_tokenizer(directory)

    def convert(self, path: Path, quantize: Quantization, report: Report) -> None:
        from corral.engines.openvino.stepper import convert_ahead  # noqa: PLC0415 - loads OpenVINO; a server never does

        load_tokenizer(path)
        convert_ahead(openvino_options(self._settings.model_copy(update={"quantize": quantize}), path), report)

    def forget(self, path: Path, report: Report) -> None:
        ModelCache(_cache_dir(self._settings)).forget(path, report)


def _local_path(given: str) -> Path | None:
    """The checkpoint that a user names by its path; None where there is none.

    A link to a directory is followed, so that it has one name; a link to a file keeps its own, which says more than the
    one in a store of downloads.
    """
    try:
        path = Path(given).expanduser()
        if not path.exists():
            return None
    except (OSError, RuntimeError, ValueError) as error:  # no permission; no such user's home; a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSetting(f"model: {given[:_MAX_SHOWN_CHARACTERS]} cannot be looked at: {reason}.") from error
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _absent(model: str) -> str:
    card = known_card(model)
    if card is None or not card.hub:
        known = ", ".join(name for card in model_cards() for name in card.names)
        return (
            f"model: {model} is neither a directory, a .gguf file nor a model of the catalog ({known}), and none of "
            "that name was pulled or added."
        )
    return (
        f"model: the weights of {model} are not on this machine. `corral pull {card.hub}` fetches them; or give the "
        "path of a directory that holds them in the Hugging Face format (config.json, *.safetensors, tokenizer), or of "
        "a .gguf file."
    )


def _cache_dir(settings: Settings) -> Path:
    return settings.data_dir.resolve() / "cache"
