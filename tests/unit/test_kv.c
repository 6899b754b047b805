/* One key: PUT, GET, HEAD, DELETE, what they keep, and what guards them. */
#include "tests/support/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"

static void stores_and_gives_back(void **state)
{
    struct fixture *f = *state;
    char etag[64];

    assert_int_equal(put(f, "/kv/a", "", "hello"), 201);
    snprintf(etag, sizeof etag, "%s", field(f, "ETag"));
    assert_string_equal(field(f, "Content-Length"), "0");
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_int_equal(f->peer.body_len, 5);
    assert_memory_equal(f->peer.body, "hello", 5);
    assert_string_equal(field(f, "ETag"), etag);
    assert_string_equal(field(f, "Content-Type"), "application/octet-stream");
    assert_string_equal(field(f, "Cache-Control"), "no-cache");
    assert_string_equal(field(f, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(field(f, "Content-Security-Policy"), "sandbox");
    assert_null(raw_field(&f->peer, "Varve-Request-Id")); /* the log says nothing of it */

    assert_int_equal(put(f, "/kv/a", "", ""), 204);
    assert_string_not_equal(field(f, "ETag"), etag);
    assert_null(raw_field(&f->peer, "Content-Length"));
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_int_equal(f->peer.body_len, 0);

    assert_int_equal(ask(f, "DELETE /kv/a", ""), 204);
    assert_string_equal(field(f, "Varve-Deleted"), "1");
    assert_int_equal(ask(f, "DELETE /kv/a", ""), 204);
    assert_string_equal(field(f, "Varve-Deleted"), "0");
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "GET /kv/a", ""));
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "DELETE /kv/a?missing=error", ""));
    assert_int_equal(put(f, "/kv/a", "", "x"), 201);
    assert_int_equal(ask(f, "DELETE /kv/a?missing=error", ""), 204);
    assert_usable(f);
}

static void head_says_what_get_says(void **state)
{
    struct fixture *f = *state;
    static const char *const fields[] = {"Content-Length", "Content-Type",     "ETag",
                                         "Last-Modified",  "Content-Encoding", "Cache-Control"};
    char values[COUNT_OF(fields)][64];

    fake_store_set(f->store, (struct fake_knobs){.modified_ms = 784111777999});
    put(f, "/kv/a", "Content-Type: a/b\r\nContent-Encoding: br\r\n", "12345");
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        snprintf(values[i], sizeof values[i], "%s", field(f, fields[i]));
    }
    assert_string_equal(values[3], "Sun, 06 Nov 1994 08:49:39 GMT");
    assert_int_equal(ask(f, "HEAD /kv/a", ""), 200);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        assert_string_equal(field(f, fields[i]), values[i]);
    }
    assert_int_equal(ask(f, "HEAD /kv/b", ""), 404);
    assert_usable(f);
}

static void last_modified_waits_for_its_second_to_come(void **state)
{
    struct fixture *f = *state;

    fake_store_set(f->store, (struct fake_knobs){.modified_ms = 33000000000000});
    put(f, "/kv/a", "", "x");
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_null(raw_field(&f->peer, "Last-Modified"));
}

static void keeps_three_fields(void **state)
{
    struct fixture *f = *state;
    char longest[300];
    char fields[400];

    put(f, "/kv/a",
        "Content-Type: text/html; charset=utf-8 \r\nContent-Encoding: gzip\r\n"
        "Cache-Control: max-age=60,\tpublic\r\n",
        "x");
    ask(f, "GET /kv/a", "");
    assert_string_equal(field(f, "Content-Type"), "text/html; charset=utf-8");
    assert_string_equal(field(f, "Content-Encoding"), "gzip");
    assert_string_equal(field(f, "Cache-Control"), "max-age=60,\tpublic");
    put(f, "/kv/a", "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding:\r\n",
        "x");
    ask(f, "GET /kv/a", "");
    assert_string_equal(field(f, "Content-Type"), "application/octet-stream");
    assert_null(raw_field(&f->peer, "Content-Encoding"));
    assert_string_equal(field(f, "Cache-Control"), "no-cache");
    put(f, "/kv/a", "Content-Type: Application/X-WWW-Form-Urlencoded ; a=b\r\n", "x");
    ask(f, "GET /kv/a", "");
    assert_string_equal(field(f, "Content-Type"), "application/octet-stream");

    memset(longest, 'x', sizeof longest);
    longest[256] = '\0';
    snprintf(fields, sizeof fields, "Content-Type: %s\r\n", longest);
    assert_int_equal(put(f, "/kv/a", fields, "x"), 204);
    ask(f, "GET /kv/a", "");
    assert_string_equal(field(f, "Content-Type"), longest);
    snprintf(fields, sizeof fields, "Content-Type: %sx\r\n", longest);
    assert_refused(f, PROBLEM_MALFORMED_HEADER, put(f, "/kv/a", fields, "x"));
    assert_refused(f, PROBLEM_MALFORMED_HEADER, put(f, "/kv/a", "Cache-Control: \x80\r\n", "x"));
    assert_refused(f, PROBLEM_MALFORMED_HEADER, put(f, "/kv/a", "Cache-Control: a\x01\r\n", "x"));
    assert_refused(f, PROBLEM_MALFORMED_HEADER,
                   put(f, "/kv/a", "Content-Type: a/b\r\nContent-Type: a/b\r\n", "x"));
    assert_usable(f);
}

static void keys_are_bytes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *put, *get;
    } same[] = {
        {"/kv/a%2Fb", "/kv/a/b"},     {"/kv/a+b", "/kv/a%2Bb"},      {"/kv/%00", "/kv64/AA"},
        {"/kv/a%00b", "/kv64/YQBi"},  {"/kv/a//b", "/kv/a%2f%2Fb"},  {"/kv//", "/kv/%2F"},
        {"/kv/../x", "/kv/%2e%2e/x"}, {"/kv/a%3Fb", "/kv64/YT9i"},   {"/kv/%ff", "/kv64/_w"},
        {"/kv/a#b", "/kv/a%23b"},     {"http://h/kv/abs", "/kv/abs"}};

    for (size_t i = 0; i < COUNT_OF(same); i++) {
        char what[64];
        char value[16];

        snprintf(value, sizeof value, "value %zu", i);
        assert_int_equal(put(f, same[i].put, "", value), 201);
        snprintf(what, sizeof what, "GET %s", same[i].get);
        assert_int_equal(ask(f, what, ""), 200);
        assert_string_equal(f->peer.body, value);
    }
}

static void refuses_what_is_no_key(void **state)
{
    struct fixture *f = *state;
    static const char *const methods[] = {"GET", "HEAD", "DELETE", "OPTIONS", "POST", "PATCH"};
    char key[1100];
    char what[1200];

    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        snprintf(what, sizeof what, "%s /kv/", methods[i]);
        assert_int_equal(ask(f, what, ""), 400);
        if (i != 1) {
            assert_problem(f, PROBLEM_EMPTY_KEY);
            assert_non_null(strstr(f->peer.body, "/kv?prefix="));
        }
    }
    assert_refused(f, PROBLEM_EMPTY_KEY, put(f, "/kv/", "", "x"));
    assert_refused(f, PROBLEM_EMPTY_KEY, ask(f, "GET /kv64/", ""));
    assert_refused(f, PROBLEM_MALFORMED_KEY, ask(f, "GET /kv/%", ""));
    assert_refused(f, PROBLEM_MALFORMED_KEY, put(f, "/kv/a%zz", "", "x"));
    assert_refused(f, PROBLEM_MALFORMED_KEY, ask(f, "GET /kv64/AA==", ""));
    assert_refused(f, PROBLEM_MALFORMED_KEY, ask(f, "GET /kv64/AB", ""));
    memset(key, 'k', sizeof key);
    key[1024] = '\0';
    snprintf(what, sizeof what, "/kv/%s", key);
    assert_int_equal(put(f, what, "", "x"), 201);
    snprintf(what, sizeof what, "/kv/%sk", key);
    assert_refused(f, PROBLEM_KEY_TOO_LONG, put(f, what, "", "x"));
    json_t *json = body_json(f);
    assert_int_equal(json_integer_value(json_object_get(json, "limit")), 1024);
    json_decref(json);
    assert_usable(f);
}

static void a_zero_byte_does_not_cut_the_target(void **state)
{
    struct fixture *f = *state;
    static const char request[] = "GET /kv/a\0b HTTP/1.1\r\n" HOST "\r\n";

    put(f, "/kv/a", "", "x");
    raw_send(&f->peer, request, sizeof request - 1);
    assert_refused(f, PROBLEM_MALFORMED_REQUEST, raw_receive(&f->peer, false));
    assert_closed(f);
}

static void preconditions_guard_reads_and_writes(void **state)
{
    struct fixture *f = *state;
    char match[160];
    char none_match[160];
    char etag[64];

    put(f, "/kv/a", "", "12345");
    snprintf(etag, sizeof etag, "%s", field(f, "ETag"));
    snprintf(match, sizeof match, "If-Match: %s\r\n", etag);
    snprintf(none_match, sizeof none_match, "If-None-Match: W/%s\r\n", etag);

    assert_int_equal(ask(f, "GET /kv/a", match), 200);
    assert_int_equal(ask(f, "GET /kv/a", none_match), 304);
    assert_string_equal(field(f, "ETag"), etag);
    assert_string_equal(field(f, "Content-Length"), "5");
    assert_string_equal(field(f, "Cache-Control"), "no-cache");
    assert_null(raw_field(&f->peer, "Content-Type"));
    assert_int_equal(ask(f, "HEAD /kv/a", none_match), 304);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, ask(f, "GET /kv/a", "If-Match: \"x\"\r\n"));
    assert_string_equal(field(f, "ETag"), etag);

    assert_refused(f, PROBLEM_PRECONDITION_FAILED, put(f, "/kv/a", "If-None-Match: *\r\n", "new"));
    assert_string_equal(field(f, "ETag"), etag);
    json_t *json = body_json(f);
    assert_string_equal(json_string_value(json_object_get(json, "current_etag")), etag);
    json_decref(json);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, ask(f, "DELETE /kv/a", none_match));
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_string_equal(f->peer.body, "12345");

    assert_int_equal(put(f, "/kv/a", match, "new"), 204);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, put(f, "/kv/a", match, "newer"));
    assert_int_equal(put(f, "/kv/b", "If-None-Match: *\r\n", "x"), 201);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, put(f, "/kv/never", "If-Match: *\r\n", "x"));
    assert_null(raw_field(&f->peer, "ETag"));
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, ask(f, "DELETE /kv/never", "If-Match: *\r\n"));
    assert_usable(f);
}

static void conditions_do_not_hide_a_404(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "GET /kv/a", "If-Match: *\r\n"));
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "GET /kv/a", "If-None-Match: *\r\n"));
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "DELETE /kv/a?missing=error", "If-Match: *\r\n"));
}

static void dates_count_by_the_second(void **state)
{
    struct fixture *f = *state;

    fake_store_set(f->store, (struct fake_knobs){.modified_ms = 784111777999});
    put(f, "/kv/a", "", "x");
    assert_int_equal(ask(f, "GET /kv/a", "If-Modified-Since: Sun, 06 Nov 1994 08:49:39 GMT\r\n"),
                     304);
    assert_int_equal(ask(f, "GET /kv/a", "If-Modified-Since: Sun Nov  6 08:49:38 1994\r\n"), 200);
    assert_int_equal(ask(f, "GET /kv/a", "If-Modified-Since: tomorrow\r\n"), 200);
    assert_int_equal(ask(f, "GET /kv/a",
                         "If-Modified-Since: Sun, 06 Nov 1994 08:49:39 GMT\r\n"
                         "If-Modified-Since: Sun, 06 Nov 1994 08:49:39 GMT\r\n"),
                     200);
    assert_int_equal(
        put(f, "/kv/a", "If-Unmodified-Since: Sunday, 06-Nov-94 08:49:38 GMT\r\n", "y"), 412);
    assert_int_equal(
        put(f, "/kv/a", "If-Unmodified-Since: Sunday, 06-Nov-94 08:49:39 GMT\r\n", "y"), 204);
}

static void a_malformed_condition_is_never_no_condition(void **state)
{
    struct fixture *f = *state;

    put(f, "/kv/a", "", "x");
    assert_refused(f, PROBLEM_MALFORMED_PRECONDITION, put(f, "/kv/a", "If-Match: x\r\n", "y"));
    assert_refused(f, PROBLEM_MALFORMED_PRECONDITION, put(f, "/kv/a", "If-Match:\r\n", "y"));
    assert_refused(f, PROBLEM_MALFORMED_PRECONDITION,
                   ask(f, "DELETE /kv/a", "If-None-Match: \"a\"\r\nIf-None-Match: *\r\n"));
    assert_refused(f, PROBLEM_MALFORMED_PRECONDITION, ask(f, "GET /kv/a", "If-Match: 'a'\r\n"));
    ask(f, "GET /kv/a", "");
    assert_string_equal(f->peer.body, "x");
    /* folded, libmicrohttpd makes it a field named "If-None-Match*" */
    assert_refused(f, PROBLEM_MALFORMED_REQUEST, put(f, "/kv/a", "If-None-Match:\r\n *\r\n", "y"));
    assert_closed(f);
    ask(f, "GET /kv/a", "");
    assert_string_equal(f->peer.body, "x");
}

static void trailers_are_no_conditions(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put(f, "/kv/a", "", "x"), 201);
    assert_int_equal(raw_ask(&f->peer,
                             "PUT /kv/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                             "1\r\ny\r\n0\r\nIf-None-Match: *\r\n\r\n"),
                     204);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(stores_and_gives_back),
        API_TEST(head_says_what_get_says),
        API_TEST(last_modified_waits_for_its_second_to_come),
        API_TEST(keeps_three_fields),
        API_TEST(keys_are_bytes),
        API_TEST(refuses_what_is_no_key),
        API_TEST(a_zero_byte_does_not_cut_the_target),
        API_TEST(preconditions_guard_reads_and_writes),
        API_TEST(conditions_do_not_hide_a_404),
        API_TEST(dates_count_by_the_second),
        API_TEST(a_malformed_condition_is_never_no_condition),
        API_TEST(trailers_are_no_conditions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
