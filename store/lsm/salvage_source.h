/*
 * salvage_source.h - what is left of a damaged data directory: which files are there, and which
 * tables and segments of them count. Only salvage.c includes it.
 *
 * With a manifest the files count that it names, each found by its header, whatever its name.
 * Without one all count that are there and of the store that most of them are of.
 *
 * Threads:   one thread.
 * Ownership: salvage_source_release() frees all but the directory, which is borrowed.
 * Errors:    damage is told; what is returned means that nothing can be salvaged.
 */
#ifndef VARVE_STORE_LSM_SALVAGE_SOURCE_H
#define VARVE_STORE_LSM_SALVAGE_SOURCE_H

#include "store/lsm/manifest.h"
#include "store/lsm/salvage.h"
#include "store/lsm/salvage_merge.h"
#include "store/lsm/wal_rescue.h"

struct salvage_found; /* a table or segment that is there */

struct salvage_source {
    struct vfs_dir *dir; /* set by the caller, and so are: */
    const char *path;
    salvage_finding_fn *tell;
    void *arg;
    struct err_detail *detail;

    bool failed_listing; /* out of memory while names were listed */
    struct salvage_found *files;
    size_t n_files, room_files;
    bool has_manifest;
    struct manifest manifest; /* zeros without one */
    uint64_t store_id;        /* of the files that are read */

    uint64_t n_tables; /* that are there and count */
    struct salvage_input *inputs;
    size_t n_inputs;
    struct salvage_run *runs; /* the caller may add some */
    size_t n_runs, room_runs;
    uint64_t tables_seq; /* every number up to this is in the tables, as far as is known */
};

/* Looks at all names and headers, and reads the manifest. ERR_NOT_FOUND: nothing of varve is there;
 * ERR_FORMAT: a later version wrote it. May block. */
MUST_USE enum err salvage_source_look(struct salvage_source *source);

/* Finds the tables that count, as runs. May block. */
MUST_USE enum err salvage_source_take_tables(struct salvage_source *source);

/* Finds the segments that count, in the order of the log. The caller frees them. */
MUST_USE enum err salvage_source_take_segments(struct salvage_source *source,
                                               struct wal_rescue_file **ret_files, size_t *ret_n);

/* Tells of the files that neither of the two took. */
void salvage_source_tell_unused(struct salvage_source *source);

void salvage_source_release(struct salvage_source *source); /* zeros are allowed */

/* Room for one more element of an array that grows; false: out of memory. */
bool salvage_make_room(void **array, size_t n, size_t *room, size_t size);

#endif
