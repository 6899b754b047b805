/*
 * table_iter.c - ordered walks through the map.
 *
 * The map is advised for random access, so a forward walk asks for what comes next itself: nothing
 * within its first block, then twice as much each time, as long as it meets blocks that nobody
 * verified before (others are likely in memory).
 */
#include <assert.h>
#include <string.h>

#include "store/lsm/table_map.h"

#define AHEAD_MIN_BYTES (UINT64_C(32) << 10)
#define AHEAD_MAX_BYTES (UINT64_C(1) << 20)

/* A step of an iterator, and what it arrives at. */
struct move {
    struct table_iter *iter;
    struct bytes key;
    const struct record *record; /* NULL: past the end or before the begin */
    uint64_t unverified;         /* bytes of its value, if that has chunks */
};

/* Sets the iterator to a record. */
static enum block_fault arrive(struct move *move, uint64_t number, struct block block,
                               uint32_t slot)
{
    enum block_fault fault = block_record(block, slot, &move->record);
    if (fault) {
        return fault;
    }
    move->iter->block = number;
    move->iter->slot = slot;
    uint64_t value_size = move->record->value_size;
    move->unverified = value_size > RECORD_CHUNK_BYTES ? value_size : 0;
    return BLOCK_OK;
}

static enum block_fault arrive_at_first(struct table *table, struct move *move, uint64_t number,
                                        volatile uint64_t *at)
{
    struct block block;

    if (number == table->blocks) {
        return BLOCK_OK;
    }
    enum block_fault fault = table_verified_block(table, number, &block, at);
    return fault ? fault : arrive(move, number, block, 0);
}

/* To the last record of the block before `number`. */
static enum block_fault arrive_before(struct table *table, struct move *move, uint64_t number,
                                      volatile uint64_t *at)
{
    struct block block;

    if (number == 0) {
        return BLOCK_OK;
    }
    enum block_fault fault = table_verified_block(table, number - 1, &block, at);
    return fault ? fault : arrive(move, number - 1, block, block.records - 1);
}

static enum block_fault seek(struct table *table, void *arg, volatile uint64_t *at)
{
    struct move *move = arg;
    struct block block;
    uint32_t slot;

    enum block_fault fault = table_check_index(table, at);
    if (fault) {
        return fault;
    }
    uint64_t rank = move->key.size == 0 ? 0 : table_rank_separator(table, move->key);
    if (rank == 0) {
        return arrive_at_first(table, move, 0, at);
    }
    fault = table_verified_block(table, rank - 1, &block, at);
    if (!fault) {
        fault = block_rank(block, move->key, &slot);
    }
    if (fault) {
        return fault;
    }
    return slot < block.records ? arrive(move, rank - 1, block, slot)
                                : arrive_at_first(table, move, rank, at);
}

static enum block_fault seek_before(struct table *table, void *arg, volatile uint64_t *at)
{
    struct move *move = arg;
    struct block block;
    uint32_t slot;

    enum block_fault fault = table_check_index(table, at);
    if (fault) {
        return fault;
    }
    if (move->key.size == 0) {
        return arrive_before(table, move, table->blocks, at);
    }
    uint64_t rank = table_rank_separator(table, move->key);
    if (rank == 0) {
        return BLOCK_OK;
    }
    fault = table_verified_block(table, rank - 1, &block, at);
    if (!fault) {
        fault = block_rank(block, move->key, &slot);
    }
    if (fault) {
        return fault;
    }
    return slot > 0 ? arrive(move, rank - 1, block, slot - 1)
                    : arrive_before(table, move, rank - 1, at);
}

/* Before the walk enters block `number`, which nobody has verified. */
static void read_ahead(struct table *table, struct table_iter *iter, uint64_t number)
{
    uint64_t offset = table->entries[number].offset;

    if (table->entries[number].size_units > TABLE_SHORT_BLOCK_BYTES / 8) {
        return; /* a long value, of which only the head may be wanted */
    }
    if (offset < iter->ahead || table_bit_is_set(table->verified_blocks, number)) {
        return;
    }
    iter->step = iter->step == 0                 ? AHEAD_MIN_BYTES
                 : iter->step >= AHEAD_MAX_BYTES ? AHEAD_MAX_BYTES
                                                 : iter->step * 2;
    iter->ahead = offset + iter->step;
    table_read_ahead(table, offset, iter->step);
}

static enum block_fault next(struct table *table, void *arg, volatile uint64_t *at)
{
    struct move *move = arg;
    struct table_iter *iter = move->iter;
    struct block block;

    enum block_fault fault = table_verified_block(table, iter->block, &block, at);
    if (fault) {
        return fault;
    }
    if (iter->slot + 1 < block.records) {
        return arrive(move, iter->block, block, iter->slot + 1);
    }
    if (iter->block + 1 < table->blocks) {
        read_ahead(table, iter, iter->block + 1);
    }
    return arrive_at_first(table, move, iter->block + 1, at);
}

static enum block_fault prev(struct table *table, void *arg, volatile uint64_t *at)
{
    struct move *move = arg;
    struct table_iter *iter = move->iter;
    struct block block;

    if (iter->slot > 0) {
        enum block_fault fault = table_verified_block(table, iter->block, &block, at);
        return fault ? fault : arrive(move, iter->block, block, iter->slot - 1);
    }
    return arrive_before(table, move, iter->block, at);
}

static enum err go(struct table_iter *iter, table_step_fn *step, struct bytes key)
{
    struct move move = {.iter = iter, .key = key};

    enum err err = block_fault_err(table_guarded(iter->table, step, &move));
    if (!err && move.unverified > 0 && iter->depth == TABLE_WHOLE) {
        err = table_verify_value(iter->table, move.record, 0, move.unverified);
    }
    iter->record = err ? NULL : move.record;
    return err;
}

enum err table_iter_seek(struct table_iter *iter, struct table *table, struct bytes key,
                         enum table_depth depth)
{
    *iter = (struct table_iter){.table = table, .depth = depth};
    return go(iter, seek, key);
}

enum err table_iter_seek_before(struct table_iter *iter, struct table *table, struct bytes key,
                                enum table_depth depth)
{
    *iter = (struct table_iter){.table = table, .depth = depth};
    return go(iter, seek_before, key);
}

enum err table_iter_next(struct table_iter *iter)
{
    assert(iter->record);
    return go(iter, next, bytes_of(NULL, 0));
}

enum err table_iter_prev(struct table_iter *iter)
{
    assert(iter->record);
    return go(iter, prev, bytes_of(NULL, 0));
}
