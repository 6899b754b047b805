/* Bodies, waiting for the store, and failing: one request on its way. */
#include "tests/support/api_fixture.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"

static void takes_chunked_bodies_of_any_size(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 16384, 16385, 40000, VALUE_BYTES_MAX};
    char *data = bytes_for_body(VALUE_BYTES_MAX + 1);

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        unsigned status = put_chunked(f, data, sizes[i], i % 2 == 0 ? 1000 : 30000);

        assert_int_equal(status, i == 0 ? 201 : 204);
        assert_string_equal(field(f, "Connection"), "close");
        assert_closed(f);
        assert_int_equal(ask(f, "GET /kv/c", ""), 200);
        assert_int_equal(f->peer.body_len, sizes[i]);
        assert_memory_equal(f->peer.body, data, sizes[i]);
    }
    assert_refused(f, PROBLEM_VALUE_TOO_LARGE, put_chunked(f, data, VALUE_BYTES_MAX + 1, 9999));
    assert_int_equal(fake_store_writes_open(f->store), 0);
    assert_closed(f);
    ask(f, "GET /kv/c", "");
    assert_int_equal(f->peer.body_len, VALUE_BYTES_MAX);
    free(data);
}

static void takes_bodies_of_known_length(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {1, 100, 8191, 8192, 8193, 50000, VALUE_BYTES_MAX};
    char *data = bytes_for_body(VALUE_BYTES_MAX);

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char head[100];

        snprintf(head, sizeof head, "PUT /kv/l HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
                 sizes[i]);
        raw_send_text(&f->peer, head);
        raw_send(&f->peer, data, sizes[i]);
        assert_int_equal(raw_receive(&f->peer, false), i == 0 ? 201 : 204);
        assert_int_equal(ask(f, "GET /kv/l", ""), 200);
        assert_int_equal(f->peer.body_len, sizes[i]);
        assert_memory_equal(f->peer.body, data, sizes[i]);
    }
    free(data);
}

static void a_put_needs_a_length(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, PROBLEM_LENGTH_REQUIRED, ask(f, "PUT /kv/a", ""));
    assert_usable(f);
    assert_int_equal(put(f, "/kv/a", "", ""), 201);
}

static void too_large_is_said_at_once_to_those_who_ask(void **state)
{
    struct fixture *f = *state;
    static const char expecting[] =
        "PUT /kv/a HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n";

    assert_refused(f, PROBLEM_VALUE_TOO_LARGE, raw_ask(&f->peer, expecting));
    json_t *json = body_json(f);
    assert_int_equal(json_integer_value(json_object_get(json, "limit")), VALUE_BYTES_MAX);
    json_decref(json);
    assert_closed(f);
}

static void everybody_else_may_send_it_all_first(void **state)
{
    struct fixture *f = *state;
    char *data = bytes_for_body(VALUE_BYTES_MAX + 1);

    raw_send_text(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 100001\r\n\r\n");
    raw_send(&f->peer, data, VALUE_BYTES_MAX);
    /* not before the last byte: another request's answer can't have come first */
    assert_int_equal(finished(f), 0);
    raw_send(&f->peer, data, 1);
    assert_refused(f, PROBLEM_VALUE_TOO_LARGE, raw_receive(&f->peer, false));
    assert_usable(f);
    free(data);
}

static void what_nobody_will_read_is_not_received(void **state)
{
    struct fixture *f = *state;
    char *data = bytes_for_body(DROP_BYTES_MAX);

    /* announced: answered without it */
    assert_refused(
        f, PROBLEM_VALUE_TOO_LARGE,
        raw_ask(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 300001\r\n\r\n"));
    assert_closed(f);
    /* not announced: cut off */
    assert_int_equal(put_chunked(f, data, DROP_BYTES_MAX, 5000), 413);
    reconnect(f);
    raw_send_text(&f->peer, "POST /nowhere HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    while (raw_send_text(&f->peer, "100\r\n") && raw_send(&f->peer, data, 256) &&
           raw_send_text(&f->peer, "\r\n")) {
    }
    assert_int_equal(raw_receive(&f->peer, false), 0);
    reconnect(f);
    assert_usable(f);
    free(data);
}

static void one_hundred_continue_is_sent(void **state)
{
    struct fixture *f = *state;

    raw_send_text(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST
                            "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(raw_receive_interim(&f->peer), 100);
    raw_send_text(&f->peer, "hello");
    assert_int_equal(raw_receive(&f->peer, false), 201);
    assert_usable(f);
}

static void bodies_that_mean_nothing_are_dropped(void **state)
{
    struct fixture *f = *state;

    put(f, "/kv/a", "", "x");
    assert_int_equal(
        raw_ask(&f->peer, "DELETE /kv/a HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"), 204);
    assert_int_equal(
        raw_ask(&f->peer, "GET /kv/a HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"), 404);
    assert_usable(f);
}

static void a_client_that_leaves_in_the_middle_gives_everything_back(void **state)
{
    struct fixture *f = *state;

    raw_send_text(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nhalf");
    wait_phase(f, API_PHASE_BODY, 1);
    reconnect(f);
    struct api_outcome outcome = wait_finished(f, 1);
    assert_int_equal(outcome.status, 0);
    assert_false(outcome.complete);
    assert_int_equal(fake_store_lent(f->store), 0);
    assert_int_equal(ask(f, "GET /kv/a", ""), 404);
}

static void everything_works_when_the_store_answers_later(void **state)
{
    struct fixture *f = *state;
    char *data = bytes_for_body(50000);

    fake_store_set(f->store, (struct fake_knobs){.later = true});
    assert_int_equal(put(f, "/kv/c", "If-None-Match: *\r\n", "hello"), 201);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED,
                   put(f, "/kv/c", "If-None-Match: *\r\n", "hello"));
    assert_int_equal(ask(f, "GET /kv/c", ""), 200);
    assert_int_equal(put_chunked(f, data, 50000, 999), 204);
    assert_closed(f);
    assert_int_equal(ask(f, "GET /kv/c", ""), 200);
    assert_memory_equal(f->peer.body, data, 50000);
    raw_send_text(&f->peer, "PUT /kv/c HTTP/1.1\r\n" HOST
                            "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(raw_receive_interim(&f->peer), 100);
    raw_send_text(&f->peer, "hello");
    assert_int_equal(raw_receive(&f->peer, false), 204);
    assert_int_equal(ask(f, "GET /kv", ""), 200);
    assert_int_equal(ask(f, "DELETE /kv/c", ""), 204);
    assert_int_equal(ask(f, "GET /kv/c", ""), 404);
    assert_int_equal(ask(f, "POST /admin/flush", ""), 204);
    assert_int_equal(ask(f, "POST /admin/compact", ""), 204);
    wait_nobody_waits(f);
    free(data);
}

static void other_connections_are_served_while_one_waits(void **state)
{
    struct fixture *f = *state;
    struct raw_connection other = raw_connect(f->port);

    put(f, "/kv/a", "", "old");
    fake_store_set(f->store, (struct fake_knobs){.later = true, .hold = true});
    raw_send_text(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nnew");
    wait_phase(f, API_PHASE_WAITING, 1); /* for admission */
    assert_int_equal(api_waiting(f->api), 1);
    assert_int_equal(raw_ask(&other, "GET /version HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(fake_store_held(f->store), 1);
    fake_store_let_go(f->store);
    assert_int_equal(raw_receive(&f->peer, false), 204);
    wait_nobody_waits(f);
    raw_close(&other);
}

/* A GET of what has to come from the disk, and the store is waiting for it. */
static void begin_cold_get(struct fixture *f, const char *fields)
{
    char text[200];

    put(f, "/kv/a", "", "value");
    fake_store_set(f->store, (struct fake_knobs){.later = true, .hold = true});
    snprintf(text, sizeof text, "GET /kv/a HTTP/1.1\r\n" HOST "%s\r\n", fields);
    raw_send_text(&f->peer, text);
    wait_phase(f, API_PHASE_WAITING, 1);
    assert_int_equal(api_waiting(f->api), 1);
    assert_int_equal(fake_store_held(f->store), 1);
}

static void expect_cold_value(struct fixture *f)
{
    fake_store_let_go(f->store);
    assert_int_equal(raw_receive(&f->peer, false), 200);
    assert_int_equal(f->peer.body_len, 5);
    assert_memory_equal(f->peer.body, "value", 5);
    wait_nobody_waits(f);
}

static void a_get_waits_for_the_disk_alone(void **state)
{
    struct fixture *f = *state;
    struct raw_connection other = raw_connect(f->port);

    begin_cold_get(f, "");
    assert_int_equal(raw_ask(&other, "GET /version HTTP/1.1\r\n" HOST "\r\n"), 200);
    expect_cold_value(f);
    assert_usable(f);
    raw_close(&other);
}

static void who_needs_no_value_does_not_wait(void **state)
{
    struct fixture *f = *state;
    char fields[100];

    put(f, "/kv/a", "", "value");
    fake_store_set(f->store, (struct fake_knobs){.later = true, .hold = true});
    assert_int_equal(ask(f, "HEAD /kv/a", ""), 200);
    assert_string_equal(field(f, "Content-Length"), "5");
    snprintf(fields, sizeof fields, "If-None-Match: %s\r\n", field(f, "ETag"));
    assert_int_equal(ask(f, "GET /kv/a", fields), 304);
    assert_refused(f, PROBLEM_PRECONDITION_FAILED, ask(f, "GET /kv/a", "If-Match: \"other\"\r\n"));
    assert_refused(f, PROBLEM_NO_SUCH_KEY, ask(f, "GET /kv/b", "If-None-Match: \"other\"\r\n"));
    assert_int_equal(fake_store_held(f->store), 0);
    fake_store_set(f->store, (struct fake_knobs){0});
    begin_cold_get(f, "If-None-Match: \"other\"\r\n");
    expect_cold_value(f);
}

static void a_client_that_leaves_while_a_get_waits_gives_everything_back(void **state)
{
    struct fixture *f = *state;

    begin_cold_get(f, "");
    reconnect(f);
    assert_int_equal(ask(f, "GET /version", ""), 200);
    fake_store_let_go(f->store);
    wait_nobody_waits(f);
    while (fake_store_lent(f->store) > 0) { /* the answer is dropped after its request has ended */
        sched_yield();
    }
}

static void a_get_that_fails_later_is_answered_so(void **state)
{
    struct fixture *f = *state;

    put(f, "/kv/a", "", "value");
    fake_store_set(f->store, (struct fake_knobs){.later = true, .get_err = ERR_IO});
    assert_int_equal(ask(f, "GET /kv/a", ""), 500);
    fake_store_set(f->store, (struct fake_knobs){0});
    assert_int_equal(ask(f, "GET /kv/a", ""), 200);
}

static void a_full_store_is_said_before_the_body(void **state)
{
    struct fixture *f = *state;

    fake_store_set(f->store, (struct fake_knobs){.later = true, .admission_err = ERR_BUSY});
    assert_refused(f, PROBLEM_BUSY,
                   raw_ask(&f->peer, "PUT /kv/a HTTP/1.1\r\n" HOST
                                     "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert_closed(f);
    assert_refused(f, PROBLEM_BUSY, put(f, "/kv/a", "", "hello"));
    assert_usable(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(takes_chunked_bodies_of_any_size),
        API_TEST(takes_bodies_of_known_length),
        API_TEST(a_put_needs_a_length),
        API_TEST(too_large_is_said_at_once_to_those_who_ask),
        API_TEST(everybody_else_may_send_it_all_first),
        API_TEST(what_nobody_will_read_is_not_received),
        API_TEST(one_hundred_continue_is_sent),
        API_TEST(bodies_that_mean_nothing_are_dropped),
        API_TEST(a_client_that_leaves_in_the_middle_gives_everything_back),
        API_TEST(everything_works_when_the_store_answers_later),
        API_TEST(other_connections_are_served_while_one_waits),
        API_TEST(a_get_waits_for_the_disk_alone),
        API_TEST(who_needs_no_value_does_not_wait),
        API_TEST(a_client_that_leaves_while_a_get_waits_gives_everything_back),
        API_TEST(a_get_that_fails_later_is_answered_so),
        API_TEST(a_full_store_is_said_before_the_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
