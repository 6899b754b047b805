/*
 * manifest.h - which files are the store: live tables by level, live segments, counters.
 *
 * Replaced as a whole: written beside, synced, renamed over, directory synced (FORMAT.md,
 * "Manifest").
 *
 * Threads:   one thread at a time (the engine's edit mutex).
 * Ownership: a manifest owns its arrays; manifest_release() frees them.
 * Errors:    a missing manifest is ERR_NOT_FOUND; a damaged one ERR_CORRUPT, a later one
 * ERR_FORMAT: never an empty store.
 */
#ifndef VARVE_STORE_LSM_MANIFEST_H
#define VARVE_STORE_LSM_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/table.h"

#define MANIFEST_LEVELS 7u

struct manifest_table {
    uint32_t level; /* 0 to MANIFEST_LEVELS - 1 */
    struct table_info info;
};

struct manifest {
    uint64_t store_id;    /* random, of this data directory, in every file of it */
    uint64_t epoch;       /* random, new for each data directory and copy: part of shown versions */
    uint64_t number;      /* counts replacements, from 1 */
    uint64_t next_file;   /* number of the next segment or table */
    uint64_t covered_seq; /* every number up to this is in the tables; never falls */
    uint64_t clock_ms;    /* greatest wall time known when it was written */
    struct manifest_table *tables; /* by level; level 0 newest first, others by key */
    size_t n_tables;
    uint64_t *segments; /* live ones, spares too, ascending */
    size_t n_segments;
};

/* Reads and verifies MANIFEST. May block. */
MUST_USE enum err manifest_load(struct vfs_dir *dir, struct manifest *ret_manifest,
                                struct err_detail *detail);

/* Takes what is intact of a damaged one, for `varve dump`: calls `bad` for each damaged place and
 * goes on. What can't be read stays 0. Errors as above, but not ERR_CORRUPT. May block. */
typedef void manifest_bad_fn(void *arg, const struct err_detail *detail);
MUST_USE enum err manifest_load_damaged(struct vfs_dir *dir, manifest_bad_fn *bad, void *arg,
                                        struct manifest *ret_manifest, struct err_detail *detail);

/* How far a replacement came: decides what a failure means. */
enum manifest_stage {
    MANIFEST_UNTOUCHED, /* failed before the rename: the old one is still in force */
    MANIFEST_UNKNOWN,   /* the rename or the directory's sync failed: either may be in force */
    MANIFEST_DONE,
};

/* Replaces MANIFEST by `manifest`, whose number the caller has raised. What FORMAT.md says must
 * agree is asserted: order of tables, ranges that don't overlap (of keys; in level 0 of sequence
 * numbers), numbers all different and below next_file, nothing above covered_seq. May block. */
MUST_USE enum err manifest_store(struct vfs_dir *dir, const struct manifest *manifest,
                                 enum manifest_stage *ret_stage);

/* Frees the arrays and sets all to 0. */
void manifest_release(struct manifest *manifest);

#endif
