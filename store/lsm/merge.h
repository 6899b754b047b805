/*
 * merge.h - many sorted sources walked as one: the newest version of each key, in key order.
 *
 * Sources are ordered newest first; of records with the same key the one with the greatest number
 * at or below `max_seq` wins. Delete markers come out like any record: the caller decides.
 *
 * A source is a memtable or a run: tables in key order whose ranges don't overlap, such as a level
 * or a single table of level 0.
 *
 * Threads:   one thread at a time.
 * Ownership: memtables, tables and arrays of tables are borrowed and must outlive the merge.
 * Errors:    ERR_NO_MEMORY; ERR_CORRUPT and ERR_IO of a source, with the detail: merge_damaged()
 *            then names the table. After an error the merge is at an end.
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

struct merge_run {
    struct table *const *tables;
    size_t n_tables; /* from 1 */
};

/* What stands at the merge's place: valid until the merge moves. */
struct merge_item {
    struct bytes key;            /* readable without a guard, unlike what lies in a map */
    const struct record *record; /* in a map: of a long value only the head was verified */
    const struct node *node;     /* in a memtable */
    struct table *table;         /* through whose map it was read */
};

/* Walks a whole view through memtables and maps, for scans. The view has a reference for the
 * merge's life. */
MUST_USE enum err merge_new_view(const struct view *view, uint64_t max_seq, bool reverse,
                                 struct merge **ret_merge);

/* Walks runs, newest first, through streams (buffered reads), for compaction: forward and once.
 * One table of a run is open at a time. `runs` itself is copied. */
MUST_USE enum err merge_new_streams(struct vfs_dir *dir, const struct merge_run runs[],
                                    size_t n_runs, struct merge **ret_merge);

/* A new merge stands nowhere: this comes first. Forward: to the first key ≥ `key` (size 0: the
 * first of all). Reverse: to the last key < `key` (size 0: the last of all). A merge of streams:
 * once, with size 0; may block, as may merge_next() then. */
MUST_USE enum err merge_seek(struct merge *merge, struct bytes key, struct err_detail *detail);

/* The current item, or NULL at the end. */
const struct merge_item *merge_item(const struct merge *merge);

/* To the next key. There is a current item. */
MUST_USE enum err merge_next(struct merge *merge, struct err_detail *detail);

/* The table that the last error came from; NULL if there was none or it came from elsewhere. */
struct table *merge_damaged(const struct merge *merge);

/* Bytes of the records read so far; merges of streams only. */
uint64_t merge_read_bytes(const struct merge *merge);

void merge_free(struct merge *merge); /* NULL is allowed */

#endif
