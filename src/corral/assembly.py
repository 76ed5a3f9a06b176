"""Create the configured deployments: their names, engines, and shared memory budget."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corral.catalog.cards import known_card, model_cards
from corral.catalog.catalog import Catalog, ServedCheckpoint, deployment_name, served_catalog
from corral.catalog.identity import suggest_name
from corral.catalog.local import LocalModels
from corral.catalog.prices import PriceBook, read_price_book
from corral.checkpoints.source import open_source
from corral.core.errors import BadSetting, CorralError, InsufficientMemory
from corral.deployments.deployment import Deployment, LoadPolicy
from corral.deployments.engine_kind import EngineKind, EngineOptions, LoadTerms, MemoryEstimate
from corral.deployments.registry import Deployments
from corral.engine_kinds import available_memory_bytes, engine_kinds
from corral.engines.stepper import Progress
from corral.settings import Settings
from corral.text.chat.load import LoadedPrompts, load_prompts
from corral.weights import ChosenDeployment, ListedDeployment, choose_deployments, listed_deployments

_CACHE_SHARE = 4
"""Maximum share of memory for all KV caches that are larger than one context."""
MORE_MEMORY = "Leave one out, choose a smaller `quantize` or `kv_cache_tokens`, or raise `memory_budget`."
"""What to do where deployments do not fit in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Catalog and deployments of one server; nothing is loaded yet."""

    catalog: Catalog
    deployments: Deployments
    suggestions: Mapping[str, str]
    """Known models of the same shape, by the names of deployments whose model is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One deployment before its engine is built."""

    chosen: ChosenDeployment
    name: str
    kind: EngineKind
    options: EngineOptions
    """Settled."""
    memory: MemoryEstimate
    prompts: LoadedPrompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a start would make of one deployment, without a worker."""

    name: str
    path: Path | None
    """Its checkpoint; None if there is none."""
    loads_at_start: bool
    memory: MemoryEstimate | None
    """None if it cannot be served."""
    fault: CorralError | None
    """Why it cannot be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a start would make of all deployments that the settings list."""

    deployments: tuple[Outlook, ...]
    budget_bytes: int
    fault: CorralError | None
    """Why those that could be served cannot be served beside each other."""
    shortage: str | None
    """Which of them cannot be loaded for lack of memory."""


def survey(settings: Settings) -> Survey:
    """Look at each deployment of the settings as a start does; nothing is built, written or loaded."""
    listed = listed_deployments(settings)
    budget_bytes = settings.memory_budget or available_memory_bytes()
    kinds, cache_bytes = engine_kinds(settings), budget_bytes // _CACHE_SHARE // len(listed)
    looked = [_look_at(one, kinds, cache_bytes=cache_bytes) for one in listed]
    plans = [plan for _, plan in looked if plan is not None]
    fault = None
    try:
        served = [_served(plan.chosen) for plan in plans]
        served_catalog(served, _price_book(settings, served))
    except CorralError as error:
        fault = error
    return Survey(
        deployments=tuple(outlook for outlook, _ in looked),
        budget_bytes=budget_bytes,
        fault=fault,
        shortage=_shortage(plans, budget_bytes),
    )


def _look_at(
    listed: ListedDeployment, kinds: Mapping[str, EngineKind], *, cache_bytes: int
) -> tuple[Outlook, _Plan | None]:
    chosen = plan = fault = None
    try:
        chosen = listed.choose()
        plan = _plan(chosen, _served(chosen).deployment, kinds[chosen.kind], cache_bytes=cache_bytes)
    except CorralError as error:
        fault = error
    outlook = Outlook(
        name=listed.name if plan is None else plan.name,
        path=None if chosen is None else chosen.path,
        loads_at_start=chosen is not None and chosen.load == LoadPolicy.START,
        memory=None if plan is None else plan.memory,
        fault=fault,
    )
    return outlook, plan


def assemble(settings: Settings, on_progress: Callable[[Progress], None]) -> Assembly:
    """Find the weights of every deployment and describe its engine.

    Raises:
        BadSetting: weights are missing, a name is held twice, an option is unknown, or memory does not suffice.
        CheckpointRefused: configuration or tokenizer of a checkpoint cannot be served.
    """
    chosen = choose_deployments(settings)
    served = [_served(one) for one in chosen]
    budget_bytes = settings.memory_budget or available_memory_bytes()
    kinds, cache_bytes = engine_kinds(settings), budget_bytes // _CACHE_SHARE // len(chosen)
    plans = [
        _plan(one, where.deployment, kinds[one.kind], cache_bytes=cache_bytes)
        for one, where in zip(chosen, served, strict=True)
    ]
    catalog = served_catalog(_with_contexts(served, plans), _price_book(settings, served))
    _check_memory(plans, budget_bytes)
    gate = asyncio.Lock()

    def expect(name: str) -> Callable[[], float | None]:
        return lambda: deployments.expected_load_s(name)

    deployments = Deployments(
        [
            _deployment(plan, LoadTerms(gate=lambda: gate, expected_s=expect(plan.name), on_progress=on_progress))
            for plan in plans
        ],
        catalog.models(),
        memory_bytes=budget_bytes,
    )
    return Assembly(catalog=catalog, deployments=deployments, suggestions=_suggestions(catalog, plans))


def _served(chosen: ChosenDeployment) -> ServedCheckpoint:
    served = ServedCheckpoint(deployment=chosen.name, path=chosen.path, names=chosen.names, stands_in=chosen.stands_in)
    return replace(served, deployment=deployment_name(served))


def _with_contexts(served: Sequence[ServedCheckpoint], plans: Sequence[_Plan]) -> list[ServedCheckpoint]:
    """Add the context that each engine serves, which may be shorter than that of the configuration."""
    return [
        replace(one, context_tokens=plan.kind.limits(plan.chosen.path, plan.options).context_tokens)
        for one, plan in zip(served, plans, strict=True)
    ]


def _plan(chosen: ChosenDeployment, name: str, kind: EngineKind, *, cache_bytes: int) -> _Plan:
    try:
        kind.check(chosen.options)
    except BadSetting as error:
        raise BadSetting(f"deployment {name}: {error}") from None
    options = kind.settle(chosen.path, chosen.options, cache_bytes=cache_bytes)
    memory = kind.estimate(chosen.path, options)
    prompts = _prompts(chosen, name)
    return _Plan(chosen=chosen, name=name, kind=kind, options=options, memory=memory, prompts=prompts)


def _prompts(chosen: ChosenDeployment, name: str) -> LoadedPrompts:
    try:
        return load_prompts(chosen.path, chat_format=chosen.chat_format, suggested=chosen.suggested_format)
    except BadSetting as error:
        raise BadSetting(f"deployment {name}: {error}") from None


def _check_memory(plans: Sequence[_Plan], budget_bytes: int) -> None:
    """Refuse deployments that can never be loaded together with those that are loaded at the start."""
    if (shortage := _shortage(plans, budget_bytes)) is not None:
        raise BadSetting(f"{shortage} {MORE_MEMORY}")


def _shortage(plans: Sequence[_Plan], budget_bytes: int) -> str | None:
    """Say which deployment can never be loaded together with those that are loaded at the start."""
    loaded_bytes = 0
    for plan in sorted(plans, key=lambda plan: plan.chosen.load != LoadPolicy.START):
        if loaded_bytes + plan.memory.peak > budget_bytes:
            beside = " beside the deployments that are loaded at the start" if loaded_bytes else ""
            error = InsufficientMemory(
                plan.name, needed_bytes=plan.memory.peak, available_bytes=budget_bytes - loaded_bytes
            )
            return f"{str(error).rstrip('.')}{beside}."
        if plan.chosen.load == LoadPolicy.START:
            loaded_bytes += plan.memory.loaded
    return None


def _deployment(plan: _Plan, terms: LoadTerms) -> Deployment:
    path = plan.chosen.path
    return Deployment(
        name=plan.name,
        engine=plan.kind.build(path, plan.options, terms),
        prompts=plan.prompts.prompts,
        llama2_prompts=plan.chosen.llama2_prompts,
        warnings=plan.prompts.warnings,
        kind=plan.chosen.kind,
        load=LoadPolicy(plan.chosen.load),
        idle_unload_s=plan.chosen.idle_unload_s,
        memory_bytes=plan.memory.loaded,
        load_bytes=plan.memory.peak,
        known_weights_id=plan.kind.known_weights_id(path, plan.options),
    )


def _suggestions(catalog: Catalog, plans: Sequence[_Plan]) -> dict[str, str]:
    named = {model.deployment for model in catalog.models() if known_card(model.id) and not model.stands_in}
    suggested = {plan.name: _suggest(plan.chosen.path) for plan in plans if plan.name not in named}
    return {name: model for name, model in suggested.items() if model is not None}


def _suggest(path: Path) -> str | None:
    return suggest_name(open_source(path).read_config())


def _price_book(settings: Settings, served: Sequence[ServedCheckpoint]) -> PriceBook:
    """The operator's prices, without those of local models that are not served now."""
    if settings.prices is None:
        return {}
    here = {model.name.lower() for model in LocalModels(settings.data_dir).models()}
    known = {alias.lower() for card in model_cards() for alias in card.names}
    known |= {name.lower() for one in served for name in one.names}
    return {model: prices for model, prices in read_price_book(settings.prices).items() if model not in here - known}
