/*
 * table_map.h - inside an open table, for the sources named table_*.c.
 *
 * Threads:   any thread; what changes is atomic.
 * Ownership: a struct table owns its map and its arrays.
 * Errors:    as in table.h; enum block_fault inside.
 */
#ifndef VARVE_STORE_LSM_TABLE_MAP_H
#define VARVE_STORE_LSM_TABLE_MAP_H

#include <stdatomic.h>

#include "store/lsm/files.h"
#include "store/lsm/table_block.h"
#include "store/lsm/table_format.h"

#define TABLE_FILTER_LANES 8u
/* A block above this size has one record, whose value is nearly all of it. */
#define TABLE_SHORT_BLOCK_BYTES (TABLE_ALIGNED_BYTES + 2 * TABLE_PAGE_BYTES)

/* A verified block from here on may have left memory, and sending its value would read page after
 * page; below it that is a few reads, and every lookup would pay a system call to save them. */
#define TABLE_ASK_BYTES UINT64_C(32768)

/* Counters of a few threads, on a cache line of their own. */
struct filter_lane {
    _Alignas(64) _Atomic uint64_t lookups;
    _Atomic uint64_t positives, false_positives;
};

struct table {
    /* The map and what lies in it. */
    const uint8_t *map;
    uint64_t blocks;
    const uint64_t *prefixes;
    const struct index_entry *entries;
    const uint8_t *separators;
    uint64_t separator_bytes;
    const uint8_t *filter;
    uint64_t filter_bytes;
    uint32_t common_bytes; /* that all keys begin with alike */

    /* Bits: what was verified since the table was opened. */
    _Atomic uint64_t *verified_blocks; /* by number */
    _Atomic uint64_t *verified_chunks; /* of long values, by the page that they begin on */

    _Atomic uint64_t references;
    _Atomic bool obsolete, damaged;
    _Atomic unsigned bad_regions; /* bits by enum table_region_kind: damaged on the disk */
    _Atomic uint64_t verified_at; /* table_verified_at() */
    _Atomic uint64_t last_fault;  /* offset << 8 | enum block_fault; 0: none */
    struct vfs_dir *dir;
    struct table *link;
    char name[FILES_NAME_BYTES];
    struct table_info info;
    struct table_footer footer;
    struct filter_lane lanes[TABLE_FILTER_LANES];
};

/* The index was verified when the table was opened. But a page of it may have been read again
 * since, with other bytes: nothing is followed out of the table for all that. */
static inline bool table_entry_is_sane(const struct table *table, const struct index_entry *entry)
{
    uint64_t size = (uint64_t)entry->size_units * 8;
    uint64_t limit = table->footer.regions[REGION_INDEX].offset;

    return entry->offset % 8 == 0 && entry->offset < limit && size <= limit - entry->offset &&
           entry->records >= 1 && entry->records <= TABLE_BLOCK_RECORDS_MAX &&
           size >= block_tail_bytes(entry->records) + entry->records * sizeof(struct record);
}

/* Inside a guard over the map. */
static inline struct bytes table_separator(const struct table *table, uint64_t block)
{
    uint64_t offset = table->entries[block].separator_offset;
    uint64_t size = table->entries[block].separator_size;
    return offset + size <= table->separator_bytes ? bytes_of(table->separators + offset, size)
                                                   : bytes_of(NULL, 0);
}

static inline struct block_range table_block_range(const struct table *table, uint64_t block)
{
    return (struct block_range){
        .separator = table_separator(table, block),
        .next_separator =
            block + 1 < table->blocks ? table_separator(table, block + 1) : bytes_of(NULL, 0),
    };
}

/* Has the kernel begin to read [offset, offset + size) of the file; doesn't wait. A hint. */
void table_read_ahead(const struct table *table, uint64_t offset, uint64_t size);

/* Runs `step` under the guard. A page that can't be read makes it BLOCK_UNREADABLE. `step` locks
 * and allocates nothing, and keeps *at at the offset that it is about to read, for the text. Any
 * fault is remembered for table_error_text(). */
typedef enum block_fault table_step_fn(struct table *table, void *arg, volatile uint64_t *at);
enum block_fault table_guarded(struct table *table, table_step_fn *step, void *arg);

/* The region's bytes on the disk are damaged, so those in memory may be so at any time. */
static inline void table_distrust_region(struct table *table, enum table_region_kind region)
{
    atomic_fetch_or_explicit(&table->bad_regions, 1u << region, memory_order_relaxed);
}

static inline bool table_region_is_distrusted(const struct table *table,
                                              enum table_region_kind region)
{
    return (atomic_load_explicit(&table->bad_regions, memory_order_relaxed) >> region & 1) != 0;
}

/* Inside a guard, before the index is searched: verifies all of it if it is distrusted. */
enum block_fault table_check_index(struct table *table, volatile uint64_t *at);

static inline bool table_bit_is_set(const _Atomic uint64_t *bits, uint64_t i)
{
    return (atomic_load_explicit(&bits[i / 64], memory_order_relaxed) >> i % 64 & 1) != 0;
}

/* Inside a guard: block `i`, verified. */
enum block_fault table_verified_block(struct table *table, uint64_t i, struct block *ret_block,
                                      volatile uint64_t *at);

/* Inside a guard: the number of separators ≤ `key`; so a key that is there is in the block before
 * that number. */
uint64_t table_rank_separator(const struct table *table, struct bytes key);

#endif
