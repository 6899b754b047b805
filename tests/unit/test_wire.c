/* Wire safety: what must not pass although the parser below lets it. */
#include "api/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct request {
    const char *method, *target;
    bool http_1_0, target_cut;
    const char *fields[8][2]; /* name and value */
};

static const struct wire_policy open_policy = {.target_bytes_max = 64, .header_bytes_max = 512};
static const char *const host_names[] = {"store.test", "other.test", NULL};
static const struct wire_policy local_policy = {.target_bytes_max = 64,
                                                .header_bytes_max = 512,
                                                .local_hosts_only = true,
                                                .host_names = host_names};

static struct span text_span(const char *text)
{
    return span_of(text, strlen(text));
}

static struct wire_refusal check(const struct request *request, const struct wire_policy *policy)
{
    struct wire_line line = {
        .method = text_span(request->method == NULL ? "GET" : request->method),
        .target = text_span(request->target == NULL ? "/kv/a" : request->target),
        .http_1_0 = request->http_1_0,
        .target_cut = request->target_cut,
    };
    struct wire wire;

    wire_init(&wire);
    for (size_t i = 0; i < 8 && request->fields[i][0] != NULL; i++) {
        (void)wire_field(&wire, text_span(request->fields[i][0]), text_span(request->fields[i][1]));
    }
    return wire_check(&wire, &line, policy);
}

#define HOST        \
    {               \
        "Host", "h" \
    }

static void lets_ordinary_requests_pass(void **state)
{
    static const struct request cases[] = {
        {.fields = {HOST}},
        {.fields = {{"hOST", "h"}}},
        {.fields = {{"Host", ""}}},
        {.http_1_0 = true, .fields = {{NULL, NULL}}},
        {.http_1_0 = true, .method = "PUT", .fields = {{"Content-Length", "5"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "0"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "5"}, {"Expect", "100-continue"}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", "chunked"}}},
        {.method = "PUT", .fields = {HOST, {"transfer-encoding", "Chunked"}}},
        {.fields = {HOST, {"X!#$%&'*+-.^_`|~Z9", "any \x80 value"}}},
        {.fields = {HOST, {"Accept", "a/b"}, {"Accept-Encoding", "gzip"}, {"Accept", "*/*"}}},
        {.fields = {HOST, {"Content-Range", "bytes 0-1/2"}}},
        {.fields = {HOST, {"If-None-Match", "*"}, {"If-None-Match", "*"}}},
        {.fields = {HOST, {"I", "x"}, {"H", "y"}, {"If", "z"}, {"Hos", "z"}, {"X-TT", "z"}}},
        {.target = "http://elsewhere/kv/a", .fields = {HOST}},
        {.target = "/kv/!~%00", .fields = {HOST}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_refusal refusal = check(&cases[i], &open_policy);

        if (refusal.problem != PROBLEM_NONE) {
            fail_msg("case %zu: %s", i, refusal.detail);
        }
    }
}

static void closes_on_what_two_parsers_could_read_differently(void **state)
{
    static const struct request cases[] = {
        /* names that are no tokens */
        {.fields = {HOST, {"Content-Length ", "5"}}},
        {.fields = {HOST, {"X\tY", "1"}}},
        {.fields = {HOST, {"", "1"}}},
        {.fields = {HOST, {"X(Y", "1"}}},
        {.fields = {HOST, {"X/Y", "1"}}},
        {.fields = {HOST, {"X\x80", "1"}}},
        {.fields = {HOST, {"X\x7F", "1"}}},
        {.fields = {HOST, {"Origin\"x\"", ""}}},
        /* values that may be several lines */
        {.fields = {HOST, {"X", "a\rIf-None-Match: *"}}},
        {.fields = {HOST, {"X", "\r"}}},
        /* lengths */
        {.method = "PUT", .fields = {HOST, {"Content-Length", "5"}, {"Content-Length", "5"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "5"}, {"content-length", "6"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "+5"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "5,5"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "-1"}}},
        {.method = "PUT", .fields = {HOST, {"Content-Length", "0x5"}}},
        /* codings */
        {.method = "PUT",
         .fields = {HOST, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}},
        {.method = "PUT",
         .fields = {HOST, {"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", "gzip, chunked"}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", "identity"}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", ""}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", "chunked "}}},
        {.method = "PUT", .fields = {HOST, {"Transfer-Encoding", "xchunked"}}},
        {.method = "PUT",
         .fields = {HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}},
        {.http_1_0 = true, .method = "PUT", .fields = {HOST, {"Transfer-Encoding", "chunked"}}},
        /* hosts */
        {.fields = {{NULL, NULL}}},
        {.fields = {{"X", "y"}}},
        {.fields = {HOST, HOST}},
        {.http_1_0 = true, .fields = {HOST, {"host", "other"}}},
        {.target = "http://h/kv/a", .fields = {{NULL, NULL}}},
        /* targets */
        {.target = "/kv/a b", .fields = {HOST}},
        {.target = "/kv/\x80", .fields = {HOST}},
        {.target = "/kv/\x7F", .fields = {HOST}},
        {.target = "/kv/\x01", .fields = {HOST}},
        {.target = "/kv?prefix=\xC3\xBC", .fields = {HOST}},
        {.target = "/kv/a", .target_cut = true, .fields = {HOST}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_refusal refusal = check(&cases[i], &open_policy);

        if (refusal.problem != PROBLEM_MALFORMED_REQUEST || !refusal.close ||
            refusal.detail == NULL) {
            fail_msg("case %zu passed", i);
        }
    }
}

static void closes_on_names_that_extend_one_that_matters(void **state)
{
    static const char *const matter[] = {
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Expect",
        "Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Range",
        "Authorization",
        "Varve-TTL",
        "X-TTL",
    };
    static const char *const tails[] = {"*", "5", "-x", "Q", "."};

    (void)state;
    for (size_t i = 0; i < sizeof(matter) / sizeof(matter[0]); i++) {
        for (size_t j = 0; j < sizeof(tails) / sizeof(tails[0]); j++) {
            struct request request = {.fields = {HOST}};
            struct wire_refusal refusal;
            char name[64];

            snprintf(name, sizeof(name), "%s%s", matter[i], tails[j]);
            if (j % 2 == 1) {
                name[0] = (char)(name[0] | 0x20);
            }
            request.fields[1][0] = name;
            request.fields[1][1] = "";
            refusal = check(&request, &open_policy);
            if (refusal.problem != PROBLEM_MALFORMED_REQUEST || !refusal.close) {
                fail_msg("%s passed", name);
            }
        }
    }
}

static void finds_fields_whatever_their_case(void **state)
{
    struct wire wire;

    (void)state;
    wire_init(&wire);
    assert_int_equal(wire_field(&wire, text_span("CONTENT-TYPE"), text_span(" \ta/b\t ")),
                     WIRE_CONTENT_TYPE);
    assert_int_equal(wire_field(&wire, text_span("content-type"), text_span("c/d")),
                     WIRE_CONTENT_TYPE);
    assert_int_equal(wire_field(&wire, text_span("content-typo"), text_span("e/f")), WIRE_OTHER);
    assert_int_equal(wire.fields[WIRE_CONTENT_TYPE].count, 2);
    assert_true(span_is(wire.fields[WIRE_CONTENT_TYPE].first, "a/b"));
    assert_true(wire_has(&wire, WIRE_CONTENT_TYPE));
    assert_false(wire_has(&wire, WIRE_CONTENT_RANGE));
    assert_null(wire.bad_field);
}

struct browser_case {
    const char *method, *target, *host, *origin;
    enum problem problem;
};

static void check_browser_cases(const struct browser_case *cases, size_t n,
                                const struct wire_policy *policy)
{
    for (size_t i = 0; i < n; i++) {
        struct request request = {.method = cases[i].method,
                                  .target = cases[i].target,
                                  .http_1_0 = cases[i].host == NULL};
        size_t at = 0;
        struct wire_refusal refusal;

        if (cases[i].host != NULL) {
            request.fields[at][0] = "Host";
            request.fields[at++][1] = cases[i].host;
        }
        if (cases[i].origin != NULL) {
            request.fields[at][0] = "Origin";
            request.fields[at][1] = cases[i].origin;
        }
        refusal = check(&request, policy);
        if (refusal.problem != cases[i].problem) {
            fail_msg("case %zu (%s, %s): problem %d", i, cases[i].host, cases[i].origin,
                     refusal.problem);
        }
        assert_false(refusal.close);
    }
}

static void other_sites_may_read_but_not_write(void **state)
{
    static const struct browser_case cases[] = {
        {"PUT", NULL, "h:7070", NULL, PROBLEM_NONE},
        {"PUT", NULL, "h:7070", "http://h:7070", PROBLEM_NONE},
        {"PUT", NULL, "H:7070", "HTTP://h:7070", PROBLEM_NONE},
        {"DELETE", NULL, "h", "http://h", PROBLEM_NONE},
        {"DELETE", NULL, "h", "https://h", PROBLEM_NONE},
        {"DELETE", NULL, "h:80", "http://h", PROBLEM_NONE},
        {"DELETE", NULL, "h", "http://h:80", PROBLEM_NONE},
        {"DELETE", NULL, "h:443", "https://h", PROBLEM_NONE},
        {"PUT", "http://abs/kv/a", "h", "http://abs", PROBLEM_NONE},
        {"GET", NULL, "h", "http://evil", PROBLEM_NONE},
        {"HEAD", NULL, "h", "http://evil", PROBLEM_NONE},
        {"OPTIONS", NULL, "h", "http://evil", PROBLEM_NONE},
        {"PUT", NULL, "h", "http://evil", PROBLEM_CROSS_SITE},
        {"DELETE", NULL, "h", "http://evil", PROBLEM_CROSS_SITE},
        {"POST", "/admin/flush", "h", "http://evil", PROBLEM_CROSS_SITE},
        {"PATCH", NULL, "h", "http://evil", PROBLEM_CROSS_SITE},
        {"get", NULL, "h", "http://evil", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "null", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "http://", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h:7070", "http://h", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h:7070", "http://h:7071", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h:443", "http://h", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "http://h.evil", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "http://evilh", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "ftp://h", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "h", "http://h http://h", PROBLEM_CROSS_SITE},
        {"PUT", NULL, "", "http://", PROBLEM_CROSS_SITE},
        {"PUT", NULL, NULL, "http://h", PROBLEM_CROSS_SITE},
        {"PUT", "http://abs/kv/a", "h", "http://h", PROBLEM_CROSS_SITE},
    };
    static const struct request twice = {
        .method = "PUT", .fields = {HOST, {"Origin", "http://h"}, {"Origin", "http://evil"}}};

    (void)state;
    check_browser_cases(cases, sizeof(cases) / sizeof(cases[0]), &open_policy);
    assert_int_equal(check(&twice, &open_policy).problem, PROBLEM_CROSS_SITE);
}

static void a_local_store_answers_local_names_only(void **state)
{
    static const struct browser_case cases[] = {
        {"GET", NULL, "localhost", NULL, PROBLEM_NONE},
        {"GET", NULL, "LocalHost:7070", NULL, PROBLEM_NONE},
        {"GET", NULL, "127.0.0.1", NULL, PROBLEM_NONE},
        {"GET", NULL, "127.0.0.1:7070", NULL, PROBLEM_NONE},
        {"GET", NULL, "127.255.0.9:1", NULL, PROBLEM_NONE},
        {"GET", NULL, "[::1]", NULL, PROBLEM_NONE},
        {"GET", NULL, "[::1]:7070", NULL, PROBLEM_NONE},
        {"GET", NULL, "[0:0:0:0:0:0:0:1]:7070", NULL, PROBLEM_NONE},
        {"GET", NULL, "[::ffff:127.0.0.1]", NULL, PROBLEM_NONE},
        {"GET", NULL, "store.test:7070", NULL, PROBLEM_NONE},
        {"GET", NULL, "OTHER.test", NULL, PROBLEM_NONE},
        {"GET", NULL, NULL, NULL, PROBLEM_NONE},
        {"GET", "http://localhost/kv/a", "evil", NULL, PROBLEM_NONE},
        {"GET", "http://evil/kv/a", "localhost", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "evil", NULL, PROBLEM_MISDIRECTED},
        {"PUT", NULL, "evil", NULL, PROBLEM_MISDIRECTED},
        {"OPTIONS", NULL, "evil", NULL, PROBLEM_MISDIRECTED},
        {"PUT", NULL, "evil", "http://evil", PROBLEM_MISDIRECTED},
        {"GET", NULL, "localhost.evil", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "xlocalhost", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "127.0.0.1.evil", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "128.0.0.1", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "0.0.0.0", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "2130706433", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "127.1", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "[::2]", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "[::ffff:10.0.0.1]", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "::1", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "[::1", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "[]", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "[::1]x", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "localhost:x", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "localhost:80@evil", NULL, PROBLEM_MISDIRECTED},
        {"GET", NULL, "localhost, evil", NULL, PROBLEM_MISDIRECTED},
    };

    (void)state;
    check_browser_cases(cases, sizeof(cases) / sizeof(cases[0]), &local_policy);
}

static void refuses_what_is_not_built(void **state)
{
    static const struct {
        struct request request;
        enum problem problem;
    } cases[] = {
        {{.method = "PUT", .fields = {HOST, {"Varve-TTL", "60"}}}, PROBLEM_UNKNOWN_PARAMETER},
        {{.method = "PUT", .fields = {HOST, {"varve-ttl", ""}}}, PROBLEM_UNKNOWN_PARAMETER},
        {{.method = "PUT", .fields = {HOST, {"X-TTL", "60"}}}, PROBLEM_UNKNOWN_PARAMETER},
        {{.method = "GET", .fields = {HOST, {"x-ttl", "60"}}}, PROBLEM_UNKNOWN_PARAMETER},
        {{.method = "PUT", .fields = {HOST, {"Content-Range", "bytes 0-1/2"}}},
         PROBLEM_CONTENT_RANGE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct wire_refusal refusal = check(&cases[i].request, &open_policy);

        assert_int_equal(refusal.problem, cases[i].problem);
        assert_non_null(refusal.field);
        assert_false(refusal.close);
    }
}

static void limits_target_and_header_section(void **state)
{
    static const char target[] = "/kv/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct request request = {.target = target, .fields = {HOST}};
    struct wire_policy policy = {.target_bytes_max = sizeof(target) - 1, .header_bytes_max = 9};
    struct wire_refusal refusal;

    (void)state;
    assert_int_equal(check(&request, &policy).problem, PROBLEM_NONE);
    policy.header_bytes_max--;
    refusal = check(&request, &policy);
    assert_int_equal(refusal.problem, PROBLEM_HEADERS_TOO_LARGE);
    assert_int_equal(refusal.limit, 8);
    policy.target_bytes_max--;
    refusal = check(&request, &policy);
    assert_int_equal(refusal.problem, PROBLEM_TARGET_TOO_LONG);
    assert_int_equal(refusal.limit, sizeof(target) - 2);
}

static void the_most_dangerous_comes_first(void **state)
{
    static const struct request request = {
        .method = "PUT", .fields = {{"Host", "evil"}, {"X-TTL", "1"}, {"Transfer-Encoding", "x"}}};

    (void)state;
    assert_int_equal(check(&request, &local_policy).problem, PROBLEM_MALFORMED_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lets_ordinary_requests_pass),
        cmocka_unit_test(closes_on_what_two_parsers_could_read_differently),
        cmocka_unit_test(closes_on_names_that_extend_one_that_matters),
        cmocka_unit_test(finds_fields_whatever_their_case),
        cmocka_unit_test(other_sites_may_read_but_not_write),
        cmocka_unit_test(a_local_store_answers_local_names_only),
        cmocka_unit_test(refuses_what_is_not_built),
        cmocka_unit_test(limits_target_and_header_section),
        cmocka_unit_test(the_most_dangerous_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
