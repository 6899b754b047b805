/*
 * Memtables by many threads: eight insert along one front, so that they race for the same links,
 * while eight read. The rounds go on until compare-and-swaps were seen to fail.
 */
#include "store/lsm/memtable.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/support/check.h"
#include "tests/support/nodes.h"
#include "tests/support/random.h"

enum {
    WRITERS = 8,
    READERS = 8,
    WRITES = 3000, /* of each writer in a round */
    FIRST_SEQ = 10,
    PINS = 16, /* of each reader */
    WALK = 40, /* nodes that a reader looks at from a random place */
    KEY_BYTES = 16,
    ROUNDS_MIN = 3,
    ROUNDS_ENOUGH = 100,
    ROUNDS_MAX = 1000,
    RETRIES_WANTED = 10,
};

struct written {
    uint32_t number; /* of the key */
    uint64_t seq;
};

struct writer {
    pthread_t thread;
    unsigned index;
    struct node *nodes[WRITES];
    uint32_t payload_checksums[WRITES];
    struct written log[WRITES];
    _Atomic size_t done; /* entries of log[] whose nodes are linked */
};

struct reader {
    pthread_t thread;
    struct prng prng;
    const struct node *pins[PINS];
    size_t n_pins;
    uint64_t passes;
    uint64_t hot_seq[WRITERS]; /* newest version seen of the first key of each writer */
};

static struct arena *arena;
static struct memtable *memtable;
static pthread_barrier_t start; /* writers and readers */
static pthread_barrier_t gate;  /* readers and the test */
static atomic_uint writers_left;
static struct writer writers[WRITERS];
static struct reader readers[READERS];

static struct bytes key_of(uint32_t number, char text[KEY_BYTES])
{
    int size = snprintf(text, KEY_BYTES, "k%07u", number);
    return bytes_of(text, (size_t)size);
}

/* Writers. */

/* All writers step along the same front; a key has one writer, as under the engine's stripes. Every
 * fourth write is a new version of an older key. Numbers rise with the steps, so for each key too.
 */
static void make_nodes(struct writer *writer)
{
    char text[KEY_BYTES];
    for (size_t i = 0; i < WRITES; i++) {
        size_t step = i % 8 == 7 ? 0 : i % 4 == 3 ? i / 2 : i;
        size_t value_size = i % 500 == 499 ? ARENA_LARGE_BYTES : 8 + i % 50;
        uint32_t number = (uint32_t)(step * WRITERS + writer->index);
        uint64_t seq = FIRST_SEQ + i * WRITERS + writer->index;
        writer->nodes[i] = node_put(arena, key_of(number, text), seq, value_size);
        writer->payload_checksums[i] = record_payload_checksum(writer->nodes[i]->record);
        writer->log[i] = (struct written){.number = number, .seq = seq};
    }
}

/* Sealed anew between finding the place and linking, as the engine does: a reader that came to the
 * node without acquiring a link would race with these writes. */
static void insert(struct node *node, uint32_t payload_checksum)
{
    struct memtable_position position;
    struct record *record = node->record;
    memtable_find_position(memtable, record_key(record), &position);
    record_seal(record, payload_checksum, record->seq, RECORD_LAST_OF_BATCH);
    node_insert(memtable, node, &position);
}

/* Encodes first: what is raced for afterwards is the links. */
static void *write_round(void *arg)
{
    struct writer *writer = arg;
    make_nodes(writer);
    pthread_barrier_wait(&start);
    for (size_t i = 0; i < WRITES; i++) {
        insert(writer->nodes[i], writer->payload_checksums[i]);
        atomic_store_explicit(&writer->done, i + 1, memory_order_release);
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

/* Readers. */

static void assert_in_order(const struct node *node, const struct node *next)
{
    int order = bytes_compare(record_key(node->record), record_key(next->record));
    assert(order < 0 || (order == 0 && node->record->seq > next->record->seq));
}

/* What a writer said it had linked is there: that version, and no older one as the newest. */
static void find_one_written(struct prng *prng)
{
    const struct writer *writer = &writers[prng_below(prng, WRITERS)];
    size_t done = atomic_load_explicit(&writer->done, memory_order_acquire);
    char text[KEY_BYTES];
    if (done == 0) {
        return;
    }
    const struct written *written = &writer->log[prng_below(prng, done)];
    struct bytes key = key_of(written->number, text);
    const struct node *node = memtable_get(memtable, key, written->seq);
    assert(node && node->record->seq == written->seq && node_is_sound(node));
    assert(memtable_seek(memtable, key, written->seq) == node);
    const struct node *newest = memtable_get(memtable, key, UINT64_MAX);
    assert(newest && newest->record->seq >= written->seq);
    assert(bytes_equal(record_key(newest->record), key));
}

/* The newest version that a reader sees of a key never goes back. */
static void follow_a_hot_key(struct reader *reader)
{
    uint32_t number = (uint32_t)prng_below(&reader->prng, WRITERS);
    char text[KEY_BYTES];
    const struct node *node = memtable_get(memtable, key_of(number, text), UINT64_MAX);
    uint64_t *seen = &reader->hot_seq[number];
    if (!node) {
        assert(*seen == 0);
        return;
    }
    assert(node->record->seq >= *seen && node_is_sound(node));
    *seen = node->record->seq;
}

static void walk_from_anywhere(struct reader *reader)
{
    char text[KEY_BYTES];
    struct bytes key =
        key_of((uint32_t)prng_below(&reader->prng, (uint64_t)WRITES * WRITERS), text);
    const struct node *before = memtable_before(memtable, key);
    assert(!before || bytes_compare(record_key(before->record), key) < 0);

    const struct node *node = memtable_seek(memtable, key, UINT64_MAX);
    if (before && node) {
        assert_in_order(before, node);
    }
    for (int i = 0; node && i < WALK; i++) {
        const struct node *next = memtable_next(node);
        assert(node_is_sound(node));
        if (next) {
            assert_in_order(node, next);
        }
        if (reader->n_pins < PINS && prng_chance(&reader->prng, 1)) {
            chunk_acquire(node->chunk);
            reader->pins[reader->n_pins++] = node;
        }
        node = next;
    }
}

static size_t count_done(void)
{
    size_t done = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        done += atomic_load_explicit(&writers[i].done, memory_order_acquire);
    }
    return done;
}

/* A whole walk meets at least as many as were linked before it began. */
static void walk_all(void)
{
    size_t expected = count_done();
    size_t count = 0;
    for (const struct node *node = memtable_first(memtable), *next; node; node = next) {
        next = memtable_next(node);
        if (next) {
            assert_in_order(node, next);
        }
        count++;
    }
    assert(count >= expected);
}

/* Pins outlive the memtable and the arena, which the test drops at the same time. */
static void drop_pins(struct reader *reader)
{
    for (size_t i = 0; i < reader->n_pins; i++) {
        assert(node_is_sound(reader->pins[i]));
        chunk_release(reader->pins[i]->chunk);
    }
}

static void *read_round(void *arg)
{
    struct reader *reader = arg;
    bool more = true;
    pthread_barrier_wait(&start);
    while (more) {
        more = atomic_load(&writers_left) > 0; /* looked at first: one pass sees all */
        for (int i = 0; i < 20; i++) {
            find_one_written(&reader->prng);
            follow_a_hot_key(reader);
        }
        walk_from_anywhere(reader);
        if (reader->passes++ % 16 == 0) {
            walk_all();
        }
    }
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    drop_pins(reader);
    return NULL;
}

/* A round. */

static void begin(uint64_t round)
{
    assert_ok(arena_new(&arena));
    /* The smallest index: buckets are raced for too. */
    assert_ok(memtable_new(round, 0, &memtable));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].index = i;
        atomic_store(&writers[i].done, 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        prng_init(&readers[i].prng, scramble64(test_seed() + round) + i);
        readers[i].n_pins = 0;
        readers[i].passes = 0;
        memset(readers[i].hot_seq, 0, sizeof readers[i].hot_seq);
    }
}

/* Returns when all writers have finished and all readers have only their pins left. */
static void run_threads(void)
{
    atomic_store(&writers_left, WRITERS);
    assert_int_equal(pthread_barrier_init(&start, NULL, WRITERS + READERS), 0);
    assert_int_equal(pthread_barrier_init(&gate, NULL, READERS + 1), 0);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_round, &readers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_round, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
    }
    pthread_barrier_wait(&gate);
    for (unsigned i = 0; i < READERS; i++) {
        assert_true(readers[i].passes > 0);
    }
}

/* Every level holds the nodes that are high enough, and no others, in the order of level 0. */
static void check_levels(void)
{
    struct memtable_position head;
    memtable_find_position(memtable, bytes_of("\0", 1), &head);
    for (unsigned level = 0; level < NODE_HEIGHT_MAX; level++) {
        const struct node *high = atomic_load(&head.before[level]->next[level]);
        for (const struct node *node = memtable_first(memtable); node; node = memtable_next(node)) {
            if (node->height > level) {
                assert_ptr_equal(high, node);
                high = atomic_load(&high->next[level]);
            }
        }
        assert_null(high);
    }
}

static void check_all_written(void)
{
    char text[KEY_BYTES];
    for (size_t w = 0; w < WRITERS; w++) {
        for (size_t i = 0; i < WRITES; i++) {
            const struct written *written = &writers[w].log[i];
            struct bytes key = key_of(written->number, text);
            const struct node *node = memtable_get(memtable, key, written->seq);
            assert_non_null(node);
            assert_int_equal(node->record->seq, written->seq);
        }
    }
}

/* Drops the memtable while the readers drop their pins: any of them may be a chunk's last. */
static void end(void)
{
    pthread_barrier_wait(&gate);
    memtable_release(memtable);
    arena_free(arena);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
    }
    pthread_barrier_destroy(&start);
    pthread_barrier_destroy(&gate);
}

/* A single CPU makes races rare: then one has to do. */
static bool more_rounds(uint64_t round, uint64_t retries)
{
    return round < ROUNDS_MIN || (retries < RETRIES_WANTED && round < ROUNDS_ENOUGH) ||
           (retries == 0 && round < ROUNDS_MAX);
}

static void racing_writers_lose_nothing_and_readers_see_what_was_linked(void **state)
{
    uint64_t retries = memtable_retries();
    uint64_t round = 0;

    (void)state;
    while (more_rounds(round, memtable_retries() - retries)) {
        begin(++round);
        run_threads();
        assert_int_equal(memtable_records(memtable), WRITERS * WRITES);
        check_levels();
        check_all_written();
        end();
    }
    print_message("%llu rounds, %llu swaps tried again\n", (unsigned long long)round,
                  (unsigned long long)(memtable_retries() - retries));
    assert_true(memtable_retries() > retries);
}

/* What memtable_insert() has done when it is stopped after its first swap. */
static void link_at_level_0_only(struct node *node, const struct memtable_position *position)
{
    struct node *before = position->before[0];
    node->prefix = bytes_prefix(record_key(node->record));
    atomic_store(&node->next[0], atomic_load(&before->next[0]));
    atomic_store_explicit(&before->next[0], node, memory_order_release);
}

static struct node *new_high_node(struct bytes key, uint64_t seq)
{
    for (;;) {
        struct node *node = node_put(arena, key, seq, 20);
        if (node->height > 3) {
            return node;
        }
        chunk_release(node->chunk);
    }
}

/* One inserter has its place and its node but doesn't link it; another has linked the lowest level
 * of a high node. Neither goes on before all the others have finished. */
static void an_inserter_that_pauses_holds_up_nobody(void **state)
{
    struct memtable_position before_link, after_link;
    char first_text[KEY_BYTES], second_text[KEY_BYTES];
    /* Keys of no writer's, in the middle of where they all go on. */
    struct bytes first = key_of(WRITERS * WRITES / 2, first_text);
    struct bytes second = key_of(WRITERS * WRITES / 4, second_text);
    first_text[first.size++] = '+';
    second_text[second.size++] = '+';

    (void)state;
    begin(1);
    memtable_find_position(memtable, first, &before_link);
    struct node *paused = new_high_node(first, 1);
    assert_ok(memtable_adopt(memtable, paused));
    memtable_find_position(memtable, second, &after_link);
    struct node *half = new_high_node(second, 2);
    assert_ok(memtable_adopt(memtable, half));
    link_at_level_0_only(half, &after_link);

    run_threads();

    check_all_written();
    assert_null(memtable_get(memtable, first, UINT64_MAX));
    assert_ptr_equal(memtable_seek(memtable, second, UINT64_MAX), half);
    memtable_insert(memtable, paused, &before_link);
    assert_ptr_equal(memtable_get(memtable, first, 1), paused);
    check_all_written();
    walk_all();
    assert_int_equal(memtable_records(memtable), WRITERS * WRITES + 1);
    chunk_release(paused->chunk);
    chunk_release(half->chunk);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(racing_writers_lose_nothing_and_readers_see_what_was_linked),
        cmocka_unit_test(an_inserter_that_pauses_holds_up_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
