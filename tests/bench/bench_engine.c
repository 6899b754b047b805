/*
 * bench_engine: varve as a library beside LevelDB, RocksDB and LMDB (engines.h).
 *
 *   --rounds N   5 unless given
 *   --keys N     items, 1,000,000 unless given; keys of 16 bytes, values of 100 (items.h)
 *   --dir DIR    where the databases are made
 *   --peers A,B  these engines only
 *   --only A,B   these stages only: sequential, random, synced, overwrite
 *   --quick      one round of 20,000 items unless given otherwise, to see that it runs
 *
 * In each round, for each stage, the engines take turns in turning order, so that a machine that
 * slows down slows all; each in a process and a directory of its own. Every value that is read is
 * checked to its last byte.
 *
 *   sequential fill, random fill   puts by one thread that doesn't wait for each; the clock stops
 *                                  once the last one is on disk
 *   random read, missing keys      after a full compaction, and a quarter as many to warm up
 *   scan of 100, full scan         seeks to random keys; all items in order
 *   cold read                      all files are dropped from the page cache while nobody has them
 *                                  open; the engine is opened again, and then come random reads.
 *                                  What it reads to open is warm, and so is what the kernel reads
 *                                  ahead
 *   read while writing             random reads while a second thread overwrites 10,000 items a
 *                                  second
 *   synced fill, N threads         each put on disk before the next one of its thread
 *   overwrite                      4 times as many random puts as there are items, then:
 *   write amplification            bytes handed to write calls since, once that has come to rest,
 * over bytes of keys and values put; `disk` is the same by the disk's own count, others' writes
 * included. LMDB leaves all to the page cache until the end, so there the second is the lower one
 *   space amplification            disk space of the directory then, over bytes of keys and values
 *                                  that live; `closed` is the same after closing
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/bench/engines.h"
#include "tests/bench/items.h"
#include "tests/bench/measure.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum {
    VALUE_BYTES = 100,
    SCAN_ITEMS = 100,
    OVERWRITES = 4,
    SYNCED_THREADS = 16,
    WRITES_PER_SECOND = 10000, /* beside reads */
};

static uint64_t n_items, n_rounds;

/* What one engine does in one round. */
struct turn {
    const struct engine *engine;
    const char *base; /* directory */
    unsigned round;   /* from 1 */
    char dir[TEMP_DIR_BYTES];
    void *db, *session;
    struct prng prng;
};

static void turn_open(struct turn *turn, bool synced)
{
    turn->db = turn->engine->open(turn->dir, synced);
    turn->session = turn->engine->session_new(turn->db);
}

static void turn_close(struct turn *turn)
{
    turn->engine->session_free(turn->session);
    turn->engine->close(turn->db);
}

static void turn_begin(struct turn *turn, bool synced)
{
    prng_init(&turn->prng, turn->round);
    (void)snprintf(turn->dir, sizeof turn->dir, "%s/%s", turn->base, turn->engine->name);
    measure_check(mkdir(turn->dir, 0700) == 0, turn->dir, "can't be made");
    turn_open(turn, synced);
}

static void turn_end(struct turn *turn)
{
    turn_close(turn);
    temp_dir_remove(turn->dir);
}

static struct figure figure_of(const struct turn *turn, const char *work, double value)
{
    return (struct figure){.group = "engine",
                           .work = work,
                           .peer = turn->engine->name,
                           .round = turn->round,
                           .value = value,
                           .unit = "ops/s"};
}

static void print_rate(const struct turn *turn, const char *work, uint64_t n, uint64_t began_ns)
{
    struct figure figure = figure_of(turn, work, measure_rate(n, began_ns));
    figure_print(&figure, "\"items\":%" PRIu64 ",\"operations\":%" PRIu64, n_items, n);
}

/* --- Items: those that are there have even numbers, their neighbours are missing ----------------
 */

static uint64_t some_number(struct turn *turn)
{
    return 2 * prng_below(&turn->prng, n_items);
}

static void scan(struct turn *turn, uint64_t from, uint64_t n)
{
    uint64_t there = n_items - from / 2;
    uint64_t seen = item_scan(turn->engine, turn->session, from, n, VALUE_BYTES);
    measure_check(seen == (n < there ? n : there), "scan", "too few items, or too many");
}

static uint64_t get(struct turn *turn, uint64_t number)
{
    return item_get(turn->engine, turn->session, number, VALUE_BYTES);
}

static void read_randomly(struct turn *turn, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        bool found = get(turn, some_number(turn)) != UINT64_MAX;
        measure_check(found, turn->engine->name, "an item is missing");
    }
}

/* --- Stages ----------------------------------------------------------------------------------- */

static void fill(struct turn *turn, bool shuffled, const char *work)
{
    uint64_t began = measure_now_ns();
    for (uint64_t i = 0; i < n_items; i++) {
        uint64_t place = shuffled ? item_shuffled(i, n_items) : i;
        item_put(turn->engine, turn->session, 2 * place, 0, VALUE_BYTES);
    }
    turn->engine->sync(turn->session);
    if (work) {
        print_rate(turn, work, n_items, began);
    }
}

static void stage_sequential(void *arg)
{
    struct turn *turn = arg;
    turn_begin(turn, false);
    fill(turn, false, "sequential fill");
    turn_end(turn);
}

static void read_hot(struct turn *turn)
{
    read_randomly(turn, n_items / 4);
    uint64_t began = measure_now_ns();
    read_randomly(turn, n_items);
    print_rate(turn, "random read", n_items, began);
}

static void read_missing(struct turn *turn)
{
    uint64_t began = measure_now_ns();
    for (uint64_t i = 0; i < n_items; i++) {
        bool found = get(turn, some_number(turn) + 1) != UINT64_MAX;
        measure_check(!found, turn->engine->name, "has a key that was never put");
    }
    print_rate(turn, "random read, missing keys", n_items, began);
}

static void read_in_order(struct turn *turn)
{
    uint64_t began = measure_now_ns(), n = n_items / 20;
    for (uint64_t i = 0; i < n; i++) {
        scan(turn, some_number(turn), SCAN_ITEMS);
    }
    print_rate(turn, "seek and scan of 100", n, began);

    began = measure_now_ns();
    scan(turn, 0, UINT64_MAX);
    struct figure figure = figure_of(turn, "full scan", measure_rate(n_items, began));
    figure.unit = "entries/s";
    figure_print(&figure, NULL);
}

static void read_cold(struct turn *turn)
{
    turn_close(turn);
    measure_drop_cache(turn->dir);
    turn_open(turn, false);
    uint64_t began = measure_now_ns(), n = n_items / 200;
    read_randomly(turn, n);
    print_rate(turn, "random read, cold", n, began);
}

struct writer {
    struct turn *turn;
    pthread_t thread;
    uint64_t puts;
    bool stop;
};

static void *write_steadily(void *arg)
{
    struct writer *writer = arg;
    const struct engine *engine = writer->turn->engine;
    void *session = engine->session_new(writer->turn->db);
    struct prng prng;
    uint64_t began = measure_now_ns();
    prng_init(&prng, writer->turn->round + 1000);
    while (!__atomic_load_n(&writer->stop, __ATOMIC_RELAXED)) {
        uint64_t due_ns = began + writer->puts * (1000000000 / WRITES_PER_SECOND);
        if (measure_now_ns() < due_ns) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        item_put(engine, session, 2 * prng_below(&prng, n_items), writer->puts + 1, VALUE_BYTES);
        __atomic_add_fetch(&writer->puts, 1, __ATOMIC_RELAXED);
    }
    engine->sync(session);
    engine->session_free(session);
    return NULL;
}

static void read_while_writing(struct turn *turn)
{
    struct writer writer = {.turn = turn};
    uint64_t n = n_items / 2;
    read_randomly(turn, n_items / 4); /* it was cold */
    measure_check(pthread_create(&writer.thread, NULL, write_steadily, &writer) == 0, "thread",
                  "can't be started");
    while (__atomic_load_n(&writer.puts, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
    uint64_t began = measure_now_ns();
    read_randomly(turn, n);
    double seconds = (double)(measure_now_ns() - began) / 1e9;
    __atomic_store_n(&writer.stop, true, __ATOMIC_RELAXED);
    pthread_join(writer.thread, NULL);
    struct figure figure = figure_of(turn, "read while writing", (double)n / seconds);
    figure_print(&figure, "\"puts_per_second\":%.0f", (double)writer.puts / seconds);
}

static void stage_random(void *arg)
{
    struct turn *turn = arg;
    turn_begin(turn, false);
    fill(turn, true, "random fill");
    turn->engine->compact(turn->db);
    read_hot(turn);
    read_missing(turn);
    read_in_order(turn);
    read_cold(turn);
    read_while_writing(turn);
    turn_end(turn);
}

struct share {
    struct turn *turn;
    pthread_t thread;
    uint64_t from, to;
};

static void *put_share(void *arg)
{
    struct share *share = arg;
    const struct engine *engine = share->turn->engine;
    void *session = engine->session_new(share->turn->db);
    for (uint64_t i = share->from; i < share->to; i++) {
        item_put(engine, session, 2 * item_shuffled(i, n_items), 0, VALUE_BYTES);
    }
    engine->session_free(session);
    return NULL;
}

static void fill_synced(struct turn *turn, unsigned threads, uint64_t n)
{
    struct share shares[SYNCED_THREADS];
    turn_begin(turn, true);
    uint64_t began = measure_now_ns();
    for (unsigned i = 0; i < threads; i++) {
        shares[i] =
            (struct share){.turn = turn, .from = n * i / threads, .to = n * (i + 1) / threads};
        measure_check(pthread_create(&shares[i].thread, NULL, put_share, &shares[i]) == 0, "thread",
                      "can't be started");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(shares[i].thread, NULL);
    }
    print_rate(turn, threads == 1 ? "synced fill, 1 thread" : "synced fill, 16 threads", n, began);
    turn_end(turn);
}

static void stage_synced(void *arg)
{
    fill_synced(arg, 1, n_items / 100);
    fill_synced(arg, SYNCED_THREADS, n_items / 20);
}

/* Overwrites at random; `versions` is what every item must have afterwards. */
static void overwrite(struct turn *turn, uint32_t *versions)
{
    uint64_t began = measure_now_ns();
    for (uint64_t i = 0; i < OVERWRITES * n_items; i++) {
        uint64_t number = some_number(turn);
        item_put(turn->engine, turn->session, number, ++versions[number / 2], VALUE_BYTES);
    }
    turn->engine->sync(turn->session);
    print_rate(turn, "overwrite", OVERWRITES * n_items, began);
}

static void print_amplification(struct turn *turn, const char *work, double over, const char *name,
                                double also)
{
    struct figure figure = figure_of(turn, work, over);
    figure.unit = "×";
    figure.lower_is_better = true;
    figure_print(&figure, "\"items\":%" PRIu64 ",\"%s\":%.6g", n_items, name, also);
}

static void stage_overwrite(void *arg)
{
    struct turn *turn = arg;
    double live_bytes = (double)n_items * (ITEM_KEY_BYTES + VALUE_BYTES);
    uint32_t *versions = calloc(n_items, sizeof *versions);
    measure_check(versions != NULL, "overwrite", "no memory");
    turn_begin(turn, false);
    fill(turn, true, NULL);
    measure_settle();

    uint64_t before = measure_written_bytes(), disk_before = measure_disk_bytes(turn->dir);
    overwrite(turn, versions);
    measure_settle();
    double put_bytes = OVERWRITES * live_bytes;
    double written = (double)(measure_written_bytes() - before) / put_bytes;
    double disk = (double)(measure_disk_bytes(turn->dir) - disk_before) / put_bytes;
    double space = (double)measure_dir_bytes(turn->dir) / live_bytes;
    for (uint64_t i = 0; i < n_items; i++) {
        measure_check(get(turn, 2 * i) == versions[i], turn->engine->name,
                      "an item isn't what was put last");
    }
    turn_close(turn);
    double closed = (double)measure_dir_bytes(turn->dir) / live_bytes;
    print_amplification(turn, "write amplification", written, "disk", disk);
    print_amplification(turn, "space amplification", space, "closed", closed);
    temp_dir_remove(turn->dir);
    free(versions);
}

static const struct stage {
    const char *name;
    void (*run)(void *turn);
} stages[] = {
    {"sequential", stage_sequential},
    {"random", stage_random},
    {"synced", stage_synced},
    {"overwrite", stage_overwrite},
};

enum { STAGES = sizeof stages / sizeof stages[0] };

int main(int argc, char *argv[])
{
    const char *dir = NULL, *peers = NULL, *only = NULL;
    bool quick = false;
    const struct measure_option options[] = {
        {.name = "rounds", .number = &n_rounds}, {.name = "keys", .number = &n_items},
        {.name = "dir", .text = &dir},           {.name = "peers", .text = &peers},
        {.name = "only", .text = &only},         {.name = "quick", .flag = &quick},
    };
    measure_options(argc, argv, options, sizeof options / sizeof options[0]);
    n_items = n_items ? n_items : quick ? 20000 : 1000000;
    n_rounds = n_rounds ? n_rounds : quick ? 1 : 5;
    size_t n_engines;
    const struct engine *const *engines = engines_chosen(peers, &n_engines);
    const char *base = measure_dir(dir);
    for (unsigned round = 1; round <= n_rounds; round++) {
        for (size_t s = 0; s < STAGES; s++) {
            for (size_t e = 0; e < n_engines && measure_wanted(only, stages[s].name); e++) {
                struct turn turn = {
                    .engine = engines[(e + round) % n_engines], .base = base, .round = round};
                measure_apart(stages[s].run, &turn);
            }
        }
    }
    return 0;
}
