/*
 * Building a write: each operation's record is encoded into memory of its own, before it is known
 * which memtable will take it. Nothing here is seen by anybody else until the commit.
 */
#include <assert.h>
#include <stdlib.h>

#include "store/lsm/commit.h"

static bool text_is_valid(struct bytes text)
{
    return text.size <= STORE_TEXT_MAX_BYTES;
}

/* Counts the record against what was set aside. */
static enum err account(struct store_write *write, uint64_t before_bytes, uint64_t after_bytes)
{
    uint64_t used = write->used_bytes - before_bytes + after_bytes;
    if (used > write->reserved_bytes && !admission_extend(write, used - write->reserved_bytes)) {
        return used > write->store->options.max_inflight_bytes ? ERR_TOO_LARGE : ERR_BUSY;
    }
    write->used_bytes = used;
    return ERR_OK;
}

/* What a record costs: itself, its links, and a frame's header twice (its own and an empty one). */
static uint64_t cost_bytes(uint64_t record_bytes)
{
    return record_bytes + 2 * WAL_FRAME_HEADER_BYTES;
}

static enum err make_node(struct store_write *write, enum record_kind kind, struct bytes key,
                          const struct record_meta *meta, uint64_t value_bytes,
                          uint64_t before_bytes, struct node **ret_node, void **ret_value)
{
    uint64_t size =
        record_size_for((uint16_t)key.size, meta ? record_meta_size(meta) : 0, value_bytes);
    enum err err = account(write, before_bytes, cost_bytes(size));
    if (err != ERR_OK) {
        return err;
    }
    struct node *node;
    err = arena_node(write->store->arena, size, &node);
    if (err != ERR_OK) {
        write->used_bytes = write->used_bytes - cost_bytes(size) + before_bytes;
        return err;
    }
    *ret_value = record_init(node->record, kind, key, meta, value_bytes);
    *ret_node = node;
    return ERR_OK;
}

static enum err add_op(struct store_write *write, enum record_kind kind, struct bytes key,
                       const struct record_meta *meta, uint64_t value_bytes, void **ret_value)
{
    if (key.size == 0 || key.size > STORE_KEY_MAX_BYTES) {
        return ERR_INVALID;
    }
    if (write->n_ops == write->max_ops) {
        return ERR_TOO_LARGE;
    }
    struct op *op = &write->ops[write->n_ops];
    enum err err = make_node(write, kind, key, meta, value_bytes, 0, &op->node, ret_value);
    if (err != ERR_OK) {
        return err;
    }
    op->write = write;
    op->hash = table_hash(key);
    write->n_ops++;
    return ERR_OK;
}

enum err store_write_put(struct store_write *write, const struct store_put *put, void **ret_value)
{
    if (!text_is_valid(put->content_type) || !text_is_valid(put->content_encoding) ||
        !text_is_valid(put->cache_control)) {
        return ERR_INVALID;
    }
    if (put->value_bytes > write->store->options.max_value_bytes || write->deletes_only) {
        return ERR_TOO_LARGE;
    }
    struct record_meta meta = {.modified_ms = engine_wall_ms(), /* until the commit sets it */
                               .content_type = put->content_type,
                               .content_encoding = put->content_encoding,
                               .cache_control = put->cache_control};
    return add_op(write, RECORD_PUT, put->key, &meta, put->value_bytes, ret_value);
}

enum err store_write_resize(struct store_write *write, uint64_t value_bytes, void **ret_value)
{
    assert(write->n_ops > 0);
    if (value_bytes > write->store->options.max_value_bytes) {
        return ERR_TOO_LARGE;
    }
    struct op *op = &write->ops[write->n_ops - 1];
    const struct record *old = op->node->record;
    assert(old->kind == RECORD_PUT);
    struct record_meta meta;
    record_meta_get(old, &meta);
    struct node *node;
    void *into;
    enum err err = make_node(write, RECORD_PUT, record_key(old), &meta, value_bytes,
                             cost_bytes(record_size(old)), &node, &into);
    if (err != ERR_OK) {
        return err;
    }
    struct bytes value = record_value(old);
    size_t kept = value.size < value_bytes ? value.size : (size_t)value_bytes;
    if (kept > 0) {
        memcpy(into, value.data, kept);
    }
    chunk_release(op->node->chunk);
    op->node = node;
    *ret_value = into;
    return ERR_OK;
}

enum err store_write_delete(struct store_write *write, struct bytes key)
{
    void *nothing;
    return add_op(write, RECORD_DELETE, key, NULL, 0, &nothing);
}

void store_write_condition(struct store_write *write, store_condition_fn *condition, void *arg)
{
    assert(write->n_ops > 0);
    write->ops[write->n_ops - 1].condition = condition;
    write->ops[write->n_ops - 1].condition_arg = arg;
}

void store_write_abort(struct store_write *write)
{
    if (!write) {
        return;
    }
    for (size_t i = 0; i < write->n_ops; i++) {
        chunk_release(write->ops[i].node->chunk);
    }
    struct store *store = write->store;
    uint64_t bytes = write->reserved_bytes;
    free(write);
    admission_give_back(store, bytes);
}
