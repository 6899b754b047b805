/* GET /kv: pages of keys, against a model. */
#include <stdio.h>

#include <jansson.h>

#include "tests/http/fixture.h"

enum { KEYS = 57 };

static int group_start_filled(void **state)
{
    if (group_start(state) != 0) {
        return -1;
    }
    struct client *client = ((struct fixture *)*state)->client;
    for (int i = 0; i < KEYS; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/kv/list/%02d", i);
        expect_status(client, 201, "PUT", path, NULL, path);
    }
    expect_status(client, 201, "PUT", "/kv/binary/%ff%00", FIELDS("Content-Type: image/png"),
                  "abc");
    expect_status(client, 201, "PUT", "/kv/binary/caf%c3%a9%22%5c", NULL, "");
    return 0;
}

static json_t *get_page(struct client *client, const char *target)
{
    struct reply reply = client_get(client, target);
    assert_status(&reply, 200);
    assert_field(&reply, "Content-Type", "application/json");
    assert_field(&reply, "Cache-Control", "no-store");
    assert_non_null(reply_field(&reply, "Varve-Position"));
    json_t *page = json_loadb(reply.body, reply.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(page);
    const char *cursor = json_string_value(json_object_get(page, "cursor"));
    const char *link = reply_field(&reply, "Link");
    assert_int_equal(cursor != NULL, link != NULL);
    if (link != NULL) {
        assert_non_null(strstr(link, "rel=\"next\""));
        assert_non_null(strstr(link, cursor));
    }
    reply_free(&reply);
    return page;
}

static const json_t *entry(const json_t *page, size_t i)
{
    return json_array_get(json_object_get(page, "keys"), i);
}

static size_t entries(const json_t *page)
{
    return json_array_size(json_object_get(page, "keys"));
}

static const char *member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

/* The keys list/<from> … list/<to - 1>, and no cursor. */
static void assert_keys(const json_t *page, int from, int to)
{
    assert_int_equal(entries(page), to - from);
    for (int i = from; i < to; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "list/%02d", i);
        assert_string_equal(member(entry(page, (size_t)(i - from)), "key"), key);
    }
}

static void a_prefix_lists_its_keys_in_order(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    json_t *page = get_page(client, "/kv?prefix=list/");
    assert_keys(page, 0, KEYS);
    assert_null(json_object_get(page, "cursor"));
    json_decref(page);
    page = get_page(client, "/kv?prefix=list/1");
    assert_keys(page, 10, 20);
    json_decref(page);
    page = get_page(client, "/kv");
    assert_int_equal(entries(page), KEYS + 2);
    json_decref(page);
}

static void an_empty_list_is_a_list(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    json_t *page = get_page(client, "/kv?prefix=nothing");
    assert_true(json_is_array(json_object_get(page, "keys")));
    assert_int_equal(entries(page), 0);
    assert_null(json_object_get(page, "cursor"));
    json_decref(page);
}

static void start_is_inclusive_and_end_exclusive(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    json_t *page = get_page(client, "/kv?start=list/05&end=list/09");
    assert_keys(page, 5, 9);
    json_decref(page);
    page = get_page(client, "/kv?prefix=list/&start=list/50");
    assert_keys(page, 50, KEYS);
    json_decref(page);
    page = get_page(client, "/kv?prefix=list/&end=list%2F07");
    assert_keys(page, 0, 7);
    json_decref(page);
    page = get_page(client, "/kv?start=list/09&end=list/05");
    assert_int_equal(entries(page), 0);
    json_decref(page);
}

static void pages_follow_each_other_without_gap_or_repetition(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const int limits[] = {1, 7, 56, 57, 58};
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        char target[700];
        (void)snprintf(target, sizeof target, "/kv?prefix=list/&limit=%d", limits[i]);
        int seen = 0;
        for (bool more = true; more;) {
            json_t *page = get_page(client, target);
            int n = (int)entries(page);
            assert_true(n <= limits[i]);
            assert_keys(page, seen, seen + n);
            seen += n;
            const char *cursor = member(page, "cursor");
            more = cursor != NULL;
            if (more) {
                assert_int_equal(n, limits[i]);
                (void)snprintf(target, sizeof target, "/kv?cursor=%s", cursor);
            }
            json_decref(page);
        }
        assert_int_equal(seen, KEYS);
    }
}

/* The cursor stands for a place, not for an entry that is there. */
static void a_cursor_stays_right_while_keys_change(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    for (int i = 0; i < 6; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/kv/moving/%d", i);
        expect_status(client, 201, "PUT", path, NULL, "x");
    }
    json_t *page = get_page(client, "/kv?prefix=moving/&limit=2");
    assert_string_equal(member(entry(page, 1), "key"), "moving/1");
    char target[700];
    (void)snprintf(target, sizeof target, "/kv?cursor=%s", member(page, "cursor"));
    json_decref(page);
    expect_status(client, 204, "DELETE", "/kv/moving/1", NULL, NULL);
    expect_status(client, 204, "DELETE", "/kv/moving/2", NULL, NULL);
    expect_status(client, 201, "PUT", "/kv/moving/1a", NULL, "x");
    expect_status(client, 201, "PUT", "/kv/moving/0a", NULL, "x");
    page = get_page(client, target);
    assert_int_equal(entries(page), 2);
    assert_string_equal(member(entry(page, 0), "key"), "moving/1a");
    assert_string_equal(member(entry(page, 1), "key"), "moving/3");
    json_decref(page);
}

static void entries_say_what_get_says(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    json_t *page = get_page(client, "/kv?prefix=binary/");
    assert_int_equal(entries(page), 2);
    const json_t *text = entry(page, 0);
    const json_t *binary = entry(page, 1);
    assert_string_equal(member(text, "key"), "binary/caf\xc3\xa9\"\\");
    assert_null(json_object_get(text, "key64"));
    assert_int_equal(json_integer_value(json_object_get(text, "size")), 0);
    assert_null(json_object_get(binary, "key"));
    assert_string_equal(member(binary, "key64"), "YmluYXJ5L_8A");
    assert_int_equal(json_integer_value(json_object_get(binary, "size")), 3);
    assert_string_equal(member(binary, "content_type"), "image/png");
    struct reply got = client_get(client, "/kv64/YmluYXJ5L_8A");
    assert_field(&got, "ETag", member(binary, "etag"));
    reply_free(&got);
    unsigned year, month, day, hour, minute, second;
    assert_int_equal(sscanf(member(binary, "modified"), "%4u-%2u-%2uT%2u:%2u:%2u", &year, &month,
                            &day, &hour, &minute, &second),
                     6);
    json_decref(page);
}

static void malformed_parameters_are_400(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const struct {
        const char *target, *type;
    } bad[] = {
        {"/kv?limit=0", "/problems/malformed-parameter"},
        {"/kv?limit=10001", "/problems/malformed-parameter"},
        {"/kv?limit=-1", "/problems/malformed-parameter"},
        {"/kv?limit=ten", "/problems/malformed-parameter"},
        {"/kv?limit=", "/problems/malformed-parameter"},
        {"/kv?limit=1&limit=2", "/problems/malformed-parameter"},
        {"/kv?prefix=%zz", "/problems/malformed-parameter"},
        {"/kv?cursor", "/problems/malformed-cursor"},
        {"/kv?cursor=", "/problems/malformed-cursor"},
        {"/kv?cursor=!!!", "/problems/malformed-cursor"},
        {"/kv?cursor=AAAA", "/problems/malformed-cursor"},
        {"/kv?reverse=true", "/problems/unknown-parameter"},
        {"/kv?delimiter=/", "/problems/unknown-parameter"},
        {"/kv?values=true", "/problems/unknown-parameter"},
        {"/kv?Prefix=a", "/problems/unknown-parameter"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct reply reply = client_get(client, bad[i].target);
        if (reply.status != 400) {
            print_error("%s\n", bad[i].target);
        }
        assert_problem(&reply, 400, bad[i].type);
        reply_free(&reply);
    }
    json_t *page = get_page(client, "/kv?limit=1");
    char target[700];
    (void)snprintf(target, sizeof target, "/kv?prefix=list/&cursor=%s", member(page, "cursor"));
    expect_status(client, 400, "GET", target, NULL, NULL);
    json_decref(page);
}

/* A target with `n` letters as the value of a parameter. */
static void long_target(const char *name, size_t n, char target[6000])
{
    size_t length = (size_t)snprintf(target, 6000, "/kv?%s=", name);
    memset(target + length, 'z', n);
    target[length + n] = '\0';
}

static void bounds_are_as_long_as_a_key_at_most(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const names[] = {"prefix", "start", "end"};
    char target[6000], member_text[64];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        long_target(names[i], 1024, target);
        expect_status(client, 200, "GET", target, NULL, NULL);
        long_target(names[i], 1025, target);
        struct reply reply = client_get(client, target);
        assert_problem(&reply, 400, "/problems/malformed-parameter");
        (void)snprintf(member_text, sizeof member_text, "\"parameter\":\"%s\"", names[i]);
        assert_non_null(strstr(reply.body, member_text));
        reply_free(&reply);
    }
    long_target("cursor", 5000, target);
    struct reply reply = client_get(client, target);
    assert_problem(&reply, 400, "/problems/malformed-cursor");
    reply_free(&reply);
}

/* Follows Link from the first page to the last, and counts how often each tag is there. Returns the
 * number of pages. */
static unsigned follow_links(struct client *client, char target[6000], char tags[][64],
                             unsigned seen[], size_t n)
{
    unsigned pages = 0;
    for (bool more = true; more; pages++) {
        struct reply reply = client_get(client, target);
        assert_status(&reply, 200);
        json_t *page = json_loadb(reply.body, reply.size, 0, NULL);
        for (size_t i = 0; i < entries(page); i++) {
            for (size_t j = 0; j < n; j++) {
                seen[j] += strcmp(member(entry(page, i), "etag"), tags[j]) == 0;
            }
        }
        json_decref(page);
        const char *link = strstr(reply.head, "Link: <");
        more = link != NULL;
        if (more) {
            (void)snprintf(target, 6000, "%.*s", (int)strcspn(link + 7, ">"), link + 7);
        }
        reply_free(&reply);
    }
    return pages;
}

/* Half of the keys aren't UTF-8, and all are as long as may be, as is the end: no cursor is longer.
 */
static void who_follows_the_links_sees_every_key_once(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    enum { LINKED = 64, LIMIT = 7 };
    static char tags[LINKED][64];
    unsigned seen[LINKED] = {0};
    char target[6000];
    for (unsigned i = 0; i < LINKED; i++) {
        size_t length = (size_t)snprintf(target, sizeof target, "/kv/linked/%%%02x", 4 * i + 3);
        memset(target + length, 'z', 1024 - 8);
        target[length + 1024 - 8] = '\0';
        struct reply put = client_put(client, target, "");
        assert_status(&put, 201);
        (void)snprintf(tags[i], sizeof tags[i], "%s", reply_field(&put, "ETag"));
        reply_free(&put);
    }
    size_t length = (size_t)snprintf(target, sizeof target, "/kv?limit=%d&end=linked0", LIMIT);
    memset(target + length, 'z', 1024 - 7);
    (void)strcpy(target + length + 1024 - 7, "&start=linked/");
    assert_int_equal(follow_links(client, target, tags, seen, LINKED),
                     (LINKED + LIMIT - 1) / LIMIT);
    for (unsigned i = 0; i < LINKED; i++) {
        assert_int_equal(seen[i], 1);
    }
}

static void in_a_query_plus_is_a_space(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/with%20space", NULL, "x");
    expect_status(client, 201, "PUT", "/kv/with+plus", NULL, "x");
    json_t *page = get_page(client, "/kv?prefix=with+");
    assert_int_equal(entries(page), 1);
    assert_string_equal(member(entry(page, 0), "key"), "with space");
    json_decref(page);
    page = get_page(client, "/kv?prefix=with%2B");
    assert_int_equal(entries(page), 1);
    assert_string_equal(member(entry(page, 0), "key"), "with+plus");
    json_decref(page);
}

static void ndjson_is_not_built_yet_and_refused(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply reply =
        client_send(client, "GET", "/kv", FIELDS("Accept: application/x-ndjson"), NULL, 0);
    assert_problem(&reply, 406, "/problems/not-acceptable");
    reply_free(&reply);
    expect_status(client, 200, "GET", "/kv", FIELDS("Accept: text/html, */*;q=0.1"), NULL);
    expect_status(client, 405, "POST", "/kv", NULL, "x");
}

/* Keys that take 1,366 characters each: ten thousand of them would be 14 MiB. */
static void a_page_ends_at_four_mebibytes(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    enum { BIG_KEYS = 3500, PAGE_MAX = (4 << 20) + 4096 };
    for (int i = 0; i < BIG_KEYS; i++) {
        char path[3200];
        size_t n = (size_t)snprintf(path, sizeof path, "/kv/~big%05d", i);
        while (n < 5 + 8 + 3 * (1024 - 9)) {
            memcpy(path + n, "%ff", 4);
            n += 3;
        }
        expect_status(client, 201, "PUT", path, NULL, "");
    }
    struct reply reply = client_get(client, "/kv?prefix=~big&limit=10000");
    assert_status(&reply, 200);
    assert_in_range(reply.size, 3 << 20, PAGE_MAX);
    json_t *page = json_loadb(reply.body, reply.size, 0, NULL);
    size_t first = entries(page);
    assert_true(first < BIG_KEYS);
    char target[5000];
    (void)snprintf(target, sizeof target, "/kv?cursor=%s", member(page, "cursor"));
    json_decref(page);
    reply_free(&reply);
    page = get_page(client, target);
    assert_int_equal(first + entries(page), BIG_KEYS);
    assert_null(member(page, "cursor"));
    json_decref(page);
}

static void lists_read_tables_and_memtables_as_one(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 204, "POST", "/admin/flush", NULL, "");
    expect_status(client, 204, "DELETE", "/kv/list/30", NULL, NULL);
    expect_status(client, 204, "PUT", "/kv/list/31", NULL, "a longer value than before");
    json_t *page = get_page(client, "/kv?prefix=list/3");
    assert_int_equal(entries(page), 9);
    assert_string_equal(member(entry(page, 0), "key"), "list/31");
    assert_int_equal(json_integer_value(json_object_get(entry(page, 0), "size")), 26);
    json_decref(page);
    expect_status(client, 204, "POST", "/admin/compact", NULL, "");
    page = get_page(client, "/kv?prefix=list/3");
    assert_int_equal(entries(page), 9);
    json_decref(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_lists_its_keys_in_order),
        cmocka_unit_test(an_empty_list_is_a_list),
        cmocka_unit_test(start_is_inclusive_and_end_exclusive),
        cmocka_unit_test(pages_follow_each_other_without_gap_or_repetition),
        cmocka_unit_test(a_cursor_stays_right_while_keys_change),
        cmocka_unit_test(entries_say_what_get_says),
        cmocka_unit_test(malformed_parameters_are_400),
        cmocka_unit_test(bounds_are_as_long_as_a_key_at_most),
        cmocka_unit_test(who_follows_the_links_sees_every_key_once),
        cmocka_unit_test(in_a_query_plus_is_a_space),
        cmocka_unit_test(ndjson_is_not_built_yet_and_refused),
        cmocka_unit_test(a_page_ends_at_four_mebibytes),
        cmocka_unit_test(lists_read_tables_and_memtables_as_one),
    };
    return cmocka_run_group_tests(tests, group_start_filled, group_stop);
}
