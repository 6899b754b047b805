/*
 * flush.h - sealed memtables become level-0 tables.
 *
 * Threads:   the flush thread; open and close while no other thread runs.
 * Ownership: said at each function.
 * Errors:    ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY; ERR_CORRUPT if what was written can't be read
 * back.
 */
#ifndef VARVE_STORE_LSM_FLUSH_H
#define VARVE_STORE_LSM_FLUSH_H

#include "store/lsm/engine.h"

/* Writes the newest version of each key of `memtable` to a new table, synced with its name, read
 * back and verified. *ret_table is the caller's reference. On failure no file is left. May block.
 */
MUST_USE enum err flush_write_table(struct store *store, const struct memtable *memtable,
                                    struct table **ret_table);

/* At close: flushes everything; what fails stays in the log. May block. */
MUST_USE enum err flush_at_close(struct store *store);

#endif
