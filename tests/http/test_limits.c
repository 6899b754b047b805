/* Limits: how many, how long, how large; and what a large answer costs. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"

#define GET_ONE "GET /kv/one HTTP/1.1\r\nHost: localhost\r\n\r\n"

enum { MANY = 1000, THREADS = 4, LIMIT = 8, BEYOND = 200, ATTEMPTS = 10 };

#ifdef VARVE_SANITIZED
enum { SLACK_KIB = 4096 }; /* of the sanitizer's own memory */
#else
enum { SLACK_KIB = 64 };
#endif

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct server *start_with_one(const char *const arguments[])
{
    struct server *server = server_start(arguments);
    struct reply put = raw_exchange(server, "PUT /kv/one HTTP/1.1\r\nHost: localhost\r\n"
                                            "Connection: close\r\nContent-Length: 1\r\n\r\n1");
    assert_status(&put, 201);
    reply_free(&put);
    return server;
}

/* A number of /metrics, by the beginning of its line. */
static unsigned long metric(const struct server *server, const char *series)
{
    struct client *client = client_new(server);
    struct reply page = client_get(client, "/metrics");
    assert_status(&page, 200);
    const char *line = strstr(page.body, series);
    assert_non_null(line);
    unsigned long value = strtoul(line + strlen(series), NULL, 10);
    reply_free(&page);
    client_free(client);
    return value;
}

/* --- Connections --- */

static void a_thousand_connections_work_at_once_and_spread_evenly(void **state)
{
    (void)state;
    struct server *server = start_with_one(FIELDS("--threads", "4"));
    static int fds[MANY];
    for (int i = 0; i < MANY; i++) {
        fds[i] = raw_connect(server);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            raw_send(fds[i], GET_ONE);
        }
        for (int i = 0; i < MANY; i++) {
            struct reply reply = raw_reply(fds[i]);
            assert_status(&reply, 200);
            assert_body(&reply, "1");
            reply_free(&reply);
        }
    }
    assert_true(metric(server, "\nvarve_http_connections ") > MANY);
    for (int i = 0; i < THREADS; i++) {
        char series[64];
        (void)snprintf(series, sizeof series, "varve_http_thread_requests_total{thread=\"%d\"} ",
                       i);
        /* A quarter each, nine standard deviations about. */
        assert_in_range(metric(server, series), 2 * MANY / 8, 2 * MANY * 3 / 8);
    }
    for (int i = 0; i < MANY; i++) {
        close(fds[i]);
    }
    server_stop(server);
}

/* Regression: libmicrohttpd takes 128 events at a time, and when it got exactly as many it waited
 * for more before it dealt with them. */
static void as_many_requests_as_the_library_takes_at_a_time_are_not_left_waiting(void **state)
{
    (void)state;
    enum { EVENTS = 128 };
    struct server *server = start_with_one(FIELDS("--threads", "1"));
    int fds[EVENTS];
    for (int i = 0; i < EVENTS; i++) {
        fds[i] = raw_connect(server);
        raw_send(fds[i], GET_ONE);
        struct reply reply = raw_reply(fds[i]);
        assert_status(&reply, 200);
        reply_free(&reply);
    }
    server_signal(server, SIGSTOP);
    int status = 0;
    assert_int_equal(waitpid(server_pid(server), &status, WUNTRACED), server_pid(server));
    assert_true(WIFSTOPPED(status));
    for (int i = 0; i < EVENTS; i++) {
        raw_send(fds[i], GET_ONE);
    }
    uint64_t began = now_ms();
    server_signal(server, SIGCONT);
    for (int i = 0; i < EVENTS; i++) {
        struct reply reply = raw_reply(fds[i]);
        assert_status(&reply, 200);
        reply_free(&reply);
        close(fds[i]);
    }
    assert_in_range(now_ms() - began, 0, 5000);
    server_stop(server);
}

static void connections_beyond_the_limit_get_503_and_are_closed(void **state)
{
    (void)state;
    struct server *server = start_with_one(FIELDS("--connections", "8", "--threads", "2"));
    int fds[LIMIT];
    for (int i = 0; i < LIMIT; i++) {
        /* The one that put the key may not be gone yet: then this one is the ninth. */
        for (;;) {
            fds[i] = raw_connect(server);
            raw_send(fds[i], GET_ONE);
            struct reply reply = raw_reply(fds[i]);
            unsigned status = reply.status;
            reply_free(&reply);
            if (status == 200) {
                break;
            }
            assert_int_equal(status, 503);
            close(fds[i]);
        }
    }
    int ninth = raw_connect(server);
    raw_send(ninth, GET_ONE);
    struct reply refused = raw_last_reply(ninth);
    assert_problem(&refused, 503, "/problems/too-many-connections");
    assert_field(&refused, "Connection", "close");
    assert_non_null(reply_field(&refused, "Retry-After"));
    reply_free(&refused);
    close(ninth);
    /* A write isn't even begun. */
    ninth = raw_connect(server);
    raw_send(ninth, "PUT /kv/ninth HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    refused = raw_last_reply(ninth);
    assert_problem(&refused, 503, "/problems/too-many-connections");
    reply_free(&refused);
    close(ninth);
    /* The others go on. */
    for (int i = 0; i < LIMIT; i++) {
        raw_send(fds[i], "GET /kv/ninth HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct reply reply = raw_reply(fds[i]);
        assert_status(&reply, 404);
        reply_free(&reply);
    }
    /* And a place that is given up is there for the next. */
    close(fds[0]);
    for (unsigned status = 0; status != 200;) {
        struct reply reply = raw_exchange(server, GET_ONE);
        status = reply.status;
        assert_true(status == 200 || status == 503);
        reply_free(&reply);
    }
    for (int i = 1; i < LIMIT; i++) {
        close(fds[i]);
    }
    server_stop(server);
}

/* Regression: they were refused like the rest, and a supervisor restarted what was only busy. */
static void probes_and_metrics_are_answered_beyond_the_limit(void **state)
{
    (void)state;
    static const char *const paths[] = {"/livez", "/readyz", "/readyz?verbose", "/startupz",
                                        "/metrics"};
    struct server *server =
        start_with_one(FIELDS("--connections", "8", "--threads", "2", "--header-timeout", "60s"));
    int silent[LIMIT + BEYOND];
    for (int i = 0; i < LIMIT + BEYOND; i++) {
        silent[i] = raw_connect(server);
    }
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        for (int head = 0; head < 2; head++) {
            char text[200];
            int fd = raw_connect(server);
            (void)snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                           head ? "HEAD" : "GET", paths[i]);
            raw_send(fd, text);
            struct reply reply = head ? raw_reply_to_head(fd) : raw_last_reply(fd);
            assert_status(&reply, 200);
            assert_field(&reply, "Connection", "close");
            raw_wait_closed(fd);
            reply_free(&reply);
            close(fd);
        }
    }
    struct reply refused = raw_exchange(server, GET_ONE);
    assert_problem(&refused, 503, "/problems/too-many-connections");
    reply_free(&refused);
    for (int i = 0; i < LIMIT + BEYOND; i++) {
        close(silent[i]);
    }
    server_stop(server);
}

/* Nobody sends a byte. Those beyond the limit go, some with a word and some without, all soon;
 * which ones they are is up to the threads that accept. */
static void crowds_of_silent_connections_are_turned_away(void **state)
{
    (void)state;
    struct server *server =
        start_with_one(FIELDS("--connections", "8", "--threads", "2", "--header-timeout", "300ms"));
    struct pollfd waiting[LIMIT + BEYOND];
    unsigned left = LIMIT + BEYOND, unasked = 0;
    for (unsigned i = 0; i < left; i++) {
        waiting[i] = (struct pollfd){.fd = raw_connect(server), .events = POLLIN};
    }
    while (left > LIMIT) {
        assert_true(poll(waiting, left, PATIENCE_MS) > 0);
        for (unsigned i = left; i-- > 0;) {
            if (waiting[i].revents != 0) {
                struct reply reply = raw_last_reply(waiting[i].fd);
                assert_true(reply.status == 503 || reply.status == 0);
                unasked += reply.status == 503;
                reply_free(&reply);
                close(waiting[i].fd);
                waiting[i] = waiting[--left];
            }
        }
    }
    assert_true(unasked > 0);
    for (unsigned i = 0; i < left; i++) {
        raw_send(waiting[i].fd, GET_ONE);
        struct reply reply = raw_reply(waiting[i].fd);
        assert_status(&reply, 200);
        reply_free(&reply);
        close(waiting[i].fd);
    }
    server_stop(server);
}

/* --- Time --- */

/* Sends `text` a byte at a time, one each `pause_ms`, until the server closes or all is sent and
 * then nothing more. Returns the milliseconds until it closed. */
static uint64_t trickle_until_closed(int fd, const char *text, int pause_ms)
{
    uint64_t began = now_ms();
    struct pollfd closed = {.fd = fd, .events = POLLIN};
    while (poll(&closed, 1, pause_ms) == 0) {
        assert_true(now_ms() < began + PATIENCE_MS);
        if (*text != '\0') {
            raw_send_bytes(fd, text++, 1);
        }
    }
    raw_wait_closed(fd);
    return now_ms() - began;
}

static void slow_headers_are_cut_off(void **state)
{
    (void)state;
    struct server *server = start_with_one(FIELDS("--header-timeout", "400ms"));
    static const char *const texts[] = {"G", "GET /kv/one HT",
                                        "GET /kv/one HTTP/1.1\r\nHost: local",
                                        ("GET /kv/one HTTP/1.1\r\nHost: localhost\r\nName: "
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")};
    int idle = raw_connect(server);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        int fd = raw_connect(server);
        assert_in_range(trickle_until_closed(fd, texts[i], 50), 300, 30000);
        close(fd);
    }
    /* The same behind a first request on the connection. */
    int fd = raw_connect(server);
    raw_send(fd, GET_ONE);
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 200);
    reply_free(&reply);
    assert_in_range(trickle_until_closed(fd, texts[3], 50), 300, 30000);
    close(fd);
    /* Who hasn't begun isn't late. */
    raw_send(idle, GET_ONE);
    reply = raw_reply(idle);
    assert_status(&reply, 200);
    reply_free(&reply);
    close(idle);
    assert_int_equal(metric(server, "\nvarve_http_connections_cut_total "), 5);
    server_stop(server);
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    struct server *server = start_with_one(FIELDS("--idle-timeout", "1s"));
    int fresh = raw_connect(server);
    int used = raw_connect(server);
    raw_send(used, GET_ONE);
    struct reply reply = raw_reply(used);
    assert_status(&reply, 200);
    reply_free(&reply);
    raw_wait_closed(fresh);
    raw_wait_closed(used);
    close(fresh);
    close(used);
    server_stop(server);
}

/* --- Sizes --- */

static int group_start_small(void **state)
{
    return group_start_with(state, FIELDS("--max-value-bytes", "1000B"));
}

static void values_up_to_the_limit_are_taken(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char value[1001];
    memset(value, 'v', sizeof value);
    struct reply reply = client_send(client, "PUT", "/kv/limit", NULL, value, 1000);
    assert_status(&reply, 201);
    reply_free(&reply);
    reply = client_send(client, "PUT", "/kv/limit", NULL, value, 1001);
    assert_problem(&reply, 413, "/problems/value-too-large");
    assert_non_null(strstr(reply.body, "1000"));
    reply_free(&reply);
    reply = client_send_chunked(client, "PUT", "/kv/limit", NULL, value, 1000, 300);
    assert_status(&reply, 204);
    reply_free(&reply);
    reply = client_send_chunked(client, "PUT", "/kv/limit", NULL, value, 1001, 300);
    assert_problem(&reply, 413, "/problems/value-too-large");
    reply_free(&reply);
}

static void a_body_that_nobody_wants_is_read_and_the_connection_goes_on(void **state)
{
    const struct fixture *fixture = *state;
    size_t size = (size_t)8 << 20;
    char *value = calloc(1, size);
    assert_non_null(value);
    int fd = raw_connect(fixture->server);
    raw_send(fd, "PUT /kv/unwanted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n");
    raw_send_bytes(fd, value, size);
    struct reply reply = raw_reply(fd);
    assert_problem(&reply, 413, "/problems/value-too-large");
    reply_free(&reply);
    raw_send(fd, "GET /kv/unwanted HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = raw_reply(fd);
    assert_status(&reply, 404);
    reply_free(&reply);
    close(fd);
    free(value);
}

/* Sends a header section that asks to go on, and no body. */
static void expect_refused_at_once(const struct fixture *fixture, const char *section,
                                   const char *framing, unsigned status, const char *type)
{
    char text[2000];
    (void)snprintf(text, sizeof text, "%s%s\r\nExpect: 100-continue\r\n\r\n", section, framing);
    int fd = raw_connect(fixture->server);
    raw_send(fd, text);
    struct reply reply = raw_last_reply(fd);
    if (reply.status != status) {
        print_error("%s\n", text);
    }
    assert_problem(&reply, status, type);
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
    close(fd);
}

static void who_asks_first_is_refused_before_the_body(void **state)
{
#define LOCAL " HTTP/1.1\r\nHost: localhost\r\n"
    static const struct {
        unsigned status;
        const char *type, *section;
    } cases[] = {
        {400, "/problems/malformed-key", "PUT /kv/%zz" LOCAL},
        {400, "/problems/empty-key", "PUT /kv/" LOCAL},
        {400, "/problems/unknown-parameter", "PUT /kv/expect?colour=red" LOCAL},
        {400, "/problems/unknown-parameter", "PUT /kv/expect" LOCAL "X-TTL: 5\r\n"},
        {400, "/problems/malformed-precondition", "PUT /kv/expect" LOCAL "If-Match: x\r\n"},
        {400, "/problems/malformed-header", "PUT /kv/expect" LOCAL "Cache-Control: \x7f\r\n"},
        {400, "/problems/malformed-parameter", "DELETE /kv/expect?missing" LOCAL},
        {400, "/problems/malformed-request", "PUT /kv/expect" LOCAL "Host: localhost\r\n"},
        {403, "/problems/cross-site-request", "PUT /kv/expect" LOCAL "Origin: null\r\n"},
        {404, "/problems/no-such-route", "PUT /expect" LOCAL},
        {404, "/problems/no-such-route", "POST /batch" LOCAL},
        {405, "/problems/method-not-allowed", "POST /kv/expect" LOCAL},
        {405, "/problems/method-not-allowed", "PUT /livez" LOCAL},
        {406, "/problems/not-acceptable", "GET /kv" LOCAL "Accept: application/x-ndjson\r\n"},
        {421, "/problems/misdirected-request", "PUT /kv/expect HTTP/1.1\r\nHost: evil\r\n"},
    };
#undef LOCAL
    static const char *const framings[] = {"Content-Length: 4", "Transfer-Encoding: chunked",
                                           "Content-Length: 1001"};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (size_t j = 0; j < COUNT_OF(framings); j++) {
            expect_refused_at_once(*state, cases[i].section, framings[j], cases[i].status,
                                   cases[i].type);
        }
    }
    expect_refused_at_once(*state, "PUT /kv/expect HTTP/1.1\r\nHost: localhost\r\n", framings[2],
                           413, "/problems/value-too-large");
}

static void who_asks_first_and_may_is_told_to_go_on(void **state)
{
    const struct fixture *fixture = *state;
    int fd = raw_connect(fixture->server);
    raw_send(fd, "PUT /kv/expect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
                 "Expect: 100-continue\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 100);
    reply_free(&reply);
    raw_send(fd, "body");
    reply = raw_reply(fd);
    assert_status(&reply, 201);
    reply_free(&reply);
    close(fd);
}

/* More than anybody would want to drop. */
static void giant_bodies_are_refused_at_once(void **state)
{
    const struct fixture *fixture = *state;
    int fd = raw_connect(fixture->server);
    raw_send(fd,
             "PUT /kv/giant HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n\r\n");
    struct reply reply = raw_last_reply(fd);
    assert_problem(&reply, 413, "/problems/value-too-large");
    reply_free(&reply);
    close(fd);
}

enum { DROP_MAX = 64 << 20, CHUNK = 1 << 20 };

/* 64 MiB and `more` bytes to a key that isn't one, in chunks; what came back. */
static struct reply send_unwanted_chunks(const struct fixture *fixture, const char *zeros,
                                         unsigned more)
{
    int fd = raw_connect(fixture->server);
    raw_send(fd, "PUT /kv/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < DROP_MAX / CHUNK; i++) {
        raw_send(fd, "100000\r\n");
        raw_send_bytes(fd, zeros, CHUNK);
        raw_send(fd, "\r\n");
    }
    if (more > 0) {
        raw_send(fd, "1\r\nx\r\n");
    }
    raw_send(fd, "0\r\n\r\n");
    struct reply reply = raw_last_reply(fd);
    close(fd);
    return reply;
}

static void of_an_unwanted_body_64_mebibytes_are_dropped_and_not_one_byte_more(void **state)
{
    const struct fixture *fixture = *state;
    char *zeros = calloc(1, CHUNK);
    assert_non_null(zeros);
    struct reply reply = send_unwanted_chunks(fixture, zeros, 0);
    assert_problem(&reply, 400, "/problems/empty-key");
    reply_free(&reply);
    reply = send_unwanted_chunks(fixture, zeros, 1);
    assert_int_equal(reply.status, 0);
    assert_true(reply.closed);
    reply_free(&reply);
    free(zeros);
    /* Where the length says it beforehand, the answer doesn't wait for the body. */
    int fd = raw_connect(fixture->server);
    raw_send(fd, "PUT /kv/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108865\r\n\r\n");
    reply = raw_last_reply(fd);
    assert_problem(&reply, 400, "/problems/empty-key");
    reply_free(&reply);
    close(fd);
}

static struct reply get_with(const struct fixture *fixture, size_t target_bytes, size_t name_bytes)
{
    static char text[40000];
    size_t n = (size_t)snprintf(text, sizeof text, "GET /");
    memset(text + n, 'a', target_bytes - 1);
    n += target_bytes - 1;
    n += (size_t)snprintf(text + n, sizeof text - n, " HTTP/1.1\r\nHost: localhost\r\n");
    if (name_bytes > 0) {
        n += (size_t)snprintf(text + n, sizeof text - n, "X: ");
        memset(text + n, 'b', name_bytes);
        n += name_bytes;
        n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
    }
    (void)snprintf(text + n, sizeof text - n, "\r\n");
    return raw_exchange(fixture->server, text);
}

static void long_targets_and_headers_are_refused_by_us(void **state)
{
    struct reply reply = get_with(*state, 6144, 6000);
    assert_problem(&reply, 404, "/problems/no-such-route");
    reply_free(&reply);
    reply = get_with(*state, 6145, 0);
    assert_problem(&reply, 414, "/problems/target-too-long");
    assert_non_null(strstr(reply.body, "6144"));
    reply_free(&reply);
    reply = get_with(*state, 6145, 6000);
    assert_problem(&reply, 414, "/problems/target-too-long");
    reply_free(&reply);
    reply = get_with(*state, 10, 6144);
    assert_problem(&reply, 431, "/problems/headers-too-large");
    assert_non_null(strstr(reply.body, "6144"));
    reply_free(&reply);
}

static void what_is_far_too_long_is_refused_by_the_library(void **state)
{
    struct reply reply = get_with(*state, 20000, 0);
    assert_status(&reply, 414);
    reply_free(&reply);
    reply = get_with(*state, 10, 20000);
    assert_status(&reply, 431);
    reply_free(&reply);
}

/* Sixty fields of a browser with long cookies, and a key in its longest form. */
static void many_fields_beside_a_long_key_fit(void **state)
{
    const struct fixture *fixture = *state;
    static char text[20000];
    size_t n = (size_t)snprintf(text, sizeof text, "PUT /kv/");
    for (int i = 0; i < 1024; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%%%02X", i & 255);
    }
    n += (size_t)snprintf(text + n, sizeof text - n,
                          " HTTP/1.1\r\nHost: localhost\r\n"
                          "Content-Length: 1000\r\n");
    for (int i = 0; i < 60; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "X-Name-%02d: %060d\r\n", i, i);
    }
    (void)snprintf(text + n, sizeof text - n, "\r\n%01000d", 0);
    struct reply reply = raw_exchange(fixture->server, text);
    assert_status(&reply, 201);
    reply_free(&reply);
}

/* --- Memory --- */

/* By how much the server's own memory grows when it is asked for /kv/large: a little of the answer
 * is read, and the rest left in the server. */
static uint64_t growth_of_large_get_kib(const struct server *server)
{
    uint64_t before = server_memory_kib(server, "RssAnon");
    int fd = raw_connect(server);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    raw_send(fd, "GET /kv/large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    char some[1000];
    assert_int_equal(recv(fd, some, sizeof some, MSG_WAITALL), sizeof some);
    uint64_t during = server_memory_kib(server, "RssAnon");
    close(fd);
    return during > before ? during - before : 0;
}

/* What the server holds for an answer must be the value itself, not a copy. Work in the background
 * may take memory at the same time; a copy would show in every attempt. */
static void a_large_answer_is_not_copied(void **state)
{
    (void)state;
    size_t size = (size_t)16 << 20;
    char *value = malloc(size);
    assert_non_null(value);
    memset(value, 'v', size);
    struct server *server = server_start(NULL);
    struct client *client = client_new(server);
    struct reply put = client_send(client, "PUT", "/kv/large", NULL, value, size);
    assert_status(&put, 201);
    reply_free(&put);
    free(value);
    for (int from_table = 0; from_table < 2; from_table++) {
        if (from_table) {
            expect_status(client, 204, "POST", "/admin/flush", NULL, "");
        }
        expect_status(client, 200, "HEAD", "/kv/large", NULL, NULL);
        uint64_t least = UINT64_MAX;
        for (int i = 0; i < ATTEMPTS && least > SLACK_KIB; i++) {
            uint64_t growth = growth_of_large_get_kib(server);
            least = growth < least ? growth : least;
        }
        if (least > SLACK_KIB) {
            fail_msg("%s: grows by %lu KiB", from_table ? "table" : "memtable", least);
        }
    }
    client_free(client);
    server_stop(server);
}

int main(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    const struct CMUnitTest own_servers[] = {
        cmocka_unit_test(a_thousand_connections_work_at_once_and_spread_evenly),
        cmocka_unit_test(as_many_requests_as_the_library_takes_at_a_time_are_not_left_waiting),
        cmocka_unit_test(connections_beyond_the_limit_get_503_and_are_closed),
        cmocka_unit_test(probes_and_metrics_are_answered_beyond_the_limit),
        cmocka_unit_test(crowds_of_silent_connections_are_turned_away),
        cmocka_unit_test(slow_headers_are_cut_off),
        cmocka_unit_test(idle_connections_are_closed),
        cmocka_unit_test(a_large_answer_is_not_copied),
    };
    const struct CMUnitTest small_values[] = {
        cmocka_unit_test(values_up_to_the_limit_are_taken),
        cmocka_unit_test(a_body_that_nobody_wants_is_read_and_the_connection_goes_on),
        cmocka_unit_test(who_asks_first_is_refused_before_the_body),
        cmocka_unit_test(who_asks_first_and_may_is_told_to_go_on),
        cmocka_unit_test(giant_bodies_are_refused_at_once),
        cmocka_unit_test(of_an_unwanted_body_64_mebibytes_are_dropped_and_not_one_byte_more),
        cmocka_unit_test(long_targets_and_headers_are_refused_by_us),
        cmocka_unit_test(what_is_far_too_long_is_refused_by_the_library),
        cmocka_unit_test(many_fields_beside_a_long_key_fit),
    };
    int failed = cmocka_run_group_tests(own_servers, NULL, NULL);
    return failed + cmocka_run_group_tests(small_values, group_start_small, group_stop);
}
