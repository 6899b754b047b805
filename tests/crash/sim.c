#include "tests/crash/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/engine.h"
#include "store/store.h"
#include "tests/crash/model.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

#define VALUE_MAX   80000u
#define BATCH_MAX   6u
#define PENDING_MAX 64u

/* One write between its issue and its completion. */
struct pending {
    struct sim *sim;
    struct store_write *write; /* set by `ready` */
    bool in_use, admitted, refused, done;
    size_t prefix; /* of the model, if it changes anything */
    size_t seen;   /* of what it looked at, if it doesn't */
    bool changes, expect_failed;
    bool if_absent, conditional;
    unsigned n;
    unsigned keys[BATCH_MAX];
    bool deletes[BATCH_MAX];
    size_t sizes[BATCH_MAX]; /* of the values */
};

struct sim {
    const struct sim_options *options;
    struct sim_result *result;
    struct prng random;
    struct vfs_mem *vfs;
    struct store *store;
    struct model *model;
    struct pending pending[PENDING_MAX];
    uint64_t crash_at; /* file operation before which power is lost */
    char last_created; /* kind of the file created last: says what a directory sync is for */
    bool crashed;
};

const char *sim_omission_name(enum sim_omission omission)
{
    static const char *const names[SIM_OMISSIONS] = {"nothing",
                                                     "sync of frames",
                                                     "sync of a segment",
                                                     "sync of a table",
                                                     "sync of a manifest",
                                                     "directory sync of a segment",
                                                     "directory sync of a table",
                                                     "directory sync of a manifest"};
    return names[omission];
}

static void violate(struct sim *sim, const char *format, ...)
{
    if (sim->result->violated) {
        return;
    }
    sim->result->violated = true;
    va_list args;
    va_start(args, format);
    vsnprintf(sim->result->violation, sizeof sim->result->violation, format, args);
    va_end(args);
}

static struct bytes key_of(unsigned key)
{
    static char names[MODEL_KEYS][64];
    if (names[key][0] == '\0') {
        snprintf(names[key], sizeof names[key], "%s/%02u", key % 3 ? "key" : "a-longer-prefix",
                 key);
    }
    return bytes_of_text(names[key]);
}

/* --- The machine: loses power, or leaves out a sync ---------------------------------------------
 */

static enum sim_omission classify(const struct sim *sim, const struct vfs_mem_call *call)
{
    if (call->op == VFS_MEM_SYNC) {
        return strstr(call->name, ".log")
                   ? (sim->last_created == 'L' ? SIM_OMIT_SEGMENT_SYNC : SIM_OMIT_LOG_SYNC)
               : strstr(call->name, ".table") ? SIM_OMIT_TABLE_SYNC
                                              : SIM_OMIT_MANIFEST_SYNC;
    }
    if (call->op == VFS_MEM_DIR_SYNC) {
        return sim->last_created == 'L'   ? SIM_OMIT_SEGMENT_DIR_SYNC
               : sim->last_created == 'T' ? SIM_OMIT_TABLE_DIR_SYNC
                                          : SIM_OMIT_MANIFEST_DIR_SYNC;
    }
    return SIM_OMIT_NOTHING;
}

static void note_created(struct sim *sim, const struct vfs_mem_call *call)
{
    if (call->op == VFS_MEM_CREATE) {
        sim->last_created = strstr(call->name, ".log")     ? 'L'
                            : strstr(call->name, ".table") ? 'T'
                                                           : 'M';
    } else if (call->op == VFS_MEM_DIR_SYNC) {
        sim->last_created = 0;
    }
}

static struct vfs_mem_verdict hook(void *arg, const struct vfs_mem_call *call)
{
    struct sim *sim = arg;
    /* Between a manifest's rename and its directory sync is where most orders matter; chance alone
     * seldom gets there. */
    bool fragile = sim->crash_at != 0 && call->op == VFS_MEM_DIR_SYNC && sim->last_created == 'M' &&
                   prng_chance(&sim->random, 5);
    if (call->number == sim->crash_at || fragile) {
        sim->crashed = true;
        return (struct vfs_mem_verdict){
            .action = prng_chance(&sim->random, 50) ? VFS_MEM_CRASH : VFS_MEM_CRASH_PARTLY,
            .bytes = call->size_bytes ? prng_below(&sim->random, call->size_bytes) : 0};
    }
    enum sim_omission what = classify(sim, call);
    note_created(sim, call);
    if (what != SIM_OMIT_NOTHING && what == sim->options->omission) {
        sim->result->omitted++;
        return (struct vfs_mem_verdict){.action = VFS_MEM_SKIP};
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void plan_crash(struct sim *sim, uint64_t within)
{
    sim->crash_at = vfs_mem_total(sim->vfs) + 1 + prng_below(&sim->random, within);
}

/* --- Writes -------------------------------------------------------------------------------------
 */

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct pending *pending = arg;
    pending->admitted = err == ERR_OK;
    pending->refused = err != ERR_OK;
    pending->write = write;
}

static void check_written(struct pending *pending, const struct store_written *written)
{
    struct sim *sim = pending->sim;
    if (written->condition_failed != pending->expect_failed) {
        violate(sim, "a condition was decided wrongly: failed %d, expected %d",
                written->condition_failed, pending->expect_failed);
    }
    if (pending->changes) {
        model_ack(sim->model, pending->prefix);
    } else {
        model_see(sim->model, pending->seen);
    }
    sim->result->failed_conditions += written->condition_failed;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct pending *pending = arg;
    struct sim *sim = pending->sim;
    pending->done = true;
    if (err == ERR_OK) {
        check_written(pending, written);
    } else if (!sim->crashed) {
        violate(sim, "a write failed without a fault: %s", err_name(err));
    }
    pending->in_use = false;
}

static bool is_absent(void *arg, const struct store_current *current)
{
    (void)arg;
    return !current->exists;
}

static bool is_present(void *arg, const struct store_current *current)
{
    (void)arg;
    return current->exists;
}

static size_t random_size(struct sim *sim)
{
    if (prng_chance(&sim->random, 2)) {
        return PATTERN_VERSION_BYTES + prng_below(&sim->random, VALUE_MAX - PATTERN_VERSION_BYTES);
    }
    return PATTERN_VERSION_BYTES +
           prng_below(&sim->random, prng_chance(&sim->random, 20) ? 9000 : 300);
}

/* What the write will do, by the newest claimed state, which is the model's whole list. */
static void predict(struct pending *pending, const struct model_state *state)
{
    struct sim *sim = pending->sim;
    pending->expect_failed = false;
    pending->changes = false;
    pending->seen = 0;
    for (unsigned i = 0; i < pending->n; i++) {
        bool exists = state->keys[pending->keys[i]].version != 0;
        size_t touched = model_last_touch(sim->model, pending->keys[i]);
        if (touched > pending->seen) {
            pending->seen = touched;
        }
        if (i == 0 && pending->conditional && exists == pending->if_absent) {
            pending->expect_failed = true;
            pending->changes = false;
            return;
        }
        pending->changes = pending->changes || !pending->deletes[i] || exists;
    }
}

static void build(struct pending *pending)
{
    struct sim *sim = pending->sim;
    struct model_state state;
    model_state_at(sim->model, model_issued(sim->model), &state);
    predict(pending, &state);
    if (pending->changes) {
        model_write(sim->model);
        pending->prefix = model_issued(sim->model);
    }
    for (unsigned i = 0; i < pending->n; i++) {
        unsigned key = pending->keys[i];
        enum err err;
        if (pending->deletes[i]) {
            err = store_write_delete(pending->write, key_of(key));
            if (pending->changes && state.keys[key].version != 0) {
                model_change(sim->model, key, 0, 0);
            }
        } else {
            uint64_t version = model_next_version(sim->model);
            struct store_put put = {.key = key_of(key), .value_bytes = pending->sizes[i]};
            void *value;
            err = store_write_put(pending->write, &put, &value);
            if (err == ERR_OK) {
                pattern_fill(put.key, version, value, put.value_bytes);
            }
            if (pending->changes) {
                model_change(sim->model, key, version, put.value_bytes);
            }
        }
        assert(err == ERR_OK);
        if (i == 0 && pending->conditional) {
            store_write_condition(pending->write, pending->if_absent ? is_absent : is_present,
                                  NULL);
        }
    }
}

static void commit_admitted(struct sim *sim)
{
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        struct pending *pending = &sim->pending[i];
        if (pending->in_use && pending->refused) {
            pending->in_use = false;
        } else if (pending->in_use && pending->admitted) {
            pending->admitted = false;
            build(pending);
            sim->result->writes++;
            store_write_commit(pending->write, on_written, pending);
        }
    }
}

static void start_write(struct sim *sim)
{
    struct pending *pending = NULL;
    for (unsigned i = 0; i < PENDING_MAX && !pending; i++) {
        pending = sim->pending[i].in_use ? NULL : &sim->pending[i];
    }
    if (!pending) {
        return;
    }
    *pending = (struct pending){.sim = sim, .in_use = true};
    pending->n =
        prng_chance(&sim->random, 15) ? 2 + (unsigned)prng_below(&sim->random, BATCH_MAX - 1) : 1;
    uint64_t bytes = 0;
    unsigned first = (unsigned)prng_below(&sim->random, MODEL_KEYS);
    for (unsigned i = 0; i < pending->n; i++) {
        pending->keys[i] = (first + i * 7) % MODEL_KEYS;
        pending->deletes[i] = prng_chance(&sim->random, 25);
        pending->sizes[i] = random_size(sim);
        bytes += 64 + pending->sizes[i];
    }
    pending->conditional = prng_chance(&sim->random, 20);
    pending->if_absent = prng_chance(&sim->random, 50);
    struct store_write_size size = {.ops = pending->n, .bytes = bytes};
    store_write_new(sim->store, &size, on_ready, pending);
}

/* --- Reads --------------------------------------------------------------------------------------
 */

struct read {
    struct sim *sim;
    struct bytes key;
    struct model_value value;
    enum err err;
    bool wrong;
};

static void note_entry(struct read *read, struct bytes key, const struct store_entry *entry)
{
    read->value.size = entry->value.size;
    read->wrong = !pattern_version(key, entry->value, &read->value.version);
}

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct read *read = arg;
    read->err = err;
    if (err == ERR_OK && entry) {
        struct store_entry pinned = *entry;
        note_entry(read, read->key, &pinned);
        store_entry_release(&pinned);
    }
}

/* Reads a key; false if the store gave an error, which only a crash may cause. */
static bool get(struct sim *sim, unsigned key, struct model_value *ret_value)
{
    struct read read = {.sim = sim, .key = key_of(key)};
    store_get(sim->store, read.key, on_get, &read);
    if (read.wrong) {
        violate(sim, "a wrong byte in %s", (const char *)read.key.data);
    }
    if (read.err != ERR_OK && !sim->crashed) {
        violate(sim, "get failed without a fault: %s", err_name(read.err));
    }
    *ret_value = read.value;
    return read.err == ERR_OK;
}

static bool same(struct model_value a, struct model_value b)
{
    return a.version == b.version && (a.version == 0 || a.size == b.size);
}

static void check_get(struct sim *sim)
{
    unsigned key = (unsigned)prng_below(&sim->random, MODEL_KEYS);
    struct model_state state;
    struct model_value value;
    model_state_at(sim->model, model_floor(sim->model), &state);
    sim->result->gets++;
    if (get(sim, key, &value) && !same(value, state.keys[key])) {
        violate(sim, "get of %s shows version %llu, durable is %llu",
                (const char *)key_of(key).data, (unsigned long long)value.version,
                (unsigned long long)state.keys[key].version);
    }
}

struct walk {
    struct sim *sim;
    struct model_state state;
    bool done;
    enum err err;
};

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    struct walk *walk = arg;
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        if (bytes_equal(key_of(key), entry->key)) {
            struct read read = {.sim = walk->sim};
            note_entry(&read, entry->key, entry);
            walk->state.keys[key] = read.value;
            if (read.wrong) {
                violate(walk->sim, "a wrong byte in a scan");
            }
            return true;
        }
    }
    violate(walk->sim, "a scan shows a key that was never written");
    return true;
}

static void on_scan_end(void *arg, enum err err, bool at_end)
{
    struct walk *walk = arg;
    walk->err = err;
    walk->done = at_end;
}

static bool scan(struct sim *sim, struct model_state *ret_state)
{
    struct walk walk = {.sim = sim};
    struct store_scan *scan;
    struct store_range all = {.reverse = prng_chance(&sim->random, 50)};
    if (store_scan_new(sim->store, &all, &scan) != ERR_OK) {
        violate(sim, "a scan could not be made");
        return false;
    }
    store_scan_run(scan, on_scanned, on_scan_end, &walk);
    store_scan_free(scan);
    *ret_state = walk.state;
    return walk.err == ERR_OK && walk.done;
}

static void check_scan(struct sim *sim)
{
    struct model_state state, shown;
    model_state_at(sim->model, model_floor(sim->model), &state);
    sim->result->scans++;
    if (!scan(sim, &shown)) {
        if (!sim->crashed) {
            violate(sim, "a scan failed without a fault");
        }
        return;
    }
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        if (!same(shown.keys[key], state.keys[key])) {
            violate(sim, "a scan shows version %llu of %s, durable is %llu",
                    (unsigned long long)shown.keys[key].version, (const char *)key_of(key).data,
                    (unsigned long long)state.keys[key].version);
        }
    }
}

/* --- Opening and recovery -----------------------------------------------------------------------
 */

static void on_event(void *arg, const struct store_event *event)
{
    struct sim *sim = arg;
    sim->result->torn_tails += event->kind == STORE_EVENT_TORN_TAIL;
    sim->result->flushes += event->kind == STORE_EVENT_FLUSHED;
    sim->result->compactions += event->kind == STORE_EVENT_COMPACTED;
}

static enum err open_store(struct sim *sim, struct err_detail *detail)
{
    struct store_options options = store_options_default();
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = VALUE_MAX;
    options.max_inflight_bytes = 700 * 1024;
    options.vfs = vfs_mem_vfs(sim->vfs);
    options.manual = true;
    options.on_event = on_event;
    options.arg = sim;
    sim->store = NULL;
    return store_open(&options, &sim->store, detail);
}

static void lose_power(struct sim *sim)
{
    if (sim->store) {
        struct store_stats stats;
        store_stats(sim->store, &stats);
        sim->result->rotations += stats.rotations;
        engine_abandon(sim->store);
        sim->store = NULL;
    }
    struct vfs_mem *after = vfs_mem_crash_clone(
        sim->vfs, prng_chance(&sim->random, 20) ? MEM_KEEP_NOTHING : MEM_KEEP_RANDOM,
        prng_next(&sim->random));
    vfs_mem_free(sim->vfs);
    sim->vfs = after;
    vfs_mem_set_hook(sim->vfs, hook, sim);
    sim->crashed = false;
    sim->crash_at = 0;
    memset(sim->pending, 0, sizeof sim->pending);
}

/* Opens after a crash; power may be lost again on the way. */
static void reopen(struct sim *sim)
{
    for (;;) {
        if (prng_chance(&sim->random, 25)) {
            plan_crash(sim, 40);
        }
        struct err_detail detail;
        enum err err = open_store(sim, &detail);
        if (err == ERR_OK && !sim->crashed) {
            sim->crash_at = 0;
            return;
        }
        if (!sim->crashed) {
            violate(sim, "the store did not open: %s: %s", err_name(err), detail.text);
            return;
        }
        sim->result->crashes_in_recovery++;
        lose_power(sim);
    }
}

static void read_all(struct sim *sim, struct model_state *ret_state)
{
    memset(ret_state, 0, sizeof *ret_state);
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        get(sim, key, &ret_state->keys[key]);
    }
}

static bool count_file(void *arg, const char *name)
{
    uint64_t *counts = arg;
    counts[strstr(name, ".log") ? 0 : strstr(name, ".table") ? 1 : 2]++;
    return true;
}

/* After an opening there are just the files that the manifest names. */
static void check_no_orphans(struct sim *sim)
{
    uint64_t counts[3] = {0}, tables = 0;
    struct store_stats stats;
    store_stats(sim->store, &stats);
    for (unsigned level = 0; level < STORE_LEVELS; level++) {
        tables += stats.level_tables[level];
    }
    if (vfs_dir_list(sim->store->dir, count_file, counts) != ERR_OK || counts[0] != 1 ||
        counts[1] != tables || counts[2] > 2) {
        violate(sim, "after opening there are %llu segments, %llu tables of %llu, %llu others",
                (unsigned long long)counts[0], (unsigned long long)counts[1],
                (unsigned long long)tables, (unsigned long long)counts[2]);
    }
}

static void check_recovered(struct sim *sim)
{
    struct model_state points, scanned;
    read_all(sim, &points);
    if (!scan(sim, &scanned) || memcmp(&points, &scanned, sizeof points) != 0) {
        violate(sim, "after recovery a scan and point reads differ");
    }
    size_t floor = model_floor(sim->model), issued = model_issued(sim->model);
    if (!model_recover(sim->model, &points)) {
        violate(sim,
                "what was recovered is no prefix from %zu (acknowledged or shown) to %zu (issued)",
                floor, issued);
    }
    check_no_orphans(sim);
}

/* Opening once more, with nothing lost in between, must change nothing. */
static void check_second_recovery(struct sim *sim)
{
    struct model_state before, after;
    read_all(sim, &before);
    engine_abandon(sim->store);
    struct err_detail detail;
    if (open_store(sim, &detail) != ERR_OK) {
        violate(sim, "a second opening failed: %s", detail.text);
        return;
    }
    read_all(sim, &after);
    if (memcmp(&before, &after, sizeof before) != 0) {
        violate(sim, "a second recovery changed something");
    }
}

static void restart_cleanly(struct sim *sim)
{
    /* Whoever waits for admission is turned away; what is committed completes. */
    store_close(sim->store);
    sim->store = NULL;
    if (sim->crashed) {
        return;
    }
    memset(sim->pending, 0, sizeof sim->pending);
    struct err_detail detail;
    enum err err = open_store(sim, &detail);
    if (sim->crashed) {
        return;
    }
    if (err != ERR_OK) {
        violate(sim, "the store did not open after a clean close: %s", detail.text);
        return;
    }
    sim->result->clean_restarts++;
}

/* --- The workload -------------------------------------------------------------------------------
 */

static void on_upkeep_done(void *arg, enum err err)
{
    (void)arg;
    (void)err;
}

static void act(struct sim *sim)
{
    uint64_t dice = prng_below(&sim->random, 1000);
    if (dice < 450) {
        start_write(sim);
    } else if (dice < 550) {
        check_get(sim);
    } else if (dice < 560) {
        check_scan(sim);
    } else if (dice < 780) {
        engine_log_step(sim->store);
    } else if (dice < 790) {
        engine_log_idle_step(sim->store);
    } else if (dice < 860) {
        engine_flush_step(sim->store);
    } else if (dice < 900) {
        engine_compaction_step(sim->store);
    } else if (dice < 980) {
        engine_reclaim_step(sim->store);
    } else if (dice < 990) {
        store_flush(sim->store, on_upkeep_done, NULL);
    } else if (dice < 993) {
        store_compact(sim->store, on_upkeep_done, NULL);
    } else if (dice < 994) {
        restart_cleanly(sim);
    }
    if (sim->store && !sim->crashed) {
        commit_admitted(sim);
    }
}

static void run_round(struct sim *sim)
{
    plan_crash(sim, 1 + (1u << prng_below(&sim->random, 10)));
    while (!sim->crashed && !sim->result->violated) {
        act(sim);
    }
    if (sim->result->violated) {
        return;
    }
    sim->result->crashes++;
    lose_power(sim);
    reopen(sim);
    if (sim->result->violated) {
        return;
    }
    check_recovered(sim);
    if (!sim->result->violated && prng_chance(&sim->random, 30)) {
        check_second_recovery(sim);
    }
}

void sim_run(const struct sim_options *options, struct sim_result *ret_result)
{
    memset(ret_result, 0, sizeof *ret_result);
    rcu_door_set_manual(true);
    struct sim *sim = calloc(1, sizeof *sim);
    assert(sim);
    sim->options = options;
    sim->result = ret_result;
    prng_init(&sim->random, options->seed);
    sim->model = model_new();
    sim->vfs = vfs_mem_new(prng_next(&sim->random));
    vfs_mem_set_hook(sim->vfs, hook, sim);
    struct err_detail detail;
    if (open_store(sim, &detail) != ERR_OK) {
        violate(sim, "an empty store did not open: %s", detail.text);
    }
    for (; ret_result->round < options->rounds && !ret_result->violated; ret_result->round++) {
        run_round(sim);
    }
    if (sim->store) {
        engine_abandon(sim->store);
    }
    vfs_mem_free(sim->vfs);
    model_free(sim->model);
    free(sim);
    rcu_door_set_manual(false);
}
