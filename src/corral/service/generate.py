"""The path of every answer: prepare, admit, engine, text.

Doors hand in a ``GenerationRequest`` and read events; nobody else talks to the engine.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from corral.catalog.catalog import Catalog
from corral.core.generation import GenerationEvent, GenerationRequest


class Generation(Protocol):
    """What a door may ask of the service. Implemented here by GenerationService (to come)."""

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered."""
        ...

    def open(self, request: GenerationRequest) -> AbstractAsyncContextManager[AsyncIterator[GenerationEvent]]:
        """Run one request; leave the block to free the engine.

        Every error that a caller can mend is raised on entering, before the first event.

        Raises:
            UnknownModel, InvalidRequest, PromptTooLong, Unsupported, Overloaded, EngineUnavailable: on entering.
            EngineFailed, EngineUnavailable: while iterating.
        """
        ...
