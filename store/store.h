/*
 * store.h - the storage contract: a durable, ordered map from keys to values.
 *
 * What any engine behind this header promises:
 *   1. Acknowledged means durable: a write completes with ERR_OK only once it survives a crash.
 *   2. No dirty reads: nothing that a crash could take back is ever revealed, neither a value nor
 * an absence nor a failed condition that rests on it.
 *   3. Linearizable per key, atomic per batch; a condition is decided at the moment of its write.
 *   4. Nothing wrong is ever returned: damage is an error, never other bytes and never "absent".
 *   5. Reads take no lock and make no copy: an entry is a pinned view of the engine's bytes.
 *
 * Calls that may have to wait are asynchronous in form: they complete through a callback, exactly
 * once, which may run before the call returns, on the caller's thread or on one of the store's. A
 * callback must not block and must not call back into the store except where said. store_sync.h has
 * the blocking forms.
 *
 * Threads:   everything but open and close: any thread, at once.
 * Ownership: the store belongs to who opened it. Entries are pinned until store_entry_release().
 *            A struct store_write belongs to one thread at a time, up to commit or abort.
 * Errors:    said at each call. Common to all: ERR_CLOSED once store_close() has begun.
 */
#ifndef VARVE_STORE_STORE_H
#define VARVE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"

#define STORE_KEY_MAX_BYTES     1024u
#define STORE_TEXT_MAX_BYTES    256u   /* content type, content encoding, cache-control each */
#define STORE_BATCH_MAX_OPS     10000u /* puts and deletes of one write */
#define STORE_VALUE_LIMIT_BYTES (UINT64_C(1) << 30) /* the most that max_value_bytes may be */

struct store;

/* --- Versions -----------------------------------------------------------------------------------
 */

/* Names one version of one key for ever: no other bytes ever get the same, in this store, in a
 * restored copy or in another one. Opaque: compare for equality, show as text; neither order nor
 * distance of the numbers means anything to a caller. */
struct store_version {
    uint64_t epoch;
    uint64_t number;
};

#define STORE_VERSION_TEXT_BYTES 40u /* of the text, NUL included */

/* Writes "<16 hex digits>-<hex digits>"; returns its length. */
size_t store_version_format(struct store_version version, char ret_text[STORE_VERSION_TEXT_BYTES]);
/* True only for exactly what store_version_format() writes. */
bool store_version_parse(struct bytes text, struct store_version *ret_version);

static inline bool store_version_equal(struct store_version a, struct store_version b)
{
    return a.epoch == b.epoch && a.number == b.number;
}

/* --- Opening and closing ------------------------------------------------------------------------
 */

/* What the store tells its owner; the store itself never logs. */
enum store_event_kind {
    STORE_EVENT_RECOVERED,  /* open has finished; the text has counts and times */
    STORE_EVENT_TORN_TAIL,  /* unacknowledged bytes at the log's end were dropped */
    STORE_EVENT_CORRUPTION, /* damage was found; the store is not opened, or the key gets an error,
                             * or the text says that nothing was lost by it */
    STORE_EVENT_TABLE_DAMAGED,   /* a table has damaged or unreadable bytes; said once a table */
    STORE_EVENT_LOG_POISONED,    /* a write or sync of the log failed: read-only until reopened */
    STORE_EVENT_MANIFEST_FAILED, /* replacing the manifest failed: likewise */
    STORE_EVENT_NO_SPACE,        /* puts are refused until space returns */
    STORE_EVENT_SPACE_BACK,
    STORE_EVENT_FLUSHED, /* a memtable became a table */
    STORE_EVENT_COMPACTED,
    STORE_EVENT_BACKGROUND_FAILED, /* a flush or compaction failed and will be tried again */
    STORE_EVENT_NUMBERS_USED_UP,   /* of the versions: read-only for good */
};

struct store_event {
    enum store_event_kind kind;
    const char *text; /* one sentence with file, offset, numbers, and no keys; lives for the call */
    const char *keys; /* that may be affected, as from "a" up to "b"; empty where not known */
};

struct vfs; /* base/vfs.h */

struct store_options {
    const char *dir;             /* made if missing */
    uint64_t memtable_bytes;     /* a memtable is sealed at this size */
    uint64_t max_value_bytes;    /* 1 to STORE_VALUE_LIMIT_BYTES */
    uint64_t max_inflight_bytes; /* of writes between admission and durability; above the largest
                                    write */
    uint64_t compaction_rate;    /* bytes a second that compaction reads and writes; 0: unlimited */
    uint64_t scrub_rate;         /* bytes a second of tables that are verified; 0: none */
    /* Told of events and of recovery's progress, on any of the store's threads; must not block. */
    void (*on_event)(void *arg, const struct store_event *event);
    void (*on_progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *arg;
    const struct vfs *vfs; /* NULL: the operating system's files */
    bool manual;           /* no threads: the caller drives lsm/engine.h's steps (tests) */
};

/* The defaults of every field but dir: 64 MiB memtables, 16 MiB values, 64 MiB in flight, 2 MiB a
 * second scrubbed. */
struct store_options store_options_default(void);

/* Opens, recovering what a crash left. Errors: ERR_INVALID (options), ERR_LOCKED, ERR_CORRUPT,
 * ERR_FORMAT, ERR_EXISTS (the directory has other files than a store's), ERR_NOT_FOUND (and it
 * can't be made), ERR_IO, ERR_NO_SPACE, ERR_NO_MEMORY; the detail names file and offset and says
 * what to do. On failure *ret_store is left alone. May block for long. */
MUST_USE enum err store_open(const struct store_options *options, struct store **ret_store,
                             struct err_detail *detail);

/* Refuses new writes, completes those under way, writes what is in memory to tables, and frees the
 * store. Lookups that wait are completed with ERR_CLOSED. No other call may be under way or follow;
 * entries and scans must have been released. Any error was told as an event and loses nothing
 * acknowledged: the log has it. NULL is allowed. May block. */
void store_close(struct store *store);

/* --- Reading ------------------------------------------------------------------------------------
 */

/* A short text of an entry, copied out; size 0: absent. Not terminated. */
struct store_text {
    uint16_t size;
    char data[STORE_TEXT_MAX_BYTES];
};

static inline struct bytes store_text_bytes(const struct store_text *text)
{
    return bytes_of(text->data, text->size);
}

/* One version of one key. Its value is pinned: the bytes stay where they are until
 * store_entry_release(). They may lie in a mapped file whose page turns out to be unreadable: hand
 * them to the kernel (a send fails with EFAULT), or read them under the guard of base/sigbus.h.
 * Everything else is copied. */
struct store_entry {
    struct bytes key; /* of a get: what was asked with; of a scan: lives for the call */
    struct bytes value;
    struct store_text content_type, content_encoding, cache_control;
    uint64_t modified_ms; /* wall clock as its commit began, milliseconds since 1970 UTC; as the
                             clock may be set back, no order of versions */
    struct store_version version;
    void *pin, *owner; /* the engine's */
};

/* found: `entry` is the caller's to release and lives beyond the call (it is copied, not kept by
 * address). Not found: ERR_OK and NULL. */
typedef void store_get_fn(void *arg, enum err err, const struct store_entry *entry);

/* Looks up the newest durable version of `key` (1 to STORE_KEY_MAX_BYTES). Errors: ERR_CORRUPT,
 * ERR_IO (of this key; the store goes on), ERR_NO_MEMORY. Completes before it returns, and waits
 * for the disk if it has to: the simple form. */
void store_get(struct store *store, struct bytes key, store_get_fn *done, void *arg);

/* store_get() for a thread that must not be held up: completes before it returns, or returns false
 * without calling `done`, if the disk would have to be waited for or a long value be verified. Then
 * store_get_later() is for it. All that it may wait for is single pages: of the tables' indexes, or
 * with a small value that was read before and has left memory. */
MUST_USE bool store_get_at_once(struct store *store, struct bytes key, store_get_fn *done,
                                void *arg);

/* store_get() on a thread of the store, which also brings the value into memory. `done` comes from
 * there, and the key is borrowed until then. Reads begin in the order of the calls. Where too many
 * wait already, this completes as store_get() does. ERR_CLOSED if the store is closed meanwhile. */
void store_get_later(struct store *store, struct bytes key, store_get_fn *done, void *arg);

/* store_get() for who wants all but the value. It is pinned and its size is right, but its bytes
 * may be damaged: they must not be shown. Waits for single pages of the disk at most, or for a
 * value of up to 64 KiB. */
void store_head(struct store *store, struct bytes key, store_get_fn *done, void *arg);

/* Unpins. Any thread, cheap: freeing is left to the store's threads. */
void store_entry_release(struct store_entry *entry);

/* --- Scanning -----------------------------------------------------------------------------------
 */

/* A walk in key order over one snapshot: what was durable when it was made. Memory and disk space
 * of the snapshot are held until it is freed. */
struct store_scan;

struct store_range {
    struct bytes start; /* inclusive; size 0: from the first key */
    struct bytes end;   /* exclusive; size 0: to the last key */
    bool reverse;       /* from the end downward */
    bool keys_only;     /* values stay unread: size is set, data is NULL */
};

/* Return false to stop before the next entry. The entry is borrowed for the call: don't release it.
 */
typedef bool store_scan_fn(void *arg, const struct store_entry *entry);
/* at_end: no entry is left. ERR_CORRUPT, ERR_IO: the scan can't go on. */
typedef void store_scan_done_fn(void *arg, enum err err, bool at_end);

/* The range's bytes are copied. Errors: ERR_NO_MEMORY, ERR_BUSY (too many scans), ERR_INVALID (a
 * bound above STORE_KEY_MAX_BYTES), ERR_CLOSED. */
MUST_USE enum err store_scan_new(struct store *store, const struct store_range *range,
                                 struct store_scan **ret_scan);

/* Calls `each` for entry after entry until it returns false or none is left, then `done`. Can be
 * called again to go on, once `done` was called. May fault in pages. One thread at a time. */
void store_scan_run(struct store_scan *scan, store_scan_fn *each, store_scan_done_fn *done,
                    void *arg);

/* A text that stands for the snapshot's place in the order of all changes. */
struct store_version store_scan_position(const struct store_scan *scan);

void store_scan_free(struct store_scan *scan); /* NULL is allowed */

/* --- Writing ------------------------------------------------------------------------------------
 */

/* A write on its way: one or more puts and deletes that take effect together. */
struct store_write;

/* ERR_OK: `write` is the caller's. ERR_BUSY: over the hard limit, try again later. ERR_NO_SPACE:
 * the disk is full (only with puts). ERR_READ_ONLY, ERR_NO_MEMORY, ERR_TOO_LARGE (can never fit).
 */
typedef void store_write_ready_fn(void *arg, enum err err, struct store_write *write);

struct store_write_size {
    size_t ops;        /* most operations, 1 to STORE_BATCH_MAX_OPS */
    uint64_t bytes;    /* sum of keys, texts and values, as far as known */
    bool deletes_only; /* may use the space that is kept for deletes */
};

/* Admission: sets aside what the write needs so that nothing later has to wait. When a soft limit
 * is reached, `ready` is called later, in order of arrival, from a store thread. */
void store_write_new(struct store *store, const struct store_write_size *size,
                     store_write_ready_fn *ready, void *arg);

/* What a put carries beside its value; size 0: absent. */
struct store_put {
    struct bytes key;
    struct bytes content_type, content_encoding, cache_control;
    uint64_t value_bytes; /* of the value, which the caller fills in */
};

/* Adds a put. *ret_value is where the caller writes the value, any time before commit. Errors:
 * ERR_TOO_LARGE (value above max_value_bytes, or more ops than asked for), ERR_INVALID (key or text
 * size), ERR_BUSY (needs more bytes than were set aside and there are none),
 * ERR_NO_MEMORY. The write stays usable after an error. */
MUST_USE enum err store_write_put(struct store_write *write, const struct store_put *put,
                                  void **ret_value);

/* Changes the size of the last put's value, keeping its bytes as far as they go; it may move. For
 * bodies of unknown length. Errors as of store_write_put(). */
MUST_USE enum err store_write_resize(struct store_write *write, uint64_t value_bytes,
                                     void **ret_value);

/* Adds a delete. Deleting a key that isn't there is no error and writes nothing. Errors as above.
 */
MUST_USE enum err store_write_delete(struct store_write *write, struct bytes key);

/* What is there at the moment of the write. */
struct store_current {
    bool exists;
    struct store_version version; /* of the newest version, if it exists */
    uint64_t modified_ms;
};

/* Decides whether the last added operation may happen: true to go on, false and nothing of the
 * whole write happens. Called under a lock, maybe more than once: no blocking, no allocation, no
 * side effects beyond `arg`, no calls into the store. */
typedef bool store_condition_fn(void *arg, const struct store_current *current);

/* Sets the condition of the last added operation; `arg` must live until `done` of the commit. */
void store_write_condition(struct store_write *write, store_condition_fn *condition, void *arg);

/* How a write ended. Lives for the call of `done`. */
struct store_written {
    size_t n_ops;
    /* In order of addition: what the operation met, and for a put the version it made. */
    const struct store_op_result {
        struct store_current before;
        struct store_version version;
    } * ops;
    bool condition_failed; /* nothing happened… */
    size_t failed_op;      /* …because of this one */
};

/* ERR_OK: durable, or a condition failed (durably). ERR_OUTCOME_UNKNOWN: the log failed under it:
 * it may or may not be there after a restart. ERR_READ_ONLY, ERR_IO, ERR_CORRUPT (what it would
 * replace can't be told), ERR_NO_MEMORY, ERR_NO_SPACE, ERR_CLOSED, ERR_INVALID (a key twice in one
 * write): nothing was written. */
typedef void store_write_done_fn(void *arg, enum err err, const struct store_written *written);

/* Consumes the write. `done` comes from a store thread or from this one. Doesn't wait for the disk.
 */
void store_write_commit(struct store_write *write, store_write_done_fn *done, void *arg);

/* Gives everything back. NULL is allowed. */
void store_write_abort(struct store_write *write);

/* --- Upkeep -------------------------------------------------------------------------------------
 */

typedef void store_done_fn(void *arg, enum err err);

/* Writes what is in memory now to tables. ERR_NO_SPACE, ERR_READ_ONLY: not now, and nothing is
 * lost. */
void store_flush(struct store *store, store_done_fn *done, void *arg);
/* Flushes and merges everything that is there now down to one run of tables without delete markers.
 */
void store_compact(struct store *store, store_done_fn *done, void *arg);

enum store_state {
    STORE_WRITABLE,
    STORE_NO_SPACE,  /* puts get ERR_NO_SPACE; heals by itself */
    STORE_READ_ONLY, /* until reopened */
};
enum store_state store_state(const struct store *store); /* any thread, no lock, no wait */

#define STORE_LEVELS 7u
#define STORE_FSYNC_BUCKETS \
    16u /* bucket i counts syncs of less than 2^i × 32 µs; the last the rest */
#define STORE_BATCH_BUCKETS \
    16u /* bucket i counts frames of at most 2^i records; the last the rest */

struct store_stats {
    uint64_t keys_approximate; /* records in tables and memtables, less twice the delete markers */
    uint64_t memtable_bytes, sealed_memtables, sealed_bytes;
    uint64_t log_segments, log_bytes_used, log_syncs, log_bytes_written;
    uint64_t level_tables[STORE_LEVELS], level_bytes[STORE_LEVELS];
    uint64_t flushes, flushed_bytes;
    uint64_t compactions, compaction_read_bytes, compaction_written_bytes, compaction_debt_bytes;
    uint64_t stalls, stalled_us; /* writes that waited for admission */
    uint64_t level0_stops;       /* times that all had to wait for compaction */
    uint64_t write_limit;        /* bytes a second that are let in now; 0: no limit */
    uint64_t inflight_bytes, waiting_writes;
    uint64_t filter_lookups, filter_positives, filter_false_positives;
    uint64_t pinned_entries, scans_open, rcu_backlog;
    uint64_t pinned_bytes; /* of memory that they hold at most; those in tables hold none */
    uint64_t scrub_bytes, scrub_passes; /* verified on the disk; times that all tables were */
    uint64_t scrub_pass_us;             /* that the last time took */
    uint64_t damaged_tables;            /* of those that are in use, by whoever found the damage */
    uint64_t rotations, view_swaps, insert_retries, claim_retries;
    uint64_t writes, gets;
    uint64_t cold_reads, waiting_reads; /* of store_get_later(): done, and under way now */
    uint64_t fsync_count[STORE_FSYNC_BUCKETS], fsync_total_us;
    uint64_t batch_count[STORE_BATCH_BUCKETS], batch_total_ops;
    uint64_t recovery_us, recovered_records;
    uint64_t last_number; /* newest durable */
};

void store_stats(struct store *store,
                 struct store_stats *ret_stats); /* any thread; takes locks briefly */

/* The time in milliseconds for which the most stuck of the store's threads has had work and made no
 * step outside a file operation: 0 when all is well. No lock, no wait. */
uint64_t store_stuck_ms(const struct store *store);

#endif
