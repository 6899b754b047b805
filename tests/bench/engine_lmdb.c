/* engine_lmdb.c - LMDB 0.9.24. A put is a transaction of its own; one that isn't synced leaves its
 * pages to the page cache (MDB_NOSYNC). A session keeps one reading transaction and renews it for
 * each call, as its manual recommends. MDB_NORDAHEAD, since what is read cold is read at random. */
#include <lmdb.h>
#include <stdlib.h>

#include "tests/bench/engines.h"
#include "tests/bench/measure.h"

#define MAP_BYTES ((size_t)64 << 30) /* of address space */

struct lmdb {
    MDB_env *env;
    MDB_dbi items;
};

struct lmdb_session {
    struct lmdb *lmdb;
    MDB_txn *reading;
    MDB_cursor *cursor;
};

static void ok(int status)
{
    measure_check(status == MDB_SUCCESS, "lmdb", mdb_strerror(status));
}

static void *lm_open(const char *place, bool synced)
{
    struct lmdb *lmdb = calloc(1, sizeof *lmdb);
    MDB_txn *txn;
    measure_check(lmdb != NULL, "lmdb", "no memory");
    ok(mdb_env_create(&lmdb->env));
    ok(mdb_env_set_mapsize(lmdb->env, MAP_BYTES));
    ok(mdb_env_open(lmdb->env, place, MDB_NOTLS | MDB_NORDAHEAD | (synced ? 0 : MDB_NOSYNC), 0600));
    ok(mdb_txn_begin(lmdb->env, NULL, 0, &txn));
    ok(mdb_dbi_open(txn, NULL, 0, &lmdb->items));
    ok(mdb_txn_commit(txn));
    return lmdb;
}

static void lm_close(void *db)
{
    struct lmdb *lmdb = db;
    mdb_env_close(lmdb->env);
    free(lmdb);
}

static void *lm_session_new(void *db)
{
    struct lmdb_session *session = calloc(1, sizeof *session);
    measure_check(session != NULL, "lmdb", "no memory");
    session->lmdb = db;
    ok(mdb_txn_begin(session->lmdb->env, NULL, MDB_RDONLY, &session->reading));
    ok(mdb_cursor_open(session->reading, session->lmdb->items, &session->cursor));
    mdb_txn_reset(session->reading);
    return session;
}

static void lm_session_free(void *arg)
{
    struct lmdb_session *session = arg;
    mdb_cursor_close(session->cursor);
    mdb_txn_abort(session->reading);
    free(session);
}

static MDB_val val_of(struct bytes bytes)
{
    return (MDB_val){.mv_size = bytes.size, .mv_data = (void *)bytes.data};
}

static void lm_put(void *arg, struct bytes key, struct bytes value)
{
    struct lmdb_session *session = arg;
    MDB_val k = val_of(key), v = val_of(value);
    MDB_txn *txn;
    ok(mdb_txn_begin(session->lmdb->env, NULL, 0, &txn));
    ok(mdb_put(txn, session->lmdb->items, &k, &v, 0));
    ok(mdb_txn_commit(txn));
}

static void lm_sync(void *arg)
{
    struct lmdb_session *session = arg;
    ok(mdb_env_sync(session->lmdb->env, 1));
}

static bool lm_get(void *arg, struct bytes key, engine_each_fn *each, void *each_arg)
{
    struct lmdb_session *session = arg;
    MDB_val k = val_of(key), v;
    ok(mdb_txn_renew(session->reading));
    int status = mdb_get(session->reading, session->lmdb->items, &k, &v);
    if (status != MDB_NOTFOUND) {
        ok(status);
        each(each_arg, key, bytes_of(v.mv_data, v.mv_size));
    }
    mdb_txn_reset(session->reading);
    return status == MDB_SUCCESS;
}

static uint64_t lm_scan(void *arg, struct bytes start, uint64_t n, engine_each_fn *each,
                        void *each_arg)
{
    struct lmdb_session *session = arg;
    MDB_val k = val_of(start), v;
    uint64_t seen = 0;
    ok(mdb_txn_renew(session->reading));
    ok(mdb_cursor_renew(session->reading, session->cursor));
    int status = mdb_cursor_get(session->cursor, &k, &v, MDB_SET_RANGE);
    while (status != MDB_NOTFOUND && seen < n) {
        ok(status);
        each(each_arg, bytes_of(k.mv_data, k.mv_size), bytes_of(v.mv_data, v.mv_size));
        seen++;
        status = seen < n ? mdb_cursor_get(session->cursor, &k, &v, MDB_NEXT) : MDB_NOTFOUND;
    }
    mdb_txn_reset(session->reading);
    return seen;
}

static void lm_compact(void *db)
{
    (void)db; /* a tree that is changed in place */
}

const struct engine engine_lmdb = {
    .name = "lmdb",
    .open = lm_open,
    .close = lm_close,
    .session_new = lm_session_new,
    .session_free = lm_session_free,
    .put = lm_put,
    .sync = lm_sync,
    .get = lm_get,
    .scan = lm_scan,
    .compact = lm_compact,
};
