/*
 * memtable.h - the newest writes in memory: a lock-free skiplist of records, for many writers and
 * many readers.
 *
 * Order: by key bytes, then by sequence number descending. Insert-only; a memtable dies as a whole.
 *
 * Invariants:
 *   1. A node is linked at level 0 first, by compare-and-swap with release order, completely
 *      filled. Level 0 is the truth; higher levels are short cuts that may lag behind.
 *   2. Nothing is ever removed or changed once linked: no marks, no ABA. What lay before a key's
 *      place once lies before it for ever, so a position grows old but never wrong.
 *   3. The writer of a key holds that key's stripe, so no two threads insert the same key at once,
 *      and the new version's number is above all of the key's versions that are linked.
 *   4. A reader follows links with acquire loads, takes no lock and skips numbers above its own.
 *
 * Point lookups take a short cut, an index of keys (key_index.h) that insertion brings up to date.
 *
 * Nodes come from an arena (arena.h) and their memory is shared: a memtable adopts a node's chunk
 * before the node is inserted.
 *
 * Threads:   said at each function.
 * Ownership: memtables and chunks are reference-counted.
 * Errors:    ERR_NO_MEMORY, always before anything was changed.
 * Source:    Herlihy, Lev, Luchangco, Shavit, "A Provably Correct Scalable Concurrent Skip List",
 *            OPODIS 2006, reduced to insertion.
 */
#ifndef VARVE_STORE_LSM_MEMTABLE_H
#define VARVE_STORE_LSM_MEMTABLE_H

#include <stdint.h>

#include "store/base/err.h"
#include "store/lsm/arena.h"
#include "store/lsm/record.h"

struct memtable;

/* `generation` tells successive memtables apart (commit.h). At about `expected_bytes` it will be
 * sealed: the index of keys is sized for that. One reference, the caller's. */
MUST_USE enum err memtable_new(uint64_t generation, uint64_t expected_bytes,
                               struct memtable **ret_memtable);
void memtable_acquire(struct memtable *memtable);
/* The last one releases the chunks. NULL is allowed. Not on an HTTP thread: may take long. */
void memtable_release(struct memtable *memtable);

uint64_t memtable_generation(const struct memtable *memtable);
/* Bytes of the nodes inserted, and their number. Any thread; exact once no insertion is under way.
 */
uint64_t memtable_bytes(const struct memtable *memtable);
uint64_t memtable_records(const struct memtable *memtable);

/* Makes the memtable hold the node's chunk for its life. Before memtable_insert(). Any thread. */
MUST_USE enum err memtable_adopt(struct memtable *memtable, struct node *node);

/* The place of a key: predecessors by level. */
struct memtable_position {
    struct node *before[NODE_HEIGHT_MAX];
};

/* Finds where the next version of `key` goes: before all versions that are linked. Any thread that
 * has the stripe of the key. */
void memtable_find_position(struct memtable *memtable, struct bytes key,
                            struct memtable_position *ret_position);

/* Links a node whose record is sealed, and puts it into the index. `position` may be out of date:
 * the search goes on from there. Never fails, never waits for anybody. Same thread as
 * memtable_find_position(). */
void memtable_insert(struct memtable *memtable, struct node *node,
                     const struct memtable_position *position);

/* The newest version of `key` with a number ≤ max_seq (a delete marker counts), or NULL. Any thread
 * inside an RCU read section or with a reference. */
const struct node *memtable_get(const struct memtable *memtable, struct bytes key,
                                uint64_t max_seq);

/* Ordered walk over all versions; same callers. NULL: none left.
 * first node with (key, seq) at or after (`key`, `max_seq`) in the memtable's order: */
const struct node *memtable_seek(const struct memtable *memtable, struct bytes key,
                                 uint64_t max_seq);
const struct node *memtable_first(const struct memtable *memtable);
const struct node *memtable_next(const struct node *node);
/* The last node whose key is < `key`; of an empty `key` (size 0): the last of all. The node is the
 * oldest version of that key: seek to (its key, max_seq) for the newest wanted. */
const struct node *memtable_before(const struct memtable *memtable, struct bytes key);

/* How often a compare-and-swap of any memtable had to be tried again: tests assert that races
 * happened. */
uint64_t memtable_retries(void);

#endif
