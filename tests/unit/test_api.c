/* The seam: failures of the store, unsafe messages, starting and stopping, outcomes. */
#include "tests/support/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"

static void every_failure_of_the_store_has_its_answer(void **state)
{
    struct fixture *f = *state;

    put(f, "/kv/a", "", "x");
    fake_store_set(f->store, (struct fake_knobs){.get_err = ERR_CORRUPT});
    assert_refused(f, PROBLEM_DAMAGED, ask(f, "GET /kv/a", ""));
    struct api_outcome outcome = wait_finished(f, 2);
    assert_int_equal(outcome.err, ERR_CORRUPT);
    assert_int_equal(outcome.problem, PROBLEM_DAMAGED);

    fake_store_set(f->store, (struct fake_knobs){.admission_err = ERR_NO_SPACE});
    assert_refused(f, PROBLEM_NO_SPACE, put(f, "/kv/b", "", "x"));
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_int_equal(ask(f, "DELETE /kv/a", ""), 204);

    fake_store_set(f->store, (struct fake_knobs){.admission_err = ERR_READ_ONLY});
    assert_refused(f, PROBLEM_READ_ONLY, put(f, "/kv/b", "", "x"));
    assert_refused(f, PROBLEM_READ_ONLY, ask(f, "DELETE /kv/b", ""));

    fake_store_set(f->store, (struct fake_knobs){.commit_err = ERR_OUTCOME_UNKNOWN});
    assert_refused(f, PROBLEM_OUTCOME_UNKNOWN, put(f, "/kv/b", "", "x"));
    assert_refused(f, PROBLEM_OUTCOME_UNKNOWN, ask(f, "DELETE /kv/b", ""));

    fake_store_set(f->store, (struct fake_knobs){.put_err = ERR_NO_MEMORY});
    assert_refused(f, PROBLEM_OUT_OF_MEMORY, put(f, "/kv/b", "", "x"));
    assert_int_equal(fake_store_lent(f->store), 0);

    fake_store_set(f->store, (struct fake_knobs){.resize_err = ERR_BUSY});
    char *data = bytes_for_body(20000);
    assert_refused(f, PROBLEM_BUSY, put_chunked(f, data, 20000, 20000));
    assert_closed(f);
    free(data);

    fake_store_set(f->store, (struct fake_knobs){.delete_err = ERR_NO_MEMORY});
    assert_refused(f, PROBLEM_OUT_OF_MEMORY, ask(f, "DELETE /kv/b", ""));
    fake_store_set(f->store, (struct fake_knobs){.scan_err = ERR_IO});
    assert_refused(f, PROBLEM_DAMAGED, ask(f, "GET /kv", ""));
    fake_store_set(f->store, (struct fake_knobs){.upkeep_err = ERR_READ_ONLY});
    assert_refused(f, PROBLEM_READ_ONLY, ask(f, "POST /admin/flush", ""));
    assert_refused(f, PROBLEM_READ_ONLY, ask(f, "POST /admin/compact", ""));
    assert_usable(f);
    assert_int_equal(fake_store_lent(f->store), 0);
}

static void unsafe_messages_are_refused_and_the_connection_closed(void **state)
{
    struct fixture *f = *state;
    static const char *const requests[] = {
        "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxGET",
        "PUT /kv/a HTTP/1.1\r\n" HOST
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /kv/a HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n",
        "PUT /kv/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
        "PUT /kv/a HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length : 1\r\n\r\nx",
        "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length:\r\n 1\r\n\r\nx",
        "GET /kv/a HTTP/1.1\r\n\r\n",
        "GET /kv/a HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET /kv/a HTTP/1.1\r\n" HOST "Range*: x\r\n\r\n",
        "GET /kv/a HTTP/1.1\r\n" HOST "Hos\xC3\xBC: x\r\n\r\n",
        "GET /kv/\xC3\xBC HTTP/1.1\r\n" HOST "\r\n",
        "GET /kv/a b HTTP/1.1\r\n" HOST "\r\n",
    };

    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        unsigned status = raw_ask(&f->peer, requests[i]);

        if (status != 400) {
            fail_msg("case %zu: %u", i, status);
        }
        assert_problem(f, PROBLEM_MALFORMED_REQUEST);
        assert_string_equal(field(f, "Connection"), "close");
        reconnect(f);
    }
    assert_int_equal(ask(f, "GET /kv/a", ""), 404);
}

static void http_1_0_is_served(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(raw_ask(&f->peer, "PUT /kv/a HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"), 201);
    assert_closed(f);
    assert_int_equal(raw_ask(&f->peer, "GET /kv/a HTTP/1.0\r\n\r\n"), 200);
    assert_string_equal(f->peer.body, "x");
    assert_closed(f);
}

static void limits_of_ours_lie_below_those_of_the_library(void **state)
{
    struct fixture *f = *state;
    char what[9000];
    char fields[7000];

    memset(what, 'x', sizeof what);
    memcpy(what, "GET /kv?prefix=", 15);
    what[4 + 8192] = '\0';
    assert_refused(f, PROBLEM_MALFORMED_PARAMETER, ask(f, what, ""));
    reconnect(f);
    what[4 + 8192] = 'x';
    what[4 + 8193] = '\0';
    assert_refused(f, PROBLEM_TARGET_TOO_LONG, ask(f, what, ""));
    assert_usable(f);

    memset(fields, 'x', sizeof fields);
    memcpy(fields, "X: ", 3);
    memcpy(fields + 6100, "\r\n", 3);
    assert_int_equal(ask(f, "GET /kv/a", fields), 404);
    memcpy(fields + 6200, "\r\n", 3);
    memcpy(fields + 6100, "xx", 2);
    fields[6102] = 'x';
    assert_refused(f, PROBLEM_HEADERS_TOO_LARGE, ask(f, "GET /kv/a", fields));
    assert_usable(f);
}

static void until_the_store_is_open_only_probes_answer(void **state)
{
    struct fixture *f = *state;

    api_set_store(f->api, NULL);
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "GET /kv/a", ""));
    assert_refused(f, PROBLEM_RECOVERING, put(f, "/kv/a", "", "x"));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "DELETE /kv/a", ""));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "GET /kv", ""));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "GET /stats", ""));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "POST /admin/flush", ""));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "GET /version", ""));
    assert_refused(f, PROBLEM_RECOVERING, ask(f, "GET /openapi.yaml", ""));
    assert_int_equal(ask(f, "GET /livez", ""), 200);
    assert_int_equal(ask(f, "GET /metrics", ""), 200);
    api_set_store(f->api, f->store);
    assert_int_equal(put(f, "/kv/a", "", "x"), 201);
}

static void while_draining_every_answer_closes(void **state)
{
    struct fixture *f = *state;

    put(f, "/kv/a", "", "x");
    api_set_draining(f->api);
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
    assert_string_equal(field(f, "Connection"), "close");
    assert_closed(f);
    assert_int_equal(put(f, "/kv/a", "", "y"), 204);
    assert_closed(f);
}

static void the_owner_may_refuse_a_connection(void **state)
{
    struct fixture *f = *state;

    f->refusal = PROBLEM_TOO_MANY_CONNECTIONS;
    reconnect(f);
    assert_refused(f, PROBLEM_TOO_MANY_CONNECTIONS, ask(f, "GET /kv/a", ""));
    assert_closed(f);
    assert_int_equal(ask(f, "GET /livez", ""), 200);
}

static void outcomes_are_told(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request;
        struct api_outcome outcome;
    } cases[] = {
        {"PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
         {.route = API_ROUTE_KEY, .method = API_METHOD_PUT, .status = 201, .received_bytes = 5}},
        {"GET /kv/a HTTP/1.1\r\n" HOST "\r\n",
         {.route = API_ROUTE_KEY, .method = API_METHOD_GET, .status = 200, .sent_bytes = 5}},
        {"HEAD /kv64/YQ HTTP/1.1\r\n" HOST "\r\n",
         {.route = API_ROUTE_KEY64, .method = API_METHOD_HEAD, .status = 200}},
        {"GET /kv?limit=0 HTTP/1.1\r\n" HOST "\r\n",
         {.route = API_ROUTE_LIST,
          .method = API_METHOD_GET,
          .status = 400,
          .problem = PROBLEM_MALFORMED_PARAMETER}},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n",
         {.route = API_ROUTE_NONE,
          .method = API_METHOD_OTHER,
          .status = 404,
          .problem = PROBLEM_NO_SUCH_ROUTE}},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct api_outcome *expected = &cases[i].outcome;

        assert_int_equal(raw_ask(&f->peer, cases[i].request), expected->status);
        struct api_outcome outcome = wait_finished(f, (unsigned)i + 1);
        assert_int_equal(outcome.route, expected->route);
        assert_int_equal(outcome.method, expected->method);
        assert_int_equal(outcome.status, expected->status);
        assert_int_equal(outcome.problem, expected->problem);
        assert_int_equal(outcome.received_bytes, expected->received_bytes);
        assert_true(outcome.complete);
        if (expected->problem == PROBLEM_NONE) {
            assert_int_equal(outcome.sent_bytes, expected->sent_bytes);
        }
    }
    /* the library's own refusal */
    raw_send_text(&f->peer, "GET / HTTP/3.0\r\n" HOST "\r\n");
    assert_int_equal(raw_receive(&f->peer, false), 505);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(every_failure_of_the_store_has_its_answer),
        API_TEST(unsafe_messages_are_refused_and_the_connection_closed),
        API_TEST(http_1_0_is_served),
        API_TEST(limits_of_ours_lie_below_those_of_the_library),
        API_TEST(until_the_store_is_open_only_probes_answer),
        API_TEST(while_draining_every_answer_closes),
        API_TEST(the_owner_may_refuse_a_connection),
        API_TEST(outcomes_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
