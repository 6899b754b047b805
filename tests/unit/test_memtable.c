/* Memtables by one thread: order, versions, walks, and who keeps which memory. */
#include "store/lsm/memtable.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/nodes.h"
#include "tests/support/random.h"

static struct arena *arena;
static struct memtable *memtable;

static int set_up(void **state)
{
    (void)state;
    assert_ok(arena_new(&arena));
    assert_ok(memtable_new(1, UINT64_C(1) << 20, &memtable));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    memtable_release(memtable);
    arena_free(arena);
    return 0;
}

static struct bytes text(const char *key)
{
    return bytes_of_text(key);
}

static void put(const char *key, uint64_t seq)
{
    node_insert(memtable, node_put(arena, text(key), seq, 20), NULL);
}

/* The node is that version of that key, whole. */
static void assert_is(const struct node *node, const char *key, uint64_t seq)
{
    assert_non_null(node);
    assert_true(bytes_equal(record_key(node->record), text(key)));
    assert_int_equal(node->record->seq, seq);
    assert_true(node_is_sound(node));
}

static void an_empty_memtable_has_nothing(void **state)
{
    (void)state;
    assert_null(memtable_get(memtable, text("k"), UINT64_MAX));
    assert_null(memtable_seek(memtable, text("k"), UINT64_MAX));
    assert_null(memtable_first(memtable));
    assert_null(memtable_before(memtable, text("k")));
    assert_null(memtable_before(memtable, text("")));
    assert_int_equal(memtable_records(memtable), 0);
    assert_int_equal(memtable_bytes(memtable), 0);
}

static void a_key_is_found_and_none_beside_it(void **state)
{
    (void)state;
    put("ba", 1);
    put("bb", 2);
    put("b", 3);
    assert_is(memtable_get(memtable, text("b"), UINT64_MAX), "b", 3);
    assert_is(memtable_get(memtable, text("ba"), UINT64_MAX), "ba", 1);
    assert_is(memtable_get(memtable, text("bb"), UINT64_MAX), "bb", 2);
    assert_null(memtable_get(memtable, text("a"), UINT64_MAX));
    assert_null(memtable_get(memtable, text("baa"), UINT64_MAX));
    assert_null(memtable_get(memtable, text("bc"), UINT64_MAX));
}

static void a_snapshot_sees_the_newest_version_up_to_its_number(void **state)
{
    (void)state;
    put("k", 10);
    put("j", 15);
    put("k", 20);
    put("l", 25);
    node_insert(memtable, node_delete(arena, text("k"), 30), NULL);

    assert_null(memtable_get(memtable, text("k"), 9));
    assert_is(memtable_get(memtable, text("k"), 10), "k", 10);
    assert_is(memtable_get(memtable, text("k"), 19), "k", 10);
    assert_is(memtable_get(memtable, text("k"), 20), "k", 20);
    assert_is(memtable_get(memtable, text("k"), 29), "k", 20);
    assert_is(memtable_get(memtable, text("k"), 30), "k", 30);
    assert_int_equal(memtable_get(memtable, text("k"), 31)->record->kind, RECORD_DELETE);
    assert_is(memtable_seek(memtable, text("k"), 29), "k", 20);
    assert_is(memtable_seek(memtable, text("k"), 9), "l", 25);
}

static void a_walk_meets_keys_ascending_and_versions_newest_first(void **state)
{
    (void)state;
    put("b", 1);
    put("a", 2);
    put("b", 3);
    put("c", 4);
    put("a", 5);

    const struct node *node = memtable_first(memtable);
    assert_is(node, "a", 5);
    assert_is(node = memtable_next(node), "a", 2);
    assert_is(node = memtable_next(node), "b", 3);
    assert_is(node = memtable_next(node), "b", 1);
    assert_is(node = memtable_next(node), "c", 4);
    assert_null(memtable_next(node));

    /* Backward, a key at a time: its oldest version. */
    assert_is(memtable_before(memtable, text("")), "c", 4);
    assert_is(memtable_before(memtable, text("c")), "b", 1);
    assert_is(memtable_before(memtable, text("b")), "a", 2);
    assert_null(memtable_before(memtable, text("a")));
    assert_is(memtable_before(memtable, text("bb")), "b", 1);
}

/* Keys whose first eight bytes agree, or agree once they are filled up with zeros. */
static void keys_sort_by_all_their_bytes(void **state)
{
    static const struct bytes keys[] = {
        {"\0", 1},
        {"\0\0", 2},
        {"\0\0\0\0\0\0\0\0", 8},
        {"\0\0\0\0\0\0\0\0\0", 9},
        {"a", 1},
        {"a\0", 2},
        {"a\0\0", 3},
        {"a\0\0\0\0\0\0\0", 8},
        {"a\0\0\0\0\0\0\0\0", 9},
        {"a\0\0\0\0\0\0\1", 8},
        {"a\0\0\0\0\0\0\1\0", 9},
        {"aaaaaaaa", 8},
        {"aaaaaaaa\0", 9},
        {"aaaaaaaaa", 9},
        {"aaaaaaaaab", 10},
        {"aaaaaaaab", 9},
        {"aaaaaaaa\x80", 9},
        {"aaaaaaaa\xff", 9},
        {"b", 1},
        {"\x80", 1},
        {"\xff", 1},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9},
    };
    const size_t n = COUNT_OF(keys);

    (void)state;
    /* 5 and the count have no common divisor: a scattered order. */
    assert_int_not_equal(n % 5, 0);
    for (size_t i = 0; i < n; i++) {
        size_t k = i * 5 % n;
        node_insert(memtable, node_put(arena, keys[k], k + 1, 9), NULL);
    }
    const struct node *node = memtable_first(memtable);
    for (size_t k = 0; k < n; k++, node = memtable_next(node)) {
        assert_non_null(node);
        assert_int_equal(node->record->seq, k + 1);
        assert_ptr_equal(memtable_get(memtable, keys[k], UINT64_MAX), node);
        assert_ptr_equal(memtable_seek(memtable, keys[k], UINT64_MAX), node);
        const struct node *before = memtable_before(memtable, keys[k]);
        assert_int_equal(before ? before->record->seq : 0, k);
    }
    assert_null(node);
}

/* Against a model: a sorted array. */

enum { MODEL_MAX = 3000 };

static const struct node *model[MODEL_MAX]; /* in the memtable's order */
static size_t model_size;

static int model_order(struct bytes a, uint64_t a_seq, struct bytes b, uint64_t b_seq)
{
    int order = bytes_compare(a, b);
    return order != 0 ? order : a_seq > b_seq ? -1 : a_seq < b_seq;
}

/* Index of the first version at or after (key, seq). */
static size_t model_seek(struct bytes key, uint64_t seq)
{
    size_t i = 0;
    while (i < model_size &&
           model_order(record_key(model[i]->record), model[i]->record->seq, key, seq) < 0) {
        i++;
    }
    return i;
}

static void model_add(const struct node *node)
{
    size_t i = model_seek(record_key(node->record), node->record->seq);
    memmove(&model[i + 1], &model[i], (model_size - i) * sizeof(const struct node *));
    model[i] = node;
    model_size++;
}

static const struct node *model_at(size_t i)
{
    return i < model_size ? model[i] : NULL;
}

/* Few letters and lengths around 8, so that keys collide and begin with one another. */
static struct bytes random_key(struct prng *prng, uint8_t key[12])
{
    static const uint8_t letters[] = {0, 'a', 'b', 255};
    size_t size = 1 + prng_below(prng, 3);
    if (prng_chance(prng, 50)) {
        memset(key, 'a', 8);
        size += 7;
    }
    for (size_t i = size > 7 ? 7 : 0; i < size; i++) {
        key[i] = letters[prng_below(prng, sizeof letters)];
    }
    return bytes_of(key, size);
}

static void assert_agrees_with_model(struct bytes key, uint64_t seq)
{
    size_t at = model_seek(key, seq);
    const struct node *expected = model_at(at);
    assert_ptr_equal(memtable_seek(memtable, key, seq), expected);

    bool hit = expected && bytes_equal(record_key(expected->record), key);
    assert_ptr_equal(memtable_get(memtable, key, seq), hit ? expected : NULL);

    size_t first = model_seek(key, UINT64_MAX);
    assert_ptr_equal(memtable_before(memtable, key), first > 0 ? model[first - 1] : NULL);
}

static void assert_walk_agrees_with_model(void)
{
    const struct node *node = memtable_first(memtable);
    for (size_t i = 0; i < model_size; i++) {
        assert_ptr_equal(node, model[i]);
        assert_true(node_is_sound(node));
        node = memtable_next(node);
    }
    assert_null(node);
    assert_ptr_equal(memtable_before(memtable, text("")), model_at(model_size - 1));
}

static void it_answers_like_a_sorted_array(void **state)
{
    struct prng prng;
    uint8_t key[12];

    (void)state;
    prng_init(&prng, test_seed());
    model_size = 0;
    for (uint64_t seq = 1; seq <= MODEL_MAX; seq++) {
        struct bytes added = random_key(&prng, key);
        struct node *node = prng_chance(&prng, 10)
                                ? node_delete(arena, added, seq)
                                : node_put(arena, added, seq, prng_below(&prng, 100));
        node_insert(memtable, node, NULL);
        model_add(node);
        for (int i = 0; i < 3; i++) {
            struct bytes asked = random_key(&prng, key);
            assert_agrees_with_model(asked, 1 + prng_below(&prng, seq + 1));
            assert_agrees_with_model(asked, UINT64_MAX);
        }
        if (seq % 500 == 0) {
            assert_walk_agrees_with_model();
        }
    }
    assert_int_equal(memtable_records(memtable), MODEL_MAX);
}

/* Positions that are out of date. */

/* Finds all positions first, then inserts. */
static void insert_at_old_positions(const size_t order[], size_t n)
{
    struct memtable_position *positions = calloc(n, sizeof *positions);
    char key[32];

    assert_non_null(positions);
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%08zu", order[i]);
        memtable_find_position(memtable, text(key), &positions[i]);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%08zu", order[i]);
        node_insert(memtable, node_put(arena, text(key), i + 1, 8), &positions[i]);
    }
    free(positions);
}

/* Every level holds just the nodes that are high enough, in the order of level 0. */
static void assert_levels_are_in_order(size_t n)
{
    struct memtable_position head;
    memtable_find_position(memtable, bytes_of("\0", 1), &head);
    for (unsigned level = 0; level < NODE_HEIGHT_MAX; level++) {
        const struct node *high = atomic_load(&head.before[level]->next[level]);
        size_t count = 0;
        for (const struct node *node = memtable_first(memtable); node; node = memtable_next(node)) {
            count++;
            if (node->height > level) {
                assert_ptr_equal(high, node);
                high = atomic_load(&high->next[level]);
            }
        }
        assert_null(high);
        assert_int_equal(count, n);
    }
}

static void assert_keys_ascend(size_t n)
{
    const struct node *node = memtable_first(memtable);
    char key[32];
    for (size_t i = 0; i < n; i++, node = memtable_next(node)) {
        snprintf(key, sizeof key, "key%08zu", i);
        assert_non_null(node);
        assert_true(bytes_equal(record_key(node->record), text(key)));
        assert_ptr_equal(memtable_get(memtable, text(key), UINT64_MAX), node);
    }
    assert_null(node);
}

enum { BATCH = 16384 };

static size_t order_of_batch[BATCH];

static void an_old_position_leads_to_the_place_of_ascending_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < BATCH; i++) {
        order_of_batch[i] = i;
    }
    insert_at_old_positions(order_of_batch, BATCH);
    assert_keys_ascend(BATCH);
    assert_levels_are_in_order(BATCH);
}

static void an_old_position_leads_to_the_place_of_descending_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < BATCH; i++) {
        order_of_batch[i] = BATCH - 1 - i;
    }
    insert_at_old_positions(order_of_batch, BATCH);
    assert_keys_ascend(BATCH);
    assert_levels_are_in_order(BATCH);
}

static void an_old_position_leads_to_the_place_of_shuffled_keys(void **state)
{
    struct prng prng;
    (void)state;
    prng_init(&prng, test_seed());
    for (size_t i = 0; i < BATCH; i++) {
        size_t j = prng_below(&prng, i + 1);
        order_of_batch[i] = order_of_batch[j];
        order_of_batch[j] = i;
    }
    /* Half of them first, so that the positions of the others lie all over the list. */
    insert_at_old_positions(order_of_batch, BATCH / 2);
    insert_at_old_positions(order_of_batch + BATCH / 2, BATCH / 2);
    assert_keys_ascend(BATCH);
    assert_levels_are_in_order(BATCH);
}

static void two_versions_of_a_key_in_one_batch_may_share_a_position(void **state)
{
    struct memtable_position position;
    (void)state;
    put("a", 1);
    put("k", 2);
    memtable_find_position(memtable, text("k"), &position);
    node_insert(memtable, node_put(arena, text("k"), 3, 20), &position);
    node_insert(memtable, node_put(arena, text("k"), 4, 20), &position);

    const struct node *node = memtable_seek(memtable, text("k"), UINT64_MAX);
    assert_is(node, "k", 4);
    assert_is(node = memtable_next(node), "k", 3);
    assert_is(node = memtable_next(node), "k", 2);
    assert_null(memtable_next(node));
}

/* The engine never does this (invariant 3), but the order must not depend on it. */
static void an_older_version_goes_behind_a_newer_one(void **state)
{
    (void)state;
    put("k", 5);
    put("k", 3);
    put("k", 4);
    assert_is(memtable_get(memtable, text("k"), 5), "k", 5);
    assert_is(memtable_get(memtable, text("k"), 4), "k", 4);
    assert_is(memtable_get(memtable, text("k"), 3), "k", 3);
    assert_null(memtable_get(memtable, text("k"), 2));
}

/* Memory. */

static void it_counts_what_was_inserted(void **state)
{
    struct node *node = node_put(arena, text("k"), 1, 1000);
    uint64_t bytes =
        offsetof(struct node, next) + node->height * sizeof(void *) + record_size(node->record);

    (void)state;
    assert_int_equal(memtable_generation(memtable), 1);
    node_insert(memtable, node, NULL);
    assert_int_equal(memtable_records(memtable), 1);
    assert_int_equal(memtable_bytes(memtable), bytes);
}

static void heights_fall_off_by_four(void **state)
{
    enum { N = 100000 };
    size_t at_least[NODE_HEIGHT_MAX + 2] = {0};

    (void)state;
    for (size_t i = 0; i < N; i++) {
        struct node *node;
        assert_ok(arena_node(arena, 48, &node));
        assert_in_range(node->height, 1, NODE_HEIGHT_MAX);
        for (uint32_t level = 1; level <= node->height; level++) {
            at_least[level]++;
        }
        chunk_release(node->chunk);
    }
    assert_int_equal(at_least[1], N);
    /* Six standard deviations around the mean. */
    assert_in_range(at_least[2], N / 4 - 822, N / 4 + 822);
    assert_in_range(at_least[3], N / 16 - 460, N / 16 + 460);
    assert_in_range(at_least[4], N / 64 - 236, N / 64 + 236);
}

/* Fills every byte that it was given of many nodes of all sizes, then looks at all of them. */
static void nodes_dont_overlap(void **state)
{
    enum { N = 2000 };
    static struct node *nodes[N];
    static size_t sizes[N];
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (size_t i = 0; i < N; i++) {
        size_t limit = prng_chance(&prng, 10) ? 2 * ARENA_LARGE_BYTES : 600;
        sizes[i] = 8 * (5 + prng_below(&prng, limit / 8));
        assert_ok(arena_node(arena, sizes[i], &nodes[i]));
        assert_int_equal((uintptr_t)nodes[i]->record % 8, 0);
        for (uint32_t level = 0; level < nodes[i]->height; level++) {
            atomic_init(&nodes[i]->next[level], (struct node *)nodes[i]->record);
        }
        memset(nodes[i]->record, (int)(i & 0xFF), sizes[i]);
    }
    for (size_t i = 0; i < N; i++) {
        const uint8_t *data = (const uint8_t *)nodes[i]->record;
        for (size_t at = 0; at < sizes[i]; at++) {
            assert_int_equal(data[at], i & 0xFF);
        }
        for (uint32_t level = 0; level < nodes[i]->height; level++) {
            assert_ptr_equal(atomic_load(&nodes[i]->next[level]), nodes[i]->record);
        }
    }
    for (size_t i = 0; i < N; i++) {
        chunk_release(nodes[i]->chunk);
    }
}

static void small_records_share_a_chunk_and_large_ones_have_their_own(void **state)
{
    struct node *a, *b, *c, *d;

    (void)state;
    assert_ok(arena_node(arena, 64, &a));
    assert_ok(arena_node(arena, ARENA_LARGE_BYTES - 8, &b));
    assert_ok(arena_node(arena, ARENA_LARGE_BYTES, &c));
    assert_ok(arena_node(arena, UINT64_C(3) << 20, &d));
    assert_ptr_equal(a->chunk, b->chunk);
    assert_ptr_not_equal(c->chunk, a->chunk);
    assert_ptr_not_equal(c->chunk, d->chunk);
    assert_in_range(chunk_bytes(a->chunk), ARENA_CHUNK_BYTES, ARENA_CHUNK_BYTES + 64);
    assert_in_range(chunk_bytes(c->chunk), ARENA_LARGE_BYTES, ARENA_LARGE_BYTES + 256);
    assert_in_range(chunk_bytes(d->chunk), UINT64_C(3) << 20, (UINT64_C(3) << 20) + 256);
    assert_false(chunk_release(a->chunk));
    assert_false(chunk_release(b->chunk)); /* open: the arena has it too */
    assert_true(chunk_release(c->chunk));
    assert_true(chunk_release(d->chunk));
}

/* What is being sent lives on, and nobody else holds it then. */
static void a_pinned_record_outlives_its_memtable_and_the_arena(void **state)
{
    static const size_t sizes[] = {20, 100000};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct arena *own_arena;
        struct memtable *own;
        assert_ok(arena_new(&own_arena));
        assert_ok(memtable_new(7, 0, &own));
        node_insert(own, node_put(own_arena, text("k"), 1, sizes[i]), NULL);
        const struct node *pinned = memtable_get(own, text("k"), 1);
        chunk_acquire(pinned->chunk);

        memtable_release(own);
        arena_free(own_arena);
        assert_is(pinned, "k", 1);
        assert_true(chunk_release(pinned->chunk));
    }
}

/* A chunk that is open over a rotation has nodes of both memtables. */
static void two_memtables_may_hold_one_chunk(void **state)
{
    struct memtable *newer;
    (void)state;
    assert_ok(memtable_new(2, 0, &newer));
    struct node *a = node_put(arena, text("a"), 1, 20);
    struct node *b = node_put(arena, text("b"), 2, 20);
    struct node *c = node_put(arena, text("c"), 3, 20);
    struct chunk *chunk = a->chunk;
    assert_ptr_equal(b->chunk, chunk);
    assert_ptr_equal(c->chunk, chunk);
    node_insert(memtable, a, NULL);
    node_insert(newer, b, NULL);
    node_insert(memtable, c, NULL); /* adopted again: the newer one's mark was on it */
    chunk_acquire(chunk);

    arena_free(arena);
    arena = NULL;
    memtable_release(memtable);
    memtable = NULL;
    assert_is(memtable_get(newer, text("b"), 2), "b", 2);
    memtable_release(newer);
    assert_is(b, "b", 2);
    assert_true(chunk_release(chunk)); /* so nobody kept a reference too many */
}

static void a_chunk_is_adopted_by_memtables_of_equal_generation_too(void **state)
{
    struct memtable *twin;
    (void)state;
    assert_ok(memtable_new(memtable_generation(memtable), 0, &twin));
    struct node *node = node_put(arena, text("a"), 1, 100000);
    assert_ok(memtable_adopt(memtable, node));
    node_insert(twin, node, NULL); /* gives our reference back */
    memtable_release(memtable);
    memtable = NULL;
    assert_is(memtable_get(twin, text("a"), 1), "a", 1);
    memtable_release(twin);
}

static void the_last_reference_frees_a_memtable(void **state)
{
    (void)state;
    put("k", 1);
    memtable_acquire(memtable);
    memtable_release(memtable);
    assert_is(memtable_get(memtable, text("k"), 1), "k", 1);
    memtable_release(NULL);
    arena_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_memtable_has_nothing),
        TEST(a_key_is_found_and_none_beside_it),
        TEST(a_snapshot_sees_the_newest_version_up_to_its_number),
        TEST(a_walk_meets_keys_ascending_and_versions_newest_first),
        TEST(keys_sort_by_all_their_bytes),
        TEST(it_answers_like_a_sorted_array),
        TEST(an_old_position_leads_to_the_place_of_ascending_keys),
        TEST(an_old_position_leads_to_the_place_of_descending_keys),
        TEST(an_old_position_leads_to_the_place_of_shuffled_keys),
        TEST(two_versions_of_a_key_in_one_batch_may_share_a_position),
        TEST(an_older_version_goes_behind_a_newer_one),
        TEST(it_counts_what_was_inserted),
        TEST(heights_fall_off_by_four),
        TEST(nodes_dont_overlap),
        TEST(small_records_share_a_chunk_and_large_ones_have_their_own),
        TEST(a_pinned_record_outlives_its_memtable_and_the_arena),
        TEST(two_memtables_may_hold_one_chunk),
        TEST(a_chunk_is_adopted_by_memtables_of_equal_generation_too),
        TEST(the_last_reference_frees_a_memtable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
