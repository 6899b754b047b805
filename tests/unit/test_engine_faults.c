/* The engine while one file operation after the other fails: every write and every request is
 * answered, nothing is shown that isn't durable, and what was acknowledged is there after a crash.
 */
#include "store/lsm/engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

enum { KEYS = 6, WRITES = 60, STEPS = 500 };

struct write {
    bool issued, done;
    enum err err;
};

struct run {
    uint64_t nth; /* operation that fails */
    struct vfs_mem *fs;
    struct store *store;
    struct prng prng;
    struct write writes[WRITES + 1]; /* by version, from 1 */
    unsigned last_issued, last_acknowledged;
    unsigned n_admitted, n_upkeep_asked, n_upkeep_done;
    unsigned answered;
    struct store_write *admitted[WRITES];
    char detail[1024]; /* of the last open */
};

static struct bytes key_of(unsigned version)
{
    static const char *const names[KEYS] = {"a", "bb", "c/c", "d", "eeeeeeee", "f"};
    return bytes_of_text(names[version % KEYS]);
}

static size_t size_of(unsigned version)
{
    return 8 + (size_t)(scramble64(version) % 12000);
}

/* --- Callbacks -------------------------------------------------------------------------------- */

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct run *run = arg;
    run->answered++;
    if (err == ERR_OK) {
        run->admitted[run->n_admitted++] = write;
    }
}

struct done_arg {
    struct run *run;
    unsigned version;
};

static struct done_arg done_args[WRITES + 1];

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    const struct done_arg *of = arg;
    struct write *write = &of->run->writes[of->version];
    assert_false(write->done);
    *write = (struct write){.issued = true, .done = true, .err = err};
    if (err == ERR_OK) {
        assert_false(written->condition_failed);
        assert_true(of->version > of->run->last_acknowledged);
        of->run->last_acknowledged = of->version;
    }
}

static void on_upkeep(void *arg, enum err err)
{
    (void)err;
    ((struct run *)arg)->n_upkeep_done++;
}

/* --- Reading ---------------------------------------------------------------------------------- */

struct found {
    struct bytes key;
    enum err err;
    uint64_t version; /* 0: not there */
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct found *found = arg;
    found->err = err;
    if (err == ERR_OK && entry) {
        struct store_entry pinned = *entry;
        assert_true(pattern_version(found->key, pinned.value, &found->version));
        assert_int_equal(pinned.value.size, size_of((unsigned)found->version));
        store_entry_release(&pinned);
    }
}

/* The newest version up to `upto` that wrote the same key as `i`; ignores those that were refused
 * before they got a number. */
static uint64_t newest(const struct run *run, unsigned i, unsigned upto)
{
    for (unsigned version = upto; version > 0; version--) {
        const struct write *write = &run->writes[version];
        bool numbered = !write->done || write->err == ERR_OK || write->err == ERR_OUTCOME_UNKNOWN;
        if (version % KEYS == i && write->issued && numbered) {
            return version;
        }
    }
    return 0;
}

static bool shows(struct run *run, unsigned upto, bool may_fail)
{
    for (unsigned i = 0; i < KEYS; i++) {
        struct found found = {.key = key_of(i)};
        store_get(run->store, found.key, on_get, &found);
        assert_true(may_fail || found.err == ERR_OK);
        if (found.err == ERR_OK && found.version != newest(run, i, upto)) {
            return false;
        }
    }
    return true;
}

/* --- The workload ----------------------------------------------------------------------------- */

static enum err open_store(struct run *run)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 20000;
    options.max_inflight_bytes = 128 << 10;
    options.vfs = vfs_mem_vfs(run->fs);
    options.manual = true;
    enum err err = store_open(&options, &run->store, &detail);
    snprintf(run->detail, sizeof run->detail, "%s", detail.text);
    return err;
}

static void commit_one(struct run *run)
{
    if (run->n_admitted == 0) {
        return;
    }
    struct store_write *write = run->admitted[--run->n_admitted];
    unsigned version = ++run->last_issued;
    struct store_put put = {.key = key_of(version), .value_bytes = size_of(version)};
    void *value;
    assert_ok(store_write_put(write, &put, &value));
    pattern_fill(put.key, version, value, put.value_bytes);
    run->writes[version].issued = true;
    done_args[version] = (struct done_arg){.run = run, .version = version};
    store_write_commit(write, on_written, &done_args[version]);
}

static void work(struct run *run)
{
    unsigned asked = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t dice = prng_below(&run->prng, 100);
        if (dice < 20 && asked < WRITES) {
            struct store_write_size size = {.ops = 1, .bytes = 12100};
            asked++;
            store_write_new(run->store, &size, on_ready, run);
        } else if (dice < 40) {
            commit_one(run);
        } else if (dice < 65) {
            engine_log_step(run->store);
        } else if (dice < 68) {
            engine_log_idle_step(run->store);
        } else if (dice < 78) {
            engine_flush_step(run->store);
        } else if (dice < 88) {
            engine_compaction_step(run->store);
        } else if (dice < 96) {
            engine_reclaim_step(run->store);
        } else if (dice < 97) {
            run->n_upkeep_asked++;
            store_flush(run->store, on_upkeep, run);
        } else if (dice < 98) {
            run->n_upkeep_asked++;
            store_compact(run->store, on_upkeep, run);
        } else {
            assert_true(shows(run, run->last_acknowledged, true));
        }
    }
    while (run->n_admitted > 0) {
        store_write_abort(run->admitted[--run->n_admitted]);
    }
    store_close(run->store);
    run->store = NULL;
    assert_int_equal(run->answered, asked);
    assert_int_equal(run->n_upkeep_done, run->n_upkeep_asked);
    for (unsigned version = 1; version <= run->last_issued; version++) {
        assert_true(run->writes[version].done);
    }
}

/* What a crash leaves opens, and is a prefix of what was written with all that was acknowledged. */
static void check_after_crash(struct run *run, enum mem_keep keep, uint64_t seed)
{
    struct vfs_mem *fs = run->fs;
    run->fs = vfs_mem_crash_clone(fs, keep, seed);
    enum err err = open_store(run);
    if (err != ERR_OK) {
        fail_msg("after operation %llu had failed, a crash left what doesn't open: %s: %s",
                 (unsigned long long)run->nth, err_name(err), run->detail);
    }
    unsigned upto = run->last_acknowledged;
    while (upto < run->last_issued && !shows(run, upto, false)) {
        upto++;
    }
    assert_true(shows(run, upto, false));
    store_close(run->store);
    run->store = NULL;
    vfs_mem_free(run->fs);
    run->fs = fs;
}

/* Returns whether the operation to fail was ever met. */
static bool run_once(uint64_t seed, uint64_t nth, bool forever, enum vfs_mem_action action,
                     enum err err)
{
    struct run *run = calloc(1, sizeof *run);
    struct vfs_mem_plan plan = {.ops = VFS_MEM_CHANGES | VFS_MEM_BIT(VFS_MEM_READ) |
                                       VFS_MEM_BIT(VFS_MEM_MAP) | VFS_MEM_BIT(VFS_MEM_OPEN),
                                .nth = nth,
                                .forever = forever,
                                .verdict = {.action = action, .err = err, .bytes = seed % 5000}};
    run->nth = nth;
    run->fs = vfs_mem_new(seed);
    prng_init(&run->prng, seed);
    vfs_mem_set_hook(run->fs, vfs_mem_follow_plan, &plan);
    if (open_store(run) == ERR_OK) {
        work(run);
    }
    bool met = plan.seen >= nth;
    check_after_crash(run, MEM_KEEP_NOTHING, seed);
    check_after_crash(run, MEM_KEEP_RANDOM, seed);
    vfs_mem_free(run->fs);
    free(run);
    return met;
}

static void sweep(bool forever, enum vfs_mem_action action, enum err err)
{
    struct prng strides;
    uint64_t nth = 1;
    prng_init(&strides, test_seed());
    /* Not every one each time: that would take long. */
    for (bool met = true; met; nth += 1 + prng_below(&strides, 7)) {
        met = run_once(test_seed() + nth % 7, nth, forever, action, err);
    }
    assert_true(nth > 100);
}

static int begin(void **state)
{
    (void)state;
    rcu_door_set_manual(true);
    return 0;
}

static int end(void **state)
{
    (void)state;
    rcu_door_set_manual(false);
    return 0;
}

static void survives_any_operation_that_fails_once(void **state)
{
    (void)state;
    sweep(false, VFS_MEM_FAIL, ERR_IO);
    sweep(false, VFS_MEM_FAIL_PARTLY, ERR_IO);
}

static void survives_a_disk_that_fails_from_any_operation_on(void **state)
{
    (void)state;
    sweep(true, VFS_MEM_FAIL, ERR_IO);
}

static void survives_a_disk_that_is_full_from_any_operation_on(void **state)
{
    (void)state;
    sweep(false, VFS_MEM_FAIL, ERR_NO_SPACE);
    sweep(true, VFS_MEM_FAIL_PARTLY, ERR_NO_SPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(survives_any_operation_that_fails_once, begin, end),
        cmocka_unit_test_setup_teardown(survives_a_disk_that_fails_from_any_operation_on, begin,
                                        end),
        cmocka_unit_test_setup_teardown(survives_a_disk_that_is_full_from_any_operation_on, begin,
                                        end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
