/*
 * problem.h - everything that can go wrong with a request, as RFC 9457 shows it.
 *
 * One table: an identifier that never changes (clients switch on it), the status, a title
 * that is the same for every occurrence, and a sentence that says what to do where the place
 * of the error has none of its own. openapi.yaml lists the same identifiers; a test compares.
 *
 * Threads:   any thread.
 * Ownership: all texts are static, but for the body, which belongs to the caller.
 * Errors:    problem_body() returns NULL when out of memory, nothing else here fails.
 */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"

#define PROBLEM_MEDIA_TYPE "application/problem+json"

/* X(code, identifier, status, seconds of Retry-After or 0, title, detail). Retry-After only
 * where the same request is safe and useful to repeat. */
#define PROBLEM_TABLE(X)                                                                          \
    X(PROBLEM_MALFORMED_REQUEST, "malformed-request", 400, 0, "Malformed request",                \
      "Send a request that follows RFC 9112.")                                                    \
    X(PROBLEM_EMPTY_KEY, "empty-key", 400, 0, "Empty key",                                        \
      "Name a key after /kv/, or list keys with /kv?prefix=.")                                    \
    X(PROBLEM_MALFORMED_KEY, "malformed-key", 400, 0, "Malformed key",                            \
      "Write each special byte of the key as % and two hexadecimal digits.")                      \
    X(PROBLEM_UNKNOWN_PARAMETER, "unknown-parameter", 400, 0, "Unsupported parameter or field",   \
      "Leave out what this route does not know; nothing is ignored silently.")                    \
    X(PROBLEM_MALFORMED_PARAMETER, "malformed-parameter", 400, 0, "Malformed parameter",          \
      "Send each query parameter once, with a value that the route accepts.")                     \
    X(PROBLEM_MALFORMED_CURSOR, "malformed-cursor", 400, 0, "Malformed cursor",                   \
      "Send the cursor exactly as the last page gave it, or start over without one.")             \
    X(PROBLEM_MALFORMED_PRECONDITION, "malformed-precondition", 400, 0, "Malformed precondition", \
      "Send entity tags with their quotes, separated by commas, or a single *.")                  \
    X(PROBLEM_MALFORMED_HEADER, "malformed-header", 400, 0, "Header field can't be stored",       \
      "Send the field once, with at most 256 bytes of printable ASCII.")                          \
    X(PROBLEM_CONTENT_RANGE, "content-range-not-allowed", 400, 0, "Partial PUT is not supported", \
      "Put the whole value, without Content-Range.")                                              \
    X(PROBLEM_CROSS_SITE, "cross-site-request", 403, 0, "Cross-site request refused",             \
      "Send requests that change something from this server's own origin.")                       \
    X(PROBLEM_NO_SUCH_ROUTE, "no-such-route", 404, 0, "No such route",                            \
      "Keys are at /kv/<key>; /openapi.yaml describes all routes.")                               \
    X(PROBLEM_NO_SUCH_KEY, "no-such-key", 404, 0, "No such key",                                  \
      "Nothing is stored under this key.")                                                        \
    X(PROBLEM_METHOD_NOT_ALLOWED, "method-not-allowed", 405, 0, "Method not allowed",             \
      "Use one of the methods in the Allow field.")                                               \
    X(PROBLEM_NOT_ACCEPTABLE, "not-acceptable", 406, 0, "Not acceptable",                         \
      "This route answers application/json only.")                                                \
    X(PROBLEM_LENGTH_REQUIRED, "length-required", 411, 0, "Length required",                      \
      "Send the value with Content-Length or with Transfer-Encoding: chunked.")                   \
    X(PROBLEM_PRECONDITION_FAILED, "precondition-failed", 412, 0, "Precondition failed",          \
      "Read the key again and decide anew; nothing was changed.")                                 \
    X(PROBLEM_VALUE_TOO_LARGE, "value-too-large", 413, 0, "Value too large",                      \
      "Store at most as many bytes as the member limit says.")                                    \
    X(PROBLEM_KEY_TOO_LONG, "key-too-long", 414, 0, "Key too long",                               \
      "Use a key of at most 1024 bytes, counted after percent-decoding.")                         \
    X(PROBLEM_TARGET_TOO_LONG, "target-too-long", 414, 0, "Request target too long",              \
      "Send a target of at most as many bytes as the member limit says.")                         \
    X(PROBLEM_MISDIRECTED, "misdirected-request", 421, 0, "Misdirected request",                  \
      "Ask for localhost or a loopback address, or start the server with --host-name.")           \
    X(PROBLEM_HEADERS_TOO_LARGE, "headers-too-large", 431, 0, "Header section too large",         \
      "Send at most as many bytes of header fields as the member limit says.")                    \
    X(PROBLEM_INTERNAL, "internal-error", 500, 0, "Internal error",                               \
      "The server's log says more under this request_id.")                                        \
    X(PROBLEM_DAMAGED, "damaged-data", 500, 0, "Stored data is damaged",                          \
      "Run varve check on the data directory; wrong bytes are never sent.")                       \
    X(PROBLEM_OUTCOME_UNKNOWN, "outcome-unknown", 500, 0, "Outcome of the write is unknown",      \
      "The log failed under this write: read the key after a restart to see what it holds.")      \
    X(PROBLEM_BUSY, "busy", 503, 1, "Overloaded",                                                 \
      "Too much is in flight; try again after Retry-After.")                                      \
    X(PROBLEM_OUT_OF_MEMORY, "out-of-memory", 503, 1, "Out of memory",                            \
      "The server could not get memory for this request; try again after Retry-After.")           \
    X(PROBLEM_TOO_MANY_CONNECTIONS, "too-many-connections", 503, 1, "Too many connections",       \
      "Reuse connections, or raise --connections.")                                               \
    X(PROBLEM_RECOVERING, "recovering", 503, 1, "Store is recovering",                            \
      "The log is being replayed; /startupz shows how far it is.")                                \
    X(PROBLEM_DRAINING, "draining", 503, 5, "Server is shutting down",                            \
      "Try again after Retry-After, with a new connection.")                                      \
    X(PROBLEM_READ_ONLY, "read-only", 503, 0, "Store is read-only",                               \
      "Writes stopped when the log failed: look at the server's log, then restart it.")           \
    X(PROBLEM_NO_SPACE, "no-space", 507, 0, "Disk is full",                                       \
      "Delete keys or make room on the disk; reads and deletes go on.")

#define PROBLEM_ENUM_ENTRY(code, identifier, status, retry_after_s, title, detail) code,
enum problem { PROBLEM_NONE, PROBLEM_TABLE(PROBLEM_ENUM_ENTRY) PROBLEM_COUNT };
#undef PROBLEM_ENUM_ENTRY

/* The fixed part of a problem; none of the members is NULL. */
struct problem_kind {
    const char *type; /* such as "/problems/key-too-long" */
    unsigned status;
    unsigned retry_after_s; /* 0: don't ask for another try */
    const char *title;
    const char *detail;
};

/* `problem` is one of the table, not PROBLEM_NONE. */
const struct problem_kind *problem_kind(enum problem problem);

/* What a failed call of the store means to the client; PROBLEM_NONE for ERR_OK. */
enum problem problem_from_err(enum err err);

/* What varies between two occurrences; zero means "leave the member out". */
struct problem_occurrence {
    const char *detail;       /* NULL: the table's sentence. ASCII */
    const char *request_id;   /* ASCII */
    const char *parameter;    /* the query parameter or header field that is at fault */
    const char *current_etag; /* with its quotes */
    uint64_t limit;
    bool has_limit;
};

/* The JSON text of one occurrence, *ret_len bytes and a terminator, for free(); NULL when out
 * of memory. */
char *problem_body(enum problem problem, const struct problem_occurrence *occurrence,
                   size_t *ret_len);

#endif
