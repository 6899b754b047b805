/* Figures for people and for metrics: read without stopping anything, so they may be a moment
 * apart. */
#include <string.h>

#include "store/lsm/commit.h"

static void add_tables(const struct view *view, struct store_stats *stats)
{
    uint64_t records = 0, markers = 0;
    for (size_t level = 0; level < MANIFEST_LEVELS; level++) {
        const struct view_level *of = &view->levels[level];
        stats->level_tables[level] = of->n_tables;
        for (size_t i = 0; i < of->n_tables; i++) {
            const struct table_info *info = table_info(of->tables[i]);
            stats->level_bytes[level] += info->size_bytes;
            records += info->records;
            markers += info->markers;
            stats->damaged_tables += table_is_damaged(of->tables[i]);
            struct table_filter_counts counts = table_filter_counts(of->tables[i]);
            stats->filter_lookups += counts.lookups;
            stats->filter_positives += counts.positives;
            stats->filter_false_positives += counts.false_positives;
        }
    }
    stats->keys_approximate = records > 2 * markers ? records - 2 * markers : 0;
}

static void add_memtables(const struct view *view, struct store_stats *stats)
{
    stats->memtable_bytes = memtable_bytes(view->active);
    stats->keys_approximate += memtable_records(view->active);
    stats->sealed_memtables = view->n_sealed;
    for (size_t i = 0; i < view->n_sealed; i++) {
        stats->sealed_bytes += memtable_bytes(view->sealed[i]);
        stats->keys_approximate += memtable_records(view->sealed[i]);
    }
}

#define COPY(field) \
    stats->field = atomic_load_explicit(&store->counters.field, memory_order_relaxed)

static void copy_counters(struct store *store, struct store_stats *stats)
{
    COPY(log_syncs);
    COPY(log_bytes_written);
    COPY(flushes);
    COPY(flushed_bytes);
    COPY(compactions);
    COPY(compaction_read_bytes);
    COPY(compaction_written_bytes);
    COPY(compaction_debt_bytes);
    COPY(stalls);
    COPY(stalled_us);
    COPY(level0_stops);
    COPY(filter_lookups);
    COPY(filter_positives);
    COPY(filter_false_positives);
    COPY(pinned_entries);
    COPY(pinned_bytes);
    COPY(scans_open);
    COPY(rcu_backlog);
    COPY(scrub_bytes);
    COPY(scrub_passes);
    COPY(scrub_pass_us);
    COPY(rotations);
    COPY(view_swaps);
    COPY(claim_retries);
    COPY(writes);
    COPY(gets);
    COPY(cold_reads);
    COPY(fsync_total_us);
    COPY(batch_total_ops);
    for (size_t i = 0; i < STORE_FSYNC_BUCKETS; i++) {
        COPY(fsync_count[i]);
    }
    for (size_t i = 0; i < STORE_BATCH_BUCKETS; i++) {
        COPY(batch_count[i]);
    }
}

#undef COPY

void store_stats(struct store *store, struct store_stats *ret_stats)
{
    struct store_stats *stats = ret_stats;
    memset(stats, 0, sizeof *stats);
    copy_counters(store, stats);
    struct view *view = engine_view_acquire(store);
    add_tables(view, stats);
    add_memtables(view, stats);
    pthread_mutex_lock(&store->view_mutex);
    stats->log_segments = atomic_load(&store->view)->n_sealed + 1 + (store->spare != NULL);
    pthread_mutex_unlock(&store->view_mutex);
    view_release(view);
    pthread_mutex_lock(&store->reads.mutex);
    stats->waiting_reads = store->reads.n;
    pthread_mutex_unlock(&store->reads.mutex);
    stats->log_bytes_used = store->segment_bytes - atomic_load(&store->log_room_bytes);
    stats->inflight_bytes = atomic_load(&store->inflight_bytes);
    stats->waiting_writes = atomic_load(&store->n_waiting);
    stats->write_limit = slowdown_limit(&store->slowdown);
    stats->insert_retries = memtable_retries();
    stats->recovery_us = store->counters.recovery_us;
    stats->recovered_records = store->counters.recovered_records;
    stats->last_number = atomic_load(&store->visible_seq);
}
