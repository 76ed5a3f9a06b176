"""Available engine kinds, by their names in the setting ``engine``."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from corral.core.errors import BadSetting
from corral.deployments.engine_kind import EngineKind, EngineOptions, LoadTerms, MemoryEstimate
from corral.engines.base import EngineLimits
from corral.engines.checker import CHECKER_LOAD_TIMEOUT_S, CHECKER_STEP_TIMEOUT_S, make_checker
from corral.engines.openvino.estimate import CHECKER_BYTES, WORKER_BYTES, look_ahead
from corral.engines.openvino.limits import cache_size_bytes, read_limits, settle_cache
from corral.engines.openvino.memory import available_bytes
from corral.engines.openvino.options import OPENVINO_CAPABILITIES, OpenVinoOptions
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES, ScriptedOptions
from corral.engines.subprocess.worker import SubprocessWorker, WorkerLaunch
from corral.settings import Settings, worker_environment
from corral.weights import cache_dir

_DEFAULT_SEQUENCES = 256
_SCRIPTED_BYTES = 32 * 2**20


def available_memory_bytes() -> int:
    """Memory that could be used now without swapping; the control group's limit counts when it is lower."""
    return available_bytes()


def engine_kinds(settings: Settings) -> Mapping[str, EngineKind]:
    """Create each engine kind, by its name."""
    return {"openvino": OpenVinoKind(settings), "scripted": ScriptedKind(settings)}


class OpenVinoKind:
    """The CPU engine, one worker process for each deployment. Options are the fields of ``OpenVinoOptions``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self, options: EngineOptions) -> None:
        """See ``EngineKind``."""
        self._options(Path("/"), options)

    def settle(self, checkpoint: Path, options: EngineOptions, *, cache_bytes: int) -> EngineOptions:
        """Fix precision and blocks of the KV cache."""
        settled = settle_cache(self._options(checkpoint, options), cache_bytes=cache_bytes)
        return {**options, "kv_blocks": settled.kv_blocks, "kv_precision": settled.kv_precision}

    def limits(self, checkpoint: Path, options: EngineOptions) -> EngineLimits:
        """See ``EngineKind``."""
        return read_limits(self._options(checkpoint, options), max_sequences=_max_sequences(options))

    def estimate(self, checkpoint: Path, options: EngineOptions) -> MemoryEstimate:
        """See ``EngineKind``."""
        made = self._options(checkpoint, options)
        outlook = look_ahead(made)
        return MemoryEstimate(
            weights=outlook.weights_bytes,
            kv_cache=cache_size_bytes(made),
            processes=WORKER_BYTES + CHECKER_BYTES,
            conversion=outlook.conversion_bytes,
        )

    def known_weights_id(self, checkpoint: Path, options: EngineOptions) -> str | None:
        """See ``EngineKind``."""
        return look_ahead(self._options(checkpoint, options)).weights_id

    def build(self, checkpoint: Path, options: EngineOptions, terms: LoadTerms) -> QueuedEngine:
        """See ``EngineKind``."""
        made, limits, settings = self._options(checkpoint, options), self.limits(checkpoint, options), self._settings
        worker = SubprocessWorker(
            _launch("openvino", asdict(made)),
            step_timeout_s=settings.step_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            load_gate=terms.gate,
        )
        checker = SubprocessWorker(
            _launch("openvino", asdict(replace(made, checker_model=True))),
            step_timeout_s=CHECKER_STEP_TIMEOUT_S,
            load_timeout_s=CHECKER_LOAD_TIMEOUT_S,
        )
        engine = QueuedEngine(
            [worker],
            limits=limits,
            capabilities=OPENVINO_CAPABILITIES,
            policy=_policy(settings),
            checker=make_checker(checker, vocab_size=limits.vocab_size),
            on_progress=terms.on_progress,
            expected_load_s=terms.expected_s,
        )
        engine.expect_weights(self.known_weights_id(checkpoint, options))
        return engine

    def _options(self, checkpoint: Path, options: EngineOptions) -> OpenVinoOptions:
        fields = {name: value for name, value in options.items() if name != "max_sequences"}
        return OpenVinoOptions(
            checkpoint=str(checkpoint.absolute()), cache_dir=str(cache_dir(self._settings)), **fields
        )


class ScriptedKind:
    """Scripted tokens from a real worker process, without a model: for tests and for measuring overhead.

    Options are the fields of ``ScriptedOptions``, ``max_sequences``, and ``memory_bytes``, which is only counted.
    """

    def __init__(self, settings: Settings, script: Mapping[str, Any] | None = None) -> None:
        """Create engines with *script*, if given, instead of the deployments' options."""
        self._settings = settings
        self._script = script

    def check(self, options: EngineOptions) -> None:
        """See ``EngineKind``."""
        self._options(options)

    def settle(self, checkpoint: Path, options: EngineOptions, *, cache_bytes: int) -> EngineOptions:  # noqa: ARG002
        """See ``EngineKind``."""
        return options

    def limits(self, checkpoint: Path, options: EngineOptions) -> EngineLimits:  # noqa: ARG002 - as in the protocol
        """See ``EngineKind``."""
        script = self._options(options)
        return EngineLimits(
            vocab_size=script.vocab_size,
            context_tokens=script.context_tokens,
            room_tokens=min(script.context_tokens, script.kv_blocks * script.kv_block_tokens),
            max_sequences=_max_sequences(options),
        )

    def estimate(self, checkpoint: Path, options: EngineOptions) -> MemoryEstimate:  # noqa: ARG002 - as in the protocol
        """See ``EngineKind``."""
        return MemoryEstimate(weights=0, kv_cache=0, processes=int(options.get("memory_bytes", _SCRIPTED_BYTES)))

    def known_weights_id(self, checkpoint: Path, options: EngineOptions) -> str | None:  # noqa: ARG002
        """See ``EngineKind``."""
        return None

    def build(self, checkpoint: Path, options: EngineOptions, terms: LoadTerms) -> QueuedEngine:
        """See ``EngineKind``."""
        worker = SubprocessWorker(
            _launch("scripted", asdict(self._options(options))),
            step_timeout_s=self._settings.step_timeout_s,
            load_timeout_s=self._settings.load_timeout_s,
            load_gate=terms.gate,
        )
        return QueuedEngine(
            [worker],
            limits=self.limits(checkpoint, options),
            capabilities=SCRIPTED_CAPABILITIES,
            policy=_policy(self._settings),
            on_progress=terms.on_progress,
            expected_load_s=terms.expected_s,
        )

    def _options(self, options: EngineOptions) -> ScriptedOptions:
        given = self._script if self._script is not None else options
        fields = {name: value for name, value in given.items() if name not in {"max_sequences", "memory_bytes"}}
        if unknown := sorted(fields.keys() - ScriptedOptions.__dataclass_fields__.keys()):
            raise BadSetting(f"scripted: there is no option {unknown[0]}.")
        try:
            return msgspec.convert(fields, ScriptedOptions)
        except msgspec.ValidationError as error:
            raise BadSetting(f"scripted: {error}.") from error


def _max_sequences(options: EngineOptions) -> int:
    return int(options.get("max_sequences", _DEFAULT_SEQUENCES))


def _policy(settings: Settings) -> QueuePolicy:
    return QueuePolicy(max_waiting=settings.max_waiting, max_queue_wait_s=settings.max_queue_wait_s)


def _launch(engine: str, options: dict[str, Any]) -> WorkerLaunch:
    return WorkerLaunch(engine=engine, options=options, environment=worker_environment())
