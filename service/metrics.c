#include "service/metrics.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/build_info.h"

/* Statuses that get a series of their own. 0: no answer was sent, the connection had broken. */
static const unsigned statuses[] = {0,   200, 201, 204, 206, 304, 400, 401, 403, 404,
                                    405, 406, 409, 411, 412, 413, 414, 415, 416, 421,
                                    422, 428, 429, 431, 500, 501, 503, 505, 507};
enum { STATUS_OTHER = sizeof statuses / sizeof statuses[0], STATUS_SLOTS };
enum { STATUS_LIMIT = 600 };

/* The durations' buckets: upper bounds in microseconds; one more has none. */
static const uint64_t bounds_us[] = {50,     100,     250,     500,     1000,    2500,
                                     5000,   10000,   25000,   50000,   100000,  250000,
                                     500000, 1000000, 2500000, 5000000, 10000000};
enum { BOUNDS = sizeof bounds_us / sizeof bounds_us[0], BUCKETS };

struct metrics_shard {
    _Alignas(64) _Atomic uint64_t requests[API_ROUTE_COUNT][API_METHOD_COUNT][STATUS_SLOTS];
    _Atomic uint64_t buckets[API_ROUTE_COUNT][BUCKETS];
    _Atomic uint64_t duration_us[API_ROUTE_COUNT];
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
};

struct metrics {
    unsigned n_shards;
    uint8_t status_slot[STATUS_LIMIT];
    struct metrics_shard *shards;
};

struct metrics *metrics_new(unsigned shards)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) {
        return NULL;
    }
    size_t size = shards * sizeof metrics->shards[0];
    metrics->shards = aligned_alloc(_Alignof(struct metrics_shard), size);
    if (metrics->shards == NULL) {
        free(metrics);
        return NULL;
    }
    memset(metrics->shards, 0, size);
    metrics->n_shards = shards;
    memset(metrics->status_slot, STATUS_OTHER, sizeof metrics->status_slot);
    for (int i = 0; i < STATUS_OTHER; i++) {
        metrics->status_slot[statuses[i]] = (uint8_t)i;
    }
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics != NULL) {
        free(metrics->shards);
        free(metrics);
    }
}

struct metrics_shard *metrics_shard(struct metrics *metrics, unsigned index)
{
    return &metrics->shards[index];
}

/* Only one thread writes, so that no locked instruction is needed. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

void metrics_count(struct metrics *metrics, struct metrics_shard *shard,
                   const struct api_outcome *outcome)
{
    unsigned status = outcome->status < STATUS_LIMIT ? outcome->status : STATUS_LIMIT - 1;
    size_t bucket = 0;
    while (bucket < BOUNDS && outcome->duration_us > bounds_us[bucket]) {
        bucket++;
    }
    add(&shard->requests[outcome->route][outcome->method][metrics->status_slot[status]], 1);
    add(&shard->buckets[outcome->route][bucket], 1);
    add(&shard->duration_us[outcome->route], outcome->duration_us);
    add(&shard->received_bytes, outcome->received_bytes);
    add(&shard->sent_bytes, outcome->sent_bytes);
}

/* The sum over all shards of the counter that is `offset` bytes into each. */
static uint64_t sum_at(const struct metrics *metrics, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < metrics->n_shards; i++) {
        const char *shard = (const char *)&metrics->shards[i];
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)(shard + offset),
                                    memory_order_relaxed);
    }
    return sum;
}

#define SUM(metrics, member) sum_at(metrics, offsetof(struct metrics_shard, member))

static void heading(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_requests(FILE *out, const struct metrics *metrics)
{
    const char *name = "varve_http_requests_total";
    heading(out, name, "counter", "Requests that ended, by the status that was sent.");
    for (size_t r = 0; r < API_ROUTE_COUNT; r++) {
        for (size_t m = 0; m < API_METHOD_COUNT; m++) {
            for (size_t s = 0; s < STATUS_SLOTS; s++) {
                uint64_t n = SUM(metrics, requests[r][m][s]);
                if (n == 0) {
                    continue;
                }
                char status[16] = "other";
                if (s != STATUS_OTHER) {
                    snprintf(status, sizeof status, statuses[s] == 0 ? "none" : "%u", statuses[s]);
                }
                fprintf(out, "%s{route=\"%s\",method=\"%s\",status=\"%s\"} %lu\n", name,
                        api_route_name((enum api_route)r), api_method_name((enum api_method)m),
                        status, n);
            }
        }
    }
}

static void print_durations(FILE *out, const struct metrics *metrics)
{
    const char *name = "varve_http_request_seconds";
    heading(out, name, "histogram", "From the request line to the last byte of the answer.");
    for (size_t r = 0; r < API_ROUTE_COUNT; r++) {
        const char *route = api_route_name((enum api_route)r);
        uint64_t counts[BUCKETS];
        uint64_t all = 0;
        for (size_t b = 0; b < BUCKETS; b++) {
            all += counts[b] = SUM(metrics, buckets[r][b]);
        }
        if (all == 0) {
            continue;
        }
        uint64_t below = 0;
        for (size_t b = 0; b < BOUNDS; b++) {
            below += counts[b];
            fprintf(out, "%s_bucket{route=\"%s\",le=\"%g\"} %lu\n", name, route,
                    (double)bounds_us[b] / 1e6, below);
        }
        fprintf(out, "%s_bucket{route=\"%s\",le=\"+Inf\"} %lu\n", name, route, all);
        fprintf(out, "%s_sum{route=\"%s\"} %.6f\n", name, route,
                (double)SUM(metrics, duration_us[r]) / 1e6);
        fprintf(out, "%s_count{route=\"%s\"} %lu\n", name, route, all);
    }
}

/* Connections are spread over threads by the kernel: here it shows whether evenly. */
static void print_threads(FILE *out, const struct metrics *metrics)
{
    const char *name = "varve_http_thread_requests_total";
    heading(out, name, "counter", "Requests that ended, by the HTTP thread that served them.");
    for (unsigned i = 0; i < metrics->n_shards; i++) {
        uint64_t n = 0;
        for (size_t r = 0; r < API_ROUTE_COUNT; r++) {
            for (size_t b = 0; b < BUCKETS; b++) {
                n += atomic_load_explicit(&metrics->shards[i].buckets[r][b], memory_order_relaxed);
            }
        }
        fprintf(out, "%s{thread=\"%u\"} %lu\n", name, i, n);
    }
}

static void print_number(FILE *out, const char *name, const char *type, const char *help,
                         uint64_t value)
{
    heading(out, name, type, help);
    fprintf(out, "%s %lu\n", name, value);
}

/* Numbers of the store that are shown as they are, or as seconds where they count microseconds. */
static const struct {
    size_t offset;
    bool is_counter;
    bool is_us;
    const char *name;
    const char *help;
} store_numbers[] = {
#define GAUGE(member, name, help)                                      \
    {                                                                  \
        offsetof(struct store_stats, member), false, false, name, help \
    }
#define COUNTER(member, name, help)                                   \
    {                                                                 \
        offsetof(struct store_stats, member), true, false, name, help \
    }
#define SECONDS(member, is_counter, name, help)                            \
    {                                                                      \
        offsetof(struct store_stats, member), is_counter, true, name, help \
    }
    GAUGE(keys_approximate, "varve_keys", "Keys, approximately."),
    COUNTER(writes, "varve_store_writes_total", "Operations that were committed."),
    COUNTER(gets, "varve_store_gets_total", "Lookups of one key."),
    COUNTER(cold_reads, "varve_cold_reads_total", "Those that had to wait for the disk."),
    GAUGE(waiting_reads, "varve_waiting_reads", "Lookups waiting for the disk now."),
    GAUGE(memtable_bytes, "varve_memtable_bytes", "Bytes in the memtable that takes writes."),
    GAUGE(sealed_memtables, "varve_sealed_memtables", "Full memtables not yet written to tables."),
    GAUGE(sealed_bytes, "varve_sealed_memtable_bytes", "Bytes in them."),
    COUNTER(rotations, "varve_memtable_rotations_total", "Memtables sealed."),
    GAUGE(log_segments, "varve_log_segments", "Files of the write-ahead log."),
    GAUGE(log_bytes_used, "varve_log_bytes", "Bytes of the log that recovery would read."),
    COUNTER(log_syncs, "varve_log_syncs_total", "Syncs of the log."),
    COUNTER(log_bytes_written, "varve_log_written_bytes_total", "Bytes written to the log."),
    COUNTER(flushes, "varve_flushes_total", "Memtables written to tables."),
    COUNTER(flushed_bytes, "varve_flushed_bytes_total", "Bytes of those tables."),
    COUNTER(compactions, "varve_compactions_total", "Merges of tables."),
    COUNTER(compaction_read_bytes, "varve_compaction_read_bytes_total", "Bytes read by them."),
    COUNTER(compaction_written_bytes, "varve_compaction_written_bytes_total",
            "Bytes written by them."),
    GAUGE(compaction_debt_bytes, "varve_compaction_debt_bytes",
          "Bytes by which levels exceed their size."),
    COUNTER(scrub_bytes, "varve_scrub_bytes_total", "Bytes of tables verified on the disk."),
    COUNTER(scrub_passes, "varve_scrub_passes_total", "Times that all tables were verified."),
    SECONDS(scrub_pass_us, false, "varve_scrub_last_pass_seconds", "Time that the last one took."),
    GAUGE(damaged_tables, "varve_damaged_tables",
          "Tables in use in which damage was found, by the scrubber or a request."),
    COUNTER(stalls, "varve_write_stalls_total", "Writes that waited for room."),
    SECONDS(stalled_us, true, "varve_write_stall_seconds_total", "Time that they waited."),
    COUNTER(level0_stops, "varve_write_stops_total",
            "Times that all writes waited for compaction."),
    GAUGE(write_limit, "varve_write_limit_bytes_per_second",
          "What is let in while compaction is behind; 0: no limit."),
    GAUGE(inflight_bytes, "varve_inflight_bytes", "Bytes of writes between arrival and disk."),
    GAUGE(waiting_writes, "varve_waiting_writes", "Writes waiting for room now."),
    COUNTER(filter_lookups, "varve_filter_lookups_total", "Questions to filters of tables."),
    COUNTER(filter_positives, "varve_filter_positives_total", "Answers: may be there."),
    COUNTER(filter_false_positives, "varve_filter_false_positives_total",
            "Answers: may be there, where it was not."),
    GAUGE(pinned_entries, "varve_pinned_entries", "Values held for answers under way."),
    GAUGE(pinned_bytes, "varve_pinned_bytes", "Bytes of memory that they hold at most."),
    GAUGE(scans_open, "varve_scans_open", "Snapshots held for lists."),
    GAUGE(rcu_backlog, "varve_rcu_backlog", "Structures that wait for readers to leave."),
    COUNTER(view_swaps, "varve_view_swaps_total", "Changes of the set of tables and memtables."),
    SECONDS(recovery_us, false, "varve_recovery_seconds", "Time that opening the store took."),
    GAUGE(recovered_records, "varve_recovered_records", "Records replayed from the log then."),
#undef GAUGE
#undef COUNTER
#undef SECONDS
};

static void print_store_numbers(FILE *out, const struct store_stats *stats)
{
    for (size_t i = 0; i < sizeof store_numbers / sizeof store_numbers[0]; i++) {
        uint64_t value;
        memcpy(&value, (const char *)stats + store_numbers[i].offset, sizeof value);
        const char *name = store_numbers[i].name;
        const char *type = store_numbers[i].is_counter ? "counter" : "gauge";
        heading(out, name, type, store_numbers[i].help);
        if (store_numbers[i].is_us) {
            fprintf(out, "%s %.6f\n", name, (double)value / 1e6);
        } else {
            fprintf(out, "%s %lu\n", name, value);
        }
    }
}

static void print_levels(FILE *out, const struct store_stats *stats)
{
    heading(out, "varve_level_tables", "gauge", "Tables on a level.");
    for (unsigned i = 0; i < STORE_LEVELS; i++) {
        fprintf(out, "varve_level_tables{level=\"%u\"} %lu\n", i, stats->level_tables[i]);
    }
    heading(out, "varve_level_bytes", "gauge", "Bytes of tables on a level.");
    for (unsigned i = 0; i < STORE_LEVELS; i++) {
        fprintf(out, "varve_level_bytes{level=\"%u\"} %lu\n", i, stats->level_bytes[i]);
    }
}

/* A histogram whose bucket i ends at `first_bound` × 2^i, the last one nowhere. */
static void print_doubling(FILE *out, const char *name, const char *help, const uint64_t counts[],
                           unsigned buckets, double first_bound, double sum)
{
    heading(out, name, "histogram", help);
    uint64_t below = 0;
    for (unsigned i = 0; i < buckets; i++) {
        below += counts[i];
        if (i + 1 < buckets) {
            fprintf(out, "%s_bucket{le=\"%.9g\"} %lu\n", name,
                    first_bound * (double)(UINT64_C(1) << i), below);
        }
    }
    fprintf(out, "%s_bucket{le=\"+Inf\"} %lu\n%s_sum %.9g\n%s_count %lu\n", name, below, name, sum,
            name, below);
}

static void print_store(FILE *out, const struct store_stats *stats)
{
    print_store_numbers(out, stats);
    print_levels(out, stats);
    print_doubling(out, "varve_commit_batch_ops", "Operations that shared a sync.",
                   stats->batch_count, STORE_BATCH_BUCKETS, 1, (double)stats->batch_total_ops);
    print_doubling(out, "varve_fsync_seconds", "Time that a sync of the log took.",
                   stats->fsync_count, STORE_FSYNC_BUCKETS, 32e-6,
                   (double)stats->fsync_total_us / 1e6);
}

static void print_process(FILE *out, const struct metrics *metrics,
                          const struct metrics_sources *sources)
{
    heading(out, "varve_build_info", "gauge", "Always 1; the labels say what runs.");
    fprintf(out, "varve_build_info{version=\"%s\",build_type=\"%s\",compiler=\"%s\"} 1\n",
            build_info.version, build_info.build_type, build_info.compiler);
    print_number(out, "varve_http_connections", "gauge", "Open connections.", sources->connections);
    print_number(out, "varve_http_connections_accepted_total", "counter", "Connections accepted.",
                 sources->connections_accepted);
    print_number(out, "varve_http_connections_refused_total", "counter",
                 "Connections beyond the limit, which get 503 except on probes and metrics.",
                 sources->connections_refused);
    print_number(out, "varve_http_connections_cut_total", "counter",
                 "Connections cut off because they were too slow.", sources->connections_cut);
    print_number(out, "varve_http_received_bytes_total", "counter", "Bytes of request bodies.",
                 SUM(metrics, received_bytes));
    print_number(out, "varve_http_sent_bytes_total", "counter", "Bytes of response bodies.",
                 SUM(metrics, sent_bytes));
    print_number(out, "varve_store_open", "gauge", "0 while the store recovers.",
                 sources->stats != NULL);
    print_number(out, "varve_log_poisoned", "gauge", "1: the log failed, no writes until restart.",
                 sources->stats != NULL && sources->state == STORE_READ_ONLY);
    print_number(out, "varve_no_space", "gauge", "1: the disk is full, puts are refused.",
                 sources->stats != NULL && sources->state == STORE_NO_SPACE);
}

char *metrics_render(const struct metrics *metrics, const struct metrics_sources *sources,
                     size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    print_process(out, metrics, sources);
    print_requests(out, metrics);
    print_durations(out, metrics);
    print_threads(out, metrics);
    if (sources->stats != NULL) {
        print_store(out, sources->stats);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}
