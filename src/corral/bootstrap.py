"""The composition root: turns settings into a running server. The only place that names concrete classes."""

import logging
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from fastapi import FastAPI

from corral.api.app import create_app
from corral.api.site import Site
from corral.catalog.catalog import DEMO, Catalog, checkpoint_catalog, demo_catalog, demo_checkpoint
from corral.catalog.prices import PriceBook, read_price_book
from corral.core.errors import BadSetting
from corral.engines.openvino.memory import BLOCK_TOKENS
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions, WeightsFormat
from corral.engines.stepper import Progress
from corral.engines.supervisor import STAND_IN_POLICY, SupervisedEngine, SupervisorPolicy, WorkerLaunch
from corral.engines.vetting import ConstraintVetting
from corral.service.accounts import Accounts
from corral.service.predictions import PredictionService
from corral.service.prepare import Preparer
from corral.settings import Settings, worker_environment
from corral.store.key_file import KEY_FILE, KEY_PREFIX, PEPPER_FILE, read_or_make_secret
from corral.store.store import Store
from corral.text.load import load_tokenizer

DATABASE_FILE: Final = "corral.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is put together and not yet started."""

    app: FastAPI
    engine: SupervisedEngine
    store: Store
    accounts: Accounts
    predictions: PredictionService
    catalog: Catalog
    api_key: str
    api_key_is_new: bool
    """Made just now: the one time to show it."""

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Compute and keep the books for as long as the block lasts; loading goes on in the background."""
        try:
            await self.accounts.admit_local(self.api_key)
            async with self.engine.run(), self.predictions.run():
                yield
        finally:
            await self.store.close()


def build(settings: Settings, on_progress: Callable[[Progress], None]) -> Server:
    """Put the server together.

    Raises:
        BadSetting: the model is unknown, or the data directory or the database cannot be used.
        CheckpointRefused: the checkpoint's configuration or tokenizer cannot be served.
    """
    prepare_data_dir(settings.data_dir)
    clock = time.time  # noqa: TID251 - the one clock of the server is made here
    checkpoint = _checkpoint(settings.model)
    catalog = _catalog(settings, checkpoint)
    engine = _engine(settings, checkpoint, on_progress)
    preparer = Preparer(
        catalog=catalog,
        engine=engine,
        tokenizer=load_tokenizer(checkpoint),
        draw_seed=lambda: secrets.randbits(63),
    )
    key, is_new = _api_key(settings)
    store = open_store(settings)
    accounts = open_accounts(settings, store)
    predictions = PredictionService(
        store=store, engine=engine, preparer=preparer, clock=clock, retention_s=settings.retention_s
    )
    app = create_app(
        Site(
            predictions=predictions,
            keys=accounts,
            clock=clock,
            body_limit_bytes=settings.max_body_bytes,
            public_url=settings.public_url,
        ),
        allowed_hosts=settings.allowed_hosts,
    )
    return Server(
        app=app,
        engine=engine,
        store=store,
        accounts=accounts,
        predictions=predictions,
        catalog=catalog,
        api_key=key,
        api_key_is_new=is_new,
    )


def open_store(settings: Settings) -> Store:
    """The database that the settings name, brought to this program's schema.

    Raises:
        BadSetting: it cannot be used.
    """
    prepare_data_dir(settings.data_dir)
    return Store.open(settings.database_url or f"sqlite:///{settings.data_dir.resolve() / DATABASE_FILE}")


def open_accounts(settings: Settings, store: Store) -> Accounts:
    """Accounts over the store, with the pepper of this data directory.

    Raises:
        BadSetting: the pepper cannot be kept.
    """
    pepper, _ = _secret(settings, PEPPER_FILE)
    return Accounts(store, pepper=pepper.encode(), clock=time.time)  # noqa: TID251 - made here, as above


def _engine(settings: Settings, checkpoint: Path, on_progress: Callable[[Progress], None]) -> SupervisedEngine:
    options = _openvino_options(settings, checkpoint)
    stand_in = SupervisedEngine(_launch(replace(options, stand_in=True)), policy=STAND_IN_POLICY)
    return SupervisedEngine(
        _launch(options),
        policy=SupervisorPolicy(
            step_timeout_s=settings.step_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            max_sequences=settings.max_sequences,
            max_waiting=settings.max_waiting,
            max_queue_wait_s=settings.max_queue_wait_s,
        ),
        vetting=ConstraintVetting(stand_in),
        on_progress=on_progress,
    )


def _launch(options: OpenVinoOptions) -> WorkerLaunch:
    return WorkerLaunch(engine="openvino", options=asdict(options), environment=worker_environment())


def _catalog(settings: Settings, checkpoint: Path) -> Catalog:
    price_book: PriceBook = {} if settings.prices is None else read_price_book(settings.prices)
    return demo_catalog(price_book) if settings.model == DEMO else checkpoint_catalog(checkpoint, price_book)


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


def configure_logs(level: str) -> None:
    """Log lines of key=value to stderr; neither prompts nor secrets are ever among the values."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _checkpoint(model: str) -> Path:
    if model == DEMO:
        return demo_checkpoint()
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    known = [m.id for m in demo_catalog().models()]
    if model in known:
        raise BadSetting(
            f"model: the weights of {model} are not on this machine. Give the path of a directory that holds them in "
            "the Hugging Face format (config.json, *.safetensors, tokenizer)."
        )
    raise BadSetting(f"model: {model} is neither a directory nor a model of the catalog ({', '.join(known)}).")


def _openvino_options(settings: Settings, checkpoint: Path) -> OpenVinoOptions:
    return OpenVinoOptions(
        checkpoint_dir=str(checkpoint.resolve()),
        cache_dir=str(settings.data_dir.resolve() / "cache"),
        weights=WeightsFormat(settings.quantize),
        kv_precision=None if settings.kv_cache == "auto" else KvPrecision(settings.kv_cache),
        kv_blocks=-(-settings.kv_cache_tokens // BLOCK_TOKENS) or None,
        max_batched_tokens=settings.max_batched_tokens,
        prefix_caching=settings.prefix_caching,
    )


def _api_key(settings: Settings) -> tuple[str, bool]:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value(), False
    return _secret(settings, KEY_FILE, prefix=KEY_PREFIX)


def _secret(settings: Settings, name: str, *, prefix: str = "") -> tuple[str, bool]:
    try:
        return read_or_make_secret(settings.data_dir / name, prefix=prefix)
    except OSError as error:
        raise BadSetting(f"data_dir: {name} cannot be kept in {settings.data_dir}: {error.strerror}.") from error
