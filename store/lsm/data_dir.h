/*
 * data_dir.h - the data directory at opening: that it is a store's or new, which numbers its files
 * have, and which of them count.
 *
 * Threads:   before start.
 * Ownership: the directory belongs to the store from data_dir_open() on, also where that fails.
 * Errors:    the detail says what is wrong and what to do.
 */
#ifndef VARVE_STORE_LSM_DATA_DIR_H
#define VARVE_STORE_LSM_DATA_DIR_H

#include "store/lsm/engine.h"
#include "store/lsm/manifest.h"

/* Opens and locks options.dir, made if missing, and reads the manifest; where there is none and
 * nothing but what an opening that was cut short may leave, a new store begins. The store's ids and
 * the numbers of new files come from it. ERR_EXISTS: there are files, and they are not a store's.
 * ERR_CORRUPT: a store's files, and no manifest. May block. */
MUST_USE enum err data_dir_open(struct store *store, struct manifest *ret_manifest,
                                struct err_detail *detail);

/* Removes files that were numbered after the manifest, so that none names them: an opening that
 * fails again and again, for damage or for want of space, would leave more of them each time. The
 * manifest may be an old one that somebody has put back, and those files what there is of all later
 * writes: so nothing goes if a segment that it names is missing (the caller has opened its tables),
 * and ERR_CORRUPT if one after it has frames, for which a manifest names it first. Before the first
 * new file. May block. */
MUST_USE enum err data_dir_remove_unnumbered(struct store *store, const struct manifest *manifest,
                                             struct err_detail *detail);

/* Removes the tables that are not in `view`, the segments that are none of `segments`, and
 * manifests on their way. The manifest that names no others is in force, and was put there by this
 * process: one that was found may be lost with the power, and an older one name them. What can't be
 * removed goes next time. May block. */
void data_dir_remove_unnamed(struct store *store, const struct view *view,
                             const uint64_t segments[], size_t n_segments);

#endif
