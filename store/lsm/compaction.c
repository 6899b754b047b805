/* A step begins what is due (a full compaction that was asked for, else the level furthest beyond
 * what it should be) or goes on with what was begun, by a slice. Between slices the thread looks
 * whether the store is closing, sets the gate of level 0, and sleeps off the rate limit, never
 * under a lock. */
#include "store/lsm/compaction.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/compaction_run.h"
#include "store/lsm/space.h"

/* In manual mode slices are small, so that a test can do much between two of them. */
#define SLICE_BYTES        (UINT64_C(1) << 20)
#define MANUAL_SLICE_BYTES (UINT64_C(16) << 10)

#define RETRY_MAX_MS      UINT64_C(16000)
#define READ_ATTEMPTS     3u /* of an input that gives ERR_IO, before it is left alone */
#define PACE_SLEEP_MAX_MS UINT64_C(50)
#define SPEED_KEPT        0.99 /* of what earlier slices say of the speed, at each slice */

/* The compaction thread's own. */
struct compactor {
    struct compaction *running;
    struct flush_request *full; /* requests that the running compaction, a full one, is for */
    struct compaction_damage damage;
    bool blocked;                   /* level 0 is due, but damage is in the way */
    uint64_t unreadable;            /* number of the input that gave ERR_IO last… */
    unsigned unreadable_tries;      /* …so many times in a row */
    uint64_t seen_swaps;            /* counters.view_swaps when there was nothing to do */
    uint64_t retry_ms;              /* not before; 0: at once */
    unsigned failures;              /* in a row */
    uint64_t told;                  /* bits of the errors told since the last success */
    struct pacer pacer;             /* of the given rate */
    double recent_bytes, recent_us; /* done lately, and the time that it took; fades */
};

static struct pulse *pulse(struct store *store)
{
    return &store->pulses[ENGINE_COMPACTION_THREAD];
}

static bool stopping(void *arg)
{
    struct store *store = arg;
    return atomic_load(&store->closing) || atomic_load(&store->stop_background);
}

static struct compactor *compactor_of(struct store *store)
{
    if (!store->compactor) {
        store->compactor = calloc(1, sizeof *store->compactor);
    }
    return store->compactor;
}

/* --- Full compactions that were asked for --- */

void store_compact(struct store *store, store_done_fn *done, void *arg)
{
    engine_request(store, true, done, arg);
}

/* Takes the requests whose writes are all in tables. With `peek` it only says whether there are. */
static struct flush_request *take_requests(struct store *store, uint64_t covered_seq, bool peek)
{
    struct flush_request *taken = NULL;
    pthread_mutex_lock(&store->admission_mutex);
    struct flush_request **link = &store->requests;
    while (*link) {
        struct flush_request *request = *link;
        if (!request->compact || request->target_seq > covered_seq) {
            link = &request->next;
            continue;
        }
        if (peek) {
            taken = request;
            break;
        }
        *link = request->next;
        request->next = taken;
        taken = request;
    }
    pthread_mutex_unlock(&store->admission_mutex);
    return taken;
}

static void complete_requests(struct compactor *compactor, enum err err)
{
    while (compactor->full) {
        struct flush_request *request = compactor->full;
        compactor->full = request->next;
        request->done(request->arg, err);
        free(request);
    }
}

/* --- Failures --- */

static bool note_damage(struct compactor *compactor, uint64_t number)
{
    struct compaction_damage *damage = &compactor->damage;
    for (size_t i = 0; i < damage->n_numbers; i++) {
        if (damage->numbers[i] == number) {
            return true; /* a full compaction was asked for nevertheless */
        }
    }
    uint64_t *grown = realloc(damage->numbers, (damage->n_numbers + 1) * sizeof *grown);
    if (!grown) {
        return false;
    }
    damage->numbers = grown;
    damage->numbers[damage->n_numbers++] = number;
    return true;
}

/* True if `table` is now known as one to leave alone. A read error may pass; it gets some tries. */
static bool give_up_on(struct store *store, struct table *table, enum err err,
                       const struct err_detail *detail)
{
    struct compactor *compactor = store->compactor;
    uint64_t number = table_info(table)->number;
    if (err == ERR_IO) {
        compactor->unreadable_tries =
            compactor->unreadable == number ? compactor->unreadable_tries + 1 : 1;
        compactor->unreadable = number;
    }
    bool hopeless = err == ERR_CORRUPT || err == ERR_FORMAT ||
                    (err == ERR_IO && compactor->unreadable_tries >= READ_ATTEMPTS);
    if (!hopeless || !note_damage(compactor, number)) {
        return false;
    }
    if (table_set_damaged(table)) {
        engine_event(store, STORE_EVENT_TABLE_DAMAGED,
                     "%s (%s); the table is left as it is, see varve check", detail->text,
                     err_text(err));
    }
    return true;
}

static uint64_t retry_delay_ms(unsigned failures)
{
    uint64_t delay_ms = ENGINE_RETRY_MS << (failures < 6 ? failures : 6);
    return delay_ms < RETRY_MAX_MS ? delay_ms : RETRY_MAX_MS;
}

/* Drops what is under way. Returns whether something else may be due at once. */
static bool fail(struct store *store, enum err err, const struct err_detail *detail)
{
    struct compactor *compactor = store->compactor;
    struct table *damaged = compactor->running ? compaction_damaged(compactor->running) : NULL;
    bool full = compactor->running && compaction_pick_of(compactor->running)->full;
    bool left_alone = damaged && give_up_on(store, damaged, err, detail);

    compaction_free(compactor->running);
    compactor->running = NULL;
    space_return(store, err);
    complete_requests(compactor, err);
    if (left_alone || full) {
        compactor->retry_ms = 0;
        return true; /* the one is told, the other answered */
    }
    if (err == ERR_OUTCOME_UNKNOWN || err == ERR_READ_ONLY) {
        return false; /* the manifest's failure was told */
    }
    /* On a full disk it is what brings space, as soon as the deletes for it have come. */
    unsigned failures = atomic_load(&store->no_space) ? 0 : compactor->failures++;
    compactor->retry_ms = engine_now_ms() + retry_delay_ms(failures);
    if (!(compactor->told & UINT64_C(1) << err)) {
        compactor->told |= UINT64_C(1) << err;
        engine_event(store, STORE_EVENT_BACKGROUND_FAILED,
                     "a compaction in %s failed: %s%s%s; nothing is lost, it is tried again",
                     store->dir_path, err_text(err), detail->text[0] ? ": " : "", detail->text);
    }
    return false;
}

static void succeed(struct store *store)
{
    struct compactor *compactor = store->compactor;
    compaction_free(compactor->running);
    compactor->running = NULL;
    compactor->retry_ms = 0;
    compactor->failures = 0;
    compactor->told = 0;
    compactor->unreadable = 0;
    space_return(store, ERR_OK);
    complete_requests(compactor, ERR_OK);
}

/* --- Steps --- */

static uint64_t speed(const struct compactor *compactor)
{
    return compactor->recent_us > 0
               ? (uint64_t)(compactor->recent_bytes * 1e6 / compactor->recent_us)
               : 0;
}

static void note_speed(struct compactor *compactor, uint64_t bytes, uint64_t took_us)
{
    compactor->recent_bytes = compactor->recent_bytes * SPEED_KEPT + (double)bytes;
    compactor->recent_us = compactor->recent_us * SPEED_KEPT + (double)took_us;
}

/* What can still be written before level 0 is too long. */
static uint64_t room_bytes(const struct store *store, const struct view *view)
{
    uint64_t tables = ENGINE_LEVEL0_STOP - view->levels[0].n_tables;
    uint64_t room = tables * store->options.memtable_bytes, taken = memtable_bytes(view->active);
    for (size_t i = 0; i < view->n_sealed; i++) {
        taken += memtable_bytes(view->sealed[i]);
    }
    return room > taken ? room - taken : 0;
}

/* What compaction has to do before level 0 gets shorter. */
static uint64_t work_bytes(const struct store *store, const struct view *view)
{
    const struct compaction *running = store->compactor->running;
    uint64_t left = running ? compaction_bytes_left(running) : 0;
    if (running && (compaction_pick_of(running)->full || compaction_pick_of(running)->level == 0)) {
        return left;
    }
    struct compaction_shape shape;
    compaction_shape_of(view, store->options.memtable_bytes, &shape);
    return left + COMPACTION_PASSES * (compaction_bytes_before_level0(view, &shape) +
                                       shape.level_bytes[0] + shape.level_bytes[shape.base_level]);
}

static uint64_t write_limit(const struct store *store, const struct view *view)
{
    size_t n = view->levels[0].n_tables;
    if (n < ENGINE_LEVEL0_SLOW || n >= ENGINE_LEVEL0_STOP || store->compactor->blocked ||
        store->options.manual) {
        return 0;
    }
    const struct slowdown_outlook outlook = {
        .room_bytes = room_bytes(store, view) / 2, /* what comes now is the next one's work */
        .work_bytes = work_bytes(store, view),
        .bytes_a_second = speed(store->compactor),
        .least_a_second = store->options.memtable_bytes / 64,
    };
    return slowdown_rate(&outlook);
}

/* Writes are slowed down while level 0 is long, and wait when it is too long, unless damage keeps
 * it so for ever. */
static void set_gate(struct store *store)
{
    rcu_door_lock();
    const struct view *view = atomic_load(&store->view);
    bool closed = view->levels[0].n_tables >= ENGINE_LEVEL0_STOP && !store->compactor->blocked;
    slowdown_set(&store->slowdown, engine_now_us(), write_limit(store, view));
    rcu_door_unlock();
    bool was_closed = atomic_load(&store->gates) & ENGINE_GATE_LEVEL0;
    if (closed != was_closed) {
        engine_set_gate(store, ENGINE_GATE_LEVEL0, closed);
        atomic_fetch_add_explicit(&store->counters.level0_stops, closed, memory_order_relaxed);
    }
}

static enum err pick(struct store *store, const struct view *view, struct compaction_pick *ret_pick,
                     uint64_t *ret_table_bytes, bool *ret_found)
{
    struct compactor *compactor = store->compactor;
    struct compaction_shape shape;
    compaction_shape_of(view, store->options.memtable_bytes, &shape);
    *ret_table_bytes = shape.table_bytes;
    atomic_store_explicit(&store->counters.compaction_debt_bytes, shape.debt_bytes,
                          memory_order_relaxed);
    if (atomic_load(&store->no_space)) {
        shape.level0_due = 1; /* it may have the deletes that bring space */
    }
    if (!compactor->full) {
        compactor->full = take_requests(store, view->covered_seq, false);
    }
    if (compactor->full) {
        return compaction_pick_full(view, ret_pick, ret_found);
    }
    enum err err = compaction_pick_due(view, &shape, &compactor->damage, ret_pick, ret_found,
                                       &compactor->blocked);
    if (err == ERR_OK && *ret_found) {
        ret_pick->in_steps = atomic_load(&store->no_space);
    }
    return err;
}

/* Begins what is due. False: nothing is. */
static bool begin(struct store *store)
{
    struct compactor *compactor = store->compactor;
    struct err_detail detail = {""};
    struct compaction_pick picked;
    uint64_t table_bytes;
    bool found = false;

    uint64_t swaps = atomic_load(&store->counters.view_swaps);
    struct view *view = engine_view_acquire(store);
    enum err err = pick(store, view, &picked, &table_bytes, &found);
    view_release(view);
    if (err == ERR_OK && found && !picked.move && !space_borrow(store)) {
        compaction_pick_release(&picked, store);
        compactor->retry_ms = engine_now_ms() + ENGINE_RETRY_MS; /* or as soon as it is lent */
        return false;
    }
    if (err == ERR_OK && found) {
        err = compaction_new(store, &picked, table_bytes, &compactor->running);
        if (err != ERR_OK) {
            compaction_pick_release(&picked, store);
        }
    }
    if (err != ERR_OK) {
        return fail(store, err, &detail);
    }
    if (!found) {
        compactor->seen_swaps = swaps;
        compactor->retry_ms = 0; /* what failed isn't due any more */
        space_return(store, ERR_OK);
        bool answered = compactor->full != NULL;
        complete_requests(compactor, ERR_OK); /* there was nothing to do for them */
        return answered;
    }
    return true;
}

/* Sleeps as long as the given rate asks for. */
static void pace(struct store *store, uint64_t bytes)
{
    struct compactor *compactor = store->compactor;
    uint64_t rate = store->options.compaction_rate;
    if (rate == 0 || store->options.manual) {
        return;
    }
    uint64_t now_us = engine_now_us();
    uint64_t until_us = pacer_book(&compactor->pacer, rate, bytes, now_us);
    while (until_us > now_us && !stopping(store)) {
        uint64_t wait_ms = (until_us - now_us) / 1000 + 1;
        sleeper_wait(&store->compaction_sleeper, stopping, store,
                     wait_ms < PACE_SLEEP_MAX_MS ? wait_ms : PACE_SLEEP_MAX_MS);
        now_us = engine_now_us();
    }
}

/* Small beside a memtable too, so that the gate is looked at while one fills. */
static uint64_t slice_bytes_of(const struct store_options *options)
{
    uint64_t quarter = options->memtable_bytes / 4;
    if (options->manual) {
        return MANUAL_SLICE_BYTES;
    }
    return quarter < SLICE_BYTES ? quarter : SLICE_BYTES;
}

static bool go_on(struct store *store)
{
    struct compactor *compactor = store->compactor;
    struct err_detail detail = {""};
    uint64_t slice_bytes = slice_bytes_of(&store->options);
    uint64_t before_bytes = compaction_bytes(compactor->running), before_us = engine_now_us();
    bool done = false;

    enum err err = compaction_work(compactor->running, slice_bytes, &done, &detail);
    uint64_t bytes = compaction_bytes(compactor->running) - before_bytes;
    if (err == ERR_OK && done) {
        err = compaction_install(compactor->running);
        if (err == ERR_OK) {
            succeed(store);
        }
    }
    if (err != ERR_OK) {
        return fail(store, err, &detail);
    }
    pace(store, bytes);
    note_speed(compactor, bytes, engine_now_us() - before_us);
    return true;
}

static void drop_all(struct store *store, enum err err)
{
    struct compactor *compactor = store->compactor;
    compaction_free(compactor->running);
    compactor->running = NULL;
    space_return(store, err);
    complete_requests(compactor, err);
}

bool engine_compaction_step(struct store *store)
{
    struct compactor *compactor = compactor_of(store);
    if (!compactor) {
        return false;
    }
    if (stopping(store)) {
        drop_all(store, ERR_CLOSED);
        return false;
    }
    if (atomic_load(&store->state) == STORE_READ_ONLY) {
        drop_all(store, ERR_READ_ONLY);
        return false;
    }
    set_gate(store);
    if (compactor->running) {
        engine_io_begin(pulse(store));
        bool more = go_on(store);
        engine_io_end(pulse(store));
        return more;
    }
    if (compactor->retry_ms > engine_now_ms() && !store->options.manual &&
        atomic_load(&store->loan) != SPACE_LENT) {
        return false;
    }
    return begin(store);
}

void engine_compaction_close(struct store *store)
{
    struct compactor *compactor = store->compactor;
    if (!compactor) {
        return;
    }
    drop_all(store, ERR_CLOSED);
    free(compactor->damage.numbers);
    free(compactor);
    store->compactor = NULL;
}

/* --- Thread --- */

static bool has_work(void *arg)
{
    struct store *store = arg;
    struct compactor *compactor = store->compactor;
    if (stopping(store)) {
        return true;
    }
    if (!compactor || atomic_load(&store->state) == STORE_READ_ONLY) {
        return false;
    }
    if (compactor->retry_ms != 0) {
        return engine_now_ms() >= compactor->retry_ms || atomic_load(&store->loan) == SPACE_LENT;
    }
    if (atomic_load(&store->counters.view_swaps) != compactor->seen_swaps) {
        return true;
    }
    rcu_door_lock();
    uint64_t covered_seq = atomic_load(&store->view)->covered_seq;
    rcu_door_unlock();
    return take_requests(store, covered_seq, true) != NULL;
}

static uint64_t sleep_ms(const struct store *store)
{
    const struct compactor *compactor = store->compactor;
    if (!compactor) {
        return ENGINE_RETRY_MS; /* there was no memory */
    }
    if (compactor->retry_ms == 0 || atomic_load(&store->state) == STORE_READ_ONLY) {
        return UINT64_MAX;
    }
    uint64_t now_ms = engine_now_ms();
    return compactor->retry_ms > now_ms ? compactor->retry_ms - now_ms : 0;
}

void *engine_compaction_thread(void *arg)
{
    struct store *store = arg;
    while (!stopping(store)) {
        engine_busy_begin(pulse(store));
        while (!stopping(store) && engine_compaction_step(store)) {
        }
        engine_busy_end(pulse(store));
        if (!stopping(store)) {
            sleeper_wait(&store->compaction_sleeper, has_work, store, sleep_ms(store));
        }
    }
    return NULL;
}
