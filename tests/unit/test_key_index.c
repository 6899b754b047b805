/* The index of keys: each key's newest version, also where many keys share a bucket. */
#include "store/lsm/key_index.h"

#include <stdio.h>

#include "tests/support/check.h"
#include "tests/support/nodes.h"

enum { KEYS = 20000 };

static struct arena *arena;
static struct key_index *index_of_keys;
static struct node *nodes[KEYS];

static int set_up(void **state)
{
    (void)state;
    assert_ok(arena_new(&arena));
    assert_ok(key_index_new(0, &index_of_keys)); /* the smallest: chains grow long */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    key_index_free(index_of_keys);
    arena_free(arena);
    return 0;
}

static struct bytes numbered_key(size_t number, char text[32])
{
    return bytes_of(text, (size_t)snprintf(text, 32, "key%zu", number));
}

static struct node *put(const char *key, uint64_t seq)
{
    struct node *node = node_put(arena, bytes_of_text(key), seq, 8);
    key_index_put(index_of_keys, node);
    return node;
}

static const struct node *newest(const char *key)
{
    return key_index_newest(index_of_keys, bytes_of_text(key));
}

static void what_was_not_put_is_not_found(void **state)
{
    (void)state;
    assert_null(newest("a"));
    struct node *node = put("a", 1);
    assert_null(newest("b"));
    assert_null(newest("aa"));
    assert_null(key_index_newest(index_of_keys, bytes_of("a\0", 2)));
    chunk_release(node->chunk);
}

static void the_newest_version_is_found(void **state)
{
    (void)state;
    struct node *first = put("a", 1);
    assert_ptr_equal(newest("a"), first);
    struct node *second = put("a", 5);
    assert_ptr_equal(newest("a"), second);
    struct node *third = put("a", 9);
    assert_ptr_equal(newest("a"), third);
    struct node *late = put("a", 7);
    assert_ptr_equal(newest("a"), third);
    chunk_release(first->chunk);
    chunk_release(second->chunk);
    chunk_release(third->chunk);
    chunk_release(late->chunk);
}

static void keys_that_share_buckets_dont_hide_each_other(void **state)
{
    char text[32];
    (void)state;
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < KEYS; i += round + 1) {
            struct bytes key = numbered_key(i, text);
            struct node *node = node_put(arena, key, 1 + round * KEYS + i, 0);
            key_index_put(index_of_keys, node);
            if (round == 1) {
                chunk_release(nodes[i]->chunk);
            }
            nodes[i] = node;
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(key_index_newest(index_of_keys, numbered_key(i, text)), nodes[i]);
        assert_null(key_index_newest(index_of_keys, numbered_key(KEYS + i, text)));
    }
    for (size_t i = 0; i < KEYS; i++) {
        chunk_release(nodes[i]->chunk);
    }
}

/* Found by search: XXH3 of both has the same 32 high and 8 low bits, so that in the smallest index
 * nothing but the keys themselves tells them apart. */
static void keys_with_like_hashes_are_told_apart(void **state)
{
    (void)state;
    struct node *one = put("key154432", 1);
    assert_null(newest("key2448293"));
    struct node *other = put("key2448293", 2);
    assert_ptr_equal(newest("key154432"), one);
    assert_ptr_equal(newest("key2448293"), other);
    chunk_release(one->chunk);
    chunk_release(other->chunk);
}

static void any_number_of_keys_may_be_expected(void **state)
{
    static const uint64_t expected[] = {0, 1, 255, 256, 257, 1000000, UINT64_MAX};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        struct key_index *own;
        assert_ok(key_index_new(expected[i], &own));
        struct node *node = node_put(arena, bytes_of_text("k"), 1, 8);
        key_index_put(own, node);
        assert_ptr_equal(key_index_newest(own, bytes_of_text("k")), node);
        chunk_release(node->chunk);
        key_index_free(own);
    }
    key_index_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_not_put_is_not_found),
        TEST(the_newest_version_is_found),
        TEST(keys_that_share_buckets_dont_hide_each_other),
        TEST(keys_with_like_hashes_are_told_apart),
        TEST(any_number_of_keys_may_be_expected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
