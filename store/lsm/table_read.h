/*
 * table_read.h - blocks of a table through ordinary reads, for the sources named table_*.c.
 *
 * Threads:   one thread at a time.
 * Ownership: a block lies in the window, valid until its next load.
 * Errors:    a fault is of the block; an error (ERR_NO_MEMORY) is of the reading as a whole.
 */
#ifndef VARVE_STORE_LSM_TABLE_READ_H
#define VARVE_STORE_LSM_TABLE_READ_H

#include "store/lsm/table_map.h"
#include "store/lsm/table_window.h"

/* A block that is read, and the zeros before it. */
struct table_block_read {
    struct table_window *window;
    uint64_t number;
    uint64_t begin; /* where the block before it ended */
    struct index_entry entry;
    struct block_range range; /* in the map */
    const uint8_t *data;      /* of `begin` */
    struct block block;
};

/* Looks up where block read->number lies, which must be close behind read->begin. */
enum block_fault table_read_entry(struct table *table, struct table_block_read *read);

/* Does the same, then reads the block and verifies all of it, values too. */
MUST_USE enum err table_read_block(struct table *table, struct table_block_read *read,
                                   enum block_fault *ret_fault);

/* Where the block ends, once its entry was looked up. */
static inline uint64_t table_block_read_end(const struct table_block_read *read)
{
    return read->entry.offset + (uint64_t)read->entry.size_units * 8;
}

/* "from "a" up to "b"". Inside a guard if the range lies in a map. */
void table_range_text(struct block_range range, struct err_detail *ret_text);

#endif
