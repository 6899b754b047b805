/*
 * table.c - lookups through the map.
 *
 * A lookup touches one line of the filter, then a dense array of 8-byte prefixes of separators (by
 * bisection), one index entry, the tail of one block, and the record. The prefixes leave out what
 * all keys of the table begin with; where they are equal, separators decide.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/base/sigbus.h"
#include "store/lsm/filter.h"
#include "store/lsm/table_map.h"

#define PIECE_BYTES (RECORD_CHUNK_BYTES * 8) /* of a long value are read ahead at once */

uint64_t table_hash(struct bytes key)
{
    return XXH3_64bits(key.data, key.size);
}

/* --- Faults ----------------------------------------------------------------------------------- */

static void remember(struct table *table, enum block_fault fault, uint64_t offset)
{
    atomic_store_explicit(&table->last_fault, offset << 8 | (uint64_t)fault, memory_order_relaxed);
}

enum block_fault table_guarded(struct table *table, table_step_fn *step, void *arg)
{
    struct sigbus_guard guard;
    volatile uint64_t at = 0;
    enum block_fault fault = BLOCK_UNREADABLE;

    if (sigbus_guard_enter(&guard, table->map, table->footer.size_bytes)) {
        fault = step(table, arg, &at);
        sigbus_guard_leave(&guard);
    } else {
        fault = BLOCK_UNREADABLE;
    }
    if (fault) {
        remember(table, fault, at);
    }
    return fault;
}

void table_error_text(const struct table *table, char *ret_text, size_t size)
{
    uint64_t last = atomic_load_explicit(&table->last_fault, memory_order_relaxed);
    enum block_fault fault = (enum block_fault)(last & 0xFF);

    if (fault == BLOCK_OK) {
        (void)snprintf(ret_text, size, "%s: %s", table->name, block_fault_text(BLOCK_UNREADABLE));
        return;
    }
    (void)snprintf(ret_text, size, "%s, offset %" PRIu64 ": %s", table->name, last >> 8,
                   block_fault_text(fault));
}

/* --- What was verified ------------------------------------------------------------------------ */

/* Whether block or chunk `i` was verified and needn't be again. */
static bool is_trusted(const struct table *table, const _Atomic uint64_t *bits, uint64_t i)
{
    return table_bit_is_set(bits, i) && !table_is_damaged(table);
}

static void set_bit(_Atomic uint64_t *bits, uint64_t i)
{
    atomic_fetch_or_explicit(&bits[i / 64], UINT64_C(1) << i % 64, memory_order_relaxed);
}

enum block_fault table_verified_block(struct table *table, uint64_t i, struct block *ret_block,
                                      volatile uint64_t *at)
{
    struct index_entry entry = table->entries[i];

    if (!table_entry_is_sane(table, &entry)) {
        return BLOCK_CHANGED;
    }
    struct block block = block_of(table->map + entry.offset, &entry);
    *at = entry.offset;
    if (!is_trusted(table, table->verified_blocks, i)) {
        /* Two threads may both verify it: the bytes are the same for both. */
        uint64_t last_page = (entry.offset + block.size_bytes - 1) / TABLE_PAGE_BYTES;
        if (last_page > entry.offset / TABLE_PAGE_BYTES &&
            block.size_bytes <= TABLE_SHORT_BLOCK_BYTES) {
            table_read_ahead(table, entry.offset, block.size_bytes);
        }
        enum block_fault fault =
            block_verify(block, &entry, table_block_range(table, i), table->info.file_id);
        if (fault) {
            return fault;
        }
        set_bit(table->verified_blocks, i);
    }
    *ret_block = block;
    return BLOCK_OK;
}

/* --- Long values ------------------------------------------------------------------------------ */

/* A part of a long value, and the chunks that hold it. A chunk's bit is that of the page that it
 * begins on. */
struct value_part {
    const struct record *record;
    uint64_t offset, size;
    uint64_t first_page;
    uint64_t begin, end; /* numbers of chunks */
    bool verified;       /* all of them, before this call */
};

static uint64_t chunk_bit(const struct value_part *part, uint64_t chunk)
{
    return part->first_page + chunk * (RECORD_CHUNK_BYTES / TABLE_PAGE_BYTES);
}

static enum block_fault find_chunks(struct table *table, void *arg, volatile uint64_t *at)
{
    struct value_part *part = arg;

    *at = (uint64_t)((const uint8_t *)part->record - table->map);
    struct bytes value = record_value(part->record);
    uint64_t value_at = (uint64_t)((const uint8_t *)value.data - table->map);
    part->verified = true;
    if (value.size <= RECORD_CHUNK_BYTES || part->size == 0) {
        return BLOCK_OK;
    }
    /* The record was verified, so this fails only where the disk gave other bytes meanwhile. */
    if (value_at > table->info.size_bytes || value.size > table->info.size_bytes - value_at ||
        part->offset > value.size || part->size > value.size - part->offset) {
        return BLOCK_CHANGED;
    }
    part->first_page = value_at / TABLE_PAGE_BYTES;
    part->begin = part->offset / RECORD_CHUNK_BYTES;
    part->end = (part->offset + part->size - 1) / RECORD_CHUNK_BYTES + 1;
    for (uint64_t i = part->begin; i < part->end && part->verified; i++) {
        part->verified = is_trusted(table, table->verified_chunks, chunk_bit(part, i));
    }
    return BLOCK_OK;
}

static enum block_fault verify_chunk(struct table *table, const struct value_part *part, uint64_t i)
{
    uint64_t offset = i * RECORD_CHUNK_BYTES;
    uint64_t left = part->record->value_size - offset;
    uint64_t size = left < RECORD_CHUNK_BYTES ? left : RECORD_CHUNK_BYTES;

    if (record_verify_value(part->record, offset, size)) {
        return BLOCK_BAD_VALUE;
    }
    set_bit(table->verified_chunks, chunk_bit(part, i));
    return BLOCK_OK;
}

static enum block_fault verify_chunks(struct table *table, void *arg, volatile uint64_t *at)
{
    struct value_part *part = arg;
    uint64_t value_at = part->first_page * TABLE_PAGE_BYTES;
    uint64_t end = part->end * RECORD_CHUNK_BYTES;
    uint64_t ahead = part->begin * RECORD_CHUNK_BYTES; /* read ahead so far, in the value */

    for (uint64_t i = part->begin; i < part->end; i++) {
        uint64_t offset = i * RECORD_CHUNK_BYTES;
        if (is_trusted(table, table->verified_chunks, chunk_bit(part, i))) {
            continue;
        }
        /* One piece is on its way while the one before is verified. */
        while (ahead < end && ahead < offset + 2 * PIECE_BYTES) {
            uint64_t piece = end - ahead < PIECE_BYTES ? end - ahead : PIECE_BYTES;
            table_read_ahead(table, value_at + ahead, piece);
            ahead += piece;
        }
        *at = value_at + offset;
        enum block_fault fault = verify_chunk(table, part, i);
        if (fault) {
            return fault;
        }
    }
    return BLOCK_OK;
}

enum err table_verify_value(struct table *table, const struct record *record, uint64_t offset,
                            uint64_t size)
{
    struct value_part part = {.record = record, .offset = offset, .size = size};

    enum block_fault fault = table_guarded(table, find_chunks, &part);
    if (!fault && !part.verified) {
        fault = table_guarded(table, verify_chunks, &part);
    }
    return block_fault_err(fault);
}

bool table_value_is_verified(struct table *table, const struct record *record, uint64_t offset,
                             uint64_t size)
{
    struct value_part part = {.record = record, .offset = offset, .size = size};

    return table_guarded(table, find_chunks, &part) == BLOCK_OK && part.verified;
}

enum err table_populate(struct table *table, struct bytes value)
{
    uint64_t offset = (uint64_t)((const uint8_t *)value.data - table->map);
    enum block_fault fault = BLOCK_OK;

    if (offset > table->info.size_bytes || value.size > table->info.size_bytes - offset) {
        fault = BLOCK_CHANGED;
    } else if (vfs_populate(table->dir->vfs, value.data, value.size) != ERR_OK) {
        fault = BLOCK_UNREADABLE;
    }
    if (fault) {
        remember(table, fault, offset);
    }
    return block_fault_err(fault);
}

/* --- Lookups ---------------------------------------------------------------------------------- */

/* Number of prefixes < `prefix`, or ≤ it with `or_equal`. Without branches that depend on keys. */
static uint64_t rank_prefix(const struct table *table, uint64_t prefix, bool or_equal)
{
    const uint64_t *base = table->prefixes;
    uint64_t n = table->blocks;

    if (or_equal) {
        if (prefix == UINT64_MAX) {
            return n;
        }
        prefix++;
    }
    while (n > 1) {
        uint64_t half = n / 2;
        base += base[half - 1] < prefix ? half : 0;
        n -= half;
    }
    return (uint64_t)(base - table->prefixes) + (*base < prefix);
}

uint64_t table_rank_separator(const struct table *table, struct bytes key)
{
    uint32_t common = table->common_bytes;
    size_t shared = key.size < common ? key.size : common;
    int order = memcmp(key.data, table->info.smallest.data, shared);

    if (order != 0 || key.size < common) {
        return order > 0 ? table->blocks : 0;
    }
    uint64_t prefix = table_prefix(key, common);
    uint64_t high = rank_prefix(table, prefix, true);
    if (high == 0 || table->prefixes[high - 1] != prefix) {
        return high;
    }
    uint64_t low = rank_prefix(table, prefix, false);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (bytes_compare(table_separator(table, middle), key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A thread's counters; a few threads share them. */
static struct filter_lane *lane_of(struct table *table)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned lane; /* from 1 */

    if (lane == 0) {
        lane =
            1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % TABLE_FILTER_LANES;
    }
    return &table->lanes[lane - 1];
}

/* Not an atomic addition: that costs more than the rest of asking the filter. */
static void count(_Atomic uint64_t *counter)
{
    uint64_t n = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, n + 1, memory_order_relaxed);
}

struct table_filter_counts table_filter_counts(const struct table *table)
{
    struct table_filter_counts sum = {.lookups = 0};

    for (size_t i = 0; i < TABLE_FILTER_LANES; i++) {
        const struct filter_lane *lane = &table->lanes[i];
        sum.lookups += atomic_load_explicit(&lane->lookups, memory_order_relaxed);
        sum.positives += atomic_load_explicit(&lane->positives, memory_order_relaxed);
        sum.false_positives += atomic_load_explicit(&lane->false_positives, memory_order_relaxed);
    }
    return sum;
}

struct lookup {
    struct bytes key;
    uint64_t hash;
    bool at_once;
    bool busy; /* as that needs the disk */
    const struct record *record;
    uint64_t unverified; /* bytes of its value, if it has chunks */
};

/* Whether block `i` can be looked into, and its value be sent, without waiting for the disk, as far
 * as it is worth asking. */
static bool is_at_hand(const struct table *table, uint64_t i)
{
    const struct index_entry *entry = &table->entries[i];
    uint64_t size = (uint64_t)entry->size_units * 8;

    if (size < TABLE_ASK_BYTES && is_trusted(table, table->verified_blocks, i)) {
        return true;
    }
    return !table_entry_is_sane(table, entry) ||
           vfs_resident(table->dir->vfs, table->map + entry->offset, size);
}

static enum block_fault look_up(struct table *table, void *arg, volatile uint64_t *at)
{
    struct lookup *lookup = arg;
    struct filter_lane *lane = lane_of(table);
    struct block block;

    *at = table->footer.regions[REGION_FILTER].offset;
    count(&lane->lookups);
    /* A filter that is distrusted is left out: the block knows. */
    if (!table_region_is_distrusted(table, REGION_FILTER) &&
        !filter_may_contain(table->filter, table->filter_bytes, lookup->hash)) {
        return BLOCK_OK;
    }
    count(&lane->positives);
    *at = table->footer.regions[REGION_INDEX].offset;
    enum block_fault index_fault = table_check_index(table, at);
    if (index_fault) {
        return index_fault;
    }
    uint64_t rank = table_rank_separator(table, lookup->key);
    if (rank > 0) {
        if (lookup->at_once && !is_at_hand(table, rank - 1)) {
            lookup->busy = true;
            return BLOCK_OK;
        }
        enum block_fault fault = table_verified_block(table, rank - 1, &block, at);
        if (!fault) {
            fault = block_find(block, lookup->key, lookup->hash, &lookup->record);
        }
        if (fault) {
            return fault;
        }
    }
    if (!lookup->record) {
        count(&lane->false_positives);
        return BLOCK_OK;
    }
    uint64_t value_size = lookup->record->value_size;
    lookup->unverified = value_size > RECORD_CHUNK_BYTES ? value_size : 0;
    return BLOCK_OK;
}

enum err table_get(struct table *table, struct bytes key, uint64_t hash, enum table_depth depth,
                   const struct record **ret_record)
{
    struct lookup lookup = {.key = key, .hash = hash, .at_once = depth == TABLE_AT_ONCE};

    enum err err = block_fault_err(table_guarded(table, look_up, &lookup));
    if (!err && lookup.busy) {
        return ERR_BUSY;
    }
    if (!err && lookup.unverified > 0 && depth == TABLE_WHOLE) {
        err = table_verify_value(table, lookup.record, 0, lookup.unverified);
    }
    if (!err) {
        *ret_record = lookup.record;
    }
    return err;
}
