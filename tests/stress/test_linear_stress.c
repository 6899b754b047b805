/*
 * Threads that write, delete, read and scan the same few keys of one engine at once, in batches and
 * under conditions, while the disk is slow and then loses power: there is one order that explains
 * everything that they were told. A batch and a scan take effect at one moment each.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/lsm/engine.h"
#include "store/store_sync.h"
#include "tests/support/alloc.h"
#include "tests/support/check.h"
#include "tests/support/linear.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

enum {
    KEYS = 4,
    THREADS_MIN = 4,
    THREADS_MAX = 8,
    LIVES_MAX = 3,  /* of the engine in one history */
    OPS_LEAST = 40, /* of one life; up to OPS_LEAST + OPS_MORE */
    OPS_MORE = 160,
    SMALL_BYTES = 60,
    LARGE_BYTES = 6000,
    LAST_READS = 3, /* of a thread whose write had no answer */
};

struct history;

struct worker {
    pthread_t thread;
    struct history *history;
    unsigned number;
    struct prng prng;
};

struct history {
    struct linear_history *linear;
    struct vfs_mem *fs;
    struct store *store;
    unsigned n_threads;
    unsigned sync_us; /* a sync takes up to so long */
    bool crashes;     /* lives end by a loss of power; else the threads end by themselves */
    bool large;
    struct worker workers[THREADS_MAX + 1]; /* the last is the test's thread */
    _Atomic uint64_t tags[KEYS];            /* the last that anyone was told */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    uint64_t begun, limit; /* operations of this life */
};

/* --- The disk --- */

/* A sync takes its time: that is when others meet what isn't durable yet. */
static struct vfs_mem_verdict slow_sync(void *arg, const struct vfs_mem_call *call)
{
    const struct history *history = arg;
    if (call->op == VFS_MEM_SYNC && history->sync_us > 0) {
        uint64_t us = scramble64(call->number) % history->sync_us;
        struct timespec time = {.tv_nsec = (long)us * 1000};
        (void)nanosleep(&time, NULL);
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void start_engine(struct history *history)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    vfs_mem_set_hook(history->fs, slow_sync, history);
    options.dir = "linear";
    options.vfs = vfs_mem_vfs(history->fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = LARGE_BYTES + PATTERN_VERSION_BYTES;
    options.max_inflight_bytes = UINT64_C(512) << 10;
    assert_ok(store_open(&options, &history->store, &detail));
}

/* The power is back: some of what wasn't synced is there, and some isn't. */
static void restore_disk(struct history *history, uint64_t seed)
{
    struct vfs_mem *after = vfs_mem_crash_clone(history->fs, MEM_KEEP_RANDOM, seed);
    vfs_mem_free(history->fs);
    history->fs = after;
}

/* --- Keys, tags --- */

static struct bytes key_name(unsigned key, char text[8])
{
    return bytes_of(text, (size_t)snprintf(text, 8, "key/%u", key));
}

static void read_current(struct history *history, struct linear_step *step,
                         const struct store_current *current)
{
    step->met = current->exists ? LINEAR_PRESENT : LINEAR_ABSENT;
    if (current->exists) {
        step->met_tag = current->version.number;
        atomic_store(&history->tags[step->key], step->met_tag);
    }
}

/* --- Writes --- */

struct waiter {
    struct history *history;
    struct linear_step steps[KEYS];
    bool refused;
    size_t failed;
    enum err err;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t cond;
};

static bool condition_holds(void *arg, const struct store_current *current)
{
    const struct linear_step *step = arg;
    switch (step->condition) {
    case LINEAR_ALWAYS:
        return true;
    case LINEAR_IF_ABSENT:
        return !current->exists;
    case LINEAR_IF_PRESENT:
        return current->exists;
    case LINEAR_IF_MATCH:
        return current->exists && current->version.number == step->tag;
    }
    abort();
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct waiter *waiter = arg;
    pthread_mutex_lock(&waiter->lock);
    if (err == ERR_OK) {
        waiter->refused = written->condition_failed;
        waiter->failed = written->failed_op;
        size_t n = waiter->refused ? waiter->failed + 1 : written->n_ops;
        for (size_t i = 0; i < n; i++) {
            struct linear_step *step = &waiter->steps[i];
            read_current(waiter->history, step, &written->ops[i].before);
            if (!waiter->refused && step->effect == LINEAR_PUT) {
                step->made_tag = written->ops[i].version.number;
                atomic_store(&waiter->history->tags[step->key], step->made_tag);
            }
        }
    }
    waiter->err = err;
    waiter->done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->lock);
}

static void commit_and_wait(struct store_write *write, struct waiter *waiter)
{
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->cond, NULL);
    store_write_commit(write, on_written, waiter);
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done) {
        pthread_cond_wait(&waiter->cond, &waiter->lock);
    }
    pthread_mutex_unlock(&waiter->lock);
    pthread_cond_destroy(&waiter->cond);
    pthread_mutex_destroy(&waiter->lock);
}

static void add_step(struct worker *worker, struct store_write *write, struct linear_step *step)
{
    char text[8];
    struct bytes name = key_name(step->key, text);
    if (step->effect == LINEAR_DELETE) {
        assert(store_write_delete(write, name) == ERR_OK);
    } else {
        bool large = worker->history->large && prng_chance(&worker->prng, 50);
        size_t size = PATTERN_VERSION_BYTES +
                      (size_t)prng_below(&worker->prng, large ? LARGE_BYTES : SMALL_BYTES);
        struct store_put put = {.key = name, .value_bytes = size};
        void *value;
        assert(store_write_put(write, &put, &value) == ERR_OK);
        pattern_fill(name, step->value, value, size);
    }
    store_write_condition(write, condition_holds, step);
}

static void draw_step(struct worker *worker, unsigned key, struct linear_step *ret_step)
{
    struct history *history = worker->history;
    bool deletes = prng_chance(&worker->prng, 30);
    uint64_t dice = prng_below(&worker->prng, 100);
    *ret_step = (struct linear_step){.key = key, .effect = deletes ? LINEAR_DELETE : LINEAR_PUT};
    if (!deletes) {
        ret_step->value = linear_value(history->linear);
    }
    if (dice < 20) {
        ret_step->tag = atomic_load(&history->tags[key]);
        ret_step->condition = ret_step->tag != 0 ? LINEAR_IF_MATCH : LINEAR_IF_ABSENT;
    } else if (dice < 30) {
        ret_step->condition = LINEAR_IF_ABSENT;
    } else if (dice < 35) {
        ret_step->condition = LINEAR_IF_PRESENT;
    }
}

/* False: the store takes no more writes. */
static bool write_once(struct worker *worker)
{
    struct history *history = worker->history;
    size_t n = prng_chance(&worker->prng, 50) ? 1 : 1 + (size_t)prng_below(&worker->prng, KEYS);
    unsigned first = (unsigned)prng_below(&worker->prng, KEYS);
    struct waiter waiter = {.history = history};
    struct store_write *write;
    struct store_write_size asked = {.ops = n, .bytes = n * (LARGE_BYTES + 64)};
    if (store_write_new_sync(history->store, &asked, &write) != ERR_OK) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        draw_step(worker, (first + (unsigned)i) % KEYS, &waiter.steps[i]);
        add_step(worker, write, &waiter.steps[i]);
    }
    size_t op = linear_call(history->linear, worker->number, waiter.steps, n);
    commit_and_wait(write, &waiter);
    if (waiter.err == ERR_OK && waiter.refused) {
        linear_failed(history->linear, op, waiter.steps, waiter.failed);
    } else if (waiter.err == ERR_OK) {
        linear_done(history->linear, op, waiter.steps);
    } else if (waiter.err != ERR_OUTCOME_UNKNOWN) {
        linear_forget(history->linear, op);
    }
    return waiter.err == ERR_OK;
}

/* --- Reads --- */

static void read_entry(struct history *history, struct linear_step *step,
                       const struct store_entry *entry)
{
    char text[8];
    uint64_t value;
    read_current(history, step, &(struct store_current){.exists = true, .version = entry->version});
    assert(pattern_version(key_name(step->key, text), entry->value, &value));
    step->met_value = (uint32_t)value;
}

static void get_once(struct worker *worker, unsigned key)
{
    struct history *history = worker->history;
    struct linear_step step = {.key = key};
    struct store_entry entry;
    bool found;
    char text[8];
    size_t op = linear_call(history->linear, worker->number, &step, 1);
    if (store_get_sync(history->store, key_name(key, text), &found, &entry) != ERR_OK) {
        linear_forget(history->linear, op); /* of a table, without power */
        return;
    }
    step.met = LINEAR_ABSENT;
    if (found) {
        read_entry(history, &step, &entry);
        store_entry_release(&entry);
    }
    linear_done(history->linear, op, &step);
}

struct walk {
    struct history *history;
    struct linear_step steps[KEYS];
    bool whole;
};

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    struct walk *walk = arg;
    unsigned key = ((const unsigned char *)entry->key.data)[entry->key.size - 1] - '0';
    assert(key < KEYS && walk->steps[key].met == LINEAR_ABSENT);
    read_entry(walk->history, &walk->steps[key], entry);
    return true;
}

static void on_scan_end(void *arg, enum err err, bool at_end)
{
    ((struct walk *)arg)->whole = err == ERR_OK && at_end;
}

static void scan_once(struct worker *worker)
{
    struct history *history = worker->history;
    struct walk walk = {.history = history};
    struct store_range range = {.reverse = prng_chance(&worker->prng, 50)};
    struct store_scan *scan;
    for (unsigned key = 0; key < KEYS; key++) {
        walk.steps[key] = (struct linear_step){.key = key, .met = LINEAR_ABSENT};
    }
    size_t op = linear_call(history->linear, worker->number, walk.steps, KEYS);
    assert(store_scan_new(history->store, &range, &scan) == ERR_OK);
    store_scan_run(scan, on_scanned, on_scan_end, &walk);
    store_scan_free(scan);
    if (walk.whole) {
        linear_done(history->linear, op, walk.steps);
    } else {
        linear_forget(history->linear, op);
    }
}

/* --- Threads --- */

static bool begin_op(struct history *history)
{
    pthread_mutex_lock(&history->lock);
    history->begun++;
    bool goes_on = history->crashes || history->begun <= history->limit;
    pthread_cond_signal(&history->changed);
    pthread_mutex_unlock(&history->lock);
    return goes_on;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct store *store = worker->history->store;
    bool writable = true;
    while (writable && begin_op(worker->history)) {
        uint64_t dice = prng_below(&worker->prng, 100);
        if (dice < 60) {
            writable = write_once(worker);
        } else if (dice < 85) {
            get_once(worker, (unsigned)prng_below(&worker->prng, KEYS));
        } else if (dice < 97) {
            scan_once(worker);
        } else if (dice < 99) {
            writable = store_flush_sync(store) == ERR_OK;
        } else {
            writable = store_compact_sync(store) == ERR_OK;
        }
    }
    for (unsigned i = 0; i < LAST_READS; i++) {
        get_once(worker, (unsigned)prng_below(&worker->prng, KEYS));
    }
    return NULL;
}

/* The engine from its start to its end. */
static void live(struct history *history, struct prng *prng)
{
    start_engine(history);
    history->begun = 0;
    history->limit = OPS_LEAST + prng_below(prng, OPS_MORE);
    for (unsigned i = 0; i < history->n_threads; i++) {
        struct worker *worker = &history->workers[i];
        assert_int_equal(pthread_create(&worker->thread, NULL, work, worker), 0);
    }
    if (history->crashes) {
        pthread_mutex_lock(&history->lock);
        while (history->begun < history->limit) {
            pthread_cond_wait(&history->changed, &history->lock);
        }
        pthread_mutex_unlock(&history->lock);
        vfs_mem_crash(history->fs);
    }
    for (unsigned i = 0; i < history->n_threads; i++) {
        pthread_join(history->workers[i].thread, NULL);
    }
    store_close(history->store);
    linear_down(history->linear);
    if (history->crashes) {
        restore_disk(history, prng_next(prng));
    }
}

/* --- Histories --- */

/* VARVE_TEST_HISTORIES overrides. */
static unsigned histories_wanted(void)
{
    const char *text = getenv("VARVE_TEST_HISTORIES");
#ifdef VARVE_SANITIZED
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 20;
#else
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 100;
#endif
}

static void make_history(unsigned number, struct prng *prng, struct linear_worth *worth,
                         unsigned *crashes)
{
    struct history *history = test_alloc(sizeof *history);
    history->linear = linear_new();
    history->fs = vfs_mem_new(prng_next(prng));
    history->n_threads = THREADS_MIN + (unsigned)prng_below(prng, THREADS_MAX - THREADS_MIN + 1);
    history->crashes = number % 4 != 3;
    history->sync_us = number % 2 == 0 ? 400 : 0;
    history->large = prng_chance(prng, 50);
    pthread_mutex_init(&history->lock, NULL);
    pthread_cond_init(&history->changed, NULL);
    for (unsigned i = 0; i <= THREADS_MAX; i++) {
        history->workers[i].history = history;
        history->workers[i].number = i;
        prng_init(&history->workers[i].prng, prng_next(prng));
    }
    unsigned lives = 1 + (unsigned)prng_below(prng, LIVES_MAX);
    for (unsigned i = 0; i < lives; i++) {
        live(history, prng);
    }
    start_engine(history);
    scan_once(&history->workers[THREADS_MAX]);
    store_close(history->store);
    *crashes += history->crashes ? lives : 0;
    linear_weigh(history->linear, worth);

    char *report;
    if (linear_check(history->linear, &report) != LINEAR_GOOD) {
        /* As a whole: cmocka cuts long messages. */
        fprintf(stderr, "history %u is not linearizable:\n%s", number, report);
        fail();
    }
    pthread_cond_destroy(&history->changed);
    pthread_mutex_destroy(&history->lock);
    vfs_mem_free(history->fs);
    linear_free(history->linear);
    free(history);
}

static void batches_and_scans_happen_at_one_moment(void **state)
{
    (void)state;
    struct linear_worth worth = {0};
    struct prng prng;
    unsigned crashes = 0;
    unsigned wanted = histories_wanted();
    prng_init(&prng, test_seed());
    for (unsigned number = 0; number < wanted; number++) {
        make_history(number, &prng, &worth, &crashes);
    }
    printf("%u histories, %u crashes; %zu operations, %zu of them reads, %zu on several keys, %zu "
           "pairs at the same time on one key; conditions: %zu held, %zu refused; %zu writes "
           "without answer, %zu of them seen\n",
           wanted, crashes, worth.ops, worth.reads, worth.together, worth.overlaps, worth.held,
           worth.refused, worth.maybe, worth.maybe_seen);
    assert_true(worth.overlaps > worth.ops / 4 && worth.together > wanted);
    assert_true(worth.reads > wanted && worth.held > wanted && worth.refused > wanted);
    assert_true(worth.maybe > 0 || wanted < 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_and_scans_happen_at_one_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
