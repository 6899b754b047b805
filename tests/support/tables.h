/*
 * tables.h - sorted records that a test knows, and tables made of them.
 *
 * Threads:   the thread that runs the test.
 * Ownership: record_set_release() frees the records; tables_close() frees a table.
 * Errors:    what fails ends the test by an assertion.
 */
#ifndef VARVE_TESTS_SUPPORT_TABLES_H
#define VARVE_TESTS_SUPPORT_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "store/lsm/table.h"
#include "tests/support/random.h"

#define TABLES_STORE_ID UINT64_C(0x1122334455667788)

/* Sealed records by ascending key, each key once. Their numbers are 1, 2, … in order of addition.
 */
struct record_set {
    struct record **records;
    size_t n, capacity;
    uint64_t last_seq;
};

/* Adds a record whose value tells key and number (pattern.h); of a key that is there already, none
 * is added. Marker: a delete marker. */
void record_set_add(struct record_set *set, struct bytes key, uint64_t value_bytes);
void record_set_add_marker(struct record_set *set, struct bytes key);

/* Adds `n` records with random keys: short and long ones, many of which begin alike, and with
 * values of up to `value_max` bytes, most of them small; some are delete markers. */
void record_set_add_random(struct record_set *set, struct prng *prng, size_t n, uint64_t value_max);

void record_set_release(struct record_set *set);

/* The record of `key`, or NULL; and the number of records with a key below `key`. */
const struct record *record_set_find(const struct record_set *set, struct bytes key);
size_t record_set_rank(const struct record_set *set, struct bytes key);

/* The same bytes, all of them. */
bool records_equal(const struct record *a, const struct record *b);

/* Writes the set as table `number`; its file id is number + 1000. */
void tables_write(struct vfs_dir *dir, uint64_t number, const struct record_set *set,
                  struct table_info *ret_info);

/* Drops the only reference. */
void tables_close(struct table *table);

/* A file's bytes: all of it to the heap; replaced or made; one bit inverted. */
uint8_t *file_read_all(struct vfs_dir *dir, const char *name, size_t *ret_size);
void file_write_all(struct vfs_dir *dir, const char *name, const void *data, size_t size);
void file_flip_bit(struct vfs_dir *dir, const char *name, uint64_t bit);

#endif
