/*
 * edit.h - changes of what the store consists of: durable in a manifest first, then visible in a
 * view.
 *
 * Threads:   background threads and open/close.
 * Ownership: an edit borrows its arrays.
 * Errors:    see engine_apply().
 */
#ifndef VARVE_STORE_LSM_EDIT_H
#define VARVE_STORE_LSM_EDIT_H

#include "store/lsm/engine.h"

/* A change of the tables: becomes durable in a manifest, then visible in a view. */
struct engine_edit {
    struct engine_edit_table {
        uint32_t level;
        struct table *table;
    } const *remove, *add; /* added ones bring a reference, which the edit takes over on ERR_OK */
    size_t n_remove, n_add;
    bool flushed;         /* the oldest sealed memtable is in `add`: it goes, with its segment… */
    bool flushed_active;  /* …or, at close, the active one, the last, and with it all segments */
    uint64_t add_segment; /* 0: none */
};

/* Writes the manifest and publishes the view of the current one changed by `edit`; removed tables
 * become obsolete. On failure before the manifest's rename nothing has changed; at or after it the
 * outcome is unknown: ERR_OUTCOME_UNKNOWN, the store is read-only, and the caller must remove no
 * file. Background thread. May block. */
MUST_USE enum err engine_apply(struct store *store, const struct engine_edit *edit);

/* Makes `next` the published view, whose reference is taken over; the one before it loses its
 * reference after a grace period. Under the view mutex. Doesn't block. */
void engine_publish(struct store *store, struct view *next);

/* Writes a manifest in recovery, when `view` isn't published yet. Errors as above. May block. */
MUST_USE enum err engine_write_manifest(struct store *store, const struct view *view,
                                        uint64_t covered_seq, const uint64_t segments[],
                                        size_t n_segments);

#endif
