/*
 * salvage_merge.h - many tables, damaged or not, walked as one: the newest intact version of each
 * key, and whether a damaged place may hold a newer one. Only salvage.c includes it.
 *
 * Threads:   one thread.
 * Ownership: runs and inputs are borrowed for the call; what the sink gets lives for its call.
 * Errors:    ERR_NO_MEMORY, and what the sink returns. Damage goes to the sink.
 */
#ifndef VARVE_STORE_LSM_SALVAGE_MERGE_H
#define VARVE_STORE_LSM_SALVAGE_MERGE_H

#include "store/lsm/files.h"
#include "store/lsm/table_rescue.h"

/* A table, as far as there is one. */
struct salvage_input {
    struct vfs_dir *dir;
    char name[FILES_NAME_BYTES]; /* of the file, also where it is missing */
    bool missing;                /* or another file stands under its name */
    const char *text;            /* then: in which way */
    bool has_info;
    struct table_info info;
};

/* Tables in key order whose ranges don't overlap. */
struct salvage_run {
    struct salvage_input *inputs;
    size_t n;
    uint64_t age; /* of two runs the one with the greater age has only older versions of any key
                     that is in both; equal: not known, numbers tell */
};

struct salvage_sink {
    /* A damaged place. `bounded`: the item's keys are all that it may hold. */
    void (*damage)(void *arg, const struct salvage_input *input, const struct rescue_item *item,
                   bool bounded);
    /* A value of which a newer version may have stood in the place at `offset` of `hider`. */
    void (*older)(void *arg, const struct salvage_input *hider, uint64_t offset,
                  const struct record *record);
    /* The newest intact version of a key, in key order, delete markers too. */
    enum err (*record)(void *arg, const struct record *record, bool newer_may_be_lost);
    void *arg;
};

MUST_USE enum err salvage_merge(const struct salvage_run runs[], size_t n_runs,
                                const struct salvage_sink *sink, struct err_detail *detail);

#endif
