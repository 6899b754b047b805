/*
 * base64url.h - base64 with the URL alphabet, canonical and without padding (RFC 4648 §5).
 *
 * Why our own: of the libraries here only GnuTLS has base64, with the other alphabet, padding
 * and an allocation; and keys need the canonical form, so that each has exactly one name.
 *
 * Threads:   any thread; pure functions.
 * Ownership: the caller's memory.
 * Errors:    none; a text that is not canonical is a result.
 */
#ifndef API_BASE64URL_H
#define API_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the text for `len` bytes, without a terminator. */
static inline size_t base64url_text_len(size_t len)
{
    return len / 3 * 4 + (len % 3 == 0 ? 0 : len % 3 + 1);
}

/* Writes base64url_text_len(len) characters, no terminator. */
void base64url_encode(const uint8_t *bytes, size_t len, char *out);

/* Writes len * 3 / 4 bytes; `out` may be the text itself. False for a character outside the
 * alphabet, padding, an impossible length, or bits set beyond the last byte; what `out` holds
 * is then undefined. */
bool base64url_decode(const char *text, size_t len, uint8_t *out, size_t *ret_len);

#endif
