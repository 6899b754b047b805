/* nodes.c - records are made as a request makes them: encode, checksum, then the number. */
#include "tests/support/nodes.h"

#include <assert.h>

#include "tests/support/pattern.h"

static struct node *new_node(struct arena *arena, enum record_kind kind, struct bytes key,
                             uint64_t seq, size_t value_size)
{
    struct node *node;
    enum err err = arena_node(arena, record_size_for((uint16_t)key.size, 0, value_size), &node);
    assert(err == ERR_OK);
    void *value = record_init(node->record, kind, key, NULL, value_size);
    pattern_fill(key, seq, value, value_size);
    record_seal(node->record, record_payload_checksum(node->record), seq, RECORD_LAST_OF_BATCH);
    return node;
}

struct node *node_put(struct arena *arena, struct bytes key, uint64_t seq, size_t value_size)
{
    return new_node(arena, RECORD_PUT, key, seq, value_size);
}

struct node *node_delete(struct arena *arena, struct bytes key, uint64_t seq)
{
    return new_node(arena, RECORD_DELETE, key, seq, 0);
}

void node_insert(struct memtable *memtable, struct node *node,
                 const struct memtable_position *position)
{
    struct memtable_position found;
    enum err err = memtable_adopt(memtable, node);
    assert(err == ERR_OK);
    if (!position) {
        memtable_find_position(memtable, record_key(node->record), &found);
        position = &found;
    }
    memtable_insert(memtable, node, position);
    chunk_release(node->chunk);
}

bool node_is_sound(const struct node *node)
{
    const struct record *record = node->record;
    return record_verify(record) == ERR_OK &&
           pattern_matches(record_key(record), record->seq, record_value(record));
}
