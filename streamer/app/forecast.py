"""What the settings and our measurements make of a simulated worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from streamer.app.providers import batches_at_once
from streamer.app.spending import limits_of, price_for
from streamer.core.vectors import Space
from streamer.core.vendors import calls_at_once
from streamer.cpus import usable_cores
from streamer.embedding.budget import Budget
from streamer.embedding.chunking import typical_tokens
from streamer.embedding.contracts import Contract
from streamer.embedding.gate import FIRST_GUESS
from streamer.embedding.planning import SPECIAL_TOKENS
from streamer.forecast.flow_model import Delays, FlowModel
from streamer.forecast.sizing import Machine
from streamer.settings import Settings
from streamer.worker.batching import BatchPolicy

# Seconds of a processor, measured as `streamer bench overhead` does on machine A of docs/benchmarks.md.
MEASURED = "2026-11-28"
INTAKE_SECONDS = 5e-6
OUTPUT_SECONDS = 9e-6
COMPONENT_SECONDS = {"json": 0.018e-6, "binary": 0.003e-6}  # of each number of a vector, on its way out
CALL_SECONDS = 2e-3  # of a request over HTTP
REMOTE_ANSWER_SECONDS = 0.3  # assumed: no vendor promises any
LOCAL_TOKEN_SECONDS = 100e-6  # of one core: the bundled model in integers, texts of 60 tokens
PUBLISH_SECONDS = 0.01

WORKER_BYTES = 85_000_000  # resident, with a remote provider and before any event
MODEL_BYTES = 250_000_000  # more with a small local model
FETCHED_BYTES = 2 * 1024 * 1024
JUDGED_VECTORS_A_SECOND = 700 * 100_000 * 384  # products of one indexer, as components: docs/benchmarks.md


def delays_for(settings: Settings, contract: Contract, dimensions: int, answer_seconds: float | None) -> Delays:
    """`answer_seconds`: of the provider, for any request; None: what we assume, or measured for a local model."""
    component = COMPONENT_SECONDS[settings.output.format]
    is_local = contract.is_local and answer_seconds is None
    return Delays(
        intake=INTAKE_SECONDS,
        output=OUTPUT_SECONDS + component * dimensions,
        call=0.0 if contract.is_local else CALL_SECONDS,
        answer=(0.0 if is_local else REMOTE_ANSWER_SECONDS) if answer_seconds is None else answer_seconds,
        answer_token=LOCAL_TOKEN_SECONDS / (settings.provider.threads or usable_cores()) if is_local else 0.0,
        publish=PUBLISH_SECONDS,
    )


def model_for(
    settings: Settings,
    contract: Contract,
    space: Space,
    delays: Delays,
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> FlowModel:
    """A worker with these settings. Without a tokenizer, tokens are a usual number for such a text."""
    wanted, batch = settings.provider, settings.batch
    limits = (
        wanted.requests_per_minute or contract.requests_per_minute,
        wanted.tokens_per_minute or contract.tokens_per_minute,
        wanted.texts_per_minute or contract.items_per_minute,
    )
    calls = wanted.max_concurrent_requests or calls_at_once(contract.provider)
    budget = Budget(None, price=price_for(settings, contract), limits=limits_of(settings))
    return FlowModel(
        contract=contract,
        space=space,
        batch=BatchPolicy(batch.max_events, batch.max_bytes, batch.linger_ms / 1000),
        max_batches=batches_at_once(settings, contract),
        calls=calls if any(limits) else min(calls, FIRST_GUESS),
        max_in_flight=batch.max_in_flight_events,
        delays=delays,
        requests_per_minute=limits[0],
        tokens_per_minute=limits[1],
        items_per_minute=limits[2],
        requests_per_day=wanted.max_requests_per_day,
        tokens_per_day=wanted.max_tokens_per_day,
        most_request_tokens=inf if contract.is_local else budget.request_tokens(),
        remembers=settings.cache.enabled,
        # Models in this process count the two tokens that frame a text.
        tokens_of=typical_tokens if count_tokens is None else lambda text: count_tokens([text])[0] + SPECIAL_TOKENS,
        count_tokens=count_tokens,
    )


def machine_for(settings: Settings, contract: Contract, dimensions: int) -> Machine:
    indexed = settings.index.capacity
    return Machine(
        worker_bytes=WORKER_BYTES + (MODEL_BYTES if contract.is_local else 0),
        fetched_bytes=FETCHED_BYTES,
        window_bytes=settings.batch.max_in_flight_bytes,
        is_binary=settings.output.format == "binary",
        includes_text=settings.output.include_text,
        indexed=indexed,
        judged=JUDGED_VECTORS_A_SECOND / (indexed * dimensions),
    )
