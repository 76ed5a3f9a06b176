"""``corral serve`` with the scripted engine behind it, which can be made to die at a chosen point of a run.

::

    python -m tests.server.gateway '{"settings": {…}, "script": {…}, "point": "after_hold"}'

The process kills itself with SIGKILL, so nothing is flushed, closed or rolled back by anyone.
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
from corral.service.runs.journal import Journal
from corral.service.runs.live import LiveRun
from corral.service.runs.runner import PredictionService
from corral.service.webhooks.webhooks import Renderer
from corral.settings import Settings, load_settings
from tests.unit.service.post_office import hook, render

POINTS = {"after_hold": "claim", "mid_stream": "flush", "before_settlement": "settle", "after_settlement": "settle"}
"""Each with what the journal does there."""
own_renderers = bootstrap.renderers
VICTIM = "victim"
"""The gateway dies at a run whose request names this as its ``user``."""


def mine(point: str) -> None:
    """Have the journal die at *point* of the victim's run, at once, by its own hand."""
    act = getattr(Journal, POINTS[point])

    def dies_at(subject: LiveRun | Sequence[LiveRun]) -> bool:
        lives = [subject] if isinstance(subject, LiveRun) else subject
        victims = [live for live in lives if live.ask.shown_input.get("user") == VICTIM]
        return any(live.stored_tokens > 0 for live in victims) if point == "mid_stream" else bool(victims)

    async def act_and_die(journal: Journal, subject: LiveRun | Sequence[LiveRun], *rest: Any, **terms: Any) -> Any:
        if point == "before_settlement" and dies_at(subject):
            os.kill(os.getpid(), signal.SIGKILL)
        done = await act(journal, subject, *rest, **terms)
        if dies_at(subject):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(Journal, POINTS[point], act_and_die)


def renderers(settings: Settings, catalog: Catalog) -> dict[str, Renderer]:
    """The server's own, and one for a door that has no webhooks."""
    return {**own_renderers(settings, catalog), "openai": render}


def telling(url: str) -> None:
    """Have every run told of at *url* when it is over, as doors do for callers who ask for that."""
    bootstrap.renderers = renderers
    open_run = PredictionService.open

    def open_told(service: PredictionService, ask: Ask) -> Any:
        return open_run(service, replace(ask, webhook=hook(url, WebhookEvent.COMPLETED)))

    PredictionService.open = open_told


def scripted(script: dict[str, Any]) -> Callable[..., SubprocessWorker]:
    """Makes workers as ``SubprocessWorker`` does, but scripted ones."""

    def make(launch: WorkerLaunch, **options: Any) -> SubprocessWorker:
        return SubprocessWorker(
            WorkerLaunch(engine="scripted", options=script, environment=launch.environment), **options
        )

    return make


def main() -> None:
    """Serve, until the victim comes; without a point of death, until somebody ends it."""
    orders = json.loads(sys.argv[1])
    engine_kinds.SubprocessWorker = scripted(orders["script"])
    if orders["point"]:
        mine(orders["point"])
    if orders["tell"]:
        telling(orders["tell"])
    serve(load_settings(orders["settings"], {}))


if __name__ == "__main__":
    main()
