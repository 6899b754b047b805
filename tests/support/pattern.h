/*
 * pattern.h - values whose every byte tells key, version and place.
 *
 * A value is a function of (key, version, size): a reader that knows which version it should see
 * notices any wrong byte, another version's, another key's, or a shifted one (each byte
 * behind the first 8 misses another key or size with one chance in 256). It isn't compressible, and
 * begins with its version, so that a reader who doesn't know can find out.
 *
 * Threads:   any thread.
 * Ownership: the caller's buffers.
 * Errors:    none.
 */
#ifndef VARVE_TESTS_SUPPORT_PATTERN_H
#define VARVE_TESTS_SUPPORT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"

#define PATTERN_VERSION_BYTES 8u /* a value of at least so many bytes tells its version */

/* Writes the `size` bytes that stand for this version of this key. */
void pattern_fill(struct bytes key, uint64_t version, void *into, size_t size);

/* The offset of the first byte of `value` that isn't the pattern's, or value.size if all are. */
size_t pattern_mismatch(struct bytes key, uint64_t version, struct bytes value);

/* True if all bytes are the pattern's. */
bool pattern_matches(struct bytes key, uint64_t version, struct bytes value);

/* Finds the version and checks every byte; false if it is no version's value of this key, or
 * shorter than PATTERN_VERSION_BYTES. */
bool pattern_version(struct bytes key, struct bytes value, uint64_t *ret_version);

#endif
