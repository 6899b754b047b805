/* Requests that two parsers could read differently, and those that look odd but are right. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http/fixture.h"

/* 400, and nothing that follows on the connection is read: a PUT hidden there isn't executed. */
static void expect_refused(const struct fixture *fixture, const char *request, size_t size)
{
    static const char hidden[] = "PUT /kv/wire/hidden HTTP/1.1\r\nHost: localhost\r\n"
                                 "Content-Length: 1\r\n\r\nx";
    int fd = raw_connect(fixture->server);
    raw_send_bytes(fd, request, size);
    raw_send(fd, hidden);
    struct reply reply = raw_reply(fd);
    if (reply.status != 400) {
        print_error("%.*s\n", (int)size, request);
    }
    assert_status(&reply, 400);
    reply_free(&reply);
    /* Where libmicrohttpd refuses by itself, the head of its answer may come twice. */
    raw_drop_to_end(fd);
    close(fd);
    struct reply got = client_get(fixture->client, "/kv/wire/hidden");
    if (got.status != 404) {
        print_error("%.*s\n", (int)size, request);
        expect_status(fixture->client, 204, "DELETE", "/kv/wire/hidden", NULL, NULL);
    }
    assert_status(&got, 404);
    reply_free(&got);
}

#define HOST "Host: localhost\r\n"
#define PUT  "PUT /kv/wire/refused HTTP/1.1\r\n"
#define GET  "GET /kv/wire/refused HTTP/1.1\r\n"

static void requests_with_an_unclear_end_are_refused(void **state)
{
    static const char *const requests[] = {
        PUT HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        PUT HOST "Content-Length: 1\r\nContent-Length: 50\r\n\r\nx",
        PUT HOST "Content-Length: 1, 1\r\n\r\nx",
        PUT HOST "Content-Length: +1\r\n\r\nx",
        PUT HOST "Content-Length: -1\r\n\r\nx",
        PUT HOST "Content-Length: 0x1\r\n\r\nx",
        PUT HOST "Content-Length: 1 1\r\n\r\nx",
        PUT HOST "Content-Length:\r\n 1\r\n\r\nx",
        PUT HOST "Content-Length : 1\r\n\r\nx",
        PUT HOST "Content-Length\t: 1\r\n\r\nx",
        PUT HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: chunked, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: identity\r\n\r\nx",
        PUT HOST "Transfer-Encoding: xchunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding : chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding:\r\n chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        PUT HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        "PUT /kv/wire/refused HTTP/1.0\r\n" HOST
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        expect_refused(*state, requests[i], strlen(requests[i]));
    }
}

static void fields_that_are_folded_or_misnamed_are_refused(void **state)
{
    static const char *const requests[] = {
        GET HOST "If-None-Match:\r\n *\r\n\r\n",
        GET HOST "If-Match:\r\n \"x\"\r\n\r\n",
        GET HOST "Range:\r\n bytes=0-1\r\n\r\n",
        GET HOST "Authorization:\r\n Bearer x\r\n\r\n",
        GET HOST "X-TTL:\r\n 5\r\n\r\n",
        GET HOST "Varve-TTL:\r\n 5\r\n\r\n",
        GET "Host:\r\n localhost\r\n\r\n",
        GET HOST "If-None-Match*: *\r\n\r\n",
        GET HOST "Content-Length5: 5\r\n\r\n",
        GET HOST "Expect100: 100-continue\r\n\r\n",
        GET HOST "Na(me: x\r\n\r\n",
        GET HOST "Na\x80me: x\r\n\r\n",
        GET HOST "Na me: x\r\n\r\n",
        GET HOST "Name : x\r\n\r\n",
        GET HOST "[name]: x\r\n\r\n",
        GET HOST ": x\r\n\r\n",
        GET HOST ":\r\n\r\n",
        GET ": x\r\n" HOST "\r\n",
        GET HOST ": x\r\nContent-Length: 5\r\n\r\nhello",
        GET HOST "Folded: a\r\n b\r\n\r\n",
        GET " Folded: a\r\n" HOST "\r\n",
        GET HOST "no colon\r\n\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        expect_refused(*state, requests[i], strlen(requests[i]));
    }
}

/* Each field that matters: folded, with more behind its name, with a blank before the colon. */
static void fields_that_matter_are_read_in_one_way_only(void **state)
{
    static const char *const names[] = {
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
    static const char *const rests[] = {":\r\n 1", "*: 1", "x: 1", " : 1"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        for (size_t j = 0; j < COUNT_OF(rests); j++) {
            char request[256];
            int size =
                snprintf(request, sizeof request, GET HOST "%s%s\r\n\r\n", names[i], rests[j]);
            expect_refused(*state, request, (size_t)size);
        }
    }
}

static void host_must_be_there_once(void **state)
{
    static const char *const requests[] = {
        GET "\r\n",
        GET HOST HOST "\r\n",
        GET HOST "Host: 127.0.0.1\r\n\r\n",
        "GET /kv/wire/refused HTTP/1.0\r\n" HOST HOST "\r\n",
        "GET /kv/wire/refused HTTP/1.0\r\nConnection: keep-alive\r\n" HOST HOST "\r\n",
        /* Also where the target names it. */
        "GET http://localhost/kv/wire/refused HTTP/1.1\r\n\r\n",
        "GET http://localhost/kv/wire/refused HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET http://localhost/kv/wire/refused HTTP/1.0\r\n" HOST HOST "\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        expect_refused(*state, requests[i], strlen(requests[i]));
    }
}

/* Regression: these were 400 too, but the connection went on. */
static void targets_that_are_none_are_refused(void **state)
{
    static const char *const targets[] = {
        "kv/w", "http:///kv/w",  "ftp://localhost/kv/w", "http://user@localhost/kv/w",
        "?",    "localhost:7070"};
    static const char *const methods[] = {"GET", "PUT", "CONNECT"};
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            char request[200];
            (void)snprintf(request, sizeof request, "%s %s HTTP/1.1\r\n" HOST "\r\n", methods[j],
                           targets[i]);
            expect_refused(*state, request, strlen(request));
        }
    }
}

static void raw_bytes_in_the_target_are_refused(void **state)
{
    static const struct {
        const char *text;
        size_t size;
    } requests[] = {
#define BYTES(text) {text, sizeof(text) - 1}
        BYTES("GET /kv/wire/a\x80 HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/caf\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/a\x01 HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/a\x7f HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/a\tb HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/a b HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv/wire/a\0b HTTP/1.1\r\n" HOST "\r\n"),
        BYTES("GET /kv?prefix=a\0b HTTP/1.1\r\n" HOST "\r\n"),
#undef BYTES
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        expect_refused(*state, requests[i].text, requests[i].size);
    }
}

static void zero_bytes_and_bare_line_feeds_in_fields_are_refused(void **state)
{
    static const struct {
        const char *text;
        size_t size;
    } requests[] = {
#define BYTES(text) {text, sizeof(text) - 1}
        BYTES(GET HOST "Name: a\0b\r\n\r\n"),
        BYTES(GET HOST "Name: a\0b\r\nOther: c\r\n\r\n"),
        BYTES(GET HOST "Na\0me: a\r\n\r\n"),
        BYTES(GET "Host: localhost\0.example.com\r\n\r\n"),
        BYTES(GET HOST "Name: a\n\r\n"),
        BYTES(GET HOST "Name: a\r\n\n"),
        BYTES(GET HOST "Name: a\n\n"),
        BYTES(GET HOST "Name: a\rIf-None-Match: *\r\n\r\n"),
        BYTES("GET /kv/wire/refused HTTP/1.1\nHost: localhost\r\n\r\n"),
#undef BYTES
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        expect_refused(*state, requests[i].text, requests[i].size);
    }
}

static void queries_of_many_parameters_are_answered(void **state)
{
    const struct fixture *fixture = *state;
    char request[4096] = "GET /kv/wire/many?";
    for (int i = 0; i < 1000; i++) {
        strcat(request, "a=&");
    }
    strcat(request, " HTTP/1.1\r\n" HOST "\r\n");
    struct reply reply = raw_exchange(fixture->server, request);
    assert_problem(&reply, 400, "/problems/unknown-parameter");
    reply_free(&reply);
}

static void our_refusals_are_problems(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply =
        raw_exchange(fixture->server, PUT HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx");
    assert_problem(&reply, 400, "/problems/malformed-request");
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
}

static void chunked_is_matched_without_regard_to_case(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply = raw_exchange(fixture->server, "PUT /kv/wire/case HTTP/1.1\r\n" HOST
                                                       "transfer-encoding: CHUNKED\r\n\r\n"
                                                       "2;name=value\r\nab\r\n0\r\n\r\n");
    assert_status(&reply, 201);
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
    reply = client_get(fixture->client, "/kv/wire/case");
    assert_body(&reply, "ab");
    reply_free(&reply);
}

static void preconditions_in_trailers_do_not_count(void **state)
{
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 201, "PUT", "/kv/wire/trailer", NULL, "old");
    struct reply reply = raw_exchange(fixture->server, "PUT /kv/wire/trailer HTTP/1.1\r\n" HOST
                                                       "Transfer-Encoding: chunked\r\n\r\n"
                                                       "3\r\nnew\r\n0\r\n"
                                                       "If-None-Match: *\r\n\r\n");
    assert_status(&reply, 204);
    reply_free(&reply);
    reply = client_get(fixture->client, "/kv/wire/trailer");
    assert_body(&reply, "new");
    reply_free(&reply);
}

static void absolute_form_targets_work(void **state)
{
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 201, "PUT", "/kv/wire/absolute", NULL, "x");
    struct reply reply = raw_exchange(fixture->server, "GET http://localhost/kv/wire/absolute "
                                                       "HTTP/1.1\r\n" HOST "\r\n");
    assert_status(&reply, 200);
    assert_body(&reply, "x");
    reply_free(&reply);
}

/* RFC 9112, 3.2.2: then Host doesn't count. It has to be there, though, but on HTTP/1.0. */
static void the_authority_of_an_absolute_target_wins_over_host(void **state)
{
    const struct fixture *fixture = *state;
    static const struct {
        unsigned status;
        const char *authority, *version, *host;
    } cases[] = {
        {204, "localhost", "1.1", "Host: evil.example\r\n"},
        {204, "127.0.0.1:7070", "1.1", "Host: evil.example\r\n"},
        {204, "LOCALHOST:7070", "1.1", "Host:\r\n"},
        {421, "evil.example", "1.1", HOST},
        {421, "evil.example:7070", "1.1", "Host: evil.example\r\n"},
        {421, "localhost.evil.example", "1.1", HOST},
        {204, "localhost", "1.0", ""},
        {204, "localhost", "1.0", "Host: evil.example\r\n"},
        {421, "evil.example", "1.0", ""},
        {421, "evil.example", "1.0", HOST},
    };
    expect_status(fixture->client, 201, "PUT", "/kv/wire/authority", NULL, "x");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char request[300];
        (void)snprintf(request, sizeof request,
                       "PUT http://%s/kv/wire/authority HTTP/%s\r\n%sContent-Length: 1\r\n\r\nx",
                       cases[i].authority, cases[i].version, cases[i].host);
        struct reply reply = raw_exchange(fixture->server, request);
        if (reply.status != cases[i].status) {
            print_error("%s\n", request);
        }
        assert_status(&reply, cases[i].status);
        reply_free(&reply);
    }
}

static void options_of_the_whole_server(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply = raw_exchange(fixture->server, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    assert_status(&reply, 204);
    reply_free(&reply);
}

static void http_1_0_is_answered_and_closed(void **state)
{
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 201, "PUT", "/kv/wire/old", NULL, "x");
    int fd = raw_connect(fixture->server);
    raw_send(fd, "GET /kv/wire/old HTTP/1.0\r\n\r\n");
    struct reply reply = raw_last_reply(fd);
    assert_status(&reply, 200);
    assert_body(&reply, "x");
    reply_free(&reply);
    close(fd);
}

static void http_1_0_keeps_the_connection_where_asked_to(void **state)
{
    const struct fixture *fixture = *state;
    static const char text[] = "PUT /kv/wire/kept HTTP/1.0\r\n"
                               "Connection: keep-alive\r\nContent-Length: 4\r\n\r\nkept"
                               "GET /kv/wire/kept HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
                               "GET /kv/wire/kept HTTP/1.0\r\n\r\n";
    int fd = raw_connect(fixture->server);
    raw_send(fd, text);
    struct reply put = raw_reply(fd);
    struct reply kept = raw_reply(fd);
    struct reply last = raw_last_reply(fd);
    assert_status(&put, 201);
    assert_status(&kept, 200);
    assert_body(&kept, "kept");
    assert_field(&kept, "Connection", "Keep-Alive");
    assert_status(&last, 200);
    assert_body(&last, "kept");
    reply_free(&put);
    reply_free(&kept);
    reply_free(&last);
    close(fd);
}

/* RFC 9110, 10.1.1. So a 100 doesn't come before the answer, and neither does a refusal come before
 * the body, and end the connection. */
static void what_http_1_0_expects_is_ignored(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const targets[] = {"/kv/wire/older", "/kv/%zz", "/kv/wire/older"};
    static const unsigned statuses[] = {201, 400, 204};
    int fd = raw_connect(fixture->server);
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        char text[200];
        (void)snprintf(text, sizeof text,
                       "PUT %s HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n"
                       "Content-Length: 4\r\n\r\nbody",
                       targets[i]);
        raw_send(fd, text);
        struct reply reply = raw_reply(fd);
        assert_status(&reply, statuses[i]);
        reply_free(&reply);
    }
    close(fd);
}

/* A body of GET or DELETE means nothing (RFC 9110, 9.3.1 and 9.3.5), but it has to be read. */
static void bodies_that_mean_nothing_are_dropped(void **state)
{
    const struct fixture *fixture = *state;
    static const char body[] = HOST "Content-Length: 69\r\n\r\n"
                                    "PUT /kv/wire/hidden HTTP/1.1\r\n"
                                    "Host: localhost\r\nContent-Length: 1\r\n\r\nx";
    static const char *const methods[] = {"GET", "HEAD", "DELETE", "GET"};
    static const unsigned statuses[] = {200, 200, 204, 404};
    expect_status(fixture->client, 201, "PUT", "/kv/wire/bodies", NULL, "value");
    int fd = raw_connect(fixture->server);
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        raw_send(fd, methods[i]);
        raw_send(fd, " /kv/wire/bodies HTTP/1.1\r\n");
        raw_send(fd, body);
    }
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        struct reply reply = methods[i][0] == 'H' ? raw_reply_to_head(fd) : raw_reply(fd);
        assert_status(&reply, statuses[i]);
        reply_free(&reply);
    }
    close(fd);
    expect_status(fixture->client, 404, "GET", "/kv/wire/hidden", NULL, NULL);
}

static void chunked_bodies_that_mean_nothing_close_the_connection(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const methods[] = {"GET", "DELETE"};
    static const unsigned statuses[] = {200, 204};
    expect_status(fixture->client, 201, "PUT", "/kv/wire/chunks", NULL, "value");
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        char text[300];
        (void)snprintf(text, sizeof text,
                       "%s /kv/wire/chunks HTTP/1.1\r\n" HOST
                       "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                       methods[i]);
        int fd = raw_connect(fixture->server);
        raw_send(fd, text);
        struct reply reply = raw_last_reply(fd);
        assert_status(&reply, statuses[i]);
        assert_field(&reply, "Connection", "close");
        reply_free(&reply);
        close(fd);
    }
}

static void what_is_no_http_is_closed(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const texts[] = {"GET /kv/a HTTP/2.0\r\nHost: localhost\r\n\r\n",
                                        "GET /kv/a HTTP/0.9\r\n\r\n", "GET /kv/a\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
                                        "GET /kv/a FTP/1.1\r\nHost: localhost\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        int fd = raw_connect(fixture->server);
        raw_send(fd, texts[i]);
        raw_send(fd, "\r\n\r\n");
        struct reply reply = raw_last_reply(fd);
        assert_true(reply.status == 0 || reply.status == 400 || reply.status == 505);
        reply_free(&reply);
        close(fd);
    }
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    const struct fixture *fixture = *state;
    enum { REQUESTS = 60 };
    char text[REQUESTS * 128];
    size_t size = 0;
    for (int i = 0; i < REQUESTS; i += 3) {
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 "PUT /kv/wire/pipe%d HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n"
                                 "%02d",
                                 i, i);
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 "GET /kv/wire/pipe%d HTTP/1.1\r\n" HOST "\r\n", i);
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 "HEAD /kv/wire/pipe%d HTTP/1.1\r\n" HOST "\r\n", i);
    }
    int fd = raw_connect(fixture->server);
    raw_send_bytes(fd, text, size);
    for (int i = 0; i < REQUESTS; i += 3) {
        char value[12];
        (void)snprintf(value, sizeof value, "%02d", i);
        struct reply put = raw_reply(fd);
        struct reply got = raw_reply(fd);
        struct reply head = raw_reply_to_head(fd);
        assert_status(&put, 201);
        assert_status(&got, 200);
        assert_body(&got, value);
        assert_status(&head, 200);
        reply_free(&put);
        reply_free(&got);
        reply_free(&head);
    }
    close(fd);
}

static void a_request_may_come_byte_by_byte(void **state)
{
    const struct fixture *fixture = *state;
    static const char text[] =
        "\r\nPUT /kv/wire/slow HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nslow";
    int fd = raw_connect(fixture->server);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        raw_send_bytes(fd, text + i, 1);
    }
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 201);
    reply_free(&reply);
    close(fd);
}

/* Someone who has said all may close that half: netcat does. */
static void a_half_closed_connection_gets_its_answer(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const texts[] = {"PUT /kv/wire/half HTTP/1.1\r\n" HOST
                                        "Content-Length: 4\r\n\r\nhalf",
                                        "GET /kv/wire/half HTTP/1.1\r\n" HOST "\r\n"};
    static const unsigned statuses[] = {201, 200};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        int fd = raw_connect(fixture->server);
        raw_send(fd, texts[i]);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        struct reply reply = raw_last_reply(fd);
        assert_status(&reply, statuses[i]);
        reply_free(&reply);
        close(fd);
    }
}

static void clients_that_leave_in_the_middle_do_no_harm(void **state)
{
    const struct fixture *fixture = *state;
    static const char text[] =
        "PUT /kv/wire/left HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789";
    for (size_t n = 1; n < sizeof text - 1; n++) {
        int fd = raw_connect(fixture->server);
        raw_send_bytes(fd, text, n);
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, n % 2 == 0 ? &reset : &(struct linger){0},
                         sizeof reset);
        close(fd);
    }
    expect_status(fixture->client, 404, "GET", "/kv/wire/left", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_with_an_unclear_end_are_refused),
        cmocka_unit_test(fields_that_are_folded_or_misnamed_are_refused),
        cmocka_unit_test(fields_that_matter_are_read_in_one_way_only),
        cmocka_unit_test(host_must_be_there_once),
        cmocka_unit_test(targets_that_are_none_are_refused),
        cmocka_unit_test(raw_bytes_in_the_target_are_refused),
        cmocka_unit_test(zero_bytes_and_bare_line_feeds_in_fields_are_refused),
        cmocka_unit_test(queries_of_many_parameters_are_answered),
        cmocka_unit_test(our_refusals_are_problems),
        cmocka_unit_test(chunked_is_matched_without_regard_to_case),
        cmocka_unit_test(preconditions_in_trailers_do_not_count),
        cmocka_unit_test(absolute_form_targets_work),
        cmocka_unit_test(the_authority_of_an_absolute_target_wins_over_host),
        cmocka_unit_test(options_of_the_whole_server),
        cmocka_unit_test(http_1_0_is_answered_and_closed),
        cmocka_unit_test(http_1_0_keeps_the_connection_where_asked_to),
        cmocka_unit_test(what_http_1_0_expects_is_ignored),
        cmocka_unit_test(bodies_that_mean_nothing_are_dropped),
        cmocka_unit_test(chunked_bodies_that_mean_nothing_close_the_connection),
        cmocka_unit_test(what_is_no_http_is_closed),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(a_half_closed_connection_gets_its_answer),
        cmocka_unit_test(clients_that_leave_in_the_middle_do_no_harm),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
