/*
 * store_sync.h - the blocking forms of store.h, for programs that use the store without an event
 * loop.
 *
 * Threads:   any thread but the store's own (never from a callback). All may block.
 * Ownership: as in store.h.
 * Errors:    as of the asynchronous calls; a soft limit is waited for, ERR_BUSY is handed on.
 */
#ifndef VARVE_STORE_STORE_SYNC_H
#define VARVE_STORE_STORE_SYNC_H

#include "store/store.h"

/* *ret_found false: not there, *ret_entry is left alone. Else release the entry. */
MUST_USE enum err store_get_sync(struct store *store, struct bytes key, bool *ret_found,
                                 struct store_entry *ret_entry);

/* Stores `value` with the attributes of `put` (its value_bytes is ignored). Durable on ERR_OK.
 * ret_version may be NULL. */
MUST_USE enum err store_put_sync(struct store *store, const struct store_put *put,
                                 struct bytes value, struct store_version *ret_version);

/* Durable on ERR_OK; *ret_existed (may be NULL) says whether it was there. */
MUST_USE enum err store_delete_sync(struct store *store, struct bytes key, bool *ret_existed);

/* Admission, waiting for room. */
MUST_USE enum err store_write_new_sync(struct store *store, const struct store_write_size *size,
                                       struct store_write **ret_write);

/* Commits and waits. *ret_condition_failed (may be NULL): nothing was written. */
MUST_USE enum err store_write_commit_sync(struct store_write *write, bool *ret_condition_failed);

MUST_USE enum err store_flush_sync(struct store *store);
MUST_USE enum err store_compact_sync(struct store *store);

#endif
