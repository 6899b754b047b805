/*
 * engines.h - what is measured, each behind the same few functions.
 *
 * All get equal memory: 64 MiB of write buffer, of which a few may be full at a time, and a cache
 * that holds everything: 1 GiB of blocks for LevelDB and RocksDB, the page cache for varve and
 * LMDB. Nobody compresses; whoever has filters has them of 10 bits a key. All else is as it comes.
 *
 * Threads:   open, close and compact: one; a session belongs to one thread at a time.
 * Ownership: as the names say; sessions end before their database. Keys and values are borrowed
 *            for the call.
 * Errors:    end the program.
 */
#ifndef VARVE_TESTS_BENCH_ENGINES_H
#define VARVE_TESTS_BENCH_ENGINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"

#define ENGINES_BUFFER_BYTES ((size_t)64 << 20)
#define ENGINES_BUFFERS      3 /* being filled, and full ones */
#define ENGINES_CACHE_BYTES  ((size_t)1 << 30)
#define ENGINES_FILTER_BITS  10

typedef void engine_each_fn(void *arg, struct bytes key, struct bytes value);

struct engine {
    const char *name;

    /* Opens or makes the database in the directory `place`. synced: a put is on disk when it
     * returns; otherwise when the next sync() does. */
    void *(*open)(const char *place, bool synced);
    void (*close)(void *db);

    void *(*session_new)(void *db);
    void (*session_free)(void *session);

    void (*put)(void *session, struct bytes key, struct bytes value);
    void (*sync)(void *session); /* everybody's puts */
    /* Calls each(arg, key, value) with the value where the engine has it; false: not there. */
    bool (*get)(void *session, struct bytes key, engine_each_fn *each, void *arg);
    /* The same for up to `n` items in key order from `start` on; returns how many there were. NULL:
     * it has no order. A server's value may be left out: its data is NULL then. */
    uint64_t (*scan)(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                     void *arg);

    /* Merges everything, to the end. */
    void (*compact)(void *db);
};

extern const struct engine engine_varve;
#ifdef HAVE_LEVELDB
extern const struct engine engine_leveldb;
#endif
#ifdef HAVE_ROCKSDB
extern const struct engine engine_rocksdb;
#endif
#ifdef HAVE_LMDB
extern const struct engine engine_lmdb;
#endif

/* The engines that this was built with and that the comma-separated `list` names (NULL: all), in
 * *ret_n of a static array. A name that it doesn't know ends the program. */
const struct engine *const *engines_chosen(const char *list, size_t *ret_n);

#endif
