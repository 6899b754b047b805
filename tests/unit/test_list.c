/* Lists: ranges, pages, cursors. */
#include "tests/support/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"

static void fill(struct fixture *f, const char *const keys[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fake_store_put(f->store, bytes_of_text(keys[i]), bytes_of_text("12345"));
    }
}

/* The keys of the last answer in a row, each followed by a space. */
static const char *keys_of(struct fixture *f, char out[256])
{
    json_t *json = body_json(f);
    size_t i;
    json_t *entry;
    size_t len = 0;

    out[0] = '\0';
    json_array_foreach (json_object_get(json, "keys"), i, entry) {
        len += (size_t)snprintf(out + len, 256 - len, "%s ",
                                json_string_value(json_object_get(entry, "key")));
    }
    json_decref(json);
    return out;
}

static void lists_ranges_in_key_order(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"b", "a", "a/1", "a/2", "a0", "c", "A"};
    static const struct {
        const char *query, *keys;
    } cases[] = {
        {"", "A a a/1 a/2 a0 b c "},
        {"?prefix=", "A a a/1 a/2 a0 b c "},
        {"?prefix=a", "a a/1 a/2 a0 "},
        {"?prefix=a/", "a/1 a/2 "},
        {"?prefix=a%2F", "a/1 a/2 "},
        {"?prefix=%ff", ""},
        {"?prefix=zz", ""},
        {"?start=a/2", "a/2 a0 b c "},
        {"?end=a/2", "A a a/1 "},
        {"?start=a&end=b", "a a/1 a/2 a0 "},
        {"?start=b&end=a", ""},
        {"?start=a&end=a", ""},
        {"?start=&end=", "A a a/1 a/2 a0 b c "},
        {"?prefix=a&start=a/2", "a/2 a0 "},
        {"?prefix=a&end=a0", "a a/1 a/2 "},
        {"?prefix=a&start=A&end=z", "a a/1 a/2 a0 "},
        {"?prefix=a&start=c", ""},
        {"?prefix=b&end=a", ""},
        {"?limit=10000", "A a a/1 a/2 a0 b c "},
    };

    fill(f, keys, COUNT_OF(keys));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char what[64];
        char got[256];

        snprintf(what, sizeof what, "GET /kv%s", cases[i].query);
        assert_int_equal(ask(f, what, ""), 200);
        assert_string_equal(keys_of(f, got), cases[i].keys);
        assert_string_equal(field(f, "Cache-Control"), "no-store");
        assert_string_equal(field(f, "Content-Type"), "application/json");
        assert_string_equal(field(f, "Varve-Position"), "000000000000face-7");
        assert_null(raw_field(&f->peer, "Link"));
        assert_null(strstr(f->peer.body, "cursor"));
    }
    assert_int_equal(fake_store_lent(f->store), 0);
}

static void a_prefix_may_end_in_the_greatest_byte(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a\xFE", "a\xFF",
                                       "a\xFF\xFF"
                                       "b",
                                       "b",
                                       "\xFF"
                                       "c"};
    static const struct {
        const char *query;
        size_t n;
    } cases[] = {{"prefix=a%ff", 2}, {"prefix=a%ff%ff", 1}, {"prefix=%ff", 1}, {"prefix=a", 3}};

    fill(f, keys, COUNT_OF(keys));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char what[64];

        snprintf(what, sizeof what, "GET /kv?%s", cases[i].query);
        assert_int_equal(ask(f, what, ""), 200);
        json_t *json = body_json(f);
        assert_int_equal(json_array_size(json_object_get(json, "keys")), cases[i].n);
        json_decref(json);
    }
}

static void an_entry_says_what_a_head_would(void **state)
{
    struct fixture *f = *state;

    fake_store_set(f->store, (struct fake_knobs){.modified_ms = 784111777007});
    put(f, "/kv/k%00%22", "Content-Type: a/b; c=\"d\"\r\n", "12345");
    char etag[64];
    snprintf(etag, sizeof etag, "%s", field(f, "ETag"));
    put(f, "/kv/%ff", "", "");
    assert_int_equal(ask(f, "GET /kv", ""), 200);
    json_t *json = body_json(f);
    json_t *entry = json_array_get(json_object_get(json, "keys"), 0);
    json_t *key = json_object_get(entry, "key");
    assert_int_equal(json_string_length(key), 3);
    assert_memory_equal(json_string_value(key), "k\0\"", 3);
    assert_string_equal(json_string_value(json_object_get(entry, "etag")), etag);
    assert_int_equal(json_integer_value(json_object_get(entry, "size")), 5);
    assert_string_equal(json_string_value(json_object_get(entry, "content_type")), "a/b; c=\"d\"");
    assert_string_equal(json_string_value(json_object_get(entry, "modified")),
                        "1994-11-06T08:49:37.007Z");
    assert_int_equal(json_object_size(entry), 5);
    entry = json_array_get(json_object_get(json, "keys"), 1);
    assert_string_equal(json_string_value(json_object_get(entry, "key64")), "_w");
    assert_int_equal(json_object_size(entry), 4);
    assert_int_equal(json_object_size(json), 1);
    json_decref(json);
}

/* Follows the cursors from a first query; the keys of all pages. */
static const char *follow(struct fixture *f, const char *query, unsigned *ret_pages, char all[1024])
{
    char what[4096];
    size_t len = 0;

    snprintf(what, sizeof what, "GET /kv%s", query);
    all[0] = '\0';
    *ret_pages = 0;
    for (;;) {
        char keys[256];

        assert_int_equal(ask(f, what, ""), 200);
        len += (size_t)snprintf(all + len, 1024 - len, "%s|", keys_of(f, keys));
        ++*ret_pages;
        json_t *json = body_json(f);
        const char *cursor = json_string_value(json_object_get(json, "cursor"));
        if (cursor == NULL) {
            assert_null(raw_field(&f->peer, "Link"));
            json_decref(json);
            return all;
        }
        char link[4096];
        snprintf(link, sizeof link, "</kv?cursor=%s>; rel=\"next\"", cursor);
        assert_string_equal(field(f, "Link"), link);
        snprintf(what, sizeof what, "GET /kv?cursor=%s", cursor);
        json_decref(json);
    }
}

static void pages_follow_each_other(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f"};
    char all[1024];
    unsigned pages;

    fill(f, keys, COUNT_OF(keys));
    assert_string_equal(follow(f, "?limit=2", &pages, all), "a b |c d |e f |");
    assert_string_equal(follow(f, "?limit=4", &pages, all), "a b c d |e f |");
    assert_string_equal(follow(f, "?limit=6", &pages, all), "a b c d e f |");
    assert_string_equal(follow(f, "?limit=1&start=b&end=e", &pages, all), "b |c |d |");
    assert_string_equal(follow(f, "?limit=1&prefix=c", &pages, all), "c |");
}

static void pages_stay_right_while_keys_change(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"a", "b", "c", "d"};
    static const char *const more[] = {"a0", "b0", "bb"};
    char what[256];
    char got[256];

    fill(f, keys, COUNT_OF(keys));
    ask(f, "GET /kv?limit=2", "");
    json_t *json = body_json(f);
    snprintf(what, sizeof what, "GET /kv?cursor=%s",
             json_string_value(json_object_get(json, "cursor")));
    json_decref(json);
    fill(f, more, COUNT_OF(more));
    assert_int_equal(ask(f, what, ""), 200);
    assert_string_equal(keys_of(f, got), "b0 bb ");
    ask(f, "DELETE /kv/b", ""); /* the one that the cursor names */
    assert_int_equal(ask(f, what, ""), 200);
    assert_string_equal(keys_of(f, got), "b0 bb ");
}

static void refuses_bad_bounds_and_cursors(void **state)
{
    struct fixture *f = *state;
    static const char *const parameters[] = {"limit=0",   "limit=10001",    "limit=-1",
                                             "limit=",    "limit=1x",       "prefix=%",
                                             "start=%zz", "limit=1&limit=1"};
    static const char *const cursors[] = {
        "", "x", "AA", "AQABAAFh=", "AgABAAFh", "AQAAAAFh", "AScRAAFh", "AQABAAAh", "AQABAAJh"};
    char what[1200];

    for (size_t i = 0; i < COUNT_OF(parameters); i++) {
        snprintf(what, sizeof what, "GET /kv?%s", parameters[i]);
        assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, what, ""));
    }
    for (size_t i = 0; i < COUNT_OF(cursors); i++) {
        snprintf(what, sizeof what, "GET /kv?cursor=%s", cursors[i]);
        assert_refused(f, PROBLEM_MALFORMED_CURSOR, ask(f, what, ""));
    }
    assert_int_equal(ask(f, "GET /kv?cursor=AQABAAFh", ""), 200);
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, "GET /kv?cursor=AQABAAFh&limit=1", ""));
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, "GET /kv?prefix=&cursor=AQABAAFh", ""));
    memset(what, 'x', sizeof what);
    memcpy(what, "GET /kv?end=", 12);
    what[12 + 1024] = '\0';
    assert_int_equal(ask(f, what, ""), 200);
    what[12 + 1024] = 'x';
    what[12 + 1025] = '\0';
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, what, ""));
}

static void the_longest_keys_make_pages_too(void **state)
{
    struct fixture *f = *state;
    char key[1025] = "";
    char what[4200];
    unsigned n = 0;

    for (unsigned i = 0; i < 4; i++) {
        memset(key, 1, 1024);
        key[1023] = (char)(i + 1);
        fake_store_put(f->store, bytes_of(key, 1024), bytes_of_text("x"));
    }
    /* the longest end as well, so that the cursor is the longest there is */
    strcpy(what, "GET /kv?limit=1&end=");
    memset(what + strlen(what), 'z', 1024);
    what[20 + 1024] = '\0';
    for (;;) {
        assert_int_equal(ask(f, what, ""), 200);
        n++;
        json_t *json = body_json(f);
        const char *cursor = json_string_value(json_object_get(json, "cursor"));
        if (cursor != NULL) {
            assert_true(strlen(field(f, "Link")) > 2700);
            snprintf(what, sizeof what, "GET /kv?cursor=%s", cursor);
        }
        json_decref(json);
        if (cursor == NULL) {
            break;
        }
    }
    assert_int_equal(n, 4);
}

static void a_page_ends_at_4_mib(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 1500 };
    unsigned pages = 0;
    size_t total = 0;
    char what[4200] = "GET /kv?limit=10000";

    for (unsigned i = 0; i < KEYS; i++) {
        char key[1024];

        memset(key, 1, sizeof key); /* six characters each in JSON */
        key[0] = (char)(1 + i / 30);
        key[1] = (char)(1 + i % 30);
        fake_store_put(f->store, bytes_of(key, sizeof key), bytes_of_text("x"));
    }
    for (;;) {
        assert_int_equal(ask(f, what, ""), 200);
        assert_true(f->peer.body_len <= 4 << 20);
        pages++;
        json_t *json = body_json(f);
        total += json_array_size(json_object_get(json, "keys"));
        const char *cursor = json_string_value(json_object_get(json, "cursor"));
        if (cursor != NULL) {
            assert_true(f->peer.body_len > (4 << 20) - 20000);
            snprintf(what, sizeof what, "GET /kv?cursor=%s", cursor);
        }
        json_decref(json);
        if (cursor == NULL) {
            break;
        }
    }
    assert_int_equal(total, KEYS);
    assert_int_equal(pages, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(lists_ranges_in_key_order),
        API_TEST(a_prefix_may_end_in_the_greatest_byte),
        API_TEST(an_entry_says_what_a_head_would),
        API_TEST(pages_follow_each_other),
        API_TEST(pages_stay_right_while_keys_change),
        API_TEST(refuses_bad_bounds_and_cursors),
        API_TEST(the_longest_keys_make_pages_too),
        API_TEST(a_page_ends_at_4_mib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
