/* engine_rocksdb.c - RocksDB 7.8. Values are read where they lie in its cache. */
#include <rocksdb/c.h>
#include <stdlib.h>

#include "tests/bench/engines.h"
#include "tests/bench/measure.h"

struct rocksdb {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
};

static void ok(const char *why)
{
    measure_check(why == NULL, "rocksdb", why ? why : "");
}

static void set_tables(struct rocksdb *rocks)
{
    rocksdb_block_based_table_options_t *tables = rocksdb_block_based_options_create();
    rocks->cache = rocksdb_cache_create_lru(ENGINES_CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(tables, rocks->cache);
    rocksdb_block_based_options_set_filter_policy(
        tables, rocksdb_filterpolicy_create_bloom_full(ENGINES_FILTER_BITS));
    rocksdb_options_set_block_based_table_factory(rocks->options, tables);
    rocksdb_block_based_options_destroy(tables);
}

static void *rocks_open(const char *place, bool synced)
{
    struct rocksdb *rocks = calloc(1, sizeof *rocks);
    char *why = NULL;
    measure_check(rocks != NULL, "rocksdb", "no memory");
    rocks->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(rocks->options, 1);
    rocksdb_options_set_write_buffer_size(rocks->options, ENGINES_BUFFER_BYTES);
    rocksdb_options_set_max_write_buffer_number(rocks->options, ENGINES_BUFFERS);
    rocksdb_options_set_compression(rocks->options, rocksdb_no_compression);
    set_tables(rocks);
    rocks->read = rocksdb_readoptions_create();
    rocks->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rocks->write, synced);
    rocks->db = rocksdb_open(rocks->options, place, &why);
    ok(why);
    return rocks;
}

static void rocks_close(void *db)
{
    struct rocksdb *rocks = db;
    rocksdb_close(rocks->db);
    rocksdb_writeoptions_destroy(rocks->write);
    rocksdb_readoptions_destroy(rocks->read);
    rocksdb_options_destroy(rocks->options);
    rocksdb_cache_destroy(rocks->cache);
    free(rocks);
}

static void *rocks_session_new(void *db)
{
    return db;
}

static void rocks_session_free(void *session)
{
    (void)session;
}

static void rocks_put(void *session, struct bytes key, struct bytes value)
{
    struct rocksdb *rocks = session;
    char *why = NULL;
    rocksdb_put(rocks->db, rocks->write, key.data, key.size, value.data, value.size, &why);
    ok(why);
}

static void rocks_sync(void *session)
{
    struct rocksdb *rocks = session;
    char *why = NULL;
    rocksdb_flush_wal(rocks->db, 1, &why);
    ok(why);
}

static bool rocks_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    struct rocksdb *rocks = session;
    char *why = NULL;
    struct bytes value;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned(rocks->db, rocks->read, key.data, key.size, &why);
    ok(why);
    if (!pin) {
        return false;
    }
    value.data = rocksdb_pinnableslice_value(pin, &value.size);
    each(arg, key, value);
    rocksdb_pinnableslice_destroy(pin);
    return true;
}

static uint64_t rocks_scan(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                           void *arg)
{
    struct rocksdb *rocks = session;
    char *why = NULL;
    uint64_t seen = 0;
    rocksdb_iterator_t *at = rocksdb_create_iterator(rocks->db, rocks->read);
    rocksdb_iter_seek(at, start.data, start.size);
    for (; seen < n && rocksdb_iter_valid(at); seen++) {
        struct bytes key, value;
        key.data = rocksdb_iter_key(at, &key.size);
        value.data = rocksdb_iter_value(at, &value.size);
        each(arg, key, value);
        rocksdb_iter_next(at);
    }
    rocksdb_iter_get_error(at, &why);
    ok(why);
    rocksdb_iter_destroy(at);
    return seen;
}

static void rocks_compact(void *db)
{
    struct rocksdb *rocks = db;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *why = NULL;
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush(rocks->db, options, &why);
    ok(why);
    rocksdb_flushoptions_destroy(options);
    rocksdb_compact_range(rocks->db, NULL, 0, NULL, 0);
}

const struct engine engine_rocksdb = {
    .name = "rocksdb",
    .open = rocks_open,
    .close = rocks_close,
    .session_new = rocks_session_new,
    .session_free = rocks_session_free,
    .put = rocks_put,
    .sync = rocks_sync,
    .get = rocks_get,
    .scan = rocks_scan,
    .compact = rocks_compact,
};
