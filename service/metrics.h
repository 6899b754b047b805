/*
 * metrics.h - what GET /metrics says, in Prometheus' text format.
 *
 * Requests are counted per HTTP thread, in a shard that no other thread writes, so that counting
 * costs no shared cache line. What the store counts is asked of it when the page is made.
 *
 * Threads:   metrics_count(): the thread that owns the shard. Everything else: any thread.
 * Ownership: shards belong to the struct metrics.
 * Errors:    running out of memory is the only one; NULL then.
 */
#ifndef SERVICE_METRICS_H
#define SERVICE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "api/api.h"
#include "store/store.h"

struct metrics;
struct metrics_shard;

/* `shards`: one for each thread that counts. */
struct metrics *metrics_new(unsigned shards);
void metrics_free(struct metrics *metrics); /* NULL is allowed */
struct metrics_shard *metrics_shard(struct metrics *metrics, unsigned index);

/* Counts a request that is over. */
void metrics_count(struct metrics *metrics, struct metrics_shard *shard,
                   const struct api_outcome *outcome);

/* What the page shows beside the requests. */
struct metrics_sources {
    uint64_t connections;            /* open now */
    uint64_t connections_accepted;   /* since start, likewise the next two */
    uint64_t connections_refused;    /* because of --connections */
    uint64_t connections_cut;        /* by a deadline */
    const struct store_stats *stats; /* NULL while the store isn't open */
    enum store_state state;          /* where it is */
};

/* The page: *ret_size bytes for free(). */
char *metrics_render(const struct metrics *metrics, const struct metrics_sources *sources,
                     size_t *ret_size);

#endif
