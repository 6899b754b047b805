/*
 * request.h - one request, from its first line to the last byte of its answer.
 *
 * libmicrohttpd calls several times: once with the target, once with the header section, once for
 * each piece of the body, once at the end. Two of its habits shape what follows. An answer queued
 * before the end closes the connection, so a failure is noted when it happens and answered when
 * the body is over, but for those that must not wait. And a suspended connection is called again
 * where it was, so that whatever waits leaves behind what comes next.
 *
 *            begin()                body()                finish()
 *   target -> header section -> [pieces of a body]... -> end -> answer
 *                  |                                      |
 *                  +- may wait for room in the store      +- may wait for the store
 *
 * Threads:   the connection's thread; request_complete(): any thread.
 * Ownership: a struct request lives from api_begin() to api_end(). Spans and bytes point into the
 *            request's copy of the target and into libmicrohttpd's memory of the header section,
 *            and live as long.
 * Errors:    noted by request_fail(), the first one counts.
 */
#ifndef API_REQUEST_H
#define API_REQUEST_H

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/api.h"
#include "api/etag.h"
#include "api/key.h"
#include "api/precondition.h"
#include "api/problem.h"
#include "api/wire.h"
#include "store/store.h"

struct request;

#define REQUEST_PARAMETERS_MAX 5
#define REQUEST_ID_SIZE        17 /* 16 hexadecimal digits and a terminator */

/* What one method does on one route; a step that is NULL does nothing. */
struct handler {
    bool needs_store; /* until the store is open, the answer is 503 */
    bool on_key;      /* the route names one */
    bool suspends;    /* finish() waits for the disk */
    const char *parameters[REQUEST_PARAMETERS_MAX + 1]; /* the query's, NULL-terminated */
    /* The header section is complete; may fail, may wait. */
    void (*begin)(struct request *request);
    /* A piece of the body; may fail. Without this step bodies are dropped. */
    void (*body)(struct request *request, const char *data, size_t size);
    /* The request is complete: answers, fails or waits. */
    void (*finish)(struct request *request);
};

struct route {
    const char *path;
    bool prefix; /* the path is followed by a key */
    enum api_route id;
    const struct handler *handlers[API_METHOD_COUNT];
};

struct api {
    struct api_config config;
    struct store *_Atomic store; /* NULL while it is recovering */
    atomic_bool draining;
    atomic_uint waiting;
    int64_t started_ms;                 /* monotonic */
    struct MHD_Response *out_of_memory; /* prebuilt, shared */
};

enum request_stage {
    STAGE_HEADERS, /* until begin() is over */
    STAGE_BODY,
    STAGE_END,
};

/* Of the one operation that a request may wait for. */
enum operation { OPERATION_RUNNING, OPERATION_SUSPENDED, OPERATION_DONE };

struct request {
    struct api *api;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL until found */
    const struct handler *handler;
    enum api_method method;
    enum request_stage stage;
    int64_t started_us; /* monotonic */
    char id[REQUEST_ID_SIZE];

    /* the header section */
    struct wire_value content_type, content_encoding, cache_control; /* as sent */
    struct precondition precondition;
    enum problem precondition_problem;
    bool wants_ndjson, takes_json; /* Accept names the one; allows the other */
    struct target target;
    struct span key;                                     /* decoded */
    struct parameter parameters[REQUEST_PARAMETERS_MAX]; /* in the handler's order */
    bool expects_continue;                               /* sends its body only when told to */

    /* the body */
    bool has_length, chunked;
    uint64_t length; /* where it has one */
    uint64_t received_bytes;
    uint64_t dropped_bytes;
    int64_t dropping_since_ms; /* monotonic; 0: not yet */

    /* the operation that is waited for, and what it left behind */
    _Atomic enum operation operation;
    void (*next)(struct request *request); /* NULL: nothing is waited for */
    enum err err;
    bool found;
    struct store_entry *entry; /* of a get, pinned where found; handed on with the answer */
    struct store_write *write; /* of a put that is under way */
    void *value;               /* where its body goes */
    uint64_t value_room;
    bool condition_failed;
    struct store_current before;
    struct store_version version;

    void *state;                     /* of the handler, while it waits… */
    void (*state_free)(void *state); /* …and how to free it, should the client go away meanwhile */

    /* the answer */
    enum problem problem;
    struct problem_occurrence occurrence;
    char parameter_name[32];
    char current_etag[ETAG_SIZE];
    bool close; /* nothing that follows on the connection can be trusted */
    bool answered;
    bool put_off; /* the end was seen once */
    unsigned status;
    uint64_t answer_bytes;

    size_t target_len;
    char target_text[]; /* the raw target, terminated; decoded in place */
};

/* Notes why the request fails; the first call counts. Answered when it is time. */
void request_fail(struct request *request, enum problem problem);

/* The same with a sentence of its own (static). */
void request_fail_because(struct request *request, enum problem problem, const char *detail);

/* The same with the limit that was exceeded. */
void request_fail_limit(struct request *request, enum problem problem, uint64_t limit);

/* The same for a parameter of the query or a field. */
void request_fail_parameter(struct request *request, enum problem problem, struct span name,
                            const char *detail);

/* The same for an error of the store; nothing for ERR_OK. */
void request_fail_err(struct request *request, enum err err);

/* Waiting for the store, in three steps: request_start(); the call that takes a callback; then
 * request_then(), which runs `next` at once if the callback has run already, and otherwise
 * suspends the connection until it has. The callback leaves its results in the request and calls
 * request_complete() as the last thing it does: from then on the request may be gone. */
void request_start(struct request *request);
void request_complete(struct request *request);
void request_then(struct request *request, void (*next)(struct request *request));

/* Has `next` run soon, when the connection has stopped to read; for who finds at the end of a
 * request that it has to wait. Else the end of the stream would be found when the connection is
 * resumed, where the client has closed its half, and the answer be dropped. */
void request_put_off(struct request *request, void (*next)(struct request *request));

/* The store; only where the handler needs one. */
struct store *request_store(const struct request *request);

int64_t clock_monotonic_us(void);

/* Seconds since 1970 UTC; may be some milliseconds late, never early. */
int64_t clock_wall_s(void);

#endif
