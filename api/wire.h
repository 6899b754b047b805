/*
 * wire.h - what must not pass although libmicrohttpd lets it: the rules that keep two parsers
 * in a row from reading one message as two, and web pages from driving a local store.
 *
 * A header section is fed in field by field, then the whole request is checked. What is found
 * on the way is kept, so that a field that matters is looked for once.
 *
 * Threads:   any thread; pure functions.
 * Ownership: names, values, target and policy are borrowed; they must outlive the struct wire.
 * Errors:    a refusal is a result, and says whether the connection can be used further.
 */
#ifndef API_WIRE_H
#define API_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/key.h"
#include "api/problem.h"

/* X(field, name, guarded): a guarded name may not be the beginning of a longer one, because
 * libmicrohttpd glues a folded "If-None-Match:" and its "*" into the name "If-None-Match*". */
#define WIRE_TABLE(X)                                        \
    X(WIRE_ACCEPT, "Accept", false)                          \
    X(WIRE_AUTHORIZATION, "Authorization", true)             \
    X(WIRE_CACHE_CONTROL, "Cache-Control", false)            \
    X(WIRE_CONTENT_ENCODING, "Content-Encoding", false)      \
    X(WIRE_CONTENT_LENGTH, "Content-Length", true)           \
    X(WIRE_CONTENT_RANGE, "Content-Range", false)            \
    X(WIRE_CONTENT_TYPE, "Content-Type", false)              \
    X(WIRE_EXPECT, "Expect", true)                           \
    X(WIRE_HOST, "Host", true)                               \
    X(WIRE_IF_MATCH, "If-Match", true)                       \
    X(WIRE_IF_MODIFIED_SINCE, "If-Modified-Since", true)     \
    X(WIRE_IF_NONE_MATCH, "If-None-Match", true)             \
    X(WIRE_IF_RANGE, "If-Range", true)                       \
    X(WIRE_IF_UNMODIFIED_SINCE, "If-Unmodified-Since", true) \
    X(WIRE_ORIGIN, "Origin", false)                          \
    X(WIRE_RANGE, "Range", true)                             \
    X(WIRE_TRANSFER_ENCODING, "Transfer-Encoding", true)     \
    X(WIRE_VARVE_TTL, "Varve-TTL", true)                     \
    X(WIRE_X_TTL, "X-TTL", true)

#define WIRE_ENUM_ENTRY(field, name, guarded) field,
enum wire_field { WIRE_TABLE(WIRE_ENUM_ENTRY) WIRE_FIELD_COUNT, WIRE_OTHER = WIRE_FIELD_COUNT };
#undef WIRE_ENUM_ENTRY

struct wire_value {
    struct span first; /* without spaces and tabs around it (Transfer-Encoding: with) */
    unsigned count;    /* how often the field came */
};

struct wire {
    struct wire_value fields[WIRE_FIELD_COUNT];
    size_t header_bytes;   /* names, values, and four bytes for each line */
    const char *bad_field; /* why a field must not pass, else NULL */
};

/* What the first line says. */
struct wire_line {
    struct span method;
    struct span target; /* raw */
    bool http_1_0;      /* else 1.1 or a later 1.x */
    bool target_cut;    /* the target's length isn't what the request says: a NUL was in it */
    bool section_gap;   /* the fields don't follow each other byte by byte */
};

/* The limits and rules of one listener. */
struct wire_policy {
    size_t target_bytes_max;
    size_t header_bytes_max;
    /* Loopback without tokens: Host must be localhost, a loopback address or one of these. */
    bool local_hosts_only;
    const char *const *host_names; /* NULL-terminated; may be NULL */
};

struct wire_refusal {
    enum problem problem; /* PROBLEM_NONE: the request may pass */
    const char *detail;   /* static, or NULL for the problem's own sentence */
    const char *field;    /* the name of the field at fault, or NULL */
    size_t limit;         /* the limit that was exceeded, or 0 */
    bool close;           /* nothing that follows on the connection can be trusted */
};

void wire_init(struct wire *wire);

/* Takes one field, in the order received. Returns which one it is; WIRE_OTHER for those that
 * don't matter here. The name is matched without regard to case. */
enum wire_field wire_field(struct wire *wire, struct span name, struct span value);

/* Checks the request once all fields were taken. Most dangerous first: a refusal that closes
 * the connection wins over one that doesn't. */
struct wire_refusal wire_check(const struct wire *wire, const struct wire_line *line,
                               const struct wire_policy *policy);

static inline bool wire_has(const struct wire *wire, enum wire_field field)
{
    return wire->fields[field].count > 0;
}

#endif
