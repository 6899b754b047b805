/*
 * bench_engine [KEYS [ROUNDS [DIR]]]: the store beside LevelDB and RocksDB, as libraries, in one
 * run.
 *
 * Keys have 16 bytes and come in random order, values have 100 bytes of which half can be
 * compressed away; nobody compresses. Memtables have 64 MiB. What is measured, by each engine in
 * each round, each time in a new directory below DIR:
 *
 *   fill      KEYS puts by one thread that doesn't wait for each; the clock stops once the last one
 *             is on disk. The others sync with their last put.
 *   fill sync KEYS / 20 puts by 16 threads, each on disk before the next one of its thread
 *   read      KEYS gets of random keys by one thread, after the fill and a full compaction; each
 *             value is read to its last byte
 *
 * Rounds interleave the engines in turning order, so that a machine that slows down slows all. The
 * figures are medians; the ratios are medians of the ratios within a round.
 */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"
#include "store/store_sync.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

#ifdef HAVE_LEVELDB
#    include <leveldb/c.h>
#endif
#ifdef HAVE_ROCKSDB
#    include <rocksdb/c.h>
#endif

enum { KEY_BYTES = 16, VALUE_BYTES = 100, SYNC_THREADS = 16, SYNC_PART = 20, ROUNDS_MAX = 99 };

#define MEMTABLE_BYTES (UINT64_C(64) << 20)
#define KEY_STEP       UINT64_C(2654435761) /* a prime */

static uint64_t n_keys = 1000000;
static unsigned n_rounds = 3;
static char values[1 << 20];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_engine: %s: %s\n", what, why);
    exit(1);
}

/* --- Keys and values -------------------------------------------------------------------------- */

/* Number `i` of a permutation of [0, n_keys): steps of a prime that doesn't divide n_keys. */
static void make_key(uint64_t i, char key[static KEY_BYTES + 1])
{
    uint64_t number = i * KEY_STEP % n_keys;
    key[KEY_BYTES] = '\0';
    for (size_t at = KEY_BYTES; at-- > 0; number /= 10) {
        key[at] = (char)('0' + number % 10);
    }
}

static void make_values(void)
{
    struct prng prng;
    prng_init(&prng, 1);
    for (size_t at = 0; at < sizeof values; at += VALUE_BYTES) {
        size_t left = sizeof values - at;
        size_t half = left < VALUE_BYTES / 2 ? left : VALUE_BYTES / 2;
        prng_fill(&prng, values + at, half);
    }
}

static const char *value_of(uint64_t i)
{
    return values + i * VALUE_BYTES % (sizeof values - VALUE_BYTES);
}

/* So that the compiler reads what was got. */
static uint64_t read_all(const char *value, size_t size)
{
    uint64_t sum = 0;
    assert(size == VALUE_BYTES);
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, value + i, sizeof word);
        sum += word;
    }
    return sum + (unsigned char)value[size - 1];
}

/* --- What an engine can do -------------------------------------------------------------------- */

struct engine {
    const char *name;
    void *(*open)(const char *dir);
    void (*close)(void *db);
    void (*fill)(void *db); /* all keys; returns when they are on disk */
    void (*put_synced)(void *db, uint64_t i);
    void (*compact)(void *db);                  /* everything, to the end */
    uint64_t (*get)(void *db, const char *key); /* read_all() of the value */
};

/* --- varve ------------------------------------------------------------------------------------ */

static void *varve_open(const char *dir)
{
    struct store_options options = store_options_default();
    struct store *store;
    struct err_detail why;
    options.dir = dir;
    options.memtable_bytes = MEMTABLE_BYTES;
    if (store_open(&options, &store, &why) != ERR_OK) {
        die("varve", why.text);
    }
    return store;
}

static void varve_close(void *db)
{
    store_close(db);
}

struct varve_slot {
    sem_t ready;
    struct store_write *write;
};

static uint64_t varve_left; /* puts that aren't on disk yet */
static sem_t varve_all_done;

static void varve_ready(void *arg, enum err err, struct store_write *write)
{
    struct varve_slot *slot = arg;
    if (err != ERR_OK) {
        die("varve", err_text(err));
    }
    slot->write = write;
    sem_post(&slot->ready);
}

static void varve_written(void *arg, enum err err, const struct store_written *written)
{
    (void)arg;
    (void)written;
    if (err != ERR_OK) {
        die("varve", err_text(err));
    }
    if (__atomic_sub_fetch(&varve_left, 1, __ATOMIC_SEQ_CST) == 0) {
        sem_post(&varve_all_done);
    }
}

static void varve_fill(void *db)
{
    struct varve_slot slot;
    struct store_write_size size = {.ops = 1, .bytes = KEY_BYTES + VALUE_BYTES + 16};
    char key[KEY_BYTES + 1];
    sem_init(&slot.ready, 0, 0);
    sem_init(&varve_all_done, 0, 0);
    varve_left = n_keys;
    for (uint64_t i = 0; i < n_keys; i++) {
        void *into;
        make_key(i, key);
        struct store_put put = {.key = bytes_of(key, KEY_BYTES), .value_bytes = VALUE_BYTES};
        store_write_new(db, &size, varve_ready, &slot);
        while (sem_wait(&slot.ready) != 0) {
        }
        if (store_write_put(slot.write, &put, &into) != ERR_OK) {
            die("varve", "put");
        }
        memcpy(into, value_of(i), VALUE_BYTES);
        store_write_commit(slot.write, varve_written, NULL);
    }
    while (sem_wait(&varve_all_done) != 0) {
    }
    sem_destroy(&slot.ready);
    sem_destroy(&varve_all_done);
}

static void varve_put_synced(void *db, uint64_t i)
{
    char key[KEY_BYTES + 1];
    make_key(i, key);
    struct store_put put = {.key = bytes_of(key, KEY_BYTES)};
    if (store_put_sync(db, &put, bytes_of(value_of(i), VALUE_BYTES), NULL) != ERR_OK) {
        die("varve", "put");
    }
}

static void varve_compact(void *db)
{
    if (store_compact_sync(db) != ERR_OK) {
        die("varve", "compact");
    }
}

static void varve_got(void *arg, enum err err, const struct store_entry *entry)
{
    struct store_entry mine;
    if (err != ERR_OK || !entry) {
        die("varve", "get");
    }
    mine = *entry;
    *(uint64_t *)arg = read_all(mine.value.data, mine.value.size);
    store_entry_release(&mine);
}

static uint64_t varve_get(void *db, const char *key)
{
    uint64_t sum = 0;
    store_get(db, bytes_of(key, KEY_BYTES), varve_got, &sum);
    return sum;
}

/* --- LevelDB and RocksDB: C interfaces of one descent ----------------------------------------- */

/* Theirs are alike but for the prefix and how a compaction is asked for. */
#define PEER(db_name, compression, more_options, compact_body)                              \
    struct db_name##_peer {                                                                 \
        db_name##_t *db;                                                                    \
        db_name##_options_t *options;                                                       \
        db_name##_writeoptions_t *write, *write_synced;                                     \
        db_name##_readoptions_t *read;                                                      \
    };                                                                                      \
    static void *db_name##_peer_open(const char *dir)                                       \
    {                                                                                       \
        struct db_name##_peer *peer = calloc(1, sizeof *peer);                              \
        char *why = NULL;                                                                   \
        assert(peer);                                                                       \
        peer->options = db_name##_options_create();                                         \
        db_name##_options_set_create_if_missing(peer->options, 1);                          \
        db_name##_options_set_write_buffer_size(peer->options, MEMTABLE_BYTES);             \
        db_name##_options_set_compression(peer->options, compression);                      \
        more_options peer->db = db_name##_open(peer->options, dir, &why);                   \
        if (why) {                                                                          \
            die(#db_name, why);                                                             \
        }                                                                                   \
        peer->write = db_name##_writeoptions_create();                                      \
        peer->write_synced = db_name##_writeoptions_create();                               \
        db_name##_writeoptions_set_sync(peer->write_synced, 1);                             \
        peer->read = db_name##_readoptions_create();                                        \
        return peer;                                                                        \
    }                                                                                       \
    static void db_name##_peer_close(void *db)                                              \
    {                                                                                       \
        struct db_name##_peer *peer = db;                                                   \
        db_name##_close(peer->db);                                                          \
        db_name##_writeoptions_destroy(peer->write);                                        \
        db_name##_writeoptions_destroy(peer->write_synced);                                 \
        db_name##_readoptions_destroy(peer->read);                                          \
        db_name##_options_destroy(peer->options);                                           \
        free(peer);                                                                         \
    }                                                                                       \
    static void db_name##_peer_put(struct db_name##_peer *peer,                             \
                                   const db_name##_writeoptions_t *how, uint64_t i)         \
    {                                                                                       \
        char key[KEY_BYTES + 1], *why = NULL;                                               \
        make_key(i, key);                                                                   \
        db_name##_put(peer->db, how, key, KEY_BYTES, value_of(i), VALUE_BYTES, &why);       \
        if (why) {                                                                          \
            die(#db_name, why);                                                             \
        }                                                                                   \
    }                                                                                       \
    static void db_name##_peer_fill(void *db)                                               \
    {                                                                                       \
        struct db_name##_peer *peer = db;                                                   \
        for (uint64_t i = 0; i < n_keys; i++) {                                             \
            db_name##_peer_put(peer, i + 1 < n_keys ? peer->write : peer->write_synced, i); \
        }                                                                                   \
    }                                                                                       \
    static void db_name##_peer_put_synced(void *db, uint64_t i)                             \
    {                                                                                       \
        struct db_name##_peer *peer = db;                                                   \
        db_name##_peer_put(peer, peer->write_synced, i);                                    \
    }                                                                                       \
    static void db_name##_peer_compact(void *db)                                            \
    {                                                                                       \
        struct db_name##_peer *peer = db;                                                   \
        compact_body                                                                        \
    }                                                                                       \
    static uint64_t db_name##_peer_get(void *db, const char *key)                           \
    {                                                                                       \
        struct db_name##_peer *peer = db;                                                   \
        char *why = NULL;                                                                   \
        size_t size;                                                                        \
        char *value = db_name##_get(peer->db, peer->read, key, KEY_BYTES, &size, &why);     \
        if (!value) {                                                                       \
            die(#db_name, why ? why : "not found");                                         \
        }                                                                                   \
        uint64_t sum = read_all(value, size);                                               \
        db_name##_free(value);                                                              \
        return sum;                                                                         \
    }

#define PEER_ROW(db_name)                                                         \
    {                                                                             \
#        db_name, db_name##_peer_open, db_name##_peer_close, db_name##_peer_fill, \
            db_name##_peer_put_synced, db_name##_peer_compact, db_name##_peer_get \
    }

/* Both with a filter of 10 bits a key and a cache that holds everything. */
#ifdef HAVE_LEVELDB
PEER(leveldb, leveldb_no_compression,
     leveldb_options_set_filter_policy(peer->options, leveldb_filterpolicy_create_bloom(10));
     leveldb_options_set_cache(peer->options, leveldb_cache_create_lru((size_t)1 << 30));
     , leveldb_compact_range(peer->db, NULL, 0, NULL, 0);)
#endif

#ifdef HAVE_ROCKSDB
static void rocksdb_tables(rocksdb_options_t *options)
{
    rocksdb_block_based_table_options_t *tables = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_filter_policy(tables,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_block_cache(tables, rocksdb_cache_create_lru((size_t)1 << 30));
    rocksdb_options_set_block_based_table_factory(options, tables);
    rocksdb_block_based_options_destroy(tables);
}

static void rocksdb_compact_all(rocksdb_t *db)
{
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *why = NULL;
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush(db, options, &why);
    if (why) {
        die("rocksdb", why);
    }
    rocksdb_flushoptions_destroy(options);
    rocksdb_compact_range(db, NULL, 0, NULL, 0);
}

PEER(rocksdb, rocksdb_no_compression, rocksdb_tables(peer->options);
     , rocksdb_compact_all(peer->db);)
#endif

static const struct engine engines[] = {
    {"varve", varve_open, varve_close, varve_fill, varve_put_synced, varve_compact, varve_get},
#ifdef HAVE_LEVELDB
    PEER_ROW(leveldb),
#endif
#ifdef HAVE_ROCKSDB
    PEER_ROW(rocksdb),
#endif
};

enum { ENGINES = sizeof engines / sizeof engines[0] };

/* --- Measuring -------------------------------------------------------------------------------- */

enum { FILL, FILL_SYNC, READ, MEASURES };

static const char *const measures[MEASURES] = {"fill", "fill sync", "read"};
static double rates[MEASURES][ENGINES][ROUNDS_MAX]; /* operations a second */
static uint64_t checksum;

struct worker {
    pthread_t thread;
    const struct engine *engine;
    void *db;
    uint64_t from, to;
};

static void *put_share(void *arg)
{
    struct worker *worker = arg;
    for (uint64_t i = worker->from; i < worker->to; i++) {
        worker->engine->put_synced(worker->db, i);
    }
    return NULL;
}

static void fill_synced(const struct engine *engine, void *db, uint64_t n)
{
    struct worker workers[SYNC_THREADS];
    for (uint64_t i = 0; i < SYNC_THREADS; i++) {
        workers[i] = (struct worker){.engine = engine,
                                     .db = db,
                                     .from = n * i / SYNC_THREADS,
                                     .to = n * (i + 1) / SYNC_THREADS};
        if (pthread_create(&workers[i].thread, NULL, put_share, &workers[i]) != 0) {
            die("threads", "cannot be started");
        }
    }
    for (uint64_t i = 0; i < SYNC_THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
}

static double rate(uint64_t n, uint64_t began_ns)
{
    return (double)n * 1e9 / (double)(now_ns() - began_ns);
}

static void read_randomly(const struct engine *engine, void *db, uint64_t seed, uint64_t n)
{
    struct prng prng;
    char key[KEY_BYTES + 1];
    prng_init(&prng, seed);
    for (uint64_t i = 0; i < n; i++) {
        make_key(prng_below(&prng, n_keys), key);
        checksum += engine->get(db, key);
    }
}

static void measure(const char *dir, size_t e, unsigned round)
{
    const struct engine *engine = &engines[e];
    char path[TEMP_DIR_BYTES + 32];

    (void)snprintf(path, sizeof path, "%s/%s-sync-%u", dir, engine->name, round);
    void *db = engine->open(path);
    uint64_t began = now_ns(), n = n_keys / SYNC_PART;
    fill_synced(engine, db, n);
    rates[FILL_SYNC][e][round] = rate(n, began);
    engine->close(db);
    temp_dir_remove(path);

    (void)snprintf(path, sizeof path, "%s/%s-%u", dir, engine->name, round);
    db = engine->open(path);
    began = now_ns();
    engine->fill(db);
    rates[FILL][e][round] = rate(n_keys, began);
    engine->compact(db);
    read_randomly(engine, db, 1, n_keys / 4); /* warm */
    began = now_ns();
    read_randomly(engine, db, 2 + round, n_keys);
    rates[READ][e][round] = rate(n_keys, began);
    engine->close(db);
    temp_dir_remove(path);
    fprintf(stderr, "round %u, %s: fill %.0f /s, fill sync %.0f /s, read %.0f /s\n", round + 1,
            engine->name, rates[FILL][e][round], rates[FILL_SYNC][e][round], rates[READ][e][round]);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *of, unsigned n)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, of, n * sizeof sorted[0]);
    qsort(sorted, n, sizeof sorted[0], compare_doubles);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static void print_results(void)
{
    printf("%" PRIu64 " keys of %d bytes, values of %d bytes, %u rounds, medians\n", n_keys,
           KEY_BYTES, VALUE_BYTES, n_rounds);
    for (size_t m = 0; m < MEASURES; m++) {
        for (size_t e = 0; e < ENGINES; e++) {
            double ratios[ROUNDS_MAX];
            for (unsigned r = 0; r < n_rounds; r++) {
                ratios[r] = rates[m][0][r] / rates[m][e][r];
            }
            printf("%-10s %-8s %10.0f /s", measures[m], engines[e].name,
                   median(rates[m][e], n_rounds));
            if (e > 0) {
                printf("   varve is %.2f times as fast", median(ratios, n_rounds));
            }
            putchar('\n');
        }
    }
}

int main(int argc, char *argv[])
{
    char dir[TEMP_DIR_BYTES];
    if (argc > 1) {
        n_keys = strtoull(argv[1], NULL, 10);
    }
    if (argc > 2) {
        n_rounds = (unsigned)strtoul(argv[2], NULL, 10);
    }
    if (argc > 3) {
        setenv("TMPDIR", argv[3], 1);
    }
    if (argc > 4 || n_keys < 1000 || n_keys > UINT64_C(4) << 30 || n_rounds == 0 ||
        n_rounds > ROUNDS_MAX || n_keys % KEY_STEP == 0) {
        fprintf(stderr,
                "usage: bench_engine [KEYS [ROUNDS [DIR]]]; KEYS from 1000 to 2^32, no multiple of "
                "2654435761\n");
        return 2;
    }
    make_values();
    temp_dir_make(dir);
    for (unsigned round = 0; round < n_rounds; round++) {
        for (size_t i = 0; i < ENGINES; i++) {
            measure(dir, (i + round) % ENGINES, round);
        }
    }
    temp_dir_remove(dir);
    print_results();
    return checksum == 0;
}
