/*
 * key_index.h - from a key to its newest node in a memtable: a hash table beside the skiplist.
 *
 * A point lookup, and above all one for a key that isn't there, touches two or three cache lines
 * here and dozens in a large skiplist. Order, ranges and older versions stay the list's.
 *
 *   bucket -> first node of a key -> first node of another key -> …   (other_key)
 *                   |
 *                   newest version of that key                        (newest)
 *
 * Invariants:
 *   1. Each key is in its bucket's chain once, by the node that was put first. Nothing is ever
 *      removed; a chain grows at its front.
 *   2. `newest` of that first node moves on to greater numbers only.
 *   3. A node is in the list (at level 0) before it is put here: what is found here is found there.
 *
 * Threads:   any number look up while any number put; a key's versions are put one at a time (its
 *            writer holds the stripe). Lookups take no lock and never wait.
 * Ownership: nodes are borrowed from the memtable.
 * Errors:    ERR_NO_MEMORY from key_index_new() only.
 */
#ifndef VARVE_STORE_LSM_KEY_INDEX_H
#define VARVE_STORE_LSM_KEY_INDEX_H

#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"
#include "store/lsm/arena.h"

struct key_index;

/* Sized for about `keys` keys; more make it slower, not wrong. */
MUST_USE enum err key_index_new(uint64_t keys, struct key_index **ret_index);
void key_index_free(struct key_index *index); /* NULL is allowed */

/* Makes the node known, whose record is sealed and linked in the list. Never fails or waits. */
void key_index_put(struct key_index *index, struct node *node);

/* The node of the key's version with the greatest number, or NULL if no version was put. */
const struct node *key_index_newest(const struct key_index *index, struct bytes key);

#endif
