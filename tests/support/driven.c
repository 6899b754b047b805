/* driven.c - a store without threads, driven step by step, beside a model of what it must hold. */
#include "tests/support/driven.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/scrub.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"

static struct bytes key_of(size_t key, char buffer[DRIVEN_KEY_BYTES])
{
    int size = snprintf(buffer, DRIVEN_KEY_BYTES, "key/%08zu", key);
    return bytes_of(buffer, (size_t)size);
}

static void on_event(void *arg, const struct store_event *event)
{
    struct driven *driven = arg;
    driven->events[event->kind]++;
    snprintf(driven->last_text[event->kind], sizeof driven->last_text[0], "%s", event->text);
    snprintf(driven->last_keys[event->kind], sizeof driven->last_keys[0], "%s", event->keys);
}

void driven_init(struct driven *driven, const struct vfs *vfs, const char *dir, size_t n_keys,
                 uint64_t seed)
{
    *driven = (struct driven){.n_keys = n_keys};
    driven->options = store_options_default();
    driven->options.dir = dir;
    driven->options.vfs = vfs;
    driven->options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    driven->options.max_value_bytes = UINT64_C(1) << 18;
    driven->options.max_inflight_bytes = UINT64_C(1) << 19;
    driven->options.manual = true;
    driven->options.on_event = on_event;
    driven->options.arg = driven;
    driven->keys = calloc(n_keys, sizeof driven->keys[0]);
    assert_non_null(driven->keys);
    prng_init(&driven->prng, seed);
}

void driven_open(struct driven *driven)
{
    struct err_detail detail;
    rcu_door_set_manual(true);
    enum err err = store_open(&driven->options, &driven->store, &detail);
    if (err != ERR_OK) {
        fail_msg("open: %s: %s", err_name(err), detail.text);
    }
}

void driven_close(struct driven *driven)
{
    store_close(driven->store);
    driven->store = NULL;
    while (rcu_door_reclaim()) {
    }
    rcu_door_set_manual(false);
}

void driven_release(struct driven *driven)
{
    if (driven->store) {
        driven_close(driven);
    }
    free(driven->keys);
}

/* --- Writes --- */

struct write {
    bool ready, done;
    struct store_write *write;
    struct store_version version;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct write *w = arg;
    assert_ok(err);
    w->ready = true;
    w->write = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct write *w = arg;
    assert_ok(err);
    assert_false(written->condition_failed);
    assert_int_equal(written->n_ops, 1);
    w->version = written->ops[0].version;
    w->done = true;
}

/* Admission may have to wait for any of the background jobs. */
static void begin_write(struct driven *driven, struct write *w, uint64_t bytes, bool deletes_only)
{
    struct store_write_size size = {.ops = 1, .bytes = bytes, .deletes_only = deletes_only};
    store_write_new(driven->store, &size, on_ready, w);
    while (!w->ready) {
        driven_step(driven);
    }
}

static void finish_write(struct driven *driven, struct write *w)
{
    store_write_commit(w->write, on_written, w);
    while (!w->done) {
        engine_log_step(driven->store);
    }
}

void driven_put(struct driven *driven, size_t key, size_t size)
{
    char buffer[DRIVEN_KEY_BYTES];
    struct store_put put = {.key = key_of(key, buffer), .value_bytes = size};
    struct write w = {.ready = false};
    void *value;
    begin_write(driven, &w, put.key.size + size, false);
    assert_ok(store_write_put(w.write, &put, &value));
    pattern_fill(put.key, ++driven->last_version, value, size);
    finish_write(driven, &w);
    driven->keys[key] =
        (struct driven_key){.version = driven->last_version, .size = size, .shown = w.version};
}

void driven_delete(struct driven *driven, size_t key)
{
    char buffer[DRIVEN_KEY_BYTES];
    struct write w = {.ready = false};
    begin_write(driven, &w, DRIVEN_KEY_BYTES, true);
    assert_ok(store_write_delete(w.write, key_of(key, buffer)));
    finish_write(driven, &w);
    driven->keys[key] = (struct driven_key){.version = 0};
}

/* --- Steps --- */

void driven_step(struct driven *driven)
{
    switch (prng_below(&driven->prng, 5)) {
    case 0:
        engine_log_step(driven->store);
        break;
    case 1:
        engine_flush_step(driven->store);
        break;
    case 2:
        engine_compaction_step(driven->store);
        break;
    case 3:
        engine_scrub_step(driven->store);
        break;
    default:
        engine_reclaim_step(driven->store);
        break;
    }
}

bool driven_flushes(struct driven *driven)
{
    bool any = false;
    while (engine_log_step(driven->store) || engine_flush_step(driven->store)) {
        any = true;
    }
    return any;
}

bool driven_compactions(struct driven *driven)
{
    bool any = false;
    while (engine_compaction_step(driven->store)) {
        any = true;
    }
    return any;
}

void driven_scrub(struct driven *driven)
{
    while (engine_scrub_step(driven->store)) {
    }
}

void driven_reclaims(struct driven *driven)
{
    struct table *scrubbed = driven->store->scrubber.table;
    if (scrubbed && table_is_obsolete(scrubbed)) {
        engine_scrub_close(driven->store); /* as its next step would */
    }
    while (engine_reclaim_step(driven->store)) {
    }
}

void driven_settle(struct driven *driven)
{
    bool flushed, compacted;
    do {
        flushed = driven_flushes(driven);
        compacted = driven_compactions(driven);
        driven_reclaims(driven);
    } while (flushed || compacted);
}

struct request {
    bool done;
    enum err err;
};

static void on_done(void *arg, enum err err)
{
    struct request *request = arg;
    request->done = true;
    request->err = err;
}

void driven_flush(struct driven *driven)
{
    struct request request = {.done = false};
    store_flush(driven->store, on_done, &request);
    while (!request.done) {
        driven_flushes(driven);
    }
    assert_ok(request.err);
}

enum err driven_compact(struct driven *driven)
{
    struct request request = {.done = false};
    store_compact(driven->store, on_done, &request);
    while (!request.done) {
        driven_step(driven);
    }
    return request.err;
}

/* --- Checks --- */

/* The entry is what the model says of the key. */
static void assert_entry(const struct driven_key *expected, struct bytes key,
                         const struct store_entry *entry)
{
    assert_true(bytes_equal(entry->key, key));
    assert_true(store_version_equal(entry->version, expected->shown));
    assert_int_equal(entry->value.size, expected->size);
    assert_true(!entry->value.data || pattern_matches(key, expected->version, entry->value));
}

struct get {
    struct bytes key;
    const struct driven_key *expected;
    bool done;
    enum err err;
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct get *get = arg;
    get->done = true;
    get->err = err;
    if (err != ERR_OK) {
        return;
    }
    assert_int_equal(entry != NULL, get->expected->version != 0);
    if (entry) {
        struct store_entry mine = *entry;
        assert_non_null(entry->value.data);
        assert_entry(get->expected, get->key, entry);
        store_entry_release(&mine);
    }
}

enum err driven_get(struct driven *driven, size_t key)
{
    char buffer[DRIVEN_KEY_BYTES];
    struct get get = {.key = key_of(key, buffer), .expected = &driven->keys[key]};
    store_get(driven->store, get.key, on_get, &get);
    assert_true(get.done);
    return get.err;
}

void driven_check_key(struct driven *driven, size_t key)
{
    assert_ok(driven_get(driven, key));
}

struct driven_snapshot {
    struct store_scan *scan;
    bool reverse, keys_only, at_end;
    size_t n_keys;
    size_t at; /* number of the next key forward, one above it in reverse */
    size_t left;
    struct driven_key keys[];
};

struct driven_snapshot *driven_snapshot(struct driven *driven, bool reverse, bool keys_only)
{
    struct driven_snapshot *snapshot =
        calloc(1, sizeof *snapshot + driven->n_keys * sizeof driven->keys[0]);
    assert_non_null(snapshot);
    struct store_range range = {.reverse = reverse, .keys_only = keys_only};
    assert_ok(store_scan_new(driven->store, &range, &snapshot->scan));
    snapshot->reverse = reverse;
    snapshot->keys_only = keys_only;
    snapshot->n_keys = driven->n_keys;
    snapshot->at = reverse ? driven->n_keys : 0;
    memcpy(snapshot->keys, driven->keys, driven->n_keys * sizeof driven->keys[0]);
    return snapshot;
}

/* The number of the next key that is there; n_keys: none is left. */
static size_t expect_next(struct driven_snapshot *snapshot)
{
    while (snapshot->reverse ? snapshot->at > 0 : snapshot->at < snapshot->n_keys) {
        size_t key = snapshot->reverse ? --snapshot->at : snapshot->at++;
        if (snapshot->keys[key].version != 0) {
            return key;
        }
    }
    return snapshot->n_keys;
}

static bool on_entry(void *arg, const struct store_entry *entry)
{
    struct driven_snapshot *snapshot = arg;
    char buffer[DRIVEN_KEY_BYTES];
    size_t key = expect_next(snapshot);
    assert_true(key < snapshot->n_keys);
    assert_int_equal(entry->value.data == NULL, snapshot->keys_only);
    assert_entry(&snapshot->keys[key], key_of(key, buffer), entry);
    return --snapshot->left > 0;
}

static void on_walked(void *arg, enum err err, bool at_end)
{
    struct driven_snapshot *snapshot = arg;
    size_t at = snapshot->at;
    assert_ok(err);
    assert_int_equal(at_end, expect_next(snapshot) == snapshot->n_keys);
    snapshot->at = at;
    snapshot->at_end = at_end;
}

void driven_snapshot_walk(struct driven_snapshot *snapshot, size_t n)
{
    snapshot->left = n;
    store_scan_run(snapshot->scan, on_entry, on_walked, snapshot);
}

void driven_snapshot_free(struct driven_snapshot *snapshot)
{
    store_scan_free(snapshot->scan);
    free(snapshot);
}

static void check_all(struct driven *driven, bool reverse, bool keys_only)
{
    struct driven_snapshot *snapshot = driven_snapshot(driven, reverse, keys_only);
    driven_snapshot_walk(snapshot, SIZE_MAX);
    assert_true(snapshot->at_end);
    driven_snapshot_free(snapshot);
}

void driven_check_keys(struct driven *driven)
{
    check_all(driven, true, true);
    for (int i = 0; i < 30; i++) {
        driven_check_key(driven, prng_below(&driven->prng, driven->n_keys));
    }
}

void driven_check(struct driven *driven)
{
    check_all(driven, false, false);
    driven_check_keys(driven);
}
