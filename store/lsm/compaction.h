/*
 * compaction.h - the compaction thread's life: what is due, one slice at a time, at the given rate.
 *
 * A failure loses nothing: outputs are dropped, inputs stay, and it is tried again after a while,
 * later each time. An input that can't be read whole is told once and left alone from then on.
 *
 * Threads:   compaction thread; engine_compaction_close() after it has ended.
 * Ownership: store->compactor is made by the first step.
 * Errors:    told as events.
 */
#ifndef VARVE_STORE_LSM_COMPACTION_H
#define VARVE_STORE_LSM_COMPACTION_H

#include "store/lsm/engine.h"

/* Drops the compaction under way with its outputs; the full compactions that wait for it end with
 * ERR_CLOSED. */
void engine_compaction_close(struct store *store);

#endif
