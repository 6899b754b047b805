/* The store while memory runs out at one allocation after the other: every call ends with an error
 * or as it should, nothing that was acknowledged is lost, and the log is never given up for it.
 * Leaks show under AddressSanitizer. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/engine.h"
#include "tests/support/check.h"
#include "tests/support/failing_alloc.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

enum { KEYS = 12, WRITES = 70, TURNS = 60 };

struct run {
    struct vfs_mem *fs;
    struct store *store;
    uint64_t versions[KEYS]; /* that were acknowledged; 0: not there */
    unsigned n_acknowledged, n_refused;
    unsigned log_failures;
    char detail[1024];
};

static struct bytes key_of(size_t key, char buffer[16])
{
    return bytes_of(buffer, (size_t)snprintf(buffer, 16, "key/%02zu", key));
}

static size_t size_of(uint64_t version)
{
    return version % 9 == 0 ? 40000 : 8 + scramble64(version) % 3000;
}

static void on_event(void *arg, const struct store_event *event)
{
    struct run *run = arg;
    run->log_failures +=
        event->kind == STORE_EVENT_LOG_POISONED || event->kind == STORE_EVENT_MANIFEST_FAILED;
}

static enum err open_store(struct run *run)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 64 << 10;
    options.max_inflight_bytes = 256 << 10;
    options.vfs = vfs_mem_vfs(run->fs);
    options.on_event = on_event;
    options.arg = run;
    options.manual = true;
    enum err err = store_open(&options, &run->store, &detail);
    (void)snprintf(run->detail, sizeof run->detail, "%s", detail.text);
    return err;
}

static void turn(struct run *run)
{
    engine_log_step(run->store);
    engine_flush_step(run->store);
    engine_compaction_step(run->store);
    engine_reclaim_step(run->store);
}

/* --- Calls --- */

struct asked {
    bool answered;
    enum err err;
    struct store_write *write;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    *(struct asked *)arg = (struct asked){.answered = true, .err = err, .write = write};
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    (void)written;
    *(struct asked *)arg = (struct asked){.answered = true, .err = err};
}

static void on_upkeep(void *arg, enum err err)
{
    *(struct asked *)arg = (struct asked){.answered = true, .err = err};
}

static void wait_for(struct run *run, const struct asked *asked)
{
    for (unsigned i = 0; !asked->answered && i < TURNS; i++) {
        turn(run);
    }
    assert_true(asked->answered);
    assert_true(asked->err == ERR_OK || asked->err == ERR_NO_MEMORY);
}

/* One put or delete, or a batch of three puts of neighbours; all of it happens or nothing. */
static void write_some(struct run *run, uint64_t version)
{
    size_t n = version % 10 == 3 ? 3 : 1, key = (size_t)(version % KEYS);
    bool deletes = version % 10 == 7;
    struct store_write_size size = {.ops = n, .bytes = n * 50000, .deletes_only = deletes};
    struct asked ready = {.answered = false}, done = {.answered = false};
    enum err err = ERR_OK;
    char buffer[16];
    store_write_new(run->store, &size, on_ready, &ready);
    wait_for(run, &ready);
    if (ready.err != ERR_OK) {
        run->n_refused++;
        return;
    }
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        struct bytes name = key_of((key + i) % KEYS, buffer);
        struct store_put put = {.key = name, .value_bytes = size_of(version)};
        void *value;
        err = deletes ? store_write_delete(ready.write, name)
                      : store_write_put(ready.write, &put, &value);
        if (err == ERR_OK && !deletes) {
            pattern_fill(name, version, value, put.value_bytes);
        }
    }
    if (err != ERR_OK) {
        assert_err(ERR_NO_MEMORY, err);
        store_write_abort(ready.write);
        run->n_refused++;
        return;
    }
    store_write_commit(ready.write, on_written, &done);
    wait_for(run, &done);
    if (done.err != ERR_OK) {
        run->n_refused++;
        return;
    }
    run->n_acknowledged++;
    for (size_t i = 0; i < n; i++) {
        run->versions[(key + i) % KEYS] = deletes ? 0 : version;
    }
}

/* --- Reading --- */

struct found {
    struct bytes key;
    enum err err;
    uint64_t version;
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct found *found = arg;
    found->err = err;
    if (err == ERR_OK && entry) {
        struct store_entry pinned = *entry;
        assert_true(pattern_version(found->key, pinned.value, &found->version));
        store_entry_release(&pinned);
    }
}

static void get_all(struct run *run)
{
    char buffer[16];
    for (size_t key = 0; key < KEYS; key++) {
        struct found found = {.key = key_of(key, buffer)};
        store_get(run->store, found.key, on_get, &found);
        assert_true(found.err == ERR_OK || found.err == ERR_NO_MEMORY);
        assert_true(found.err != ERR_OK || found.version == run->versions[key]);
    }
}

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    (void)entry;
    ++*(size_t *)arg;
    return true;
}

struct scanned {
    size_t n; /* first: on_scanned() counts here */
    enum err err;
    bool at_end;
};

static void on_scan_done(void *arg, enum err err, bool at_end)
{
    ((struct scanned *)arg)->err = err;
    ((struct scanned *)arg)->at_end = at_end;
}

static void scan_all(struct run *run)
{
    struct store_range range = {.keys_only = true};
    struct store_scan *scan;
    struct scanned scanned = {0};
    size_t there = 0;
    enum err err = store_scan_new(run->store, &range, &scan);
    if (err != ERR_OK) {
        assert_err(ERR_NO_MEMORY, err);
        return;
    }
    store_scan_run(scan, on_scanned, on_scan_done, &scanned);
    store_scan_free(scan);
    for (size_t key = 0; key < KEYS; key++) {
        there += run->versions[key] != 0;
    }
    assert_true(scanned.err == ERR_NO_MEMORY || (scanned.err == ERR_OK && scanned.n == there));
}

/* --- One run --- */

static void upkeep(struct run *run)
{
    struct asked flush = {.answered = false}, compact = {.answered = false};
    store_flush(run->store, on_upkeep, &flush);
    wait_for(run, &flush);
    store_compact(run->store, on_upkeep, &compact);
    for (unsigned i = 0; !compact.answered && i < 20 * TURNS; i++) {
        turn(run);
    }
    wait_for(run, &compact);
}

static void work(struct run *run)
{
    for (uint64_t version = 1; version <= WRITES; version++) {
        write_some(run, version);
        turn(run);
        if (version % 10 == 0) {
            get_all(run);
            scan_all(run);
        }
    }
    upkeep(run);
    get_all(run);
    store_close(run->store);
    run->store = NULL;
}

/* Returns whether there were as many allocations. */
static bool run_once(uint64_t nth, uint64_t n)
{
    struct run run = {.fs = vfs_mem_new(nth)};
    rcu_door_set_manual(true);
    failing_alloc_arm(nth, n, false);
    enum err err = open_store(&run);
    if (err == ERR_OK) {
        work(&run);
    } else {
        assert_err(ERR_NO_MEMORY, err);
        assert_true(run.detail[0] != '\0');
    }
    uint64_t seen = failing_alloc_disarm();
    assert_int_equal(run.log_failures, 0);
    err = open_store(&run);
    if (err != ERR_OK) {
        fail_msg("allocation %llu: %s: %s", (unsigned long long)nth, err_name(err), run.detail);
    }
    get_all(&run);
    store_close(run.store);
    while (rcu_door_reclaim()) {
    }
    rcu_door_set_manual(false);
    vfs_mem_free(run.fs);
    return seen >= nth;
}

/* Every one at the beginning, where the store opens; then some, not the same each time. */
static void sweep(uint64_t n, uint64_t stride)
{
    struct prng strides;
    uint64_t nth = 1, runs = 0;
    prng_init(&strides, test_seed());
    for (bool met = true; met; runs++) {
        met = run_once(nth, n);
        nth += nth < 60 ? 1 : 1 + prng_below(&strides, stride);
    }
    printf("%llu runs, of up to %llu allocations\n", (unsigned long long)runs,
           (unsigned long long)nth);
    assert_true(nth > 200);
}

static void survives_any_allocation_that_fails(void **state)
{
    (void)state;
    sweep(1, 9);
}

static void survives_memory_that_is_short_for_a_while(void **state)
{
    (void)state;
    sweep(25, 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_any_allocation_that_fails),
        cmocka_unit_test(survives_memory_that_is_short_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
