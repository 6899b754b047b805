/*
 * Admission bounds what is between the request and the disk. Bytes are set aside by one atomic add;
 * only who doesn't get them takes the mutex and queues. Nobody is forgotten: who gives back looks
 * whether somebody waits after a full fence, who queues looks once more for room after one.
 *
 * What is in flight always fits into the rest of the segment that takes the next frame, whatever
 * the gates say and whenever they close: each record costs the segment no more than was set aside
 * for it, so the difference of room and bytes in flight only shrinks by what is admitted, which is
 * checked, and by empty frames. Of those there is at most one for each frame with records, which
 * had it set aside too, and one at a segment's begin. While a rotation waits for its boundary the
 * room is that of the old segment, which is on the safe side; the new one has room for all that may
 * be in flight.
 */
#include <assert.h>
#include <stdlib.h>

#include "store/lsm/commit.h"

enum verdict { ADMIT, WAIT, REFUSE };

static bool try_reserve(struct store *store, uint64_t bytes)
{
    uint64_t inflight = atomic_fetch_add(&store->inflight_bytes, bytes) + bytes;
    /* In this order: the log thread lowers the room before it gives back what it has written. */
    if (inflight <= store->options.max_inflight_bytes &&
        inflight + ENGINE_LOG_SLACK_BYTES <= atomic_load(&store->log_room_bytes)) {
        if (slowdown_limit(&store->slowdown) != 0) {
            slowdown_pay(&store->slowdown, engine_now_us(), bytes);
        }
        return true;
    }
    atomic_fetch_sub(&store->inflight_bytes, bytes);
    return false;
}

/* A full disk leaves the rest of the segment to deletes, which are what frees space. */
static enum verdict judge_without_space(struct store *store, const struct store_write *write,
                                        enum err *ret_err)
{
    if (write->deletes_only && try_reserve(store, write->reserved_bytes)) {
        atomic_store(&store->deletes_waiting, true);
        return ADMIT;
    }
    uint64_t needs = write->reserved_bytes + ENGINE_LOG_SLACK_BYTES;
    if (write->deletes_only && needs <= atomic_load(&store->log_room_bytes) &&
        atomic_load(&store->inflight_bytes) > 0) {
        return WAIT; /* what is in flight may leave room */
    }
    *ret_err = ERR_NO_SPACE;
    return REFUSE;
}

/* Nobody is slowed down for long: where very many come, they stop in the end as if there were no
 * slow-down, and are let in as soon as the compaction is done. */
static bool is_slowed_down(struct store *store, const struct store_write *write)
{
    if (slowdown_limit(&store->slowdown) == 0) {
        return false;
    }
    uint64_t now_us = engine_now_us();
    bool for_long = write->waiting_since_us != 0 &&
                    now_us >= write->waiting_since_us + ENGINE_SLOW_MAX_MS * 1000;
    return !for_long && !slowdown_allows(&store->slowdown, now_us);
}

static enum verdict judge(struct store *store, const struct store_write *write, enum err *ret_err)
{
    if (atomic_load(&store->closing)) {
        *ret_err = ERR_CLOSED;
        return REFUSE;
    }
    if (atomic_load(&store->state) == STORE_READ_ONLY) {
        *ret_err = ERR_READ_ONLY;
        return REFUSE;
    }
    uint64_t gates = atomic_load(&store->gates);
    if (gates & ENGINE_GATE_SPACE) {
        return judge_without_space(store, write, ret_err);
    }
    if (gates != 0) {
        return WAIT;
    }
    if (is_slowed_down(store, write)) {
        return WAIT;
    }
    return try_reserve(store, write->reserved_bytes) ? ADMIT : WAIT;
}

static struct store_write *dequeue(struct store *store)
{
    struct store_write *write = store->waiting_first;
    store->waiting_first = write->next;
    if (!store->waiting_first) {
        store->waiting_last = NULL;
    }
    atomic_fetch_sub(&store->n_waiting, 1);
    return write;
}

static void answer(struct store_write *write, enum err err)
{
    struct store *store = write->store;
    if (write->waiting_since_us != 0) {
        atomic_fetch_add_explicit(&store->counters.stalled_us,
                                  engine_now_us() - write->waiting_since_us, memory_order_relaxed);
    }
    store_write_ready_fn *ready = write->ready;
    void *arg = write->ready_arg;
    if (err != ERR_OK) {
        free(write);
        write = NULL;
    }
    ready(arg, err, write);
}

void admission_pump(struct store *store)
{
    while (atomic_load(&store->n_waiting) > 0) {
        enum err err = ERR_OK;
        pthread_mutex_lock(&store->admission_mutex);
        struct store_write *write = store->waiting_first;
        if (!write || judge(store, write, &err) == WAIT) {
            pthread_mutex_unlock(&store->admission_mutex);
            return;
        }
        dequeue(store);
        pthread_mutex_unlock(&store->admission_mutex);
        answer(write, err);
    }
}

static bool enqueue(struct store *store, struct store_write *write)
{
    pthread_mutex_lock(&store->admission_mutex);
    if (atomic_load(&store->n_waiting) >= ENGINE_WAITING_MAX) {
        pthread_mutex_unlock(&store->admission_mutex);
        return false;
    }
    write->waiting_since_us = engine_now_us();
    if (store->waiting_last) {
        store->waiting_last->next = write;
    } else {
        store->waiting_first = write;
    }
    store->waiting_last = write;
    atomic_fetch_add(&store->n_waiting, 1);
    pthread_mutex_unlock(&store->admission_mutex);
    atomic_fetch_add_explicit(&store->counters.stalls, 1, memory_order_relaxed);
    return true;
}

static struct store_write *write_new(struct store *store, const struct store_write_size *size)
{
    size_t ops = size->ops;
    struct store_write *write =
        calloc(1, sizeof *write + ops * (sizeof write->ops[0] + sizeof write->results[0] +
                                         sizeof write->by_stripe[0]));
    if (!write) {
        return NULL;
    }
    write->store = store;
    write->max_ops = ops;
    write->deletes_only = size->deletes_only;
    write->results = (struct store_op_result *)(write->ops + ops);
    write->by_stripe = (struct op **)(write->results + ops);
    write->reserved_bytes = ops * ENGINE_OP_BYTES + size->bytes + size->bytes / 8192;
    return write;
}

void store_write_new(struct store *store, const struct store_write_size *size,
                     store_write_ready_fn *ready, void *arg)
{
    if (size->ops == 0 || size->ops > STORE_BATCH_MAX_OPS ||
        size->bytes > store->options.max_inflight_bytes) {
        ready(arg, ERR_TOO_LARGE, NULL);
        return;
    }
    struct store_write *write = write_new(store, size);
    if (!write) {
        ready(arg, ERR_NO_MEMORY, NULL);
        return;
    }
    write->ready = ready;
    write->ready_arg = arg;
    if (write->reserved_bytes > store->options.max_inflight_bytes) {
        answer(write, ERR_TOO_LARGE);
        return;
    }
    enum err err = ERR_OK;
    if (atomic_load(&store->n_waiting) == 0 && judge(store, write, &err) != WAIT) {
        answer(write, err);
        return;
    }
    admission_expire(store); /* the log thread, whose work this is, may be in a sync that hangs */
    if (!enqueue(store, write)) {
        answer(write, ERR_BUSY);
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    admission_pump(store);
    /* It ends those that wait too long. The kick, for it may have found nobody waiting and be about
     * to sleep for good. */
    atomic_store(&store->log_kick, true);
    sleeper_wake(&store->log_sleeper);
}

bool admission_extend(struct store_write *write, uint64_t bytes)
{
    if (!try_reserve(write->store, bytes)) {
        /* For a moment our attempt may have stood in the way of one that waits. */
        admission_pump(write->store);
        return false;
    }
    write->reserved_bytes += bytes;
    return true;
}

void admission_give_back(struct store *store, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub(&store->inflight_bytes, bytes);
    assert(before >= bytes);
    atomic_thread_fence(memory_order_seq_cst);
    admission_pump(store);
}

void admission_expire(struct store *store)
{
    uint64_t now_us = engine_now_us();
    admission_pump(store); /* what they waited for may have come while nobody ran */
    for (;;) {
        pthread_mutex_lock(&store->admission_mutex);
        struct store_write *write = store->waiting_first;
        if (!write || now_us < write->waiting_since_us + ENGINE_WAIT_MAX_MS * 1000) {
            pthread_mutex_unlock(&store->admission_mutex);
            return;
        }
        dequeue(store);
        pthread_mutex_unlock(&store->admission_mutex);
        answer(write, ERR_BUSY);
    }
}

void admission_fail_all(struct store *store, enum err err)
{
    for (;;) {
        pthread_mutex_lock(&store->admission_mutex);
        struct store_write *write = store->waiting_first ? dequeue(store) : NULL;
        pthread_mutex_unlock(&store->admission_mutex);
        if (!write) {
            return;
        }
        answer(write, err);
    }
}

void engine_set_gate(struct store *store, enum engine_gate gate, bool closed)
{
    if (!closed && !(atomic_load(&store->gates) & gate)) {
        return; /* the usual case, asked at every step */
    }
    uint64_t before = closed ? atomic_fetch_or(&store->gates, gate)
                             : atomic_fetch_and(&store->gates, ~(uint64_t)gate);
    if (!closed && (before & gate)) {
        admission_pump(store);
    } else if (closed && !(before & gate) && gate == ENGINE_GATE_SPACE) {
        admission_pump(store); /* puts that wait are told that the disk is full */
    }
}
