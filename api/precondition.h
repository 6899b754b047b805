/*
 * precondition.h - If-Match, If-None-Match and the two dates (RFC 9110 section 13).
 *
 * Parsing happens once, from the header section; deciding happens later, perhaps several
 * times and under a lock of the engine, so that it is pure: no allocation, no system call.
 * Tags that can't be ours are counted and forgotten: they never match.
 *
 * Threads:   one thread parses; then any thread decides.
 * Ownership: precondition_release() frees what a long list of tags needed. Header texts are
 *            borrowed for the call.
 * Errors:    parsing gives an enum problem; deciding can't fail.
 */
#ifndef API_PRECONDITION_H
#define API_PRECONDITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/etag.h"
#include "api/key.h"
#include "api/problem.h"
#include "store/store.h"

enum { TAG_LIST_INLINE = 2 };

/* A list of entity tags as one header field gave it, over all its lines. */
struct tag_list {
    bool present;
    bool any;     /* "*" */
    size_t count; /* tags of ours among those sent */
    size_t room;  /* TAG_LIST_INLINE as long as there is no heap */
    struct etag *heap;
    struct etag few[TAG_LIST_INLINE];
};

struct precondition {
    struct tag_list if_match;
    struct tag_list if_none_match;
    bool has_modified_since;
    bool has_unmodified_since;
    int64_t modified_since_s;
    int64_t unmodified_since_s;
};

/* What a request is about, as far as deciding needs it. */
enum precondition_method {
    PRECONDITION_READ,          /* GET, HEAD: false If-None-Match is 304; of a missing key: 404 */
    PRECONDITION_WRITE,         /* PUT, and DELETE that succeeds on a missing key */
    PRECONDITION_WRITE_EXISTING /* DELETE that is 404 on a missing key */
};

enum precondition_verdict { PRECONDITION_PROCEED, PRECONDITION_NOT_MODIFIED, PRECONDITION_FAILED };

void precondition_init(struct precondition *precondition);

/* Accepts one that was only initialised. */
void precondition_release(struct precondition *precondition);

/* True where at least one condition has to be decided. */
static inline bool precondition_any(const struct precondition *precondition)
{
    return precondition->if_match.present || precondition->if_none_match.present ||
           precondition->has_modified_since || precondition->has_unmodified_since;
}

/* Take one line of the field; several lines make one list. PROBLEM_MALFORMED_PRECONDITION for
 * a bad list, also one without any tag, and for "*" beside anything else; then nothing may be
 * decided. PROBLEM_OUT_OF_MEMORY. */
MUST_USE enum problem precondition_if_match(struct precondition *precondition, struct span line);
MUST_USE enum problem precondition_if_none_match(struct precondition *precondition,
                                                 struct span line);

/* Take the field's only line. An invalid date is as good as none. */
void precondition_modified_since(struct precondition *precondition, struct span line,
                                 int64_t now_s);
void precondition_unmodified_since(struct precondition *precondition, struct span line,
                                   int64_t now_s);

/* The date that stands for a version: the end of the second after the one its commit began in. Who
 * saw another version before this one became visible did so at an earlier date, by whichever of the
 * fields Date and Last-Modified (RFC 9110 section 13.1.3), as long as the commit took less than a
 * second and the clock wasn't set back; tags depend on neither. Not to be sent before it has come.
 */
int64_t precondition_date_s(uint64_t modified_ms);

/* Decides in the order of RFC 9110 section 13.2.2. PRECONDITION_PROCEED also where the plain
 * answer is neither 2xx nor 412, so that it is given: 404. Pure; doesn't block. */
enum precondition_verdict precondition_decide(const struct precondition *precondition,
                                              enum precondition_method method,
                                              const struct store_current *current);

#endif
