/*
 * err.h - the one list of errors, from the file system up to the HTTP status.
 *
 * A function that can fail returns an `enum err`; what it produces goes out through `ret_`
 * parameters, written on ERR_OK only. "Not found" from a lookup is a result, not an error;
 * ERR_NOT_FOUND is for things that were named and ought to exist.
 *
 * Threads:   any thread.
 * Ownership: all texts are static. A struct err_detail belongs to the caller.
 * Errors:    none of these functions fail.
 */
#ifndef STORE_BASE_ERR_H
#define STORE_BASE_ERR_H

#include <stdarg.h>

/* The caller must look at the result. */
#define MUST_USE __attribute__((warn_unused_result))

/* The compiler checks the arguments against the format, as for printf(). */
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

/* X(code, text): the text completes a line such as "cannot open ./data: <text>". */
#define ERR_TABLE(X)                                                                        \
    X(ERR_OK, "ok")                                                                         \
    X(ERR_NO_MEMORY, "out of memory")                                                       \
    X(ERR_IO, "input/output error")                                                         \
    X(ERR_NO_SPACE, "no space left on the device")                                          \
    /* Bytes on disk that no version of varve wrote like this. */                           \
    X(ERR_CORRUPT, "data is damaged")                                                       \
    /* Intact, but of another format version or with a must-understand bit unknown here. */ \
    X(ERR_FORMAT, "format is not known to this version of varve")                           \
    X(ERR_LOCKED, "in use by another process")                                              \
    /* A queue or budget is full; the same call may succeed later. */                       \
    X(ERR_BUSY, "overloaded, try again later")                                              \
    /* Writes are refused, reads go on: the log failed, or the store was opened so. */      \
    X(ERR_READ_ONLY, "store is read-only")                                                  \
    /* A write that may or may not survive a restart: its sync failed. */                   \
    X(ERR_OUTCOME_UNKNOWN, "outcome of the write is unknown")                               \
    X(ERR_INVALID, "invalid argument")                                                      \
    X(ERR_EXISTS, "exists already")                                                         \
    X(ERR_NOT_FOUND, "does not exist")                                                      \
    X(ERR_TOO_LARGE, "larger than the limit")                                               \
    X(ERR_CLOSED, "closed or shutting down")                                                \
    /* A cursor or pin outlived what it referred to. */                                     \
    X(ERR_EXPIRED, "expired")

#define ERR_ENUM_ENTRY(code, text) code,
enum err { ERR_TABLE(ERR_ENUM_ENTRY) };
#undef ERR_ENUM_ENTRY

/* A sentence for people, such as "out of memory"; never NULL, also for a value outside the enum. */
const char *err_text(enum err err);

/* The code's name for logs and tests, such as "ERR_NO_MEMORY"; never NULL. */
const char *err_name(enum err err);

/* What a bare code can't say: which file, which offset, what was expected there. */
struct err_detail {
    char text[512]; /* terminated; cut off where longer */
};

/* Sets the text; does nothing where `detail` is NULL, so that callers who don't care pass NULL.
 * The arguments may not point into the text itself. */
void err_detail_set(struct err_detail *detail, const char *format, ...) PRINTF_LIKE(2, 3);

/* The same with a va_list. */
void err_detail_vset(struct err_detail *detail, const char *format, va_list args) PRINTF_LIKE(2, 0);

#endif
