/*
 * The side of the commit pipeline that runs on the caller's thread. Ordering, by number:
 *
 *   1. A version's node is linked (release) before its stripe is unlocked: whoever locks the stripe
 * next finds it.
 *   2. A slot is set (release) after its node is linked: when the log thread publishes visible_seq,
 * every version up to it is in the memtable.
 *   3. A claim succeeds only on the generation of the memtable that the positions were found in;
 * the section was entered before the view was loaded, so that memtable is alive.
 *   4. After the last slot of a write is set, the write belongs to the log thread: nothing of it is
 *      touched any more.
 */
#include "store/lsm/commit.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>

/* Lets a test without threads do something else in between (engine.h). */
static inline void stop(struct store_write *write, enum engine_stop at)
{
    if (__builtin_expect(write->store->on_stop != NULL, 0)) {
        write->store->on_stop(write, at);
    }
}

void commit_complete(struct store_write *write, enum err err)
{
    struct store *store = write->store;
    struct store_written written = {.n_ops = write->n_ops,
                                    .ops = write->results,
                                    .condition_failed = write->condition_failed,
                                    .failed_op = write->failed_op};
    write->done(write->done_arg, err, &written);
    store_write_abort(write);
    if (err == ERR_OK) {
        atomic_fetch_add_explicit(&store->counters.writes, 1, memory_order_relaxed);
    }
}

/* --- Waiting rule
 * --------------------------------------------------------------------------------- */

void commit_drain_waiters(struct store *store)
{
    struct store_write *ready = NULL;
    struct store_write **link = &store->waiters;
    pthread_mutex_lock(&store->waiters_mutex);
    uint64_t visible = atomic_load(&store->visible_seq);
    bool poisoned = atomic_load(&store->poisoned);
    while (*link) {
        struct store_write *write = *link;
        if (write->wait_seq <= visible || poisoned) {
            *link = write->next;
            write->next = ready;
            ready = write;
            atomic_fetch_sub(&store->n_waiters, 1);
        } else {
            link = &write->next;
        }
    }
    pthread_mutex_unlock(&store->waiters_mutex);
    while (ready) {
        struct store_write *write = ready;
        ready = write->next;
        commit_complete(write, write->wait_seq <= visible ? ERR_OK : ERR_OUTCOME_UNKNOWN);
    }
}

/* Completes a write that made no record once everything it met is durable. */
static void complete_when_durable(struct store_write *write)
{
    struct store *store = write->store;
    if (write->wait_seq <= atomic_load(&store->visible_seq)) {
        commit_complete(write, ERR_OK);
        return;
    }
    uint64_t wait_seq = write->wait_seq;
    pthread_mutex_lock(&store->waiters_mutex);
    write->next = store->waiters;
    store->waiters = write;
    atomic_fetch_add(&store->n_waiters, 1);
    pthread_mutex_unlock(&store->waiters_mutex);
    atomic_thread_fence(memory_order_seq_cst);
    if (wait_seq <= atomic_load(&store->visible_seq) || atomic_load(&store->poisoned)) {
        commit_drain_waiters(store);
    }
}

/* --- Step 2: checksums, order of stripes
 * ---------------------------------------------------------- */

static int compare_ops(const void *a, const void *b)
{
    const struct op *left = *(struct op *const *)a, *right = *(struct op *const *)b;
    if (op_stripe(left) != op_stripe(right)) {
        return op_stripe(left) < op_stripe(right) ? -1 : 1;
    }
    return bytes_compare(record_key(left->node->record), record_key(right->node->record));
}

/* The time is that of the commit: bodies may take long to come, and meanwhile others read what is
 * there, at a time that must not be after this version's. */
static enum err prepare(struct store_write *write)
{
    uint64_t modified_ms = engine_wall_ms();
    for (size_t i = 0; i < write->n_ops; i++) {
        struct op *op = &write->ops[i];
        if (op->node->record->kind == RECORD_PUT) {
            record_set_modified(op->node->record, modified_ms);
        }
        op->payload_checksum = record_payload_checksum(op->node->record);
        write->by_stripe[i] = op;
    }
    if (write->n_ops == 1) {
        return ERR_OK;
    }
    qsort(write->by_stripe, write->n_ops, sizeof write->by_stripe[0], compare_ops);
    for (size_t i = 1; i < write->n_ops; i++) {
        if (compare_ops(&write->by_stripe[i - 1], &write->by_stripe[i]) == 0) {
            return ERR_INVALID;
        }
    }
    return ERR_OK;
}

/* --- Step 3: tables first, without a lock
 * --------------------------------------------------------- */

static enum err look_for_one(struct store *store, const struct view *view, struct op *op)
{
    struct bytes key = record_key(op->node->record);
    struct view_hit hit;
    view_find_in_memtables(view, key, UINT64_MAX, &hit);
    if (hit.record) {
        return ERR_OK; /* tables are older; when this one gets flushed, covered_seq changes */
    }
    op->in_tables = (struct op_met){0};
    enum err err = view_find_in_tables(view, key, TABLE_HEAD, &hit);
    if (err == ERR_OK && hit.record) {
        struct store_entry entry;
        enum record_kind kind;
        err = engine_describe(store, &hit, &entry, &kind);
        if (err == ERR_OK) {
            op->in_tables = (struct op_met){.seq = entry.version.number,
                                            .modified_ms = entry.modified_ms,
                                            .marker = kind == RECORD_DELETE};
        }
    }
    if (err != ERR_OK) {
        engine_table_failed(store, hit.table, err);
    }
    return err;
}

static enum err look_into_tables(struct store_write *write)
{
    enum err err = ERR_OK;
    rcu_door_lock();
    const struct view *view = atomic_load_explicit(&write->store->view, memory_order_acquire);
    write->covered_seq = view->covered_seq;
    for (size_t i = 0; i < write->n_ops && err == ERR_OK; i++) {
        err = look_for_one(write->store, view, &write->ops[i]);
    }
    rcu_door_unlock();
    stop(write, ENGINE_STOP_LOOKED);
    return err;
}

static void lock_stripes(struct store_write *write)
{
    for (size_t i = 0; i < write->n_ops; i++) {
        size_t stripe = op_stripe(write->by_stripe[i]);
        if (i == 0 || stripe != op_stripe(write->by_stripe[i - 1])) {
            pthread_mutex_lock(&write->store->stripes[stripe]);
        }
    }
}

static void unlock_stripes(struct store_write *write)
{
    for (size_t i = write->n_ops; i-- > 0;) {
        size_t stripe = op_stripe(write->by_stripe[i]);
        if (i == 0 || stripe != op_stripe(write->by_stripe[i - 1])) {
            pthread_mutex_unlock(&write->store->stripes[stripe]);
        }
    }
}

/* --- Steps 4 and 5: memory, positions, conditions; in a read section, under the stripes
 * ------------ */

/* The newest claimed version of the operation's key, visible or not. */
static struct op_met meet(const struct view *view, const struct op *op)
{
    struct view_hit hit;
    view_find_in_memtables(view, record_key(op->node->record), UINT64_MAX, &hit);
    if (!hit.record) {
        return op->in_tables;
    }
    struct record_meta meta;
    record_meta_get(hit.record, &meta);
    return (struct op_met){.seq = hit.record->seq,
                           .modified_ms = meta.modified_ms,
                           .marker = hit.record->kind == RECORD_DELETE};
}

/* Decides the whole write. *ret_n is how many records it will make; 0 if a condition failed. */
static void decide(struct store_write *write, const struct view *view, size_t *ret_n)
{
    size_t n = 0;
    struct op *last = NULL;
    write->wait_seq = 0;
    write->condition_failed = false;
    for (size_t i = 0; i < write->n_ops; i++) {
        struct op *op = &write->ops[i];
        struct op_met met = meet(view, op);
        if (met.seq > write->wait_seq) {
            write->wait_seq = met.seq;
        }
        struct store_current *before = &write->results[i].before;
        *before = (struct store_current){.exists = met.seq != 0 && !met.marker};
        if (before->exists) {
            before->version = (struct store_version){write->store->epoch, met.seq};
            before->modified_ms = met.modified_ms;
        }
        if (op->condition && !op->condition(op->condition_arg, before)) {
            write->condition_failed = true;
            write->failed_op = i;
            *ret_n = 0;
            return;
        }
        op->skipped = op->node->record->kind == RECORD_DELETE && !before->exists;
        op->last = false;
        if (!op->skipped) {
            n++;
            last = op;
        }
    }
    if (last) {
        last->last = true;
    }
    *ret_n = n;
}

/* Whatever may fail is done here: after this the write can only succeed or be told to start over.
 */
static enum err prepare_memtable(struct store_write *write, struct memtable *memtable)
{
    for (size_t i = 0; i < write->n_ops; i++) {
        struct op *op = &write->ops[i];
        if (op->skipped) {
            continue;
        }
        enum err err = memtable_adopt(memtable, op->node);
        if (err != ERR_OK) {
            return err;
        }
        memtable_find_position(memtable, record_key(op->node->record), &op->position);
    }
    return ERR_OK;
}

/* --- Steps 6 to 8: claim, insert, hand over
 * ------------------------------------------------------- */

/* Claims `n` numbers for the memtable of `generation`; false if that one was sealed. */
static bool claim(struct store *store, uint64_t generation, size_t n, uint64_t *ret_first)
{
    uint64_t word = atomic_load_explicit(&store->claim, memory_order_acquire);
    for (;;) {
        if (claim_generation(word) != (generation & 0xFFFF)) {
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&store->claim, &word, word + n,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            *ret_first = claim_seq(word);
            return true;
        }
        atomic_fetch_add_explicit(&store->counters.claim_retries, 1, memory_order_relaxed);
    }
}

static void insert(struct store_write *write, struct memtable *memtable, uint64_t seq)
{
    for (size_t i = 0; i < write->n_ops; i++) {
        struct op *op = &write->ops[i];
        if (op->skipped) {
            continue;
        }
        write->results[i].version = (struct store_version){write->store->epoch, seq};
        record_seal(op->node->record, op->payload_checksum, seq++,
                    op->last ? RECORD_LAST_OF_BATCH : 0);
        memtable_insert(memtable, op->node, &op->position);
    }
}

/* Sets the slots, the first one last: where the log thread finds it, it finds the others, and
 * needn't look again and again for the rest of a batch. With it the write is the log thread's. */
static void hand_over(struct store *store, struct store_write *write, uint64_t first, size_t n)
{
    struct op *op = write->ops + write->n_ops;
    while (n > 0) {
        op--;
        if (!op->skipped) {
            n--;
            atomic_store_explicit(&store->ring[(first + n) & store->ring_mask], op,
                                  memory_order_release);
        }
    }
    sleeper_wake(&store->log_sleeper);
}

enum attempt { HANDED_OVER, NOTHING_TO_WRITE, TABLES_CHANGED, ROTATED, FAILED };

/* One pass over steps 4 to 8, with the stripes locked; they are unlocked on HANDED_OVER and
 * NOTHING_TO_WRITE. */
static enum attempt attempt(struct store_write *write, enum err *ret_err)
{
    struct store *store = write->store;
    const struct view *view = atomic_load_explicit(&store->view, memory_order_acquire);
    if (view->covered_seq != write->covered_seq) {
        return TABLES_CHANGED;
    }
    size_t n;
    decide(write, view, &n);
    stop(write, ENGINE_STOP_DECIDED);
    if (n == 0) {
        unlock_stripes(write);
        return NOTHING_TO_WRITE;
    }
    *ret_err = prepare_memtable(write, view->active);
    if (*ret_err == ERR_OK && atomic_load(&store->state) == STORE_READ_ONLY) {
        *ret_err = ERR_READ_ONLY;
    }
    if (*ret_err != ERR_OK) {
        return FAILED;
    }
    uint64_t first;
    if (!claim(store, memtable_generation(view->active), n, &first)) {
        return ROTATED;
    }
    stop(write, ENGINE_STOP_CLAIMED);
    insert(write, view->active, first);
    unlock_stripes(write);
    stop(write, ENGINE_STOP_INSERTED);
    hand_over(store, write, first, n);
    return HANDED_OVER;
}

static void run(struct store_write *write)
{
    enum err err = look_into_tables(write);
    if (err != ERR_OK) {
        commit_complete(write, err);
        return;
    }
    lock_stripes(write);
    for (unsigned rounds = 0;;) {
        rcu_door_lock();
        enum attempt result = attempt(write, &err);
        rcu_door_unlock();
        switch (result) {
        case HANDED_OVER:
            return;
        case NOTHING_TO_WRITE:
            complete_when_durable(write);
            return;
        case ROTATED:
            sched_yield(); /* the log thread is about to publish the view of the new memtable */
            continue;
        case TABLES_CHANGED:
            /* Look again without the lock, so that nobody waits behind a cold page; but not for
             * ever. */
            if (rounds++ < 3) {
                unlock_stripes(write);
                err = look_into_tables(write);
                lock_stripes(write);
            } else {
                err = look_into_tables(write);
            }
            if (err == ERR_OK) {
                continue;
            }
            break;
        case FAILED:
            break;
        }
        unlock_stripes(write);
        commit_complete(write, err);
        return;
    }
}

void store_write_commit(struct store_write *write, store_write_done_fn *done, void *arg)
{
    write->done = done;
    write->done_arg = arg;
    enum err err = write->n_ops == 0 ? ERR_INVALID : prepare(write);
    if (err != ERR_OK) {
        commit_complete(write, err);
        return;
    }
    run(write);
}
