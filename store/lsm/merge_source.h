/*
 * merge_source.h - one sorted source of a merge: a memtable, or a run of tables read through their
 * maps or through streams. A part of merge.c, not for others.
 *
 * A source stands at a record or at its end. Its key lies in memory that a failing disk can't take
 * away: a key in a map is copied under the SIGBUS guard. The key it stood at before stays valid
 * until it moves once more, so that others can be compared with it.
 *
 * Threads:   one thread at a time.
 * Ownership: what it reads is borrowed; a stream is its own.
 * Errors:    as of merge.h; the source is at its end then, and `table` names the culprit.
 */
#ifndef VARVE_STORE_LSM_MERGE_SOURCE_H
#define VARVE_STORE_LSM_MERGE_SOURCE_H

#include "store/lsm/merge.h"

enum source_kind { SOURCE_MEMTABLE, SOURCE_MAPS, SOURCE_STREAMS };

struct source {
    enum source_kind kind;
    bool reverse;
    uint64_t max_seq;          /* memtables and maps */
    struct merge_item item;    /* record NULL: at the end */
    uint64_t rank;             /* orders as the keys do in the walk's direction, as far as known */
    struct memtable *memtable; /* memtables */
    const struct node *node;   /* memtables */
    struct merge_run run;      /* runs */
    size_t at;                 /* number of the table in the run */
    struct table_iter iter;    /* maps */
    struct vfs_dir *dir;       /* streams */
    struct table_stream *stream;           /* streams; NULL: none is open */
    uint64_t read_bytes;                   /* streams */
    unsigned key_at;                       /* which of `keys` is the current one */
    uint8_t keys[2][RECORD_KEY_MAX_BYTES]; /* runs */
};

/* To the first key ≥ `key`, or in reverse the last < `key`; size 0: the first or last of all. */
MUST_USE enum err source_seek(struct source *source, struct bytes key, struct err_detail *detail);

/* To the next key in the walk's direction. */
MUST_USE enum err source_next(struct source *source, struct err_detail *detail);

/* Closes what it opened. */
void source_release(struct source *source);

#endif
