"""The names of metrics are frozen: dashboards and alerts of others are written on them.

A name may be added. To rename one, or to take a label away, breaks whoever uses it: that needs a line in CHANGELOG.md,
and a reason.
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from streamer.app.http import build_info
from streamer.http.metrics import metrics_endpoint
from streamer.testing import SPACE
from tests.support.metrics import METRICS

FROZEN = """
gauge     streamer_worker_ready
gauge     streamer_worker_waiting{reason}
gauge     streamer_worker_degraded{reason}
gauge     streamer_worker_consumer_lag{topic,partition}
gauge     streamer_worker_commit_age_seconds{topic,partition}
gauge     streamer_worker_oldest_unfinished_seconds{topic,partition}
histogram streamer_worker_end_to_end_seconds
histogram streamer_worker_stage_seconds{stage}
histogram streamer_worker_batch_size{reason}
gauge     streamer_worker_clock_ahead_seconds
gauge     streamer_worker_loop_lag_seconds
counter   streamer_worker_pipeline_records_total
counter   streamer_worker_pipeline_embedded_total
counter   streamer_worker_pipeline_cache_hits_total
counter   streamer_worker_pipeline_tombstones_total
counter   streamer_worker_pipeline_dead_letters_total{kind}
counter   streamer_worker_pipeline_stale_total
counter   streamer_worker_pipeline_batches_total
counter   streamer_worker_pipeline_commits_total
counter   streamer_worker_pipeline_commit_failures_total
counter   streamer_worker_pipeline_rebalances_total
gauge     streamer_worker_pipeline_partitions
gauge     streamer_worker_pipeline_in_flight
gauge     streamer_worker_pipeline_in_flight_bytes
gauge     streamer_worker_pipeline_batches_in_flight
gauge     streamer_worker_pipeline_lowest_unfinished_offset{partition}
counter   streamer_worker_source_poll_failures_total
counter   streamer_worker_source_consumers_replaced_total
counter   streamer_worker_source_partitions_restarted_total
counter   streamer_worker_source_deleted_offsets_total
counter   streamer_worker_source_truncations_total
counter   streamer_worker_source_unreadable_records_total
gauge     streamer_worker_source_unreadable_partitions
gauge     streamer_worker_sink_unacknowledged
counter   streamer_worker_sink_producers_replaced_total
counter   streamer_worker_cache_texts_total
counter   streamer_worker_cache_repeats_total
counter   streamer_worker_cache_joined_total
counter   streamer_worker_cache_hits_total
counter   streamer_worker_cache_misses_total
counter   streamer_worker_provider_requests_total
counter   streamer_worker_provider_texts_total
counter   streamer_worker_provider_tokens_total
counter   streamer_worker_provider_retries_total
counter   streamer_worker_provider_rate_limited_total
counter   streamer_worker_provider_timeouts_total
counter   streamer_worker_provider_rejected_total
gauge     streamer_worker_provider_in_flight
counter   streamer_worker_provider_answers_total{status}
counter   streamer_worker_spend_usd_total
gauge     streamer_worker_spend_day_usd
gauge     streamer_worker_spend_month_usd
gauge     streamer_worker_spend_day_tokens
gauge     streamer_worker_spend_day_requests
gauge     streamer_worker_spend_limit_reached
gauge     streamer_worker_cache_memory_entries
counter   streamer_worker_cache_memory_hits_total
counter   streamer_worker_cache_file_stored_total
counter   streamer_worker_cache_file_dropped_total
counter   streamer_worker_cache_file_expired_total
counter   streamer_worker_cache_file_damaged_total
counter   streamer_worker_cache_file_evicted_total
counter   streamer_worker_cache_file_faults_total
gauge     streamer_worker_cache_file_available
counter   streamer_worker_cache_server_stored_total
counter   streamer_worker_cache_server_dropped_total
counter   streamer_worker_cache_server_damaged_total
counter   streamer_worker_cache_server_faults_total
gauge     streamer_worker_cache_server_available
gauge     streamer_indexer_ready
gauge     streamer_indexer_dimensions
gauge     streamer_indexer_vectors
gauge     streamer_indexer_capacity
gauge     streamer_indexer_vector_bytes
gauge     streamer_indexer_restore_records
gauge     streamer_indexer_restore_remaining
gauge     streamer_indexer_restore_seconds
gauge     streamer_indexer_unacknowledged_batches
counter   streamer_indexer_records_total
counter   streamer_indexer_deletions_total
counter   streamer_indexer_malformed_total
counter   streamer_indexer_searches_total
counter   streamer_indexer_commit_failures_total
counter   streamer_indexer_verdicts_refused_total
counter   streamer_indexer_store_failures_total
counter   streamer_indexer_foreign_total{space}
counter   streamer_indexer_verdicts_total{verdict,reason}
histogram streamer_indexer_p_value
gauge     streamer_indexer_oldest_event_age_seconds
gauge     streamer_indexer_newest_event_age_seconds
histogram streamer_indexer_end_to_end_seconds
histogram streamer_indexer_stage_seconds{stage}
gauge     streamer_indexer_clock_ahead_seconds
gauge     streamer_indexer_commit_age_seconds{topic,partition}
gauge     streamer_indexer_live_listeners
counter   streamer_indexer_live_missed_total
gauge     streamer_indexer_thresholds{score}
gauge     streamer_indexer_snapshot_loaded
gauge     streamer_indexer_snapshot_age_seconds
gauge     streamer_indexer_snapshot_vectors
gauge     streamer_indexer_snapshot_bytes
gauge     streamer_indexer_snapshot_write_seconds
counter   streamer_indexer_snapshot_saved_total
counter   streamer_indexer_snapshot_failures_total
gauge     streamer_indexer_waiting{reason}
gauge     streamer_indexer_degraded{reason}
gauge     streamer_indexer_consumer_lag{topic,partition}
gauge     streamer_indexer_loop_lag_seconds
gauge     streamer_indexer_sink_unacknowledged
counter   streamer_indexer_sink_producers_replaced_total
counter   streamer_indexer_cache_texts_total
counter   streamer_indexer_cache_repeats_total
counter   streamer_indexer_cache_joined_total
counter   streamer_indexer_cache_hits_total
counter   streamer_indexer_cache_misses_total
counter   streamer_indexer_provider_requests_total
counter   streamer_indexer_provider_texts_total
counter   streamer_indexer_provider_tokens_total
counter   streamer_indexer_provider_retries_total
counter   streamer_indexer_provider_rate_limited_total
counter   streamer_indexer_provider_timeouts_total
counter   streamer_indexer_provider_rejected_total
gauge     streamer_indexer_provider_in_flight
counter   streamer_indexer_provider_answers_total{status}
counter   streamer_indexer_spend_usd_total
gauge     streamer_indexer_spend_day_usd
gauge     streamer_indexer_spend_month_usd
gauge     streamer_indexer_spend_day_tokens
gauge     streamer_indexer_spend_day_requests
gauge     streamer_indexer_spend_limit_reached
"""

PROCESS = {
    "process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds",
    "process_cpu_seconds_total", "process_open_fds", "process_max_fds",
}  # fmt: skip


def test_names_types_and_labels_are_those_that_were_promised() -> None:
    made = [f"{m.type:9} {m.name}" + (f"{{{','.join(m.labels)}}}" if m.labels else "") for m in METRICS]
    assert made == FROZEN.strip().splitlines()


def test_what_runs_and_the_process_itself_are_told_of() -> None:
    scrape = metrics_endpoint("streamer_worker", [], build_info("worker", SPACE))
    text = bytes(scrape(Request({"type": "http", "headers": []})).body).decode()
    samples = {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}
    assert samples.keys() == PROCESS | {"streamer_build_info"}
    info = samples["streamer_build_info"]
    assert info.value == 1
    assert info.labels.keys() == {"role", "version", "provider", "model", "space"}
    assert (info.labels["role"], info.labels["space"]) == ("worker", SPACE.id)
    assert samples["process_resident_memory_bytes"].value > 1_000_000
