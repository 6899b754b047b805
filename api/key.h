/*
 * key.h - from the raw bytes of a request target to keys and parameters.
 *
 * A target comes in pieces that stay raw until the very last step: first it is split, then
 * the piece that is a key or a parameter is decoded, exactly once. So "%2F" never becomes a
 * separator, "%3F" never begins a query, and "%00" is a byte like any other.
 *
 * Threads:   any thread; pure functions.
 * Ownership: pieces point into the caller's target, and live as long as it does.
 * Errors:    an enum problem, PROBLEM_NONE for success; outputs are written on success only.
 */
#ifndef API_KEY_H
#define API_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"

/* A key has 1 to this many bytes, counted after decoding. */
#define KEY_BYTES_MAX 1024

/* Bytes, borrowed; not terminated. */
struct span {
    const char *at;
    size_t len;
};

static inline struct span span_of(const char *at, size_t len)
{
    return (struct span){at, len};
}

/* True where the span has exactly the bytes of the string. */
bool span_is(struct span span, const char *text);

/* The same with ASCII letters folded. */
bool span_is_nocase(struct span span, const char *text);

/* A request target, split but not decoded. */
struct target {
    struct span authority; /* "host:port" of an absolute-form target, else empty with at NULL */
    struct span path;      /* begins with '/', or is "*" */
    struct span query;     /* what follows the first '?', without it; at NULL where there is none */
};

/* Splits origin-form (/kv/k?q), absolute-form (http://host/kv/k?q) and asterisk-form (*).
 * PROBLEM_MALFORMED_REQUEST for anything else. */
MUST_USE enum problem target_split(struct span raw, struct target *ret_target);

/* Decodes what follows /kv/. `out` has room for KEY_BYTES_MAX and may be the raw text itself.
 * '+' is a plus. PROBLEM_EMPTY_KEY, PROBLEM_MALFORMED_KEY or PROBLEM_KEY_TOO_LONG. */
MUST_USE enum problem key_from_path(struct span raw, char *out, struct span *ret_key);

/* Decodes what follows /kv64/: canonical base64url without padding. Otherwise the same. */
MUST_USE enum problem key_from_base64url(struct span raw, char *out, struct span *ret_key);

/* True where the bytes are well-formed UTF-8, so that JSON can show them as text. */
bool key_is_utf8(struct span key);

/* One query parameter that a route knows. */
struct parameter {
    const char *name;
    struct span value; /* decoded; at NULL where the parameter wasn't sent */
};

/* Decodes a query in place, '+' as a space, into the parameters that the route knows. `ID` is
 * accepted everywhere and ignored (Terraform sends it).
 * PROBLEM_UNKNOWN_PARAMETER; PROBLEM_MALFORMED_PARAMETER for one that comes twice or has a bad
 * escape. On failure *ret_name is the name of the parameter at fault, decoded, or empty where
 * that can't be shown as ASCII. */
MUST_USE enum problem query_parse(char *query, size_t len, struct parameter parameters[], size_t n,
                                  struct span *ret_name);

/* Reads a decimal number from `min` to `max`; false for anything else, such as a sign. */
bool number_parse(struct span text, uint64_t min, uint64_t max, uint64_t *ret_number);

#endif
