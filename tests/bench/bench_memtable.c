/*
 * bench_memtable [RECORDS [THREADS [VALUE_BYTES]]]: what a memtable's operations cost, in ns of one
 * thread's time. Keys are "user" and 12 digits, in random order.
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/lsm/memtable.h"
#include "tests/support/nodes.h"
#include "tests/support/random.h"

enum { KEY_BYTES = 16 };

static uint64_t n_records = 300000;
static uint64_t n_threads = 1;
static uint64_t value_bytes = 100;

static struct arena *arena;
static struct memtable *memtable;
static struct node **nodes;
static pthread_barrier_t barrier;

/* One thread's share of a measurement; the result keeps the compiler from leaving it out. */
typedef uint64_t work_fn(struct prng *prng, uint64_t from, uint64_t to);

struct worker {
    pthread_t thread;
    uint64_t index;
    work_fn *work;
    uint64_t n;
    uint64_t ns;
    uint64_t result;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct bytes key_of(uint64_t number, char text[32])
{
    return bytes_of(text, (size_t)snprintf(text, 32, "user%012llu", (unsigned long long)number));
}

static uint64_t insert(struct prng *prng, uint64_t from, uint64_t to)
{
    (void)prng;
    for (uint64_t i = from; i < to; i++) {
        node_insert(memtable, nodes[i], NULL);
    }
    return to - from;
}

static uint64_t get_hit(struct prng *prng, uint64_t from, uint64_t to)
{
    uint64_t found = 0;
    char text[32];
    for (uint64_t i = from; i < to; i++) {
        struct bytes key = key_of(prng_below(prng, n_records), text);
        found += memtable_get(memtable, key, UINT64_MAX) != NULL;
    }
    assert(found == to - from);
    return found;
}

static uint64_t get_miss(struct prng *prng, uint64_t from, uint64_t to)
{
    uint64_t found = 0;
    char text[32];
    for (uint64_t i = from; i < to; i++) {
        struct bytes key = key_of(n_records + prng_below(prng, n_records), text);
        found += memtable_get(memtable, key, UINT64_MAX) != NULL;
    }
    assert(found == 0);
    return found;
}

static uint64_t seek(struct prng *prng, uint64_t from, uint64_t to)
{
    uint64_t found = 0;
    char text[32];
    for (uint64_t i = from; i < to; i++) {
        struct bytes key = key_of(prng_below(prng, n_records), text);
        found += memtable_seek(memtable, key, UINT64_MAX) != NULL;
    }
    assert(found == to - from);
    return found;
}

static uint64_t walk(struct prng *prng, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;
    const struct node *node = memtable_first(memtable);
    (void)prng;
    for (uint64_t i = from; i < to && node; i++) {
        sum += node->record->seq;
        node = memtable_next(node);
    }
    return sum;
}

/* What the other measurements have in common: making a key. */
static uint64_t make_key(struct prng *prng, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;
    char text[32];
    for (uint64_t i = from; i < to; i++) {
        struct bytes key = key_of(prng_below(prng, n_records), text);
        sum += bytes_prefix(key) + (uint64_t)text[KEY_BYTES - 1];
    }
    return sum;
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    struct prng prng;
    prng_init(&prng, worker->index);
    uint64_t from = worker->index * worker->n / n_threads;
    uint64_t to = (worker->index + 1) * worker->n / n_threads;
    pthread_barrier_wait(&barrier);
    uint64_t begin = now_ns();
    worker->result = worker->work(&prng, from, to);
    worker->ns = now_ns() - begin;
    return NULL;
}

static void measure(const char *name, work_fn *work, uint64_t n)
{
    struct worker *workers = calloc(n_threads, sizeof *workers);
    uint64_t ns = 0;
    assert(workers);
    for (uint64_t i = 0; i < n_threads; i++) {
        workers[i] = (struct worker){.index = i, .work = work, .n = n};
        int failed = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
        assert(!failed);
    }
    for (uint64_t i = 0; i < n_threads; i++) {
        pthread_join(workers[i].thread, NULL);
        ns += workers[i].ns;
    }
    printf("%-10s %8.0f ns\n", name, (double)ns / (double)n);
    free(workers);
}

static void make_nodes(void)
{
    struct prng prng;
    char text[32];
    prng_init(&prng, 1);
    nodes = calloc(n_records, sizeof(struct node *));
    uint64_t *order = calloc(n_records, sizeof *order);
    assert(nodes && order);
    for (uint64_t i = 0; i < n_records; i++) {
        uint64_t j = prng_below(&prng, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint64_t i = 0; i < n_records; i++) {
        nodes[i] = node_put(arena, key_of(order[i], text), i + 1, value_bytes);
    }
    free(order);
}

static uint64_t argument(int argc, char *argv[], int i, uint64_t otherwise)
{
    uint64_t n = i < argc ? strtoull(argv[i], NULL, 10) : otherwise;
    if (n == 0) {
        fprintf(stderr, "usage: %s [RECORDS [THREADS [VALUE_BYTES]]]\n", argv[0]);
        exit(2);
    }
    return n;
}

int main(int argc, char *argv[])
{
    n_records = argument(argc, argv, 1, n_records);
    n_threads = argument(argc, argv, 2, n_threads);
    value_bytes = argument(argc, argv, 3, value_bytes);
    enum err err = arena_new(&arena);
    assert(err == ERR_OK);
    err = memtable_new(1, n_records * (value_bytes + 128), &memtable);
    assert(err == ERR_OK);
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    make_nodes();

    measure("make key", make_key, 1000000);
    measure("insert", insert, n_records);
    measure("get, hit", get_hit, 1000000);
    measure("get, miss", get_miss, 1000000);
    measure("seek", seek, 300000);
    measure("walk", walk, n_records);
    printf("%.1f MiB in the memtable, %llu swaps tried again\n",
           (double)memtable_bytes(memtable) / 1048576.0, (unsigned long long)memtable_retries());

    pthread_barrier_destroy(&barrier);
    free(nodes);
    memtable_release(memtable);
    arena_free(arena);
    return 0;
}
