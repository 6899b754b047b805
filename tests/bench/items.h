/*
 * items.h - keys and values of the benchmarks: every value tells whose it is.
 *
 * Item number N has the key of N in 16 decimal digits, so keys sort as numbers do. Its value begins
 * with a version, goes on with bytes made of number and version up to half its size, and ends with
 * bytes that compress away. A value under a wrong key, a shifted or a damaged one ends the program.
 *
 * Threads:   any thread.
 * Ownership: the caller's buffers.
 * Errors:    end the program.
 */
#ifndef VARVE_TESTS_BENCH_ITEMS_H
#define VARVE_TESTS_BENCH_ITEMS_H

#include <stdint.h>

#include "store/base/bytes.h"
#include "tests/bench/engines.h"

#define ITEM_KEY_BYTES       16u
#define ITEM_VALUE_MAX_BYTES 1000u

/* The key of `number` (below 10^16), in `text`. */
struct bytes item_key(uint64_t number, char text[static ITEM_KEY_BYTES]);

/* The number that `key` stands for. */
uint64_t item_number(struct bytes key);

/* Place `i` of a random-looking order of the numbers below `n`, which is below 2^60. */
uint64_t item_shuffled(uint64_t i, uint64_t n);

/* Writes the value, `size` bytes from 16 on, and returns it. */
struct bytes item_value(uint64_t number, uint64_t version, void *into, size_t size);

/* Reads every byte of the item's value, which has `size` bytes; returns its version. */
uint64_t item_check(uint64_t number, struct bytes value, size_t size);

/* Puts a version of the item, whose value has `size` bytes. */
void item_put(const struct engine *engine, void *session, uint64_t number, uint64_t version,
              size_t size);

/* Gets and checks it: its version, or UINT64_MAX where it isn't there. */
uint64_t item_get(const struct engine *engine, void *session, uint64_t number, size_t size);

/* Scans up to `n` items from an even number on, and checks that they are all even numbers' in order
 * without a gap. Returns how many there were. */
uint64_t item_scan(const struct engine *engine, void *session, uint64_t from, uint64_t n,
                   size_t size);

#endif
