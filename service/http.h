/*
 * http.h - the daemons that speak HTTP, their connections and their deadlines.
 *
 * N libmicrohttpd daemons with one thread each share a port by SO_REUSEPORT: the kernel spreads
 * connections evenly over them, which libmicrohttpd's own thread pool doesn't. Connections are
 * counted over all of them; those beyond the limit get a 503, but for probes and metrics, and are
 * closed. A watchdog thread cuts off connections that are too slow (deadline.h).
 *
 * Threads:   http_start() to http_stop(): the main thread. http_counts(): any thread.
 * Ownership: the server borrows the api and the metrics until http_stop() returns.
 * Errors:    http_start() says what failed in the detail: the address is in use, or there are too
 *            few file descriptors. Nothing else fails.
 */
#ifndef SERVICE_HTTP_H
#define SERVICE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "service/metrics.h"
#include "service/values.h"
#include "store/base/err.h"

/* Memory of a connection for one request: what it may send as target and header fields, and the
 * unit in which bodies arrive. libmicrohttpd zeroes it after every request, so it is small. */
#define HTTP_POOL_BYTES 16384u

/* Ours lie below what fits in there beside the answer's header, so that it is us who answer. */
#define HTTP_TARGET_MAX_BYTES 6144u
#define HTTP_HEADER_MAX_BYTES 6144u

struct http_options {
    struct address listen; /* port 0: the kernel picks one */
    unsigned threads;
    unsigned connections;
    uint64_t header_timeout_ms;
    uint64_t idle_timeout_ms;
    unsigned other_descriptors; /* that the process wants beside connections */
};

struct http_server;

/* For the api's hooks; they find their way by the connection, `arg` is ignored. */
enum problem http_refuse(void *arg, struct MHD_Connection *connection);
void http_resume(void *arg, struct MHD_Connection *connection); /* any thread */
void http_phase(void *arg, struct MHD_Connection *connection, enum api_phase phase);
void http_finished(void *arg, struct MHD_Connection *connection, const struct api_outcome *outcome);

/* Opens the port and serves. The api was made with the hooks above. ERR_EXISTS: the address is in
 * use. ERR_TOO_LARGE: more connections than descriptors. ERR_IO, ERR_NO_MEMORY. `metrics` has a
 * shard for each thread. */
MUST_USE enum err http_start(const struct http_options *options, struct api *api,
                             struct metrics *metrics, struct http_server **ret_server,
                             struct err_detail *detail);

/* Where it listens, with the port that was picked. */
struct address http_address(const struct http_server *server);

struct http_counts {
    uint64_t open; /* now; the others since start */
    uint64_t accepted;
    uint64_t refused;
    uint64_t cut;
};
struct http_counts http_counts(const struct http_server *server);

/* From now on connecting fails, and connections are closed as soon as no request is under way. */
void http_drain(struct http_server *server);

/* Waits until no connection is left, at most `timeout_ms`; false: some are left. May block. */
bool http_wait_drained(struct http_server *server, uint64_t timeout_ms);

/* Cuts off all connections, as a deadline does: to be followed by http_wait_drained(). Those that
 * wait for the store go once it has answered. */
void http_cut_all(struct http_server *server);

/* After http_wait_drained() returned true. NULL is allowed. May block. */
void http_stop(struct http_server *server);

#endif
