/*
 * etag.h - entity tags: which bytes a response stands for (RFC 9110 section 8.8.3).
 *
 * A tag is the text of a store's version in quotes. It is strong: equal tags mean equal bytes,
 * for ever and in every store. A version has exactly one text, so a tag of any other form is
 * well-formed, but not ours, and matches nothing.
 *
 * Threads:   any thread; pure functions.
 * Ownership: the caller's memory.
 * Errors:    none; a text that is no tag is a result.
 */
#ifndef API_ETAG_H
#define API_ETAG_H

#include <stdbool.h>
#include <stddef.h>

#include "api/key.h"
#include "store/store.h"

/* Room for a tag with its quotes and a terminator. */
#define ETAG_SIZE (STORE_VERSION_TEXT_BYTES + 2)

/* Writes the tag with its quotes and a terminator; returns its length. */
size_t etag_format(struct store_version version, char out[ETAG_SIZE]);

/* A tag that a client sent. */
struct etag {
    bool weak;
    bool ours; /* else it stands for no version, and `version` isn't set */
    struct store_version version;
};

/* Takes one entity tag, as "x" or W/"x", from the front of the text. False where there is none;
 * the text is then left alone. */
bool etag_take(struct span *text, struct etag *ret_etag);

#endif
