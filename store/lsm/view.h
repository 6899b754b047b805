/*
 * view.h - the one pointer that readers follow: what the store consists of at a moment.
 *
 * A view is immutable. A reader enters a read section, loads the view, *then* the visible number
 * (the other way round a compaction may already have dropped the version that the number stands
 * for), and searches newest first. Who changes it builds another from the current one under the
 * view mutex, which is never held over I/O or a grace period, and publishes that.
 *
 * Threads:   said at each function.
 * Ownership: a view holds a reference on each of its memtables and tables. It has a count itself:
 * one for being published, dropped after a grace period, and one for each snapshot. Whoever drops
 * the last one hands the view to the reaper, because freeing may unmap, unlink and free arenas.
 * Errors:    ERR_NO_MEMORY; ERR_CORRUPT and ERR_IO of a table, for that key.
 */
#ifndef VARVE_STORE_LSM_VIEW_H
#define VARVE_STORE_LSM_VIEW_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/rcu.h"
#include "store/lsm/manifest.h"
#include "store/lsm/memtable.h"
#include "store/lsm/table.h"

#define VIEW_SEALED_MAX 2u /* memtables that wait to be flushed; beyond it writes wait */

/* The bytes_prefix() of a table's smallest and largest key. */
struct view_range {
    uint64_t smallest, largest;
};

struct view {
    struct rcu_door_head rcu;
    _Atomic uint64_t references;
    struct view *next_reaped;
    struct store *store;
    uint64_t covered_seq;    /* every number up to this is in the tables */
    struct memtable *active; /* takes the writes; NULL while the store is being opened */
    struct memtable *sealed[VIEW_SEALED_MAX]; /* newest first */
    size_t n_sealed;
    /* Level 0: newest first, ranges overlap. Others: by key, ranges don't overlap. Of every
     * key, the version that is met first, from level 0 down, is the newest. */
    struct view_level {
        struct table **tables;
        struct view_range *ranges; /* of the tables, so that most searches touch no table_info */
        size_t n_tables;
    } levels[MANIFEST_LEVELS];
};

/* A version that was found. node: in a memtable, else table: in a table. */
struct view_hit {
    const struct record *record; /* NULL: the key has no version, not even a delete marker */
    const struct node *node;
    struct table *table;
};

/* Makes a view without memtables and tables, with one reference. */
MUST_USE enum err view_new(struct store *store, struct view **ret_view);

/* A copy of `view` with its own references on all that it holds. Any thread, with a reference or
 * under the view mutex. */
MUST_USE enum err view_copy(const struct view *view, struct view **ret_view);

/* Puts the table (whose reference it takes over on ERR_OK) where it belongs in `level`; removes one
 * and drops its reference. Only on a view that isn't published, and removals first: ERR_CORRUPT if
 * the table doesn't fit beside the others (level 0: numbers overlap, others: keys overlap), which
 * only a wrong manifest can cause. Removal never fails. */
MUST_USE enum err view_add_table(struct view *view, uint32_t level, struct table *table);
void view_remove_table(struct view *view, uint32_t level, struct table *table);

/* Any thread that has a reference, or inside a read section with the published view. */
void view_acquire(struct view *view);
/* Any thread. The last one gives the view to the reaper. */
void view_release(struct view *view);
/* Reaper, or who has just made it: drops what the view holds, and frees it. NULL is allowed. */
void view_free(struct view *view);

/* The newest version of `key` in the memtables with a number ≤ max_seq. In a read section, or with
 * a reference. */
void view_find_in_memtables(const struct view *view, struct bytes key, uint64_t max_seq,
                            struct view_hit *ret_hit);

/* The newest version of `key` in the tables, verified to that depth. Same callers. A damaged or
 * unreadable table is an error, never a reason to look further down, and so is ERR_BUSY with
 * TABLE_AT_ONCE; *ret_hit then names the table. */
MUST_USE enum err view_find_in_tables(const struct view *view, struct bytes key,
                                      enum table_depth depth, struct view_hit *ret_hit);

#endif
