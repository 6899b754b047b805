/*
 * scrub.h - the scrubber: reads every table again and again, so that rot is found before it is
 * read.
 *
 * A pass takes the tables that were on disk when it began, the one first that was verified longest
 * ago; tables that were written since were verified then. A table that a compaction has replaced is
 * let go at once, so that its space comes back. What is damaged is told once a table, and marked:
 * from then on lookups there verify what they hand out (table.h).
 *
 * Threads:   scrub thread, which stands back for others; engine_scrub_close() after it has ended.
 *            It is no thread that can be stuck (store_stuck_ms()): on a busy machine it
 *            may not run for long.
 * Ownership: store->scrubber is the thread's own; it holds a reference on the table at hand.
 * Errors:    told as events.
 */
#ifndef VARVE_STORE_LSM_SCRUB_H
#define VARVE_STORE_LSM_SCRUB_H

#include "store/lsm/engine.h"

/* Lets go of the table at hand. */
void engine_scrub_close(struct store *store);

/* The table was written, synced and read back just now. Any thread. */
void engine_scrub_note_verified(struct store *store, struct table *table);

#endif
