"""The composition root: turns settings into a running server. The only place that names concrete classes."""

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import FastAPI

import corral
from corral.api.app import create_app
from corral.api.dependencies import Dependencies, NativeOptions, RateLimits
from corral.api.doors.deepinfra import webhook as deepinfra_webhook
from corral.api.doors.replicate.answers import Answers
from corral.api.doors.replicate.predictions import DOOR as REPLICATE
from corral.assembly import assemble
from corral.catalog.catalog import Catalog
from corral.core.errors import BadSetting
from corral.deployments.registry import Deployments
from corral.egress.addresses import AddressPolicy
from corral.egress.sender import PinnedSender
from corral.engines.base import Engine
from corral.engines.stepper import Progress
from corral.service.accounts.files import Files
from corral.service.accounts.services import AccountServices
from corral.service.accounts.sign_ins import SignIns
from corral.service.console import Console
from corral.service.deployments import DeploymentAdmin
from corral.service.measures import Measures
from corral.service.predictions import PredictionService
from corral.service.runs.prepare import Preparer
from corral.service.webhooks.delivery import Deliverer
from corral.service.webhooks.webhooks import Renderer, Webhooks
from corral.settings import Settings, served_hosts
from corral.store.databases.gateway_lock import hold_gateway_lock
from corral.store.key_file import KEY_FILE, KEY_PREFIX, PEPPER_FILE, read_or_create_secret
from corral.store.store import Store
from corral.web.app import add_pages
from corral.web.dependencies import PageDependencies
from corral.web.sessions import OneTimeLinks, Sessions
from corral.weights import prepare_data_dir

DATABASE_FILE: Final = "corral.db"
CAPABILITIES: Final = "capability addresses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A configured server, not yet started."""

    app: FastAPI
    deployments: Deployments
    store: Store
    account_services: AccountServices
    predictions: PredictionService
    webhooks: Webhooks
    measures: Measures
    deliverer: Deliverer
    catalog: Catalog
    links: OneTimeLinks
    suggestions: Mapping[str, str]
    """See ``Assembly.suggestions``."""
    api_key: str
    api_key_is_new: bool
    """The key was created at this start, so it can be shown."""

    @property
    def engine(self) -> Engine:
        """Engine of the first deployment."""
        return next(iter(self.deployments)).engine

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Run engines and background jobs while the block is active; loading continues in the background."""
        try:
            await self.account_services.keys.ensure_local_key(self.api_key)
            # The deliverer stops last, so that webhooks of runs that end at shutdown are still sent.
            runs = self.predictions.lifecycle.run()
            async with self.deliverer.run(), self.deployments.run(), runs, self.measures.run():
                yield
        finally:
            await self.store.close()


def build(settings: Settings, on_progress: Callable[[Progress], None]) -> Server:
    """Create the server.

    Raises:
        BadSetting: the model is unknown, or the data directory or the database cannot be used.
        CheckpointRefused: the checkpoint's configuration or tokenizer cannot be served.
    """
    prepare_data_dir(settings.data_dir)
    clock = time.time  # noqa: TID251 - the one clock of the server is made here
    assembly = assemble(settings, on_progress)
    catalog, deployments = assembly.catalog, assembly.deployments
    key, is_new = _api_key(settings)
    store = open_store(settings)
    account_services = open_accounts(settings, store)
    wake_deliverer = asyncio.Event()
    predictions = PredictionService(
        store=store,
        deployments=deployments,
        preparer=Preparer(catalog=catalog, deployments=deployments, draw_seed=lambda: secrets.randbits(63)),
        clock=clock,
        retention_s=settings.retention_s,
        on_webhook=wake_deliverer.set,
        concurrent_per_model=settings.concurrent_per_model,
        max_outage_s=settings.max_engine_outage_s,
    )
    webhooks = open_webhooks(settings, store)
    measures = Measures(store=store, deployments=deployments, clock=clock)
    links, console = OneTimeLinks(clock), Console(account_services, measures, webhooks)
    admin = DeploymentAdmin(deployments)
    app = _app(settings, store, predictions, account_services, webhooks.secret, console, links, admin)
    return Server(
        app=app,
        deployments=deployments,
        store=store,
        account_services=account_services,
        predictions=predictions,
        webhooks=webhooks,
        measures=measures,
        deliverer=_deliverer(settings, webhooks, predictions, store, renderers(settings, catalog), wake_deliverer),
        catalog=catalog,
        links=links,
        suggestions=assembly.suggestions,
        api_key=key,
        api_key_is_new=is_new,
    )


def _app(
    settings: Settings,
    store: Store,
    predictions: PredictionService,
    services: AccountServices,
    webhook_secret: Callable[[str], Awaitable[str]],
    console: Console,
    links: OneTimeLinks,
    deployments: DeploymentAdmin,
) -> FastAPI:
    clock = time.time  # noqa: TID251 - made here, as above
    dependencies = Dependencies(
        predictions=predictions,
        accounts=services.accounts,
        keys=services.keys,
        usage=services.usage,
        clock=clock,
        body_limit_bytes=settings.max_body_bytes,
        body_limit_s=settings.body_timeout_s,
        public_url=settings.public_url,
        native=_native_terms(settings),
        concurrent_per_model=settings.concurrent_per_model,
        capability_key=_derived(settings, CAPABILITIES),
        webhook_secret=webhook_secret,
        rates=_rates(settings),
        replicate_aborted_status=settings.replicate_aborted_status,
        files=Files(store, clock=clock),
        deployments=deployments,
    )
    web_site = PageDependencies(
        predictions=predictions,
        keys=services.keys,
        console=console,
        sessions=Sessions(secret=_derived(settings, "sessions"), clock=clock),
        sign_ins=SignIns(store, services.keys, clock=clock),
        links=links,
        deployments=deployments,
        clock=clock,
        capability_key=dependencies.capability_key,
        replicate_aborted_status=settings.replicate_aborted_status,
        public_url=settings.public_url,
    )
    app = create_app(dependencies, allowed_hosts=served_hosts(settings), cors_origins=settings.cors_origins)
    add_pages(app, web_site)
    return app


def _native_terms(settings: Settings) -> NativeOptions:
    return NativeOptions(
        repetition_penalty=settings.deepinfra_repetition_penalty,
        full_text=settings.deepinfra_full_text,
        stream_done=settings.deepinfra_stream_done,
        stream_eos_text=settings.deepinfra_stream_eos_text,
    )


def _derived(settings: Settings, purpose: str) -> bytes:
    """Derive a purpose-specific secret (HMAC of the pepper); it does not reveal the pepper."""
    pepper, _ = _secret(settings, PEPPER_FILE)
    return hmac.digest(pepper.encode(), f"corral:{purpose}".encode(), hashlib.sha256)


def open_store(settings: Settings) -> Store:
    """Open the configured database and migrate it to the current schema.

    Raises:
        BadSetting: it cannot be used.
    """
    prepare_data_dir(settings.data_dir)
    return Store.open(_database_url(settings))


def hold_database(settings: Settings, *, address: str) -> AbstractContextManager[None]:
    """Lock the database against other servers while the block is active; see ``store.gateway_lock.hold_gateway_lock``.

    Raises:
        BadSetting: the data directory cannot be used.
    """
    prepare_data_dir(settings.data_dir)
    return hold_gateway_lock(_database_url(settings), address=address)


def open_store_for_commands(settings: Settings) -> Store:
    """As ``open_store``, but an SQLite database that this user may not write is opened read-only.

    Raises:
        BadSetting: it cannot be used.
    """
    url = _database_url(settings)
    file = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///"):
        return Store.open(url)
    if file.is_file() and not all(os.access(place, os.W_OK) for place in (file, file.parent)):
        return Store.open_read_only(file)
    return open_store(settings)


def _database_url(settings: Settings) -> str:
    return settings.database_url or f"sqlite:///{settings.data_dir.resolve() / DATABASE_FILE}"


def open_accounts(settings: Settings, store: Store) -> AccountServices:
    """Accounts, API keys and usage over the store, with the pepper of this data directory.

    Raises:
        BadSetting: the pepper cannot be kept.
    """
    pepper, _ = _secret(settings, PEPPER_FILE)
    return AccountServices.over(store, pepper=pepper.encode(), clock=time.time)  # noqa: TID251 - made here, as above


def open_webhooks(settings: Settings, store: Store) -> Webhooks:
    """Webhooks over the store, with the pepper of this data directory.

    Raises:
        BadSetting: the pepper cannot be kept.
    """
    pepper, _ = _secret(settings, PEPPER_FILE)
    return Webhooks(store, pepper=pepper.encode(), clock=time.time)  # noqa: TID251 - made here, as above


def _deliverer(
    settings: Settings,
    webhooks: Webhooks,
    predictions: PredictionService,
    store: Store,
    renderers: Mapping[str, Renderer],
    wake: asyncio.Event,
) -> Deliverer:
    policy = AddressPolicy(settings.webhook_allow_networks)
    return Deliverer(
        store=store,
        sender=PinnedSender(policy, user_agent=f"corral/{corral.__version__}"),
        webhooks=webhooks,
        find=predictions.find,
        renderers=renderers,
        clock=time.time,  # noqa: TID251 - made here, as above
        wake=wake,
    )


def renderers(settings: Settings, catalog: Catalog) -> Mapping[str, Renderer]:
    """Renderers of webhook bodies, by the name of the API."""
    replicate = Answers(
        catalog,
        capability_key=_derived(settings, CAPABILITIES),
        aborted_status=settings.replicate_aborted_status,
    )
    return {REPLICATE: replicate.render, deepinfra_webhook.DOOR: deepinfra_webhook.render}


def _rates(settings: Settings) -> RateLimits:
    return RateLimits(
        creates_per_minute=settings.replicate_creates_per_minute,
        requests_per_minute=settings.replicate_requests_per_minute,
    )


def _api_key(settings: Settings) -> tuple[str, bool]:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value(), False
    return _secret(settings, KEY_FILE, prefix=KEY_PREFIX)


def _secret(settings: Settings, name: str, *, prefix: str = "") -> tuple[str, bool]:
    try:
        return read_or_create_secret(settings.data_dir / name, prefix=prefix)
    except OSError as error:
        raise BadSetting(f"data_dir: {name} cannot be kept in {settings.data_dir}: {error.strerror}.") from error
