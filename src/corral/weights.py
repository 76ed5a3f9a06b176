"""Find the configured checkpoints and engine options, and open the library of local models.

Apart from ``bootstrap``, so that commands which only handle files start without the server's libraries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corral.catalog.cards import known_card, model_cards
from corral.catalog.catalog import DEMO, demo_checkpoint
from corral.catalog.local import LocalModel, LocalModels, Quantization, check_name
from corral.catalog.packaged import SMOLLM2, SMOLLM2_NAME, smollm2_checkpoint
from corral.core.errors import BadSetting
from corral.core.llama2_prompts import Llama2Prompts
from corral.deployments.library import Library
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import check_config
from corral.engines.openvino.memory import BLOCK_TOKENS
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions, WeightsFormat
from corral.engines.stepper import Report
from corral.settings import DeploymentSettings, OpenVinoSettings, Settings
from corral.text.served_tokenizer import load_served_tokenizer

if TYPE_CHECKING:
    from corral.catalog.hub import Hub


_MAX_SHOWN_CHARACTERS: Final = 200


def prepare_data_dir(path: Path) -> None:
    """Create the data directory, readable by its owner only.

    Raises:
        BadSetting: it cannot be created or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadSetting(f"data_dir: {path} cannot be written: {error.strerror}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenDeployment:
    """A configured deployment, with its checkpoint on this machine."""

    name: str
    """Unique; empty is the first name that its weights hold."""
    path: Path
    names: tuple[str, ...]
    """Names that the weights hold by the operator's word, or by what they were pulled or added as."""
    stands_in: bool
    kind: str
    """Name of the kind of engine."""
    options: Mapping[str, Any]
    """Of the engine."""
    load: str
    idle_unload_s: float | None
    chat_format: str
    """Name of the chat format; empty recognises it."""
    llama2_prompts: Llama2Prompts

    @property
    def suggested_format(self) -> str:
        """Name of the chat format of the known model that the weights are; empty if they are none."""
        cards = (card for card in map(known_card, self.names) if card is not None)
        return next((card.chat_format for card in cards), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDeployment:
    """A deployment that the settings ask for, before its checkpoint is looked for."""

    name: str
    """Its own, else its weights as the settings give them."""
    choose: Callable[[], ChosenDeployment]
    """Find the checkpoint; see ``choose_deployments`` for what it raises."""


def listed_deployments(settings: Settings) -> tuple[ListedDeployment, ...]:
    """Return the configured deployments: a list, or one model."""
    if not settings.deployments:
        model = settings.model or default_model()
        return (ListedDeployment(name=model, choose=partial(_choose_one, settings, model)),)
    standing_in = _standing_in(settings.deployments)
    return tuple(
        ListedDeployment(
            name=entry.name or entry.weights,
            choose=partial(
                _choose,
                settings,
                entry,
                origin=_origin(entry, number),
                stands_in=entry is standing_in,
            ),
        )
        for number, entry in enumerate(settings.deployments, start=1)
    )


def choose_deployments(settings: Settings) -> tuple[ChosenDeployment, ...]:
    """The deployments that the settings ask for, with their checkpoints.

    Raises:
        BadSetting: a model is not on this machine, or its path cannot be read; the message names the deployment.
    """
    return tuple(listed.choose() for listed in listed_deployments(settings))


def choose_given(settings: Settings, given: str) -> ChosenDeployment:
    """The deployment of one checkpoint alone, by its path or name, as ``corral serve`` chooses it.

    Raises:
        BadSetting: it is not on this machine, or cannot be read.
    """
    entry = DeploymentSettings.of_one_model(given, served_as="", stands_in=False, chat_format=settings.chat_format)
    return _choose(settings, entry, origin="model", stands_in=False)


def default_model() -> str:
    """The model that is served if the settings name none: SmolLM2 if it is installed, else the demo model."""
    return DEMO if smollm2_checkpoint() is None else SMOLLM2


def _standing_in(deployments: Sequence[DeploymentSettings]) -> DeploymentSettings | None:
    """The deployment that stands in for known models although its settings do not say so."""
    if any(entry.stands_in for entry in deployments):
        return None
    shipped = (entry for entry in deployments if entry.stands_in is None and _stands_in_by_itself(entry.weights))
    return next(shipped, None)


def _stands_in_by_itself(weights: str) -> bool:
    return weights == DEMO or weights.lower() == SMOLLM2


def _choose_one(settings: Settings, model: str) -> ChosenDeployment:
    for setting, flag in (("served_as", "--as"), ("stands_in", "--stands-in"), ("chat_format", "--chat-format")):
        if _stands_in_by_itself(model) and getattr(settings, setting):
            raise BadSetting(f"{setting} ({flag}): it is about a checkpoint of yours, and {model} is served.")
    entry = DeploymentSettings.of_one_model(
        model, served_as=settings.served_as, stands_in=settings.stands_in, chat_format=settings.chat_format
    )
    return _choose(settings, entry, origin="model", names="served_as (--as)", stands_in=True)


def _origin(entry: DeploymentSettings, number: int) -> str:
    return f"weights of deployment {entry.name or number}"


def _choose(
    settings: Settings, entry: DeploymentSettings, *, origin: str, stands_in: bool, names: str | None = None
) -> ChosenDeployment:
    """Find the checkpoint of one entry.

    Args:
        settings: of the server.
        entry: the deployment.
        origin: what to call ``weights`` in messages.
        stands_in: whether it stands in if it is a shipped model and the entry does not say.
        names: what to call ``models`` in messages.
    """
    path, registered = _find(settings, entry.weights, origin)
    is_shipped = _stands_in_by_itself(entry.weights)
    if is_shipped and entry.models:
        where = f"models of deployment {entry.name or entry.weights}"
        raise BadSetting(f"{where}: {entry.weights} answers to its own name; leave them out.")
    held = tuple(
        _checked(name, names or f"models of deployment {entry.name or entry.weights}") for name in entry.models
    )
    if is_shipped:
        held = (DEMO if entry.weights == DEMO else SMOLLM2_NAME,)
    elif not held and registered is not None:
        held = (registered.name,)
    quantize = entry.quantize
    if quantize is None and registered is not None and "quantize" not in settings.model_fields_set:
        quantize = registered.quantize
    return ChosenDeployment(
        name=entry.name,
        path=path,
        names=held,
        stands_in=(is_shipped and stands_in) if entry.stands_in is None else entry.stands_in,
        kind=entry.engine,
        options=entry.scripted if entry.engine == "scripted" else _openvino(settings, entry.openvino, quantize),
        load=entry.load,
        idle_unload_s=entry.idle_unload_s,
        chat_format=entry.chat_format,
        llama2_prompts=Llama2Prompts(
            read=entry.llama2_prompts or settings.llama2_prompts,
            refuses_others=(entry.llama2_others or settings.llama2_others) == "refuse",
        ),
    )


def _checked(name: str, origin: str) -> str:
    try:
        return check_name(name)
    except BadSetting as error:
        raise BadSetting(f"{origin}: {error}") from None


def _find(settings: Settings, weights: str, origin: str) -> tuple[Path, LocalModel | None]:
    """Return the checkpoint, and its registration if it was pulled or added."""
    if weights == DEMO:
        return demo_checkpoint(), None
    if (path := _local_path(weights, origin)) is not None:
        return path, None
    if weights.lower() == SMOLLM2:
        return _packaged(origin), None
    registered = LocalModels(settings.data_dir).find(weights)
    if registered is None:
        raise BadSetting(_absent(weights, origin))
    if not registered.path.exists():
        raise BadSetting(f"{origin}: {registered.name} was at {registered.path}, which is not there any more.")
    return registered.path, registered


def _packaged(origin: str) -> Path:
    if (path := smollm2_checkpoint()) is None:
        raise BadSetting(f"{origin}: {SMOLLM2} is not installed. `corral pull {SMOLLM2}` installs it.")
    return path


def _openvino(settings: Settings, own: OpenVinoSettings, quantize: Quantization | None) -> dict[str, Any]:
    """Options of the OpenVINO engine: the deployment's own, else the server's."""
    kv_cache = own.kv_cache or settings.kv_cache
    kv_tokens = settings.kv_cache_tokens if own.kv_cache_tokens is None else own.kv_cache_tokens
    return {
        "weights": WeightsFormat(quantize or settings.quantize),
        "kv_precision": None if kv_cache == "auto" else KvPrecision(kv_cache),
        "kv_blocks": -(-kv_tokens // BLOCK_TOKENS) or None,
        "max_batched_tokens": own.max_batched_tokens or settings.max_batched_tokens,
        "prefix_caching": settings.prefix_caching if own.prefix_caching is None else own.prefix_caching,
        "max_sequences": own.max_sequences or settings.max_sequences,
    }


def cache_dir(settings: Settings) -> Path:
    """Directory of converted models."""
    return settings.data_dir.resolve() / "cache"


def open_library(settings: Settings) -> Library:
    """Open the library of local models.

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
    """Checks and conversions of checkpoints by the OpenVINO engine, for the library."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def accept(self, given: str) -> Path:
        path = _local_path(given)
        if path is None:
            raise BadSetting(f"{given} is neither a directory nor a file.")
        return path

    def check_description(self, directory: Path) -> None:
        check_config(directory)
        load_served_tokenizer(directory)

    def convert(self, path: Path, quantize: Quantization, report: Report) -> None:
        from corral.engines.openvino.stepper import convert_ahead  # noqa: PLC0415 - loads OpenVINO; a server never does

        load_served_tokenizer(path)
        options = OpenVinoOptions(
            checkpoint=str(path.absolute()),
            cache_dir=str(cache_dir(self._settings)),
            weights=WeightsFormat(quantize),
        )
        convert_ahead(options, report)

    def forget(self, path: Path, report: Report) -> None:
        ModelCache(cache_dir(self._settings)).forget(path, report)


def _local_path(given: str, origin: str = "model") -> Path | None:
    """Return the checkpoint at a path given by the user; None if there is none.

    A link to a directory is followed, so that it has one name; a link to a file keeps its own, which says more than the
    one in a store of downloads.
    """
    try:
        path = Path(given).expanduser()
        if not path.exists():
            return None
    except (OSError, RuntimeError, ValueError) as error:  # no permission; no such user's home; a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSetting(f"{origin}: {given[:_MAX_SHOWN_CHARACTERS]} cannot be looked at: {reason}.") from error
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _absent(model: str, origin: str) -> str:
    card = known_card(model)
    if card is None or not card.hub:
        known = ", ".join(name for card in model_cards() for name in card.names)
        return (
            f"{origin}: {model} is neither a directory, a .gguf file nor a model of the catalog ({known}), and none of "
            "that name was pulled or added."
        )
    return (
        f"{origin}: the weights of {model} are not on this machine. `corral pull {card.hub}` fetches them; or give the "
        "path of a directory that holds them in the Hugging Face format (config.json, *.safetensors, tokenizer), or of "
        "a .gguf file."
    )
