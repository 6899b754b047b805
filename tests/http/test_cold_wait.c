/* While a value comes from a slow disk, only those who asked for it wait: the server has one HTTP
 * thread, and strace holds up each madvise(2), with which readers ask for pages, until the test
 * lets go. Exits with 77 without strace, or where TMPDIR has no disk. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, COLD_BYTES = 1 << 20, CLIENTS = 20 };

#define GET_COLD "GET /kv/cold HTTP/1.1\r\nHost: localhost\r\n\r\n"

struct slow {
    char dir[TEMP_DIR_BYTES];
    struct server *server;
    struct client *client; /* who asks for what is in memory */
    char etag[64];         /* of the cold value */
    char *value;
    pid_t strace;
};

static void fill(struct slow *slow)
{
    slow->value = malloc(COLD_BYTES);
    assert_non_null(slow->value);
    for (size_t i = 0; i < COLD_BYTES; i++) {
        slow->value[i] = (char)('a' + i % 23);
    }
    slow->server = server_start_in(slow->dir, NULL);
    slow->client = client_new(slow->server);
    struct reply reply =
        client_send(slow->client, "PUT", "/kv/cold", NULL, slow->value, COLD_BYTES);
    assert_status(&reply, 201);
    (void)snprintf(slow->etag, sizeof slow->etag, "%s", reply_field(&reply, "ETag"));
    reply_free(&reply);
    client_free(slow->client);
    server_stop(slow->server);
}

/* Both values are in tables, one of them not in memory, and the disk stands still. */
static void begin(struct slow *slow)
{
    temp_dir_make(slow->dir);
    fill(slow);
    evict_tables(slow->dir);
    slow->server = server_start_in(slow->dir, FIELDS("--threads", "1", "--scrub-rate", "0"));
    slow->client = client_new(slow->server);
    expect_status(slow->client, 201, "PUT", "/kv/hot", NULL, "hot");
    expect_status(slow->client, 204, "POST", "/admin/flush", NULL, NULL);
    expect_status(slow->client, 200, "GET", "/kv/hot", NULL, NULL);
    slow->strace = strace_server(slow->server, "inject=madvise:delay_enter=600000000");
    strace_wait_attached(slow->server);
}

static void let_go(struct slow *slow)
{
    strace_stop(slow->strace);
}

static void end(struct slow *slow)
{
    free(slow->value);
    client_free(slow->client);
    server_stop(slow->server);
    temp_dir_remove(slow->dir);
}

static bool is_answered(int fd)
{
    struct pollfd state = {.fd = fd, .events = POLLIN};
    return poll(&state, 1, 0) > 0;
}

/* Whether /metrics has this line now. */
static bool metrics_say(struct slow *slow, const char *line)
{
    struct reply reply = client_get(slow->client, "/metrics");
    assert_status(&reply, 200);
    bool says = strstr(reply.body, line) != NULL;
    reply_free(&reply);
    return says;
}

static void wait_until_metrics_say(struct slow *slow, const char *line)
{
    while (!metrics_say(slow, line)) {
    }
}

/* Asks for the cold value, and returns when the server is waiting for it. */
static int ask(struct slow *slow)
{
    int fd = raw_connect(slow->server);
    raw_send(fd, GET_COLD);
    wait_until_metrics_say(slow, "\nvarve_waiting_reads 1\n");
    return fd;
}

static void expect_cold_value(const struct slow *slow, struct reply reply)
{
    assert_status(&reply, 200);
    assert_int_equal(reply.size, COLD_BYTES);
    assert_memory_equal(reply.body, slow->value, COLD_BYTES);
    assert_field(&reply, "ETag", slow->etag);
    reply_free(&reply);
}

static void others_are_answered_meanwhile(void **state)
{
    struct slow slow;
    (void)state;
    begin(&slow);
    int fd = ask(&slow);
    for (int i = 0; i < 50; i++) {
        expect_status(slow.client, 200, "GET", "/kv/hot", NULL, NULL);
    }
    expect_status(slow.client, 201, "PUT", "/kv/new", NULL, "new");
    assert_false(is_answered(fd));
    let_go(&slow);
    expect_cold_value(&slow, raw_reply(fd));
    raw_send(fd, GET_COLD); /* the connection goes on, and now it is there */
    expect_cold_value(&slow, raw_reply(fd));
    assert_true(metrics_say(&slow, "\nvarve_cold_reads_total 1\n"));
    close(fd);
    end(&slow);
}

static void who_needs_no_value_does_not_wait(void **state)
{
    struct slow slow;
    (void)state;
    begin(&slow);
    char has_it[100];
    (void)snprintf(has_it, sizeof has_it, "If-None-Match: %s", slow.etag);
    struct reply reply = client_send(slow.client, "HEAD", "/kv/cold", NULL, NULL, 0);
    assert_status(&reply, 200);
    assert_field(&reply, "Content-Length", "1048576");
    reply_free(&reply);
    expect_status(slow.client, 304, "GET", "/kv/cold", FIELDS(has_it), NULL);
    assert_true(metrics_say(&slow, "\nvarve_cold_reads_total 0\n"));
    /* Who has another version does. */
    int fd = raw_connect(slow.server);
    raw_send(fd, "GET /kv/cold HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"other\"\r\n\r\n");
    wait_until_metrics_say(&slow, "\nvarve_waiting_reads 1\n");
    let_go(&slow);
    expect_cold_value(&slow, raw_reply(fd));
    close(fd);
    end(&slow);
}

/* Someone who has said all may close that half: netcat does. */
static void a_half_closed_connection_gets_its_answer(void **state)
{
    struct slow slow;
    (void)state;
    begin(&slow);
    int fd = raw_connect(slow.server);
    raw_send(fd, GET_COLD);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    wait_until_metrics_say(&slow, "\nvarve_waiting_reads 1\n");
    let_go(&slow);
    expect_cold_value(&slow, raw_last_reply(fd));
    close(fd);
    end(&slow);
}

static void clients_that_vanish_leave_nothing_behind(void **state)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct slow slow;
    int fds[CLIENTS];
    char line[64];
    (void)state;
    begin(&slow);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = raw_connect(slow.server);
        raw_send(fds[i], GET_COLD);
    }
    (void)snprintf(line, sizeof line, "\nvarve_waiting_reads %d\n", CLIENTS);
    wait_until_metrics_say(&slow, line);
    for (int i = 0; i < CLIENTS - 1; i++) {
        (void)setsockopt(fds[i], SOL_SOCKET, SO_LINGER, i % 2 == 0 ? &reset : &(struct linger){0},
                         sizeof reset);
        close(fds[i]);
    }
    expect_status(slow.client, 200, "GET", "/kv/hot", NULL, NULL);
    let_go(&slow);
    expect_cold_value(&slow, raw_reply(fds[CLIENTS - 1]));
    close(fds[CLIENTS - 1]);
    wait_until_metrics_say(&slow, "\nvarve_http_connections 1\n");
    wait_until_metrics_say(&slow, "\nvarve_pinned_entries 0\n");
    assert_true(metrics_say(&slow, "\nvarve_waiting_reads 0\n"));
    end(&slow);
}

static void a_server_that_stops_answers_first(void **state)
{
    struct slow slow;
    (void)state;
    begin(&slow);
    int fd = ask(&slow);
    server_signal(slow.server, SIGTERM);
    server_wait_log(slow.server, "event=draining");
    assert_false(is_answered(fd));
    let_go(&slow);
    struct reply reply = raw_last_reply(fd);
    assert_field(&reply, "Connection", "close");
    expect_cold_value(&slow, reply);
    close(fd);
    free(slow.value);
    client_free(slow.client);
    char *log = NULL;
    assert_int_equal(server_wait(slow.server, &log), 0);
    assert_non_null(strstr(log, "event=stopped clean=true"));
    free(log);
    temp_dir_remove(slow.dir);
}

int main(void)
{
    if (!strace_works() || !can_evict()) {
        fputs("strace is not installed or may not trace here, or TMPDIR has no disk\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_answered_meanwhile),
        cmocka_unit_test(who_needs_no_value_does_not_wait),
        cmocka_unit_test(a_half_closed_connection_gets_its_answer),
        cmocka_unit_test(clients_that_vanish_leave_nothing_behind),
        cmocka_unit_test(a_server_that_stops_answers_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
