/*
 * cursor.h - where the next page of a list begins.
 *
 * A cursor names the last key of its page, the end of the range, and the limit: nothing that the
 * server would have to remember, and nothing that changes when keys come and go. Clients treat it
 * as opaque; what comes back is checked like any other input.
 *
 *   base64url( 01 | limit, 2 bytes | length of the key, 2 bytes | key | end of the range )
 *
 * Threads:   any thread; pure functions.
 * Ownership: the caller's memory.
 * Errors:    none; a text that is no cursor is a result.
 */
#ifndef API_CURSOR_H
#define API_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/key.h"

struct cursor {
    uint16_t limit;
    struct span last; /* the page after this key is meant; 1 to KEY_BYTES_MAX */
    struct span end;  /* exclusive, above `last`; up to KEY_BYTES_MAX, empty: to the last key */
};

#define CURSOR_BYTES_MAX (5 + 2 * KEY_BYTES_MAX)
#define CURSOR_SIZE      (CURSOR_BYTES_MAX / 3 * 4 + 5) /* of the text, with a terminator */

/* Writes the text and a terminator. */
void cursor_format(const struct cursor *cursor, char out[CURSOR_SIZE]);

/* Reads what cursor_format() wrote, with a limit from 1 to `limit_max`. Decodes in place: the
 * spans point into the text. */
bool cursor_parse(char *text, size_t len, uint16_t limit_max, struct cursor *ret_cursor);

#endif
