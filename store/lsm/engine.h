/*
 * engine.h - the LSM engine's inside: one struct, and background work as steps.
 *
 * The threads of the engine are loops around the steps below; with options.manual there are none
 * and a test calls the steps in an order of its own. A step does one unit of work and returns
 * whether there may be more.
 *
 * Lock order (take downward, never upward):
 *   stripes (ascending) → edit → view → admission → waiters → reaper
 * The edit mutex is held over I/O of manifests: only background threads and open/close take it. No
 * HTTP thread ever waits for a lock that is held over I/O.
 *
 * Threads:   said at each function.
 * Ownership: everything belongs to the struct store.
 * Errors:    a failure of the log or of the manifest makes the store read-only (engine_fail()).
 */
#ifndef VARVE_STORE_LSM_ENGINE_H
#define VARVE_STORE_LSM_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/manifest.h"
#include "store/lsm/pacer.h"
#include "store/lsm/sleeper.h"
#include "store/lsm/slowdown.h"
#include "store/lsm/view.h"
#include "store/lsm/wal.h"
#include "store/store.h"

#define ENGINE_STRIPES        1024u
#define ENGINE_SEGMENTS_MAX   8u     /* active, sealed, spare, and one being made */
#define ENGINE_LEVEL0_TRIGGER 4u     /* level-0 tables that start a compaction */
#define ENGINE_LEVEL0_SLOW    8u     /* level-0 tables from which writes may be slowed down */
#define ENGINE_LEVEL0_STOP    20u    /* level-0 tables at which writes wait */
#define ENGINE_WAITING_MAX    16384u /* writes that may wait for admission */
#define ENGINE_SCANS_MAX      256u
/* No write is taken from this number on. What is in flight by then, at most one operation for each
 * slot of the ring, stays below 2^47, up to which a store is opened. */
#define ENGINE_SEQ_LIMIT ((UINT64_C(1) << 47) - (UINT64_C(1) << 32))
/* Held in memtables' chunks by values on their way to clients; beyond it small values are copied.
 * Not an option: below it costs memory, above it a copy of at most 32 KiB, both little. */
#define ENGINE_PINNED_MAX_BYTES (UINT64_C(64) << 20)

/* Set aside for an operation beside its key, texts and value: header, links, frames. */
#define ENGINE_OP_BYTES        UINT64_C(256)
#define ENGINE_FRAME_BYTES     (UINT64_C(1) << 20) /* of one frame, unless one batch is larger */
#define ENGINE_LOG_SLACK_BYTES UINT64_C(4096)      /* of a segment, for empty frames */
#define ENGINE_DELETE_RESERVE_BYTES \
    (UINT64_C(256) << 10) /* of a segment, for when the disk is full */
#define ENGINE_MEMTABLE_MIN_BYTES (UINT64_C(64) << 10)
#define ENGINE_MEMTABLE_MAX_BYTES (UINT64_C(8) << 30)
#define ENGINE_INFLIGHT_MAX_BYTES (UINT64_C(4) << 30)

/* Lookups that wait for the disk on threads of the store. So many reads are at the disk at a time;
 * so many lookups wait or are there, and beyond that callers wait themselves. */
#define ENGINE_READERS   8u
#define ENGINE_READS_MAX 4096u
/* Longer values are verified by those threads too, even where they are in memory: it takes as long
 * as a read of the disk. */
#define ENGINE_AT_ONCE_BYTES (UINT64_C(1) << 20)

#define ENGINE_WAIT_MAX_MS UINT64_C(10000) /* longest wait for admission, then ERR_BUSY */
#define ENGINE_LOG_IDLE_MS UINT64_C(100)   /* without writes, then what is durable is recorded */
#define ENGINE_SLOW_MS     UINT64_C(5)     /* between looks at who waits while writes are slowed */
#define ENGINE_SLOW_MAX_MS UINT64_C(2000)  /* longest wait for that reason */
#define ENGINE_RETRY_MS    UINT64_C(1000)  /* between attempts of background work that failed */

enum engine_thread {
    ENGINE_LOG_THREAD,
    ENGINE_FLUSH_THREAD,
    ENGINE_COMPACTION_THREAD,
    ENGINE_REAPER_THREAD,
    ENGINE_SCRUB_THREAD,
    ENGINE_THREADS,
};

/* Reasons for writes to wait (or, for want of space, to be refused). */
enum engine_gate {
    ENGINE_GATE_ROTATION = 1 << 0, /* the memtable is full and can't be sealed yet */
    ENGINE_GATE_LEVEL0 = 1 << 1,   /* too many level-0 tables */
    ENGINE_GATE_SPACE = 1 << 2,    /* the disk is full */
};

/* Of the space that is kept back (space.h): what compaction may have of it. */
enum space_loan { SPACE_OWN, SPACE_ASKED, SPACE_LENT };

struct op;

struct flush_request {
    struct flush_request *next;
    uint64_t target_seq; /* done once covered_seq has reached it… */
    bool compact;        /* …and, if set, a full compaction that began after it has finished */
    store_done_fn *done;
    void *arg;
};

/* Heartbeat of a background thread, for store_stuck_ms(). */
struct pulse {
    _Atomic uint64_t busy_since_ms; /* 0: no work, or inside a file operation */
};

/* Where a write can be stopped in the middle of store_write_commit(), for tests. */
enum engine_stop {
    ENGINE_STOP_LOOKED,   /* step 3: tables were looked into */
    ENGINE_STOP_DECIDED,  /* step 5, in a read section and under its stripes, as up to the next */
    ENGINE_STOP_CLAIMED,  /* step 6 */
    ENGINE_STOP_INSERTED, /* step 7: linked, stripes unlocked, slots not set; in the section */
};

struct store {
    struct store_options options;
    /* In manual mode a test may set it: it is called at each stop, and what it does there (other
     * writes on other stripes, steps but for the reclaim step in a read section) happens between
     * two moves of this write, as if another thread did it. NULL otherwise. */
    void (*on_stop)(struct store_write *write, enum engine_stop at);
    const struct vfs *vfs;
    struct vfs_dir *dir;
    char *dir_path;
    uint64_t store_id, epoch;
    uint64_t segment_bytes; /* of each log segment */

    /* Numbers. claim: generation (16 bits) and the next number (48 bits) in one word. */
    _Atomic uint64_t claim;
    _Atomic uint64_t visible_seq; /* greatest durable number: the only ones that readers see */
    _Atomic(struct view *) view;
    pthread_mutex_t stripes[ENGINE_STRIPES];
    struct arena *arena;

    /* The ring: slot[number & ring_mask] points to the operation once it is ready for the log. */
    _Atomic(struct op *) *ring;
    uint64_t ring_mask;

    /* Log thread's own. */
    struct wal *wal;           /* of the memtable that the next frame belongs to */
    struct wal *next_wal;      /* of the new memtable, until the boundary is consumed */
    uint64_t log_next_seq;     /* first number not yet logged */
    uint64_t boundary_seq;     /* first number of the new memtable; 0: no rotation under way */
    uint64_t recorded_seq;     /* greatest durable_upto that is on disk */
    uint64_t active_first_seq; /* first number of the active memtable */
    bool flush_woken;          /* for the next spare segment */
    uint64_t expired_ms;       /* when it was last looked for writes that wait too long */
    struct op **run;           /* scratch for one frame */
    const struct record **run_records;
    struct sleeper log_sleeper;
    _Atomic bool log_kick; /* set by others: look at rotation again */

    /* Under the edit mutex: what the manifest says beside the tables. */
    pthread_mutex_t edit_mutex;
    uint64_t manifest_number;
    uint64_t clock_ms; /* greatest wall time known, which may have been set back since */
    uint64_t segments[ENGINE_SEGMENTS_MAX]; /* live, ascending */
    size_t n_segments;
    bool manifest_failed; /* no other manifest may be written until a restart */
    _Atomic uint64_t next_file;

    /* Under the view mutex. The spare is made by the flush thread and taken by the log thread. */
    pthread_mutex_t view_mutex;
    struct wal *spare;
    uint64_t sealed_segment[VIEW_SEALED_MAX];  /* segment number of view->sealed[i] */
    uint64_t sealed_last_seq[VIEW_SEALED_MAX]; /* its last number; 0: not complete */

    /* Admission. The queue is under its mutex. */
    _Atomic uint64_t inflight_bytes;
    _Atomic uint64_t gates;          /* enum engine_gate bits that are closed */
    _Atomic uint64_t log_room_bytes; /* left of the segment that takes the next frame */
    struct slowdown slowdown;
    pthread_mutex_t admission_mutex;
    struct store_write *waiting_first, *waiting_last;
    _Atomic uint64_t n_waiting;

    /* Operations that wait for numbers they looked at to become durable. */
    pthread_mutex_t waiters_mutex;
    struct store_write *waiters;
    _Atomic uint64_t n_waiters;

    /* Requests for flushes and compactions, under the admission mutex. */
    struct flush_request *requests;
    _Atomic uint64_t flush_target; /* greatest target_seq of any request */
    _Atomic bool requests_changed; /* the flush thread is to look at them again */

    _Atomic int state;     /* STORE_WRITABLE or STORE_READ_ONLY */
    _Atomic bool poisoned; /* the log failed */
    _Atomic bool closing;
    _Atomic bool stop_log, stop_background;

    /* Background. */
    struct sleeper flush_sleeper, compaction_sleeper, reaper_sleeper, scrub_sleeper;
    pthread_t threads[ENGINE_THREADS];
    size_t n_threads;
    struct pulse pulses[ENGINE_THREADS];
    _Atomic bool spare_wanted; /* the flush thread is to make a spare segment */
    _Atomic bool no_space; /* something couldn't be written for want of space: puts are refused */
    _Atomic bool deletes_waiting;    /* admitted while the disk is full, and in memory only */
    _Atomic bool compaction_starved; /* the last compaction found no space */
    _Atomic enum space_loan loan;
    uint64_t ballast_bytes;      /* of the ballast, 0: there is none; flush thread's */
    bool flush_failed;           /* said so already; flush thread's */
    uint64_t flush_retry_ms;     /* not before; UINT64_MAX: never; flush thread's */
    struct compactor *compactor; /* compaction thread's (compaction.c) */
    struct scrubber {            /* scrub thread's (scrub.c) */
        struct table *table;     /* at hand, with a reference; NULL: none */
        struct table_scrub *scrub;
        bool in_pass;
        bool failed;            /* said so already */
        uint64_t pass_began_at; /* by the clock of table_verified_at() */
        uint64_t pass_began_us;
        uint64_t wait_until_us; /* no step before; UINT64_MAX: until there are tables */
        uint64_t seen_swaps;    /* counters.view_swaps when there were none */
        struct pacer pacer;
    } scrubber;
    _Atomic uint64_t verifications; /* of tables: the clock of table_verified_at() */

    pthread_mutex_t reaper_mutex;
    struct view *reaped_views;
    struct table *reaped_tables;

    struct reads { /* lookups for the reader threads (read.c) */
        pthread_mutex_t mutex;
        pthread_cond_t added; /* or closed */
        struct read *first, *last;
        size_t n; /* those in the queue and those under way */
        bool closed;
        pthread_t threads[ENGINE_READERS];
        size_t n_threads;
    } reads;

    struct counters {
        _Atomic uint64_t gets, writes, stalls, stalled_us, flushes, flushed_bytes, compactions;
        _Atomic uint64_t cold_reads;
        _Atomic uint64_t compaction_read_bytes, compaction_written_bytes, compaction_debt_bytes;
        _Atomic uint64_t log_syncs, log_bytes_written, rotations, view_swaps, claim_retries;
        _Atomic uint64_t level0_stops;
        _Atomic uint64_t pinned_entries, pinned_bytes, scans_open, rcu_backlog;
        _Atomic uint64_t scrub_bytes, scrub_passes, scrub_pass_us;
        _Atomic uint64_t fsync_count[STORE_FSYNC_BUCKETS], fsync_total_us;
        _Atomic uint64_t batch_count[STORE_BATCH_BUCKETS], batch_total_ops;
        /* Of tables that are gone. */
        _Atomic uint64_t filter_lookups, filter_positives, filter_false_positives;
        uint64_t recovery_us, recovered_records;
    } counters;
};

/* --- Steps: each by its own thread, or by a test in manual mode ------------------------------ */

bool engine_log_step(struct store *store);
/* What the log does once it has been idle for a moment: an empty frame records what is durable. */
bool engine_log_idle_step(struct store *store);
/* How long the log waits for work before that; UINT64_MAX: it has nothing to do without any. */
uint64_t engine_log_idle_ms(struct store *store);
bool engine_flush_step(struct store *store);
bool engine_compaction_step(struct store *store);
bool engine_reclaim_step(struct store *store);
bool engine_scrub_step(struct store *store); /* false at the end of a pass */
bool engine_read_step(struct store *store);  /* one lookup that waits; any reader thread */

/* Ends a store in manual mode as a crash would, without another file operation; everything under
 * way completes as ERR_OUTCOME_UNKNOWN or ERR_CLOSED. */
void engine_abandon(struct store *store);

/* The threads' functions; `arg` is the store. */
void *engine_log_thread(void *arg);
void *engine_flush_thread(void *arg);
void *engine_compaction_thread(void *arg);
void *engine_reaper_thread(void *arg);
void *engine_scrub_thread(void *arg);

/* Starts and ends the reader threads. At the end of the second, once the store is closing, every
 * lookup that waited has been completed. */
MUST_USE enum err engine_readers_start(struct store *store);
void engine_readers_stop(struct store *store);

/* --- Shared by the steps ---------------------------------------------------------------------- */

/* The published view with a reference. Any thread. */
struct view *engine_view_acquire(struct store *store);

/* A view and the number up to which it is visible, that belong together: a consistent snapshot. */
struct view *engine_snapshot(struct store *store, uint64_t *ret_seq);

/* Fills an entry but for its key, and says of what kind the record is; the caller holds what owns
 * it. ERR_IO if its page can't be read. */
MUST_USE enum err engine_describe(struct store *store, const struct view_hit *hit,
                                  struct store_entry *ret_entry, enum record_kind *ret_kind);

/* Pins what an entry was described from. In a read section or with a reference on the view. */
void engine_pin(struct store *store, const struct view_hit *hit, struct store_entry *entry);

/* Copies a small value that is pinned in a memtable's chunk, and unpins that, if pins hold much
 * memory already. Outside read sections. ERR_NO_MEMORY: it is unpinned. */
MUST_USE enum err engine_copy_if_crowded(struct store *store, uint64_t record_bytes,
                                         struct store_entry *entry);

/* Closes or opens a gate; opening lets waiting writes in. Any thread. */
void engine_set_gate(struct store *store, enum engine_gate gate, bool closed);

/* Queues a request for a flush or a full compaction. Any thread. */
void engine_request(struct store *store, bool compact, store_done_fn *done, void *arg);

/* The number of a new segment or table; random ids that are never 0. */
uint64_t engine_new_number(struct store *store);
uint64_t engine_random_id(void);

/* Takes a view or table whose last reference is gone; the reclaim step frees it. Any thread; locks
 * the reaper mutex for a moment. */
void engine_reap_view(struct store *store, struct view *view);
void engine_reap_table(struct store *store, struct table *table);

/* A lookup met damaged or unreadable bytes of `table`: an event, once a table. Any thread. */
void engine_table_failed(struct store *store, struct table *table, enum err err);

/* Tells the owner. Any thread. */
void engine_event(struct store *store, enum store_event_kind kind, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* STORE_EVENT_TABLE_DAMAGED, with the keys that may be affected ("": not known). Any thread. */
void engine_table_event(struct store *store, const char *keys, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* The log or the manifest failed: read-only until a restart. Any thread. */
void engine_fail(struct store *store, enum store_event_kind kind, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Makes the store read-only if `next_seq` is near the end of the numbers. Log thread; open. */
void engine_check_numbers(struct store *store, uint64_t next_seq);

/* Time that only goes forward, in milliseconds and microseconds; wall clock in milliseconds. */
uint64_t engine_now_ms(void);
uint64_t engine_now_us(void);
uint64_t engine_wall_ms(void);

/* A background thread says when it has work, and marks the file operations it is in, so that a slow
 * disk isn't taken for a stuck thread. engine_io_end() counts as a step made. */
void engine_busy_begin(struct pulse *pulse);
void engine_busy_end(struct pulse *pulse);
void engine_io_begin(struct pulse *pulse);
void engine_io_end(struct pulse *pulse);

#endif
