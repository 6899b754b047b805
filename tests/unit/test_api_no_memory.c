/* Requests while memory runs out at one allocation after the other: the client gets what it asked
 * for, a 503, or a connection that ends; nothing that the store lent is kept, and the next request
 * is served. (What libmicrohttpd allocates itself isn't among them.) */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/api_fixture.h"
#include "tests/support/check.h"
#include "tests/support/failing_alloc.h"

enum { MOST = 400 };

/* Whole requests, each on a connection of its own, and the status that each has with memory. */
static const struct {
    const char *text;
    unsigned status;
} requests[] = {
    {"GET /kv/a HTTP/1.1\r\n" HOST "\r\n", 200},
    {"GET /kv/a HTTP/1.1\r\n" HOST "If-None-Match: \"x\", \"y\", \"z\", W/\"w\", \"v\"\r\n\r\n",
     200},
    {"HEAD /kv/a HTTP/1.1\r\n" HOST "\r\n", 200},
    {"GET /kv/none HTTP/1.1\r\n" HOST "\r\n", 404},
    {"PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nvalue", 204},
    {"PUT /kv/a HTTP/1.1\r\n" HOST "If-None-Match: *\r\nContent-Length: 5\r\n\r\nvalue", 412},
    {"PUT /kv/a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
     204},
    {"PUT /kv/a HTTP/1.1\r\n" HOST "Content-Length: 200000\r\n\r\n", 413},
    {"DELETE /kv/b HTTP/1.1\r\n" HOST "\r\n", 204},
    {"GET /kv?prefix=a&limit=1 HTTP/1.1\r\n" HOST "\r\n", 200},
    {"GET /kv HTTP/1.1\r\n" HOST "\r\n", 200},
    {"GET /stats HTTP/1.1\r\n" HOST "\r\n", 200},
    {"POST /admin/flush HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 204},
    {"GET /readyz?verbose HTTP/1.1\r\n" HOST "\r\n", 200},
    {"GET /version HTTP/1.1\r\n" HOST "\r\n", 200},
    {"OPTIONS /kv/a HTTP/1.1\r\n" HOST "\r\n", 204},
    {"PATCH /kv/a HTTP/1.1\r\n" HOST "\r\n", 405},
    {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404},
    {"GET /kv/%zz HTTP/1.1\r\n" HOST "\r\n", 400},
};

/* Without the body that the one about 200,000 bytes announces. */
static unsigned ask_once(struct fixture *f, size_t i)
{
    char *body = NULL;
    reconnect(f);
    raw_send_text(&f->peer, requests[i].text);
    if (requests[i].status == 413) {
        body = bytes_for_body(200000);
        (void)raw_send(&f->peer, body, 200000);
        free(body);
    }
    return raw_receive(&f->peer, strncmp(requests[i].text, "HEAD", 4) == 0);
}

/* Returns how many allocations the request makes. */
static uint64_t fail_each(struct fixture *f, size_t i, unsigned *ret_refused, unsigned *ret_cut)
{
    uint64_t nth = 1, seen = 1;
    for (; seen >= nth; nth++) {
        assert_true(nth < MOST);
        failing_alloc_arm(nth, 1, true);
        unsigned status = ask_once(f, i);
        raw_close(&f->peer);
        f->peer = raw_connect(f->port);
        unsigned usable = ask(f, "GET /version", "");
        seen = failing_alloc_disarm();
        if (status != requests[i].status && status != 503 && status != 0) {
            fail_msg("%s: allocation %u failed: status %u", requests[i].text, (unsigned)nth,
                     status);
        }
        /* The failure may have met this one. */
        assert_true(usable == 200 || status == requests[i].status);
        *ret_refused += status == 503;
        *ret_cut += status == 0;
        assert_int_equal(ask_once(f, i), requests[i].status);
        wait_nobody_waits(f);
    }
    return nth - 2;
}

static void each_allocation_that_fails_is_a_503_or_an_end(void **state)
{
    struct fixture *f = *state;
    unsigned refused = 0, cut = 0;
    uint64_t n = 0;
    put(f, "/kv/a", "", "value");
    for (int later = 0; later <= 1; later++) {
        fake_store_set(f->store, (struct fake_knobs){.later = later});
        for (size_t i = 0; i < COUNT_OF(requests); i++) {
            n += fail_each(f, i, &refused, &cut);
        }
    }
    wait_nobody_waits(f);
    assert_int_equal(fake_store_writes_open(f->store), 0);
    printf("%u allocations: %u times 503, %u connections ended\n", (unsigned)n, refused, cut);
    assert_true(refused > 0);
}

int main(void)
{
    json_set_alloc_funcs(malloc, free); /* so that jansson's fail, too */
    const struct CMUnitTest tests[] = {API_TEST(each_allocation_that_fails_is_a_503_or_an_end)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
