/*
 * api.h - the HTTP contract as a whole, from the outside: what the process that owns the sockets
 * calls, and what it is called for.
 *
 * The owner runs libmicrohttpd daemons and gives them api_begin(), api_handle(), api_end() and
 * api_keep_escapes() as callbacks, all with the struct api as their argument, or calls them from
 * callbacks of its own. Everything that happens between the request line and the last byte of the
 * answer happens in here; sockets, threads, deadlines, counters and probes are the owner's.
 *
 * A request that has to wait for the store suspends its connection (the daemons need
 * MHD_ALLOW_SUSPEND_RESUME) and is resumed from one of the store's threads; no HTTP thread waits
 * for the disk, but for single pages of it (store.h: store_get_at_once()).
 *
 * Threads:   api_new() before start, api_free() after stop. The callbacks: the connection's
 *            thread. Everything else: any thread.
 * Ownership: the config's texts and the store are borrowed and outlive the struct api.
 * Errors:    none reach the owner: a request that fails is answered so.
 */
#ifndef API_API_H
#define API_API_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "api/wire.h"
#include "store/store.h"

/* X(route, text): the text is what metrics and logs call it. */
#define API_ROUTE_TABLE(X)                                                              \
    X(API_ROUTE_NONE, "none") /* no such route, or refused before that was looked at */ \
    X(API_ROUTE_KEY, "/kv/{key}")                                                       \
    X(API_ROUTE_KEY64, "/kv64/{key64}")                                                 \
    X(API_ROUTE_LIST, "/kv")                                                            \
    X(API_ROUTE_STATS, "/stats")                                                        \
    X(API_ROUTE_FLUSH, "/admin/flush")                                                  \
    X(API_ROUTE_COMPACT, "/admin/compact")                                              \
    X(API_ROUTE_VERSION, "/version")                                                    \
    X(API_ROUTE_OPENAPI, "/openapi.yaml")                                               \
    X(API_ROUTE_LIVEZ, "/livez")                                                        \
    X(API_ROUTE_READYZ, "/readyz")                                                      \
    X(API_ROUTE_STARTUPZ, "/startupz")                                                  \
    X(API_ROUTE_METRICS, "/metrics")

#define API_ROUTE_ENUM_ENTRY(route, text) route,
enum api_route { API_ROUTE_TABLE(API_ROUTE_ENUM_ENTRY) API_ROUTE_COUNT };
#undef API_ROUTE_ENUM_ENTRY

#define API_METHOD_TABLE(X)          \
    X(API_METHOD_GET, "GET")         \
    X(API_METHOD_HEAD, "HEAD")       \
    X(API_METHOD_PUT, "PUT")         \
    X(API_METHOD_POST, "POST")       \
    X(API_METHOD_DELETE, "DELETE")   \
    X(API_METHOD_OPTIONS, "OPTIONS") \
    X(API_METHOD_OTHER, "other")

#define API_METHOD_ENUM_ENTRY(method, text) method,
enum api_method { API_METHOD_TABLE(API_METHOD_ENUM_ENTRY) API_METHOD_COUNT };
#undef API_METHOD_ENUM_ENTRY

/* Never NULL. */
const char *api_route_name(enum api_route route);
const char *api_method_name(enum api_method method);

/* Where a request is, for deadlines. */
enum api_phase {
    API_PHASE_HEADERS, /* the request line was read */
    API_PHASE_BODY,    /* the header section was read */
    API_PHASE_WAITING, /* suspended: nothing is expected of the client */
    API_PHASE_ANSWER,  /* the answer was queued */
};

/* How a request ended. */
struct api_outcome {
    enum api_route route;
    enum api_method method;
    unsigned status; /* 0: none was sent, the connection broke or libmicrohttpd refused by itself */
    bool complete;   /* the answer's last byte was handed to the kernel */
    enum problem problem;    /* what the answer said, PROBLEM_NONE for success */
    enum err err;            /* the store's error behind it, ERR_OK if there is none */
    uint64_t duration_us;    /* from the request line on */
    uint64_t received_bytes; /* of the body */
    uint64_t sent_bytes;     /* of the body, where complete */
    const char *request_id;  /* of an answer that is a problem, else ""; lives for the call */
};

/* The query of a probe. */
struct api_probe_query {
    bool verbose; /* /readyz?verbose */
    bool write;   /* /readyz?write */
};

/* What a probe or the metrics page says. */
struct api_page {
    unsigned status;
    const char *content_type; /* static */
    char *text;               /* taken over and freed; NULL: out of memory */
    size_t text_bytes;
    unsigned retry_after_s; /* 0: no such field */
};

/* What the owner is called for, on the connection's thread but for resume(); none may block. */
struct api_hooks {
    void *arg;
    /* A suspended connection is to go on: sees to it that MHD_resume_connection() is called, now or
     * later. On any thread. NULL: it is called at once. */
    void (*resume)(void *arg, struct MHD_Connection *connection);
    /* /livez, /readyz, /startupz and /metrics. */
    void (*page)(void *arg, struct MHD_Connection *connection, enum api_route route,
                 const struct api_probe_query *query, struct api_page *ret_page);
    /* Asked once the header section was read: anything but PROBLEM_NONE is answered, on the routes
     * above page() itself all the same, and the connection closed. For connections over the limit.
     * May be NULL. */
    enum problem (*refuse)(void *arg, struct MHD_Connection *connection);
    void (*phase)(void *arg, struct MHD_Connection *connection, enum api_phase phase);
    void (*finished)(void *arg, struct MHD_Connection *connection,
                     const struct api_outcome *outcome);
};

struct api_config {
    const char *version;       /* of the program */
    struct wire_policy policy; /* our limits must lie below what the connection's memory holds */
    uint64_t max_value_bytes;
    uint64_t drop_bytes_max; /* of the body of a request that failed already… */
    uint64_t drop_ms_max;    /* …and the time for that; then the connection is cut */
    struct api_hooks hooks;
};

/* All limits as http-api.md has them; version and hooks are empty. */
struct api_config api_config_default(void);

struct api;

/* NULL when out of memory. */
struct api *api_new(const struct api_config *config);
void api_free(struct api *api); /* NULL is allowed */

/* Until a store is set everything that needs one is 503 recovering. Set once. */
void api_set_store(struct api *api, struct store *store);

/* From now on all answers carry Connection: close. */
void api_set_draining(struct api *api);

/* Requests whose connection is suspended. A daemon may be stopped only at 0 (libmicrohttpd aborts
 * otherwise); they end by themselves as the store completes what they wait for. */
unsigned api_waiting(const struct api *api);

/* MHD_OPTION_URI_LOG_CALLBACK: a request begins. */
void *api_begin(void *api, const char *raw_target, struct MHD_Connection *connection);

/* MHD_AccessHandlerCallback. */
enum MHD_Result api_handle(void *api, struct MHD_Connection *connection, const char *url,
                           const char *method, const char *version, const char *upload_data,
                           size_t *upload_data_size, void **request);

/* MHD_OPTION_NOTIFY_COMPLETED: a request ended, one way or the other. */
void api_end(void *api, struct MHD_Connection *connection, void **request,
             enum MHD_RequestTerminationCode reason);

/* MHD_OPTION_UNESCAPE_CALLBACK: leaves everything as it was sent; we decode the raw target. */
size_t api_keep_escapes(void *api, struct MHD_Connection *connection, char *text);

#endif
