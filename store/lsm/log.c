/*
 * The log thread: takes the run of ready slots, writes it as one frame, syncs, publishes,
 * completes.
 *
 * It is the only one that writes the log and that rotates. A rotation waits for nobody: everything
 * that could fail (the new memtable, its view, its segment) is made first; then the generation in
 * the claim word changes, and the number found there is the boundary: every claim on the old
 * memtable lies below it. The old memtable is complete once the log has consumed every slot below
 * the boundary.
 *
 * After a failed write or sync the log is poisoned. The thread lives on, to end every slot and
 * waiter as "outcome unknown"; it writes nothing any more, and nothing becomes visible any more.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "store/lsm/commit.h"
#include "store/lsm/edit.h"

static struct pulse *pulse(struct store *store)
{
    return &store->pulses[ENGINE_LOG_THREAD];
}

/* --- Taking a run
 * --------------------------------------------------------------------------------- */

/* Collects ready slots from log_next_seq on, up to the frame's limits or the boundary, and cuts
 * behind the last complete batch. Returns how many: none only where no slot is ready up
 * to the boundary. */
static size_t collect_run(struct store *store)
{
    uint64_t seq = store->log_next_seq;
    uint64_t bytes = 0;
    size_t n = 0, whole = 0;
    while (n < WAL_FRAME_RECORDS_MAX && (seq != store->boundary_seq || store->boundary_seq == 0)) {
        struct op *op =
            atomic_load_explicit(&store->ring[seq & store->ring_mask], memory_order_acquire);
        if (!op) {
            break;
        }
        uint64_t size = record_size(op->node->record);
        if (whole > 0 && bytes + size > ENGINE_FRAME_BYTES) {
            break;
        }
        bytes += size;
        store->run[n] = op;
        store->run_records[n] = op->node->record;
        n++;
        seq++;
        if (op->last) {
            whole = n;
        }
    }
    return whole;
}

static bool slot_is_ready(void *arg)
{
    struct store *store = arg;
    return atomic_load_explicit(&store->ring[store->log_next_seq & store->ring_mask],
                                memory_order_acquire) != NULL ||
           atomic_load(&store->log_kick) || atomic_load(&store->stop_log);
}

/* --- Writing it
 * ----------------------------------------------------------------------------------- */

static unsigned bucket_of(uint64_t n, unsigned n_buckets)
{
    unsigned bucket = n <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(n - 1);
    return bucket < n_buckets ? bucket : n_buckets - 1;
}

static void count_sync(struct store *store, uint64_t took_us, size_t n)
{
    struct counters *counters = &store->counters;
    atomic_fetch_add_explicit(&counters->log_syncs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->fsync_total_us, took_us, memory_order_relaxed);
    atomic_fetch_add_explicit(
        &counters->fsync_count[bucket_of(took_us / 32 + 1, STORE_FSYNC_BUCKETS)], 1,
        memory_order_relaxed);
    if (n > 0) {
        atomic_fetch_add_explicit(&counters->batch_total_ops, n, memory_order_relaxed);
        atomic_fetch_add_explicit(&counters->batch_count[bucket_of(n, STORE_BATCH_BUCKETS)], 1,
                                  memory_order_relaxed);
    }
}

/* Writes one frame and syncs it; poisons the log on failure. */
static bool write_frame(struct store *store, size_t n)
{
    uint64_t used = wal_used_bytes(store->wal);
    engine_io_begin(pulse(store));
    const char *what = "write to";
    enum err err = wal_append(store->wal, store->log_next_seq, atomic_load(&store->visible_seq),
                              store->run_records, n);
    uint64_t before_us = engine_now_us();
    if (err == ERR_OK) {
        what = "sync of";
        err = wal_sync(store->wal);
    }
    int cause = errno;
    engine_io_end(pulse(store));
    if (err != ERR_OK) {
        atomic_store(&store->poisoned, true);
        char name[FILES_NAME_BYTES];
        files_name(FILE_SEGMENT, wal_number(store->wal), name);
        engine_fail(
            store, STORE_EVENT_LOG_POISONED,
            "%s log segment %s failed at offset %llu: %s; writes are refused until a restart", what,
            name, (unsigned long long)used, strerror(cause));
        return false;
    }
    count_sync(store, engine_now_us() - before_us, n);
    uint64_t after = wal_used_bytes(store->wal);
    atomic_fetch_add_explicit(&store->counters.log_bytes_written, after - used,
                              memory_order_relaxed);
    atomic_store(&store->log_room_bytes, wal_capacity_bytes(store->wal) - after);
    return true;
}

/* Ends the operations of a run in order. Their slots are free before their bytes are given back. */
static void complete_run(struct store *store, size_t n, enum err err)
{
    for (size_t i = 0; i < n; i++) {
        atomic_store_explicit(&store->ring[(store->log_next_seq + i) & store->ring_mask], NULL,
                              memory_order_relaxed);
    }
    store->log_next_seq += n;
    for (size_t i = 0; i < n; i++) {
        if (store->run[i]->last) {
            commit_complete(store->run[i]->write, err);
        }
    }
}

static void log_run(struct store *store, size_t n)
{
    uint64_t visible = atomic_load(&store->visible_seq);
    if (atomic_load(&store->poisoned) || !write_frame(store, n)) {
        complete_run(store, n, ERR_OUTCOME_UNKNOWN);
    } else {
        store->recorded_seq = visible;
        atomic_store(&store->visible_seq, store->log_next_seq + n - 1);
        complete_run(store, n, ERR_OK);
        engine_check_numbers(store, store->log_next_seq);
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&store->n_waiters) > 0) {
        commit_drain_waiters(store);
    }
}

/* --- Rotation
 * ------------------------------------------------------------------------------------- */

static bool is_full(const struct store *store, const struct memtable *active)
{
    uint64_t limit = store->options.memtable_bytes;
    return memtable_bytes(active) >= limit ||
           wal_used_bytes(store->wal) >= WAL_FIRST_FRAME_OFFSET + limit;
}

/* *ret_full: it can't go on as it is; else somebody asked for a flush. */
static bool rotation_is_wanted(struct store *store, bool *ret_full)
{
    rcu_door_lock();
    const struct memtable *active = atomic_load(&store->view)->active;
    bool possible = store->boundary_seq == 0 && memtable_records(active) > 0 &&
                    atomic_load(&store->state) != STORE_READ_ONLY;
    *ret_full = possible && is_full(store, active);
    rcu_door_unlock();
    return *ret_full || (possible && atomic_load(&store->flush_target) >= store->active_first_seq);
}

/* Publishes the view with a new, empty memtable. Under the view mutex. */
static enum err seal_active(struct store *store)
{
    struct view *current = atomic_load(&store->view);
    struct memtable *fresh;
    uint64_t generation = memtable_generation(current->active) + 1;
    enum err err = memtable_new(generation, store->options.memtable_bytes, &fresh);
    if (err != ERR_OK) {
        return err;
    }
    struct view *next;
    err = view_copy(current, &next);
    if (err != ERR_OK) {
        memtable_release(fresh);
        return err;
    }
    /* Nothing fails from here on. */
    memmove(&next->sealed[1], &next->sealed[0], next->n_sealed * sizeof next->sealed[0]);
    next->sealed[0] = next->active;
    next->n_sealed++;
    next->active = fresh;
    memmove(&store->sealed_segment[1], &store->sealed_segment[0],
            current->n_sealed * sizeof store->sealed_segment[0]);
    memmove(&store->sealed_last_seq[1], &store->sealed_last_seq[0],
            current->n_sealed * sizeof store->sealed_last_seq[0]);
    store->sealed_segment[0] = wal_number(store->wal);
    store->sealed_last_seq[0] = 0;
    store->next_wal = store->spare;
    store->spare = NULL;
    uint64_t word = atomic_load(&store->claim);
    while (!atomic_compare_exchange_weak(&store->claim, &word,
                                         claim_of(generation & 0xFFFF, claim_seq(word)))) {
    }
    store->boundary_seq = claim_seq(word);
    store->active_first_seq = store->boundary_seq;
    engine_publish(store, next);
    atomic_fetch_add_explicit(&store->counters.rotations, 1, memory_order_relaxed);
    return ERR_OK;
}

/* Seals the memtable if it is full and what that takes is there; else says what writes wait for. */
static bool rotate(struct store *store)
{
    bool full, rotated = false;
    if (rotation_is_wanted(store, &full)) {
        pthread_mutex_lock(&store->view_mutex);
        bool possible = store->spare && atomic_load(&store->view)->n_sealed < VIEW_SEALED_MAX;
        rotated = possible && seal_active(store) == ERR_OK;
        pthread_mutex_unlock(&store->view_mutex);
        if (!rotated) {
            atomic_store(&store->spare_wanted, true);
            sleeper_wake(&store->flush_sleeper);
        }
    }
    bool no_space = atomic_load(&store->no_space);
    bool stuck = full && !rotated && !no_space;
    /* Closed before the other is opened. */
    engine_set_gate(store, no_space ? ENGINE_GATE_SPACE : ENGINE_GATE_ROTATION, no_space || stuck);
    engine_set_gate(store, no_space ? ENGINE_GATE_ROTATION : ENGINE_GATE_SPACE, false);
    return rotated;
}

/* The last slot of the old memtable is consumed: from now on the new segment is written. */
static void finish_rotation(struct store *store)
{
    pthread_mutex_lock(&store->view_mutex);
    store->sealed_last_seq[0] = store->boundary_seq - 1;
    pthread_mutex_unlock(&store->view_mutex);
    wal_close(store->wal);
    store->wal = store->next_wal;
    store->next_wal = NULL;
    store->boundary_seq = 0;
    store->flush_woken = false;
    atomic_store(&store->log_room_bytes,
                 wal_capacity_bytes(store->wal) - wal_used_bytes(store->wal));
    admission_pump(store);
    sleeper_wake(&store->flush_sleeper);
}

/* --- Steps and thread
 * ----------------------------------------------------------------------------- */

/* The flush thread makes the next spare segment once this one is being used in earnest. */
static void wake_flush_early(struct store *store)
{
    if (!store->flush_woken &&
        wal_used_bytes(store->wal) > WAL_FIRST_FRAME_OFFSET + store->options.memtable_bytes / 4) {
        store->flush_woken = true;
        atomic_store(&store->spare_wanted, true);
        sleeper_wake(&store->flush_sleeper);
    }
}

/* Those that wait too long are told so even while the log is never idle. */
static void expire_now_and_then(struct store *store)
{
    if (atomic_load(&store->n_waiting) == 0) {
        return;
    }
    uint64_t now_ms = engine_now_ms();
    if (now_ms >= store->expired_ms + ENGINE_LOG_IDLE_MS) {
        store->expired_ms = now_ms;
        admission_expire(store);
    }
}

bool engine_log_step(struct store *store)
{
    atomic_store(&store->log_kick, false);
    size_t n = collect_run(store);
    if (n > 0) {
        log_run(store, n);
    }
    bool crossed = store->boundary_seq != 0 && store->log_next_seq == store->boundary_seq;
    if (crossed) {
        if (atomic_load(&store->poisoned)) {
            store->boundary_seq = 0; /* never flushed: it holds what isn't durable */
        } else {
            finish_rotation(store);
        }
    }
    bool rotated = rotate(store);
    wake_flush_early(store);
    expire_now_and_then(store);
    return n > 0 || crossed || rotated;
}

bool engine_log_idle_step(struct store *store)
{
    uint64_t visible = atomic_load(&store->visible_seq);
    admission_expire(store);
    admission_pump(store);
    if (store->recorded_seq == visible || store->log_next_seq != visible + 1 ||
        atomic_load(&store->poisoned)) {
        return false;
    }
    if (write_frame(store, 0)) {
        store->recorded_seq = visible;
    }
    return true;
}

/* Writes wait for nothing but the time when the next of them may be let in. */
static bool is_slowed(struct store *store)
{
    return slowdown_limit(&store->slowdown) != 0 && atomic_load(&store->n_waiting) > 0;
}

uint64_t engine_log_idle_ms(struct store *store)
{
    bool recorded =
        store->recorded_seq == atomic_load(&store->visible_seq) || atomic_load(&store->poisoned);
    return recorded && atomic_load(&store->n_waiting) == 0 ? UINT64_MAX : ENGINE_LOG_IDLE_MS;
}

void *engine_log_thread(void *arg)
{
    struct store *store = arg;
    for (;;) {
        engine_busy_begin(pulse(store));
        while (engine_log_step(store)) {
        }
        engine_busy_end(pulse(store));
        if (atomic_load(&store->stop_log) &&
            store->log_next_seq == claim_seq(atomic_load(&store->claim))) {
            return NULL;
        }
        bool slowed = is_slowed(store);
        sleeper_wait(&store->log_sleeper, slot_is_ready, store,
                     slowed ? ENGINE_SLOW_MS : engine_log_idle_ms(store));
        if (slot_is_ready(store)) {
            continue;
        }
        if (slowed) {
            admission_expire(store);
            admission_pump(store);
        } else {
            engine_log_idle_step(store);
        }
    }
}
