/*
 * compaction_run.h - one compaction: a pick, merged into new tables that take the inputs' place.
 *
 * Work is done in slices, so that whoever drives it can stop, pace it, and let others run between:
 * merge and write; sync the directory; open each output and read all of it back; and only then the
 * edit. Until the edit nothing has changed but new files that no manifest names.
 *
 * A pick in steps is for a disk without room for all outputs beside all inputs. Whenever a table is
 * full and the merge is between two tables of the output level, those that it has passed are
 * replaced by what they became, which frees them. The inputs of the level above stay until the end:
 * they hide what came down from them, which is the same or was older. So a compaction that fails
 * has not been for nothing, and one that begins anew finds nothing that it couldn't have found.
 * Until then what came down takes its space twice; unless there is room for all of it, the steps
 * together may not take more than they free.
 *
 * A delete marker is dropped if no table below the output level has a range with its key: all
 * tables that may hold something older are then among the inputs. Versions that a newer one hides
 * are always dropped: snapshots hold the tables they were taken from.
 *
 * Threads:   compaction thread. Everything may block.
 * Ownership: a compaction owns its pick and its outputs.
 * Errors:    ERR_IO, ERR_NO_SPACE, ERR_NO_MEMORY; ERR_CORRUPT if an input or what was written can't
 *            be read; from compaction_install() also those of engine_apply(). After an error only
 *            compaction_free() may follow.
 */
#ifndef VARVE_STORE_LSM_COMPACTION_RUN_H
#define VARVE_STORE_LSM_COMPACTION_RUN_H

#include "store/lsm/compaction_pick.h"

struct compaction;

/* Takes over the pick on ERR_OK. Outputs end at `table_bytes`. */
MUST_USE enum err compaction_new(struct store *store, struct compaction_pick *pick,
                                 uint64_t table_bytes, struct compaction **ret_compaction);

/* Reads about `slice_bytes`, or does one step of what follows. *ret_done: it can be installed. */
MUST_USE enum err compaction_work(struct compaction *compaction, uint64_t slice_bytes,
                                  bool *ret_done, struct err_detail *detail);

/* Makes the outputs take the inputs' place. On ERR_OUTCOME_UNKNOWN both stay on disk. */
MUST_USE enum err compaction_install(struct compaction *compaction);

const struct compaction_pick *compaction_pick_of(const struct compaction *compaction);

/* Bytes read and written so far, and about how many more there will be. */
uint64_t compaction_bytes(const struct compaction *compaction);
uint64_t compaction_bytes_left(const struct compaction *compaction);

/* The input that the last error came from, or NULL. */
struct table *compaction_damaged(const struct compaction *compaction);

/* Removes the outputs, unless they were installed or their fate is unknown. NULL is allowed. */
void compaction_free(struct compaction *compaction);

#endif
