/* layers.c - a random view with memtables and tables at several levels, and what it must say. */
#include "tests/support/layers.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/nodes.h"
#include "tests/support/pattern.h"
#include "tests/support/tables.h"
#include "tests/support/temp_dir.h"

#define KEYS_MAX     300u
#define VERSIONS_MAX 8000u

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

static int compare_versions(const void *a, const void *b)
{
    const struct layers_version *x = a, *y = b;
    int order = bytes_compare(x->key, y->key);
    return order != 0 ? order : (x->seq < y->seq) - (x->seq > y->seq);
}

/* Letters of a small alphabet with the lowest and the highest byte; many keys begin alike. */
static void make_keys(struct layers *layers)
{
    static const uint8_t letters[] = {0x00, 'a', 'b', 0xFF};
    size_t n = 1 + prng_below(&layers->prng, KEYS_MAX);
    layers->keys = calloc(n, sizeof layers->keys[0]);
    assert_non_null(layers->keys);
    for (size_t i = 0; i < n; i++) {
        uint8_t *key = calloc(1, 32);
        size_t size = 0;
        assert_non_null(key);
        if (prng_chance(&layers->prng, 50)) {
            memcpy(key, "tenants/", 8); /* as long as a cached prefix */
            size = 8;
        }
        size_t end = size + 1 + prng_below(&layers->prng, 10);
        while (size < end) {
            key[size++] = letters[prng_below(&layers->prng, sizeof letters)];
        }
        layers->keys[i] = bytes_of(key, size);
    }
    qsort(layers->keys, n, sizeof layers->keys[0], compare_keys);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && bytes_equal(layers->keys[i], layers->keys[layers->n_keys - 1])) {
            free((void *)layers->keys[i].data);
        } else {
            layers->keys[layers->n_keys++] = layers->keys[i];
        }
    }
}

static struct node *make_version(struct layers *layers, struct bytes key)
{
    uint64_t seq = ++layers->last_seq;
    bool marker = prng_chance(&layers->prng, 25);
    assert_true(layers->n_versions < VERSIONS_MAX);
    layers->versions[layers->n_versions++] =
        (struct layers_version){.key = key, .seq = seq, .marker = marker};
    uint64_t most = prng_chance(&layers->prng, 95) ? 100 : 150000;
    return marker ? node_delete(layers->arena, key, seq)
                  : node_put(layers->arena, key, seq, prng_below(&layers->prng, most));
}

static void finish_table(struct layers *layers, uint32_t level, struct table_writer *writer)
{
    struct table_info info;
    struct table *table;
    assert_ok(table_writer_finish(writer, &info));
    table_writer_free(writer);
    assert_ok(table_open(layers->dir, TABLES_STORE_ID, info.number, &info, &table, NULL));
    assert_ok(view_add_table(layers->view, level, table));
}

/* One version of some keys, in one table or, below level 0, several. */
static void lay_tables(struct layers *layers, uint32_t level)
{
    unsigned percent = 1 + (unsigned)prng_below(&layers->prng, 70);
    struct table_writer *writer = NULL;
    for (size_t i = 0; i < layers->n_keys; i++) {
        if (!prng_chance(&layers->prng, percent)) {
            continue;
        }
        if (writer && level > 0 && prng_chance(&layers->prng, 10)) {
            finish_table(layers, level, writer);
            writer = NULL;
        }
        if (!writer) {
            uint64_t number = engine_new_number(layers->store);
            assert_ok(
                table_writer_new(layers->dir, number, TABLES_STORE_ID, number + 1000, &writer));
        }
        struct node *node = make_version(layers, layers->keys[i]);
        assert_ok(table_writer_add(writer, node->record));
        chunk_release(node->chunk);
    }
    if (writer) {
        finish_table(layers, level, writer);
    }
    layers->tables_seq = layers->last_seq;
}

static void write_to(struct layers *layers, struct memtable *memtable)
{
    struct bytes key = layers->keys[prng_below(&layers->prng, layers->n_keys)];
    node_insert(memtable, make_version(layers, key), NULL);
}

static struct memtable *lay_memtable(struct layers *layers)
{
    struct memtable *memtable;
    assert_ok(memtable_new(1, UINT64_C(1) << 20, &memtable));
    for (size_t n = prng_below(&layers->prng, 400); n > 0; n--) {
        write_to(layers, memtable);
    }
    return memtable;
}

static void sort_versions(struct layers *layers)
{
    qsort(layers->versions, layers->n_versions, sizeof layers->versions[0], compare_versions);
}

struct layers *layers_new(uint64_t seed)
{
    struct layers *layers = calloc(1, sizeof *layers);
    assert_non_null(layers);
    prng_init(&layers->prng, seed);
    temp_dir_make(layers->path);
    assert_ok(vfs_dir_open(vfs_posix(), layers->path, false, &layers->dir));
    layers->store = calloc(1, sizeof *layers->store);
    layers->versions = calloc(VERSIONS_MAX, sizeof layers->versions[0]);
    assert_true(layers->store && layers->versions);
    pthread_mutex_init(&layers->store->reaper_mutex, NULL);
    sleeper_init(&layers->store->reaper_sleeper);
    atomic_init(&layers->store->next_file, 1);
    assert_ok(arena_new(&layers->arena));
    make_keys(layers);
    assert_ok(view_new(layers->store, &layers->view));
    for (uint32_t level = MANIFEST_LEVELS - 1; level > 0; level--) {
        if (prng_chance(&layers->prng, 50)) {
            lay_tables(layers, level);
        }
    }
    for (size_t n = prng_below(&layers->prng, 5); n > 0; n--) {
        lay_tables(layers, 0);
    }
    struct view *view = layers->view;
    view->n_sealed = prng_below(&layers->prng, VIEW_SEALED_MAX + 1);
    for (size_t i = view->n_sealed; i > 0; i--) {
        view->sealed[i - 1] = lay_memtable(layers);
    }
    view->active = lay_memtable(layers);
    sort_versions(layers);
    return layers;
}

void layers_write(struct layers *layers)
{
    write_to(layers, layers->view->active);
    sort_versions(layers);
}

const struct layers_version *layers_find(const struct layers *layers, struct bytes key,
                                         uint64_t max_seq)
{
    for (size_t i = 0; i < layers->n_versions; i++) {
        const struct layers_version *version = &layers->versions[i];
        if (version->seq <= max_seq && bytes_equal(version->key, key)) {
            return version;
        }
    }
    return NULL;
}

bool layers_match(const struct layers_version *version, const struct record *record)
{
    enum record_kind kind = version->marker ? RECORD_DELETE : RECORD_PUT;
    return bytes_equal(record_key(record), version->key) && record->seq == version->seq &&
           record->kind == kind && record_verify(record) == ERR_OK &&
           pattern_matches(version->key, version->seq, record_value(record));
}

void layers_reap(struct layers *layers)
{
    while (engine_reclaim_step(layers->store)) {
    }
}

void layers_free(struct layers *layers)
{
    view_release(layers->view);
    layers_reap(layers);
    arena_free(layers->arena);
    vfs_dir_close(layers->dir);
    temp_dir_remove(layers->path);
    for (size_t i = 0; i < layers->n_keys; i++) {
        free((void *)layers->keys[i].data);
    }
    free(layers->keys);
    free(layers->versions);
    pthread_mutex_destroy(&layers->store->reaper_mutex);
    sleeper_release(&layers->store->reaper_sleeper);
    free(layers->store);
    free(layers);
}
