/* engine_leveldb.c - LevelDB 1.23. */
#include <leveldb/c.h>
#include <stdlib.h>

#include "tests/bench/engines.h"
#include "tests/bench/measure.h"

struct leveldb {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write, *write_synced;
};

static void ok(const char *why)
{
    measure_check(why == NULL, "leveldb", why ? why : "");
}

static void *level_open(const char *place, bool synced)
{
    struct leveldb *level = calloc(1, sizeof *level);
    char *why = NULL;
    measure_check(level != NULL, "leveldb", "no memory");
    level->cache = leveldb_cache_create_lru(ENGINES_CACHE_BYTES);
    level->filter = leveldb_filterpolicy_create_bloom(ENGINES_FILTER_BITS);
    level->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(level->options, 1);
    leveldb_options_set_write_buffer_size(level->options, ENGINES_BUFFER_BYTES);
    leveldb_options_set_compression(level->options, leveldb_no_compression);
    leveldb_options_set_cache(level->options, level->cache);
    leveldb_options_set_filter_policy(level->options, level->filter);
    level->read = leveldb_readoptions_create();
    level->write = leveldb_writeoptions_create();
    level->write_synced = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(level->write, synced);
    leveldb_writeoptions_set_sync(level->write_synced, 1);
    level->db = leveldb_open(level->options, place, &why);
    ok(why);
    return level;
}

static void level_close(void *db)
{
    struct leveldb *level = db;
    leveldb_close(level->db);
    leveldb_writeoptions_destroy(level->write_synced);
    leveldb_writeoptions_destroy(level->write);
    leveldb_readoptions_destroy(level->read);
    leveldb_options_destroy(level->options);
    leveldb_filterpolicy_destroy(level->filter);
    leveldb_cache_destroy(level->cache);
    free(level);
}

static void *level_session_new(void *db)
{
    return db;
}

static void level_session_free(void *session)
{
    (void)session;
}

static void level_put(void *session, struct bytes key, struct bytes value)
{
    struct leveldb *level = session;
    char *why = NULL;
    leveldb_put(level->db, level->write, key.data, key.size, value.data, value.size, &why);
    ok(why);
}

/* A batch of nothing that is synced, and all of its log file with it. */
static void level_sync(void *session)
{
    struct leveldb *level = session;
    char *why = NULL;
    leveldb_writebatch_t *nothing = leveldb_writebatch_create();
    leveldb_write(level->db, level->write_synced, nothing, &why);
    ok(why);
    leveldb_writebatch_destroy(nothing);
}

static bool level_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    struct leveldb *level = session;
    char *why = NULL;
    size_t size;
    char *value = leveldb_get(level->db, level->read, key.data, key.size, &size, &why);
    ok(why);
    if (!value) {
        return false;
    }
    each(arg, key, bytes_of(value, size));
    leveldb_free(value);
    return true;
}

static uint64_t level_scan(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                           void *arg)
{
    struct leveldb *level = session;
    char *why = NULL;
    uint64_t seen = 0;
    leveldb_iterator_t *at = leveldb_create_iterator(level->db, level->read);
    leveldb_iter_seek(at, start.data, start.size);
    for (; seen < n && leveldb_iter_valid(at); seen++) {
        struct bytes key, value;
        key.data = leveldb_iter_key(at, &key.size);
        value.data = leveldb_iter_value(at, &value.size);
        each(arg, key, value);
        leveldb_iter_next(at);
    }
    leveldb_iter_get_error(at, &why);
    ok(why);
    leveldb_iter_destroy(at);
    return seen;
}

static void level_compact(void *db)
{
    struct leveldb *level = db;
    leveldb_compact_range(level->db, NULL, 0, NULL, 0);
}

const struct engine engine_leveldb = {
    .name = "leveldb",
    .open = level_open,
    .close = level_close,
    .session_new = level_session_new,
    .session_free = level_session_free,
    .put = level_put,
    .sync = level_sync,
    .get = level_get,
    .scan = level_scan,
    .compact = level_compact,
};
