/*
 * probes.h - what the process says of itself: /livez, /readyz, /startupz and /metrics.
 *
 *   /livez     the process answers, and no thread of the store has been stuck for a minute.
 *              Overload, a full disk or a long compaction don't fail it.
 *   /readyz    the store is open and the server isn't stopping. A full disk or a failed log don't
 *              fail it, because reads and deletes go on; ?write asks for that too, ?verbose has a
 *              line for each check.
 *   /startupz  recovery has finished; else how far it is.
 *
 * None of them touches the disk or waits for anything that does.
 *
 * Threads:   any thread.
 * Ownership: a struct probes borrows what it points to, and outlives the api it is given to.
 * Errors:    out of memory: the page has no text.
 */
#ifndef SERVICE_PROBES_H
#define SERVICE_PROBES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "service/http.h"
#include "service/metrics.h"
#include "store/store.h"

/* A thread of the store that makes no step for so long is stuck. */
#define PROBES_STUCK_MS UINT64_C(60000)

struct probes {
    const struct metrics *metrics;
    /* Set as the process goes on; NULL, false and 0 until then. */
    _Atomic(const struct http_server *) server;
    _Atomic(struct store *) store;
    _Atomic bool draining;
    _Atomic uint64_t recovered_bytes;
    _Atomic uint64_t recovery_total_bytes;
};

/* The api's hook for pages; `arg` is a struct probes. */
void probes_page(void *arg, struct MHD_Connection *connection, enum api_route route,
                 const struct api_probe_query *query, struct api_page *ret_page);

/* How much of the log was replayed, 0 to 100. */
unsigned probes_recovery_percent(const struct probes *probes);

#endif
