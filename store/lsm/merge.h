/*
 * merge.h - many sorted sources walked as one: the newest version of each key, in key order.
 *
 * Sources are given newest first; of records with the same key the one with the greatest number at
 * or below `max_seq` wins. Delete markers come out like any record: the caller decides.
 *
 * Threads:   one thread.
 * Ownership: sources are borrowed and must outlive the merge, as must a view's reference.
 * Errors:    ERR_NO_MEMORY; ERR_CORRUPT and ERR_IO of a source, with the detail; the merge is at an
 * end then.
 */
#ifndef VARVE_STORE_LSM_MERGE_H
#define VARVE_STORE_LSM_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lsm/memtable.h"
#include "store/lsm/table.h"
#include "store/lsm/view.h"

struct merge;

/* What stands at the merge's place: enough to pin it. */
struct merge_item {
    const struct record *record;
    const struct node *node; /* if from a memtable */
    struct table *table;     /* if from a table through its map */
};

/* Walks a whole view through memtables and maps, for scans. `view` has a reference for the merge's
 * life. */
MUST_USE enum err merge_new_view(struct view *view, uint64_t max_seq, bool reverse,
                                 struct merge **ret_merge);

/* Walks tables in order through streams (buffered reads), for compaction. Forward only. Level 0
 * tables come newest first, then the others; `levels` as in the view they came from. */
MUST_USE enum err merge_new_streams(struct vfs_dir *dir, struct table *const tables[],
                                    size_t n_tables, struct merge **ret_merge);

/* Forward: to the first key ≥ `key` (size 0: the first of all). Reverse: to the last key < `key`
 * (size 0: the last of all). View merges only. */
MUST_USE enum err merge_seek(struct merge *merge, struct bytes key, struct err_detail *detail);

/* The current item, or NULL at the end. Valid until merge_next(). A stream merge begins at its
 * first item. */
const struct merge_item *merge_item(const struct merge *merge);

MUST_USE enum err merge_next(struct merge *merge, struct err_detail *detail);

void merge_free(struct merge *merge); /* NULL is allowed */

#endif
