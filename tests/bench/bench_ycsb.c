/*
 * bench_ycsb: the core workloads of YCSB, by 16 threads, in process or over HTTP.
 *
 *   --http          the servers at --varve URL, --webdis URL and --etcd URL, of which those count
 *                   that are given; else the engines of engines.h, in process
 *   --rounds N      3 unless given
 *   --records N     loaded first: 100,000 unless given, over HTTP 20,000
 *   --operations N  of each workload: as many
 *   --dir DIR       where the engines' databases are made
 *   --peers A,B     these engines only
 *   --quick         one round of 1,000 records unless given otherwise, to see that it runs
 *
 * As in Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (SoCC 2010):
 *
 *   A  half reads, half updates          D  95 % reads of the latest, 5 % inserts
 *   B  95 % reads, 5 % updates           E  95 % scans of 1 to 100 records, 5 % inserts
 *   C  reads                             F  half reads, half read-modify-writes
 *
 * in the order A B C F D E on one load. Records are found by Zipf's law (zipf.h), scrambled so that
 * the frequent ones lie apart; keys are inserted in an order that looks random. A record's ten
 * fields of 100 bytes are one value of 1,000, which an update replaces as a whole. Every put is on
 * disk before the next operation of its thread: in process the engines are told so, servers have to
 * be started so. Each value that is read is checked. Over HTTP scans list keys without values; a
 * server that has none is left out of E.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/bench/engines.h"
#include "tests/bench/http_engines.h"
#include "tests/bench/items.h"
#include "tests/bench/measure.h"
#include "tests/bench/zipf.h"
#include "tests/support/temp_dir.h"

enum { THREADS = 16, VALUE_BYTES = 1000, SCAN_MAX = 100, VERSIONS = 1000000 };

#define KEY_STEP UINT64_C(0x9E3779B97F4B)  /* odd: a permutation of… */
#define KEY_MASK ((UINT64_C(1) << 48) - 1) /* …these numbers */

static uint64_t n_records, n_operations;

static const struct workload {
    const char *name;
    unsigned reads, updates, inserts, scans, modifies; /* percent */
    bool latest;
} workloads[] = {
    {.name = "A", .reads = 50, .updates = 50},
    {.name = "B", .reads = 95, .updates = 5},
    {.name = "C", .reads = 100},
    {.name = "F", .reads = 50, .modifies = 50},
    {.name = "D", .reads = 95, .inserts = 5, .latest = true},
    {.name = "E", .scans = 95, .inserts = 5},
};

enum { WORKLOADS = sizeof workloads / sizeof workloads[0] };

/* One engine or server in one round, and one workload after the other. */
struct turn {
    const struct engine *engine;
    const char *place, *group;
    unsigned round;
    void *db;
    struct zipf zipf; /* over the records that are loaded */
    const struct workload *workload;
    /* Records are numbered in order of insertion; those below `there` are there. */
    uint64_t next, there;
    uint64_t first;        /* to be inserted by this workload… */
    bool *inserted;        /* …and whether record first + i was */
    pthread_mutex_t mutex; /* of `there` and `inserted` */
};

struct worker {
    struct turn *turn;
    pthread_t thread;
    void *session;
    unsigned index;
    struct prng prng;
    uint64_t n, *ns; /* operations, and what each took */
};

/* --- Operations ------------------------------------------------------------------------------- */

/* The number (items.h) of record `i`. */
static uint64_t number_of(uint64_t i)
{
    return i * KEY_STEP & KEY_MASK;
}

static void put(struct worker *worker, uint64_t i, uint64_t version)
{
    item_put(worker->turn->engine, worker->session, number_of(i), version, VALUE_BYTES);
}

static void insert(struct worker *worker)
{
    struct turn *turn = worker->turn;
    uint64_t i = __atomic_fetch_add(&turn->next, 1, __ATOMIC_RELAXED);
    put(worker, i, 0);
    pthread_mutex_lock(&turn->mutex);
    turn->inserted[i - turn->first] = true;
    uint64_t there = turn->there;
    while (turn->inserted[there - turn->first]) {
        there++;
    }
    __atomic_store_n(&turn->there, there, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&turn->mutex);
}

static uint64_t choose(struct worker *worker)
{
    struct turn *turn = worker->turn;
    uint64_t rank = zipf_next(&turn->zipf, &worker->prng);
    if (turn->workload->latest) {
        return __atomic_load_n(&turn->there, __ATOMIC_ACQUIRE) - 1 - rank;
    }
    return scramble64(rank) % n_records;
}

/* Its version. */
static uint64_t get(struct worker *worker, uint64_t i)
{
    const struct engine *engine = worker->turn->engine;
    uint64_t version = item_get(engine, worker->session, number_of(i), VALUE_BYTES);
    measure_check(version != UINT64_MAX, engine->name, "a record is missing");
    return version;
}

/* Keys ascend; values, where there are any, are their keys'. */
static void check_scanned(void *arg, struct bytes key, struct bytes value)
{
    uint64_t *at_least = arg, number = item_number(key);
    measure_check(number >= *at_least, "scan", "a key out of order");
    *at_least = number + 1;
    if (value.data) {
        (void)item_check(number, value, VALUE_BYTES);
    }
}

static void scan(struct worker *worker)
{
    char key[ITEM_KEY_BYTES];
    uint64_t from = number_of(choose(worker)), n = 1 + prng_below(&worker->prng, SCAN_MAX);
    uint64_t at_least = from;
    uint64_t seen = worker->turn->engine->scan(worker->session, item_key(from, key), n,
                                               check_scanned, &at_least);
    measure_check(seen > 0 && seen <= n, "scan", "too few records, or too many");
}

static void operate(struct worker *worker)
{
    const struct workload *workload = worker->turn->workload;
    unsigned dice = (unsigned)prng_below(&worker->prng, 100);
    if (dice < workload->reads) {
        (void)get(worker, choose(worker));
    } else if ((dice -= workload->reads) < workload->updates) {
        put(worker, choose(worker), prng_below(&worker->prng, VERSIONS));
    } else if ((dice -= workload->updates) < workload->inserts) {
        insert(worker);
    } else if (dice - workload->inserts < workload->scans) {
        scan(worker);
    } else {
        uint64_t i = choose(worker);
        put(worker, i, (get(worker, i) + 1) % VERSIONS);
    }
}

/* --- Running ---------------------------------------------------------------------------------- */

static void *work(void *arg)
{
    struct worker *worker = arg;
    const struct engine *engine = worker->turn->engine;
    prng_init(&worker->prng, (uint64_t)worker->turn->round * THREADS + worker->index);
    worker->session = engine->session_new(worker->turn->db);
    for (uint64_t i = 0; i < worker->n; i++) {
        uint64_t began = measure_now_ns();
        if (worker->turn->workload) {
            operate(worker);
        } else {
            insert(worker);
        }
        worker->ns[i] = measure_now_ns() - began;
    }
    engine->session_free(worker->session);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Runs a workload, or loads where it is NULL, and prints its figure. */
static void run(struct turn *turn, const struct workload *workload, uint64_t n)
{
    struct worker workers[THREADS];
    uint64_t *ns = calloc(n, sizeof *ns);
    turn->workload = workload;
    turn->first = turn->next = turn->there;
    turn->inserted = calloc(n + 1, sizeof *turn->inserted);
    measure_check(ns && turn->inserted, "ycsb", "no memory");
    uint64_t began = measure_now_ns();
    for (unsigned i = 0; i < THREADS; i++) {
        uint64_t from = n * i / THREADS, to = n * (i + 1) / THREADS;
        workers[i] = (struct worker){.turn = turn, .index = i, .n = to - from, .ns = ns + from};
        measure_check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "thread",
                      "can't be started");
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    struct figure figure = {.group = turn->group,
                            .work = workload ? workload->name : "load",
                            .peer = turn->engine->name,
                            .round = turn->round,
                            .value = measure_rate(n, began),
                            .unit = "ops/s"};
    uint64_t half = n / 2, nearly_all = n * 99 / 100;
    qsort(ns, n, sizeof *ns, compare);
    figure_print(&figure,
                 "\"threads\":%d,\"records\":%" PRIu64 ",\"operations\":%" PRIu64
                 ",\"p50_us\":%.1f,\"p99_us\":%.1f",
                 THREADS, n_records, n, (double)ns[half] / 1e3, (double)ns[nearly_all] / 1e3);
    free(turn->inserted);
    free(ns);
}

static void take_turn(void *arg)
{
    struct turn *turn = arg;
    turn->db = turn->engine->open(turn->place, true);
    pthread_mutex_init(&turn->mutex, NULL);
    zipf_init(&turn->zipf, n_records);
    run(turn, NULL, n_records);
    for (size_t i = 0; i < WORKLOADS; i++) {
        if (workloads[i].scans > 0 && !turn->engine->scan) {
            fprintf(stderr, "%s has no scans: left out of %s\n", turn->engine->name,
                    workloads[i].name);
        } else {
            run(turn, &workloads[i], n_operations);
        }
    }
    turn->engine->close(turn->db);
    pthread_mutex_destroy(&turn->mutex);
}

static void run_engines(const char *base, const char *peers, unsigned round)
{
    size_t n;
    const struct engine *const *engines = engines_chosen(peers, &n);
    for (size_t e = 0; e < n; e++) {
        char dir[TEMP_DIR_BYTES];
        struct turn turn = {
            .engine = engines[(e + round) % n], .place = dir, .group = "ycsb", .round = round};
        (void)snprintf(dir, sizeof dir, "%s/%s", base, turn.engine->name);
        measure_check(mkdir(dir, 0700) == 0, dir, "can't be made");
        measure_apart(take_turn, &turn);
        temp_dir_remove(dir);
    }
}

struct server {
    const struct engine *engine;
    const char *url; /* NULL: not asked for */
};

static void run_servers(const struct server servers[], size_t n, unsigned round)
{
    for (size_t s = 0; s < n; s++) {
        const struct server *server = &servers[(s + round) % n];
        struct turn turn = {
            .engine = server->engine, .place = server->url, .group = "ycsb http", .round = round};
        if (server->url) {
            measure_apart(take_turn, &turn);
        }
    }
}

int main(int argc, char *argv[])
{
    struct server servers[] = {{&http_varve, NULL}, {&http_webdis, NULL}, {&http_etcd, NULL}};
    const char *dir = NULL, *peers = NULL;
    uint64_t rounds = 0;
    bool http = false, quick = false;
    const struct measure_option options[] = {
        {.name = "http", .flag = &http},
        {.name = "varve", .text = &servers[0].url},
        {.name = "webdis", .text = &servers[1].url},
        {.name = "etcd", .text = &servers[2].url},
        {.name = "rounds", .number = &rounds},
        {.name = "records", .number = &n_records},
        {.name = "operations", .number = &n_operations},
        {.name = "dir", .text = &dir},
        {.name = "peers", .text = &peers},
        {.name = "quick", .flag = &quick},
    };
    measure_options(argc, argv, options, sizeof options / sizeof options[0]);
    rounds = rounds ? rounds : quick ? 1 : 3;
    n_records = n_records ? n_records : quick ? 1000 : http ? 20000 : 100000;
    n_operations = n_operations ? n_operations : n_records;
    const char *base = http ? NULL : measure_dir(dir);
    for (unsigned round = 1; round <= rounds; round++) {
        if (http) {
            run_servers(servers, sizeof servers / sizeof servers[0], round);
        } else {
            run_engines(base, peers, round);
        }
    }
    return 0;
}
