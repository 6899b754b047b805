/*
 * arena.h - memory for records that memtables and pins share.
 *
 * Memory comes in chunks with a reference count: the arena's open chunk, whoever made a node there,
 * each memtable that adopted it, and each pinned entry hold one. Thus bytes are encoded before it
 * is known which memtable takes them, and a record that is being sent outlives its memtable alone.
 * Small nodes share chunks; a large record has one of its own, so that pinning it holds nothing
 * else, and so that it is copied once, from the socket's buffer to its place.
 *
 * Threads:   any thread, also at the same time; a lane's mutex is held for a few instructions, or
 *            while a new chunk is allocated.
 * Ownership: chunks are reference-counted; a node lives as long as its chunk.
 * Errors:    ERR_NO_MEMORY, before anything was changed.
 */
#ifndef VARVE_STORE_LSM_ARENA_H
#define VARVE_STORE_LSM_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/lsm/record.h"

#define NODE_HEIGHT_MAX   16u
#define ARENA_CHUNK_BYTES (UINT64_C(256) << 10) /* for nodes that share */
#define ARENA_LARGE_BYTES (UINT64_C(32) << 10)  /* records from here on don't share */

struct chunk;
struct arena; /* has one open chunk per lane, so that threads rarely meet */

/* A place for a record, and its links in a memtable's list and index, which memtable_insert() sets.
 * The record lies behind the links. */
struct node {
    uint64_t prefix;       /* of the key, as bytes_prefix() has it */
    struct record *record; /* for the owner to write until the node is inserted */
    uint32_t hash;         /* part of the key's */
    uint32_t height;       /* of next[], 1 to NODE_HEIGHT_MAX, drawn when the node was made */
    struct node *other_key;
    _Atomic(struct node *) newest;
    struct chunk *chunk;
    _Atomic(struct node *) next[];
};

MUST_USE enum err arena_new(struct arena **ret_arena);
/* Drops the open chunks; nodes that memtables or pins hold live on. NULL is allowed. */
void arena_free(struct arena *arena);

/* Makes a node with room for a record of `record_bytes` (as record_size_for() says); the caller
 * holds one reference on its chunk until chunk_release(node->chunk). */
MUST_USE enum err arena_node(struct arena *arena, uint64_t record_bytes, struct node **ret_node);

/* Any thread that has a reference, or inside an RCU read section while a memtable of the current
 * view has one. */
void chunk_acquire(struct chunk *chunk);
/* Any thread. Returns true if it was the last one and the memory is free. */
bool chunk_release(struct chunk *chunk);
/* What the chunk takes from the system: to bound what pins alone hold. */
uint64_t chunk_bytes(const struct chunk *chunk);

/* A mark that a holder leaves so that it sees soon that it has a reference already; 0 at first.
 * What was done before the mark was set is seen by whoever reads it. */
void chunk_set_mark(struct chunk *chunk, uint64_t mark);
uint64_t chunk_mark(const struct chunk *chunk);

#endif
