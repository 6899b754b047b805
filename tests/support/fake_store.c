#include "tests/support/fake_store.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/alloc.h"

enum { EPOCH = 0xFACE };

/* One version; freed with the last reference: the map's, an entry's or a snapshot's. */
struct version {
    size_t references;
    uint64_t number, modified_ms;
    struct bytes key, value;
    struct store_text content_type, content_encoding, cache_control;
};

struct task {
    struct task *next;
    void (*run)(struct task *task);
    void *arg;
    enum err err;
    void *what;
};

struct store {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    struct fake_knobs knobs;
    struct task *first, **last;
    size_t lent, writes_open, n;
    struct version **versions; /* in key order */
    uint64_t number;
};

struct store_write {
    struct store *store;
    struct store_put put;
    bool is_put;
    uint8_t *value;
    uint64_t value_bytes;
    char key[STORE_KEY_MAX_BYTES];
    struct store_text texts[3];
    store_condition_fn *condition;
    void *condition_arg;
    struct store_op_result result;
    bool condition_failed;
};

struct store_scan {
    struct store *store;
    struct version **versions;
    size_t n, at;
    uint64_t number;
};

static struct bytes copy(struct bytes bytes)
{
    void *at = test_alloc(bytes.size + 1);

    if (bytes.size > 0) {
        memcpy(at, bytes.data, bytes.size);
    }
    return bytes_of(at, bytes.size);
}

static void drop_version(struct version *version)
{
    if (--version->references > 0) {
        return;
    }
    free((void *)(uintptr_t)version->key.data);
    free((void *)(uintptr_t)version->value.data);
    free(version);
}

static struct fake_knobs knobs(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
    struct fake_knobs now = store->knobs;
    pthread_mutex_unlock(&store->mutex);
    return now;
}

/* --- Callbacks, now or later ---------------------------------------------------------------- */

static void *work(void *arg)
{
    struct store *store = arg;

    pthread_mutex_lock(&store->mutex);
    while (!store->stop || store->first != NULL) {
        struct task *task = store->first;

        if (task == NULL || store->knobs.hold) {
            pthread_cond_wait(&store->changed, &store->mutex);
            continue;
        }
        store->first = task->next;
        if (store->first == NULL) {
            store->last = &store->first;
        }
        pthread_mutex_unlock(&store->mutex);
        task->run(task);
        free(task);
        pthread_mutex_lock(&store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

static void complete(struct store *store, struct task task)
{
    if (!knobs(store).later) {
        task.run(&task);
        return;
    }
    struct task *later = test_alloc(sizeof *later);
    *later = task;
    later->next = NULL;
    pthread_mutex_lock(&store->mutex);
    *store->last = later;
    store->last = &later->next;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->mutex);
}

/* --- The store itself ------------------------------------------------------------------------ */

struct store *fake_store_new(void)
{
    struct store *store = test_alloc(sizeof *store);

    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->changed, NULL);
    store->last = &store->first;
    int failed = pthread_create(&store->thread, NULL, work, store);
    assert(failed == 0);
    return store;
}

void fake_store_free(struct store *store)
{
    fake_store_let_go(store);
    pthread_mutex_lock(&store->mutex);
    store->stop = true;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->thread, NULL);
    assert(store->lent == 0);
    for (size_t i = 0; i < store->n; i++) {
        drop_version(store->versions[i]);
    }
    free(store->versions);
    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->changed);
    free(store);
}

void fake_store_set(struct store *store, struct fake_knobs turned)
{
    pthread_mutex_lock(&store->mutex);
    store->knobs = turned;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->mutex);
}

void fake_store_let_go(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->knobs.hold = false;
    pthread_cond_signal(&store->changed);
    pthread_mutex_unlock(&store->mutex);
}

static size_t locked(struct store *store, const size_t *number)
{
    pthread_mutex_lock(&store->mutex);
    size_t now = *number;
    pthread_mutex_unlock(&store->mutex);
    return now;
}

size_t fake_store_held(struct store *store)
{
    size_t held = 0;

    pthread_mutex_lock(&store->mutex);
    for (const struct task *task = store->first; task != NULL; task = task->next) {
        held++;
    }
    pthread_mutex_unlock(&store->mutex);
    return held;
}

size_t fake_store_lent(struct store *store)
{
    return locked(store, &store->lent);
}

size_t fake_store_writes_open(struct store *store)
{
    return locked(store, &store->writes_open);
}

/* The index of the key, or where it would be. */
static size_t find(const struct store *store, struct bytes key, bool *ret_found)
{
    size_t i = 0;

    while (i < store->n && bytes_compare(store->versions[i]->key, key) < 0) {
        i++;
    }
    *ret_found = i < store->n && bytes_equal(store->versions[i]->key, key);
    return i;
}

static void remove_at(struct store *store, size_t i)
{
    drop_version(store->versions[i]);
    store->n--;
    memmove(&store->versions[i], &store->versions[i + 1],
            (store->n - i) * sizeof store->versions[0]);
}

static void insert_at(struct store *store, size_t i, struct version *version)
{
    store->versions = test_grow(store->versions, store->n * sizeof store->versions[0],
                                (store->n + 1) * sizeof store->versions[0]);
    memmove(&store->versions[i + 1], &store->versions[i],
            (store->n - i) * sizeof store->versions[0]);
    store->versions[i] = version;
    store->n++;
}

static uint64_t now_ms(const struct store *store)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return store->knobs.modified_ms != 0
               ? store->knobs.modified_ms
               : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct store_entry entry_of(struct store *store, struct version *version)
{
    return (struct store_entry){
        .key = version->key,
        .value = version->value,
        .content_type = version->content_type,
        .content_encoding = version->content_encoding,
        .cache_control = version->cache_control,
        .modified_ms = version->modified_ms,
        .version = {EPOCH, version->number},
        .pin = version,
        .owner = store,
    };
}

/* --- Reading --------------------------------------------------------------------------------- */

struct got {
    store_get_fn *done;
    struct store_entry entry;
    bool found;
};

static void run_get(struct task *task)
{
    struct got *got = task->what;

    got->done(task->arg, task->err, got->found ? &got->entry : NULL);
    free(got);
}

static struct task get_task(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct got *got = test_alloc(sizeof *got);

    pthread_mutex_lock(&store->mutex);
    size_t i = find(store, key, &got->found);
    got->found = got->found && store->knobs.get_err == ERR_OK;
    if (got->found) {
        store->versions[i]->references++;
        store->lent++;
        got->entry = entry_of(store, store->versions[i]);
    }
    pthread_mutex_unlock(&store->mutex);
    got->done = done;
    return (struct task){.run = run_get, .arg = arg, .err = knobs(store).get_err, .what = got};
}

void store_get(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct task task = get_task(store, key, done, arg);

    task.run(&task);
}

void store_head(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    store_get(store, key, done, arg);
}

bool store_get_at_once(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    if (knobs(store).later) {
        return false;
    }
    store_get(store, key, done, arg);
    return true;
}

void store_get_later(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    complete(store, get_task(store, key, done, arg));
}

void store_entry_release(struct store_entry *entry)
{
    struct store *store = entry->owner;

    pthread_mutex_lock(&store->mutex);
    drop_version(entry->pin);
    store->lent--;
    pthread_mutex_unlock(&store->mutex);
}

/* --- Scanning -------------------------------------------------------------------------------- */

enum err store_scan_new(struct store *store, const struct store_range *range,
                        struct store_scan **ret_scan)
{
    struct store_scan *scan = test_alloc(sizeof *scan);

    assert(!range->reverse);
    assert(range->end.size == 0 || bytes_compare(range->start, range->end) <= 0);
    pthread_mutex_lock(&store->mutex);
    scan->store = store;
    scan->number = store->number;
    scan->versions = test_alloc((store->n + 1) * sizeof *scan->versions);
    for (size_t i = 0; i < store->n; i++) {
        struct version *version = store->versions[i];

        if (bytes_compare(version->key, range->start) < 0 ||
            (range->end.size > 0 && bytes_compare(version->key, range->end) >= 0)) {
            continue;
        }
        version->references++;
        scan->versions[scan->n++] = version;
    }
    store->lent++;
    pthread_mutex_unlock(&store->mutex);
    *ret_scan = scan;
    return ERR_OK;
}

struct scanned {
    store_scan_done_fn *done;
    bool at_end;
};

static void run_scanned(struct task *task)
{
    struct scanned *scanned = task->what;

    scanned->done(task->arg, task->err, scanned->at_end);
    free(scanned);
}

void store_scan_run(struct store_scan *scan, store_scan_fn *each, store_scan_done_fn *done,
                    void *arg)
{
    struct store *store = scan->store;
    struct scanned *scanned = test_alloc(sizeof *scanned);
    bool more = knobs(store).scan_err == ERR_OK;

    while (more && scan->at < scan->n) {
        struct store_entry entry = entry_of(store, scan->versions[scan->at++]);

        more = each(arg, &entry);
    }
    scanned->done = done;
    scanned->at_end = scan->at == scan->n;
    complete(store,
             (struct task){
                 .run = run_scanned, .arg = arg, .err = knobs(store).scan_err, .what = scanned});
}

struct store_version store_scan_position(const struct store_scan *scan)
{
    return (struct store_version){EPOCH, scan->number};
}

void store_scan_free(struct store_scan *scan)
{
    if (scan == NULL) {
        return;
    }
    pthread_mutex_lock(&scan->store->mutex);
    for (size_t i = 0; i < scan->n; i++) {
        drop_version(scan->versions[i]);
    }
    scan->store->lent--;
    pthread_mutex_unlock(&scan->store->mutex);
    free(scan->versions);
    free(scan);
}

/* --- Writing --------------------------------------------------------------------------------- */

struct readied {
    store_write_ready_fn *ready;
    struct store_write *write;
};

static void run_ready(struct task *task)
{
    struct readied *readied = task->what;

    readied->ready(task->arg, task->err, readied->write);
    free(readied);
}

void store_write_new(struct store *store, const struct store_write_size *size,
                     store_write_ready_fn *ready, void *arg)
{
    struct readied *readied = test_alloc(sizeof *readied);
    enum err err = knobs(store).admission_err;

    assert(size->ops == 1);
    if (err == ERR_NO_SPACE && size->deletes_only) {
        err = ERR_OK;
    }
    readied->ready = ready;
    if (err == ERR_OK) {
        readied->write = test_alloc(sizeof *readied->write);
        readied->write->store = store;
        pthread_mutex_lock(&store->mutex);
        store->lent++;
        store->writes_open++;
        pthread_mutex_unlock(&store->mutex);
    }
    complete(store, (struct task){.run = run_ready, .arg = arg, .err = err, .what = readied});
}

static void keep_text(struct store_text *text, struct bytes bytes)
{
    assert(bytes.size <= STORE_TEXT_MAX_BYTES);
    text->size = (uint16_t)bytes.size;
    if (bytes.size > 0) {
        memcpy(text->data, bytes.data, bytes.size);
    }
}

static void keep_key(struct store_write *write, struct bytes key)
{
    assert(key.size > 0 && key.size <= STORE_KEY_MAX_BYTES);
    memcpy(write->key, key.data, key.size);
    write->put.key = bytes_of(write->key, key.size);
}

enum err store_write_put(struct store_write *write, const struct store_put *put, void **ret_value)
{
    enum err err = knobs(write->store).put_err;

    if (err != ERR_OK) {
        return err;
    }
    write->is_put = true;
    keep_key(write, put->key);
    keep_text(&write->texts[0], put->content_type);
    keep_text(&write->texts[1], put->content_encoding);
    keep_text(&write->texts[2], put->cache_control);
    write->value = test_alloc(put->value_bytes + 1);
    write->value_bytes = put->value_bytes;
    *ret_value = write->value;
    return ERR_OK;
}

enum err store_write_resize(struct store_write *write, uint64_t value_bytes, void **ret_value)
{
    enum err err = knobs(write->store).resize_err;

    assert(write->is_put);
    if (err != ERR_OK) {
        return err;
    }
    /* Always elsewhere, so that a pointer kept too long is seen. */
    uint8_t *value = test_alloc(value_bytes + 1);
    memcpy(value, write->value,
           value_bytes < write->value_bytes ? value_bytes : write->value_bytes);
    free(write->value);
    write->value = value;
    write->value_bytes = value_bytes;
    *ret_value = value;
    return ERR_OK;
}

enum err store_write_delete(struct store_write *write, struct bytes key)
{
    keep_key(write, key);
    return knobs(write->store).delete_err;
}

void store_write_condition(struct store_write *write, store_condition_fn *condition, void *arg)
{
    write->condition = condition;
    write->condition_arg = arg;
}

static struct version *version_of(struct store_write *write)
{
    struct version *version = test_alloc(sizeof *version);

    version->references = 1;
    version->number = ++write->store->number;
    version->modified_ms = now_ms(write->store);
    version->key = copy(write->put.key);
    version->value = bytes_of(write->value, write->value_bytes);
    write->value = NULL;
    version->content_type = write->texts[0];
    version->content_encoding = write->texts[1];
    version->cache_control = write->texts[2];
    return version;
}

/* Under the mutex. */
static void apply(struct store_write *write)
{
    struct store *store = write->store;
    bool found;
    size_t i = find(store, write->put.key, &found);

    write->result.before.exists = found;
    if (found) {
        write->result.before.version = (struct store_version){EPOCH, store->versions[i]->number};
        write->result.before.modified_ms = store->versions[i]->modified_ms;
    }
    if (write->condition != NULL &&
        !write->condition(write->condition_arg, &write->result.before)) {
        write->condition_failed = true;
        return;
    }
    if (found) {
        remove_at(store, i);
    }
    if (write->is_put) {
        struct version *version = version_of(write);

        write->result.version = (struct store_version){EPOCH, version->number};
        insert_at(store, i, version);
    }
}

static void give_back(struct store_write *write)
{
    struct store *store = write->store;

    pthread_mutex_lock(&store->mutex);
    store->lent--;
    pthread_mutex_unlock(&store->mutex);
    free(write->value);
    free(write);
}

struct committed {
    store_write_done_fn *done;
    struct store_write *write;
};

static void run_committed(struct task *task)
{
    struct committed committed = *(struct committed *)task->what;
    struct store_write *write = committed.write;
    struct store_written written = {.n_ops = 1, .ops = &write->result};

    free(task->what);
    if (task->err == ERR_OK) {
        pthread_mutex_lock(&write->store->mutex);
        apply(write);
        pthread_mutex_unlock(&write->store->mutex);
    }
    written.condition_failed = write->condition_failed;
    committed.done(task->arg, task->err, &written);
    give_back(write);
}

static void close_write(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->writes_open--;
    pthread_mutex_unlock(&store->mutex);
}

void store_write_commit(struct store_write *write, store_write_done_fn *done, void *arg)
{
    struct store *store = write->store;
    struct committed *committed = test_alloc(sizeof *committed);

    *committed = (struct committed){done, write};
    close_write(store);
    complete(store, (struct task){.run = run_committed,
                                  .arg = arg,
                                  .err = knobs(store).commit_err,
                                  .what = committed});
}

void store_write_abort(struct store_write *write)
{
    if (write != NULL) {
        close_write(write->store);
        give_back(write);
    }
}

static void put_done(void *arg, enum err err, const struct store_written *written)
{
    assert(err == ERR_OK);
    *(struct store_version *)arg = written->ops[0].version;
}

static void put_ready(void *arg, enum err err, struct store_write *write)
{
    assert(err == ERR_OK);
    *(struct store_write **)arg = write;
}

struct store_version fake_store_put(struct store *store, struct bytes key, struct bytes value)
{
    struct store_write *write = NULL;
    struct store_version version = {0, 0};
    void *into = NULL;

    assert(!knobs(store).later);
    store_write_new(store, &(struct store_write_size){.ops = 1}, put_ready, &write);
    enum err err =
        store_write_put(write, &(struct store_put){.key = key, .value_bytes = value.size}, &into);
    assert(err == ERR_OK);
    memcpy(into, value.data, value.size);
    store_write_commit(write, put_done, &version);
    return version;
}

/* --- Upkeep ---------------------------------------------------------------------------------- */

struct upkeep {
    store_done_fn *done;
};

static void run_upkeep(struct task *task)
{
    struct upkeep *upkeep = task->what;

    upkeep->done(task->arg, task->err);
    free(upkeep);
}

void store_flush(struct store *store, store_done_fn *done, void *arg)
{
    struct upkeep *upkeep = test_alloc(sizeof *upkeep);

    upkeep->done = done;
    complete(store,
             (struct task){
                 .run = run_upkeep, .arg = arg, .err = knobs(store).upkeep_err, .what = upkeep});
}

void store_compact(struct store *store, store_done_fn *done, void *arg)
{
    store_flush(store, done, arg);
}

enum store_state store_state(const struct store *store)
{
    return knobs((struct store *)(uintptr_t)store).state;
}

void store_stats(struct store *store, struct store_stats *ret_stats)
{
    *ret_stats = (struct store_stats){.keys_approximate = locked(store, &store->n)};
    ret_stats->level_bytes[1] = 4096;
}

uint64_t store_stuck_ms(const struct store *store)
{
    (void)store;
    return 0;
}
