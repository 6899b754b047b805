/* Which path and method leads where. */
#include "tests/support/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"

static void routes_know_their_methods(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *path, *allow;
    } cases[] = {{"/kv/a", "GET, HEAD, PUT, DELETE, OPTIONS"},
                 {"/kv64/AA", "GET, HEAD, PUT, DELETE, OPTIONS"},
                 {"/kv", "GET, HEAD, OPTIONS"},
                 {"/stats", "GET, HEAD, OPTIONS"},
                 {"/admin/flush", "POST, OPTIONS"},
                 {"/admin/compact", "POST, OPTIONS"},
                 {"/version", "GET, HEAD, OPTIONS"},
                 {"/openapi.yaml", "GET, HEAD, OPTIONS"},
                 {"/livez", "GET, HEAD, OPTIONS"},
                 {"/metrics", "GET, HEAD, OPTIONS"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char what[64];

        snprintf(what, sizeof what, "OPTIONS %s", cases[i].path);
        assert_int_equal(ask(f, what, ""), 204);
        assert_string_equal(field(f, "Allow"), cases[i].allow);
        snprintf(what, sizeof what, "PATCH %s", cases[i].path);
        assert_refused(f, PROBLEM_METHOD_NOT_ALLOWED, ask(f, what, ""));
        assert_string_equal(field(f, "Allow"), cases[i].allow);
    }
    assert_int_equal(ask(f, "OPTIONS *", ""), 204);
    assert_string_equal(field(f, "Allow"), "GET, HEAD, PUT, POST, DELETE, OPTIONS");
    assert_refused(f, PROBLEM_METHOD_NOT_ALLOWED, ask(f, "get /kv/a", ""));
    assert_usable(f);
}

static void a_missing_route_differs_from_a_missing_key(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/",        "/k",      "/kvx",     "/kv6/a",  "//kv/a",
                                        "/KV/a",    "/%6bv/a", "/stats/",  "/admin/", "*",
                                        "/livez/x", "/kv64",   "/version/"};

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char what[64];

        snprintf(what, sizeof what, "GET %s", paths[i]);
        assert_refused(f, PROBLEM_NO_SUCH_ROUTE, ask(f, what, ""));
    }
    assert_refused(f, PROBLEM_NO_SUCH_ROUTE, put(f, "/", "", "x"));
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "GET /kv/missing", ""));
    assert_usable(f);
}

static void what_is_not_built_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, put(f, "/kv/a?ttl=5", "", "x"));
    json_t *json = body_json(f);
    assert_string_equal(json_string_value(json_object_get(json, "parameter")), "ttl");
    json_decref(json);
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, put(f, "/kv/a", "Varve-TTL: 5\r\n", "x"));
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, put(f, "/kv/a", "X-TTL: 5\r\n", "x"));
    assert_refused(f, PROBLEM_CONTENT_RANGE,
                   put(f, "/kv/a", "Content-Range: bytes 0-0/1\r\n", "x"));
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, ask(f, "GET /kv/a?x", ""));
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, ask(f, "GET /kv?delimiter=/", ""));
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, ask(f, "GET /kv?reverse=true", ""));
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, ask(f, "GET /kv?values=true", ""));
    assert_refused(f, PROBLEM_NOT_ACCEPTABLE,
                   ask(f, "GET /kv", "Accept: application/x-ndjson\r\n"));
    assert_int_equal(ask(f, "GET /kv", "Accept: application/x-ndjson, */*;q=0.1\r\n"), 200);
    assert_refused(f, PROBLEM_UNKNOWN_PARAMETER, ask(f, "GET /version?x=1", ""));
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, "DELETE /kv/a?missing=no", ""));
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER,
                   ask(f, "DELETE /kv/a?missing=error&missing=error", ""));
    assert_int_equal(ask(f, "GET /kv/a?ID=1", ""), 404);
    assert_int_equal(put(f, "/kv/a?ID=1", "", "x"), 201);
    assert_usable(f);
}

static void web_pages_drive_nothing(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, PROBLEM_CROSS_SITE, put(f, "/kv/a", "Origin: http://evil\r\n", "x"));
    assert_int_equal(put(f, "/kv/a", "Origin: http://h\r\n", "x"), 201);
    assert_int_equal(ask(f, "GET /kv/a", "Origin: http://evil\r\n"), 200);
}

static void probes_and_metrics_are_the_owners(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "GET /livez", ""), 200);
    assert_string_equal(f->peer.body, "ok\n");
    assert_string_equal(field(f, "Cache-Control"), "no-store");
    assert_int_equal(ask(f, "GET /readyz?verbose", ""), 200);
    assert_string_equal(f->peer.body, "verbose\n");
    assert_int_equal(ask(f, "GET /readyz?write", ""), 200);
    assert_string_equal(f->peer.body, "write\n");
    assert_int_equal(ask(f, "GET /startupz", ""), 503);
    assert_string_equal(field(f, "Retry-After"), "1");
    assert_int_equal(ask(f, "HEAD /metrics", ""), 200);
    assert_string_equal(field(f, "Content-Length"), "3");
    assert_int_equal(ask(f, "GET /livez?verbose", ""), 400);
}

static void says_what_it_is(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "GET /version", ""), 200);
    json_t *json = body_json(f);
    assert_string_equal(json_string_value(json_object_get(json, "name")), "varve");
    assert_string_equal(json_string_value(json_object_get(json, "version")), "1.2.3");
    json_decref(json);
    assert_int_equal(ask(f, "GET /openapi.yaml", ""), 200);
    assert_int_equal(strncmp(f->peer.body, "openapi: 3.1", 12), 0);
    assert_string_equal(field(f, "Content-Type"), "application/yaml");

    put(f, "/kv/a", "", "x");
    assert_int_equal(ask(f, "GET /stats", ""), 200);
    assert_string_equal(field(f, "Cache-Control"), "no-store");
    json = body_json(f);
    assert_int_equal(json_integer_value(json_object_get(json, "keys_approximate")), 1);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "writable");
    json_t *level = json_array_get(json_object_get(json, "levels"), 1);
    assert_int_equal(json_integer_value(json_object_get(level, "bytes")), 4096);
    assert_non_null(json_object_get(json_object_get(json, "compactions"), "debt_bytes"));
    assert_non_null(json_object_get(json, "uptime_s"));
    json_decref(json);
}

static void every_route_is_described(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "GET /openapi.yaml", ""), 200);
    for (int i = API_ROUTE_NONE + 1; i < API_ROUTE_COUNT; i++) {
        char line[64];

        snprintf(line, sizeof line, "\n  %s:\n", api_route_name((enum api_route)i));
        if (strstr(f->peer.body, line) == NULL) {
            fail_msg("openapi.yaml lacks %s", api_route_name((enum api_route)i));
        }
    }
}

static void every_problem_is_described(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, "GET /openapi.yaml", ""), 200);
    for (int i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++) {
        char line[64];

        snprintf(line, sizeof line, "- %s\n", problem_kind((enum problem)i)->type);
        if (strstr(f->peer.body, line) == NULL) {
            fail_msg("openapi.yaml lacks %s", line);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(routes_know_their_methods),
        API_TEST(a_missing_route_differs_from_a_missing_key),
        API_TEST(what_is_not_built_is_refused),
        API_TEST(web_pages_drive_nothing),
        API_TEST(probes_and_metrics_are_the_owners),
        API_TEST(says_what_it_is),
        API_TEST(every_route_is_described),
        API_TEST(every_problem_is_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
