/*
 * nodes.h - versions of keys as nodes of a memtable, with values that tell themselves.
 *
 * Threads:   any thread.
 * Ownership: as in arena.h: who makes a node holds one reference on its chunk.
 * Errors:    out of memory ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_NODES_H
#define VARVE_TESTS_SUPPORT_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/lsm/memtable.h"

/* Makes a node with a sealed put: its value is the pattern of (key, seq) over `value_size` bytes.
 */
struct node *node_put(struct arena *arena, struct bytes key, uint64_t seq, size_t value_size);

/* The same with a delete marker. */
struct node *node_delete(struct arena *arena, struct bytes key, uint64_t seq);

/* Adopts and inserts the node at `position` (NULL: finds it) and gives the caller's reference back.
 */
void node_insert(struct memtable *memtable, struct node *node,
                 const struct memtable_position *position);

/* True if the record is whole, and its value the pattern of its key and number. */
bool node_is_sound(const struct node *node);

#endif
