/* engine_varve.c - our store. Puts that aren't synced are asynchronous: the caller goes on once the
 * write is committed to the pipeline, and sync() waits until the last one is on disk. */
#include <pthread.h>
#include <stdlib.h>

#include "store/store_sync.h"
#include "tests/bench/engines.h"
#include "tests/bench/measure.h"

struct varve {
    struct store *store;
    bool synced;
    uint64_t under_way; /* puts that aren't on disk yet */
    pthread_mutex_t mutex;
    pthread_cond_t none_left;
};

static void ok(enum err err, const char *what)
{
    measure_check(err == ERR_OK, what, err_text(err));
}

static void *varve_open(const char *place, bool synced)
{
    struct store_options options = store_options_default();
    struct varve *varve = calloc(1, sizeof *varve);
    struct err_detail why = {.text = ""};
    measure_check(varve != NULL, "varve", "no memory");
    varve->synced = synced;
    pthread_mutex_init(&varve->mutex, NULL);
    pthread_cond_init(&varve->none_left, NULL);
    options.dir = place;
    options.memtable_bytes = ENGINES_BUFFER_BYTES;
    measure_check(store_open(&options, &varve->store, &why) == ERR_OK, "varve", why.text);
    return varve;
}

static void varve_close(void *db)
{
    struct varve *varve = db;
    store_close(varve->store);
    pthread_cond_destroy(&varve->none_left);
    pthread_mutex_destroy(&varve->mutex);
    free(varve);
}

static void *varve_session_new(void *db)
{
    return db;
}

static void varve_session_free(void *session)
{
    (void)session;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct varve *varve = arg;
    (void)written;
    ok(err, "varve: write");
    if (__atomic_sub_fetch(&varve->under_way, 1, __ATOMIC_SEQ_CST) == 0) {
        pthread_mutex_lock(&varve->mutex);
        pthread_cond_broadcast(&varve->none_left);
        pthread_mutex_unlock(&varve->mutex);
    }
}

static void varve_put(void *session, struct bytes key, struct bytes value)
{
    struct varve *varve = session;
    struct store_put put = {.key = key, .value_bytes = value.size};
    struct store_write_size size = {.ops = 1, .bytes = key.size + value.size};
    struct store_write *write;
    void *into;
    if (varve->synced) {
        ok(store_put_sync(varve->store, &put, value, NULL), "varve: put");
        return;
    }
    ok(store_write_new_sync(varve->store, &size, &write), "varve: admission");
    ok(store_write_put(write, &put, &into), "varve: put");
    memcpy(into, value.data, value.size);
    __atomic_add_fetch(&varve->under_way, 1, __ATOMIC_SEQ_CST);
    store_write_commit(write, on_written, varve);
}

static void varve_sync(void *session)
{
    struct varve *varve = session;
    pthread_mutex_lock(&varve->mutex);
    while (__atomic_load_n(&varve->under_way, __ATOMIC_SEQ_CST) > 0) {
        pthread_cond_wait(&varve->none_left, &varve->mutex);
    }
    pthread_mutex_unlock(&varve->mutex);
}

struct reading {
    engine_each_fn *each;
    void *arg;
    uint64_t left; /* entries; of a get: whether it wasn't found */
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct reading *reading = arg;
    ok(err, "varve: get");
    if (entry) {
        struct store_entry mine = *entry;
        reading->left = 0;
        reading->each(reading->arg, mine.key, mine.value);
        store_entry_release(&mine);
    }
}

static bool varve_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    struct varve *varve = session;
    struct reading reading = {.each = each, .arg = arg, .left = 1};
    store_get(varve->store, key, on_get, &reading);
    return reading.left == 0;
}

static bool on_entry(void *arg, const struct store_entry *entry)
{
    struct reading *reading = arg;
    if (reading->left == 0) {
        return false;
    }
    reading->left--;
    reading->each(reading->arg, entry->key, entry->value);
    return reading->left > 0;
}

static void on_scanned(void *arg, enum err err, bool at_end)
{
    (void)arg;
    (void)at_end;
    ok(err, "varve: scan");
}

static uint64_t varve_scan(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                           void *arg)
{
    struct varve *varve = session;
    struct reading reading = {.each = each, .arg = arg, .left = n};
    struct store_range range = {.start = start};
    struct store_scan *scan;
    ok(store_scan_new(varve->store, &range, &scan), "varve: scan");
    store_scan_run(scan, on_entry, on_scanned, &reading);
    store_scan_free(scan);
    return n - reading.left;
}

static void varve_compact(void *db)
{
    struct varve *varve = db;
    ok(store_compact_sync(varve->store), "varve: compact");
}

const struct engine engine_varve = {
    .name = "varve",
    .open = varve_open,
    .close = varve_close,
    .session_new = varve_session_new,
    .session_free = varve_session_free,
    .put = varve_put,
    .sync = varve_sync,
    .get = varve_get,
    .scan = varve_scan,
    .compact = varve_compact,
};
