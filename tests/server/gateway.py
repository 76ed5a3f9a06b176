"""``corral serve`` with the scripted engine; can kill itself at a chosen point of a run.

::

    python -m tests.server.gateway '{"settings": {…}, "script": {…}, "point": "after_hold"}'

The process sends itself SIGKILL, so nothing is flushed, closed or rolled back.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from corral import bootstrap, engine_kinds
from corral.catalog.catalog import Catalog
from corral.cli.server.serve import serve
from corral.core.prediction import WebhookEvent
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from corral.service.ports import Ask
from corral.service.predictions import PredictionService
from corral.service.runs.journal import Journal
from corral.service.runs.run import ActiveRun
from corral.service.webhooks.webhooks import Renderer
from corral.settings import Settings, load_settings
from tests.unit.service.webhook_harness import hook, render

POINTS = {"after_hold": "claim", "mid_stream": "flush", "before_settlement": "settle", "after_settlement": "settle"}
"""Journal method at each point."""
own_renderers = bootstrap.renderers
VICTIM = "victim"
"""The gateway kills itself at a run whose request has this ``user``."""


def kill_at(point: str) -> None:
    """Patch the journal to kill this process at *point* of the victim's run."""
    act = getattr(Journal, POINTS[point])

    def is_victim(subject: ActiveRun | Sequence[ActiveRun]) -> bool:
        runs = [subject] if isinstance(subject, ActiveRun) else subject
        victims = [active for active in runs if active.run.ask.shown_input.get("user") == VICTIM]
        if point == "mid_stream":
            return any(active.generation.engine_tokens > 0 for active in victims)
        return bool(victims)

    async def call_and_kill(journal: Journal, subject: Any, *rest: Any, **terms: Any) -> Any:
        kills = is_victim(subject)  # before the call, which stores what was emitted until now
        if kills and point == "before_settlement":
            os.kill(os.getpid(), signal.SIGKILL)
        done = await act(journal, subject, *rest, **terms)
        if kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(Journal, POINTS[point], call_and_kill)


def renderers(settings: Settings, catalog: Catalog) -> dict[str, Renderer]:
    """The server's renderers, and one for the OpenAI API, which has no webhooks."""
    return {**own_renderers(settings, catalog), "openai": render}


def add_webhook(url: str) -> None:
    """Patch the service to send a ``completed`` webhook to *url* for every run."""
    bootstrap.renderers = renderers
    open_run = PredictionService.open

    def open_with_webhook(service: PredictionService, ask: Ask) -> Any:
        return open_run(service, replace(ask, webhook=hook(url, WebhookEvent.COMPLETED)))

    PredictionService.open = open_with_webhook


def scripted(script: dict[str, Any]) -> Callable[..., SubprocessWorker]:
    """A replacement for ``SubprocessWorker`` that starts scripted workers."""

    def make(launch: WorkerLaunch, **options: Any) -> SubprocessWorker:
        return SubprocessWorker(
            WorkerLaunch(engine="scripted", options=script, environment=launch.environment), **options
        )

    return make


def main() -> None:
    """Serve until the victim's run, or, without a point, until stopped."""
    orders = json.loads(sys.argv[1])
    engine_kinds.SubprocessWorker = scripted(orders["script"])
    if orders["point"]:
        kill_at(orders["point"])
    if orders["webhook_url"]:
        add_webhook(orders["webhook_url"])
    serve(load_settings(orders["settings"], {}))


if __name__ == "__main__":
    main()
