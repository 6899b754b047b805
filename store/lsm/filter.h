/*
 * filter.h - which keys may be in a table: a Bloom filter that looks at one cache line a key.
 *
 * A key sets FILTER_PROBES bits in one line of 64 bytes (FORMAT.md, "Filter"). A key whose bits
 * aren't all set is not in the table. At FILTER_BITS_PER_KEY about one percent of absent keys have
 * all of theirs set by others.
 *
 * Threads:   any thread; adding belongs to one.
 * Ownership: the caller's bytes, 64-aligned for speed.
 * Errors:    none.
 * Source:    Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007.
 */
#ifndef VARVE_STORE_LSM_FILTER_H
#define VARVE_STORE_LSM_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#define FILTER_LINE_BYTES   64u
#define FILTER_PROBES       6u
#define FILTER_BITS_PER_KEY 10u

/* Bytes of a filter for so many keys: a multiple of FILTER_LINE_BYTES, never 0. */
uint64_t filter_size_for(uint64_t keys);

/* Adds a key by its hash to a filter of `size_bytes` (as above), which began as zeros. */
void filter_add(uint8_t *filter, uint64_t size_bytes, uint64_t hash);

/* False: no key of this hash was added. */
bool filter_may_contain(const uint8_t *filter, uint64_t size_bytes, uint64_t hash);

#endif
