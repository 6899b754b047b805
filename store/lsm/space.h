/*
 * space.h - disk space that is kept back, so that a full disk stops puts and nothing else.
 *
 * The ballast is a file without content. While it is whole there is room for the table that the
 * records in memory become, and for one more log segment: so what is in memory can always be
 * written, deletes on a full disk can get where they free space, and a store that is killed there
 * opens again. Puts are refused from the first failure for want of space on, until the ballast is
 * whole and everything that was to be written is.
 *
 * A flush gets the ballast. Deletes that wait get all of it but what the table of what is in memory
 * needs: for a segment, so that the memtable can be sealed and flushed. A compaction gets the same,
 * for as long as it runs.
 *
 * Threads:   the flush thread, but where another is named; before start any.
 * Ownership: nothing.
 * Errors:    the one who wanted the space has them.
 */
#ifndef VARVE_STORE_LSM_SPACE_H
#define VARVE_STORE_LSM_SPACE_H

#include "store/lsm/engine.h"

/* As an opening begins: where there is no ballast of that size, tries to make one, so that tables
 * leave room for a manifest. Then all else can make room for the rest. May block. */
void space_hold_for_manifest(struct store *store, uint64_t bytes);

/* At open: makes the ballast, or says that there is no room for it. May block. */
void space_open(struct store *store);

/* Removes the ballast for a flush. False: there was none. May block. */
bool space_give_ballast(struct store *store);

/* Something could not be written for want of space: puts are refused from now on. */
void space_is_short(struct store *store, const char *what);

/* Makes the ballast what it is to be now: whole, or but for what is lent. Returns whether it is
 * whole. May block. */
bool space_restore(struct store *store);

/* Makes the ballast as large as the table of what is in memory may become; the rest is free. */
MUST_USE enum err space_free_all_but_needed(struct store *store);

/* Ends the shortage unless a compaction still waits for space; true if it has ended. The ballast is
 * whole and everything that was to be written is. */
bool space_look_again(struct store *store);

/* The compaction thread: whether it may use what the ballast has to lend. If not it was asked for,
 * and the thread is woken when it is given. */
bool space_borrow(struct store *store);
/* How much that is at most. Any thread. */
uint64_t space_to_lend(struct store *store);
/* …it doesn't any more; ERR_NO_SPACE: it was too little. */
void space_return(struct store *store, enum err err);

#endif
