/* SIGTERM: every write that was taken is answered and kept, and the process ends with 0 in time. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

enum { WRITERS = 16, WRITES_MAX = 20000 };

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits for the end: it must be clean. */
static void expect_clean_end(struct server *server)
{
    char *log = NULL;
    int status = server_wait(server, &log);
    if (status != 0 || strstr(log, "event=draining") == NULL ||
        strstr(log, "event=stopped clean=true") == NULL) {
        fail_msg("status %d:\n%s", status, log);
    }
    free(log);
}

/* --- Under load --- */

struct writer {
    struct client *client;
    unsigned number;
    unsigned written; /* these were answered 201, in order… */
    bool silent;      /* …the next one was not answered at all */
    unsigned other;   /* …or with this, if not 0 */
    _Atomic unsigned progress;
};

static void *write_until_refused(void *arg)
{
    struct writer *writer = arg;
    for (;;) {
        char path[64];
        (void)snprintf(path, sizeof path, "/kv/drain/%u/%u", writer->number, writer->written);
        struct reply reply = client_put(writer->client, path, path);
        unsigned status = reply.status;
        reply_free(&reply);
        if (status != 201 || writer->written == WRITES_MAX) {
            writer->silent = status == 0;
            writer->other = status == 0 || status == 201 ? 0 : status;
            break;
        }
        atomic_store(&writer->progress, ++writer->written);
    }
    client_free(writer->client);
    return NULL;
}

/* All that was answered is there; what wasn't answered was not taken. */
static void check_writer(struct client *client, const struct writer *writer)
{
    char path[64];
    for (unsigned i = 0; i < writer->written; i++) {
        (void)snprintf(path, sizeof path, "/kv/drain/%u/%u", writer->number, i);
        struct reply got = client_get(client, path);
        assert_status(&got, 200);
        assert_body(&got, path);
        reply_free(&got);
    }
    if (writer->silent) {
        (void)snprintf(path, sizeof path, "/kv/drain/%u/%u", writer->number, writer->written);
        expect_status(client, 404, "GET", path, NULL, NULL);
    }
    assert_true(writer->other == 0 || writer->other == 503);
}

static void drain_under_load(unsigned writes_before)
{
    static struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, NULL);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.client = client_new(server), .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_until_refused, &writers[i]), 0);
    }
    uint64_t began = now_ms();
    for (unsigned sum = 0; sum < writes_before;) {
        assert_true(now_ms() - began < PATIENCE_MS);
        sum = 0;
        for (unsigned i = 0; i < WRITERS; i++) {
            sum += atomic_load(&writers[i].progress);
        }
    }
    server_signal(server, SIGTERM);
    expect_clean_end(server);
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    server = server_start_in(dir, NULL);
    struct client *client = client_new(server);
    for (unsigned i = 0; i < WRITERS; i++) {
        check_writer(client, &writers[i]);
    }
    client_free(client);
    server_stop(server);
    temp_dir_remove(dir);
}

static void every_write_that_was_taken_is_answered(void **state)
{
    (void)state;
    for (unsigned round = 1; round <= 5; round++) {
        drain_under_load(round * 137);
    }
}

/* Regression: SIGHUP ended the process at once. */
static void signals_that_do_not_ask_to_stop_end_nothing(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--drain-delay", "200ms"));
    struct client *client = client_new(server);
    server_signal(server, SIGUSR1);
    server_signal(server, SIGUSR2);
    server_signal(server, SIGHUP);
    server_wait_log(server, "event=nothing_to_reload reason=SIGHUP");
    expect_status(client, 201, "PUT", "/kv/hup", NULL, "x");
    client_free(client);
    server_signal(server, SIGTERM);
    server_wait_log(server, "event=draining");
    server_signal(server, SIGHUP); /* isn't the second signal that means it */
    expect_clean_end(server);
}

/* --- One connection at a time --- */

/* Until connecting is refused; the server accepts nobody from then on. */
static void wait_refused(struct server *server)
{
    uint64_t began = now_ms();
    struct reply reply;
    do {
        assert_true(now_ms() - began < PATIENCE_MS);
        struct client *client = client_new(server);
        reply = client_get(client, "/livez");
        client_free(client);
        bool refused = reply.status == 0;
        reply_free(&reply);
        if (refused) {
            return;
        }
    } while (true);
}

static void idle_connections_do_not_hold_it_up(void **state)
{
    (void)state;
    struct server *server = server_start(NULL);
    int fds[100];
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = raw_connect(server);
        /* Some have never said a word, some are between two requests, some in the first line. */
        if (i % 3 == 1) {
            raw_send(fds[i], "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
            struct reply reply = raw_reply(fds[i]);
            assert_status(&reply, 200);
            reply_free(&reply);
        } else if (i % 3 == 2) {
            raw_send(fds[i], i % 2 == 0 ? "GET /liv" : "GET /livez HTTP/1.1\r\nHost: lo");
        }
    }
    uint64_t began = now_ms();
    server_signal(server, SIGTERM);
    expect_clean_end(server);
    assert_in_range(now_ms() - began, 0, 10000); /* of 25 s */
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        raw_wait_closed(fds[i]);
        close(fds[i]);
    }
}

static void a_body_under_way_is_awaited(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, NULL);
    int fd = raw_connect(server);
    raw_send(fd, "PUT /kv/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
                 "Expect: 100-continue\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 100); /* it has begun */
    reply_free(&reply);
    raw_send(fd, "01234");
    server_signal(server, SIGTERM);
    wait_refused(server);
    raw_send(fd, "56789");
    reply = raw_last_reply(fd);
    assert_status(&reply, 201);
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
    close(fd);
    expect_clean_end(server);
    server = server_start_in(dir, NULL);
    struct client *client = client_new(server);
    reply = client_get(client, "/kv/half");
    assert_body(&reply, "0123456789");
    reply_free(&reply);
    client_free(client);
    server_stop(server);
    temp_dir_remove(dir);
}

static void what_takes_too_long_is_cut_off(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--drain-timeout", "2s"));
    int fd = raw_connect(server);
    raw_send(fd, "PUT /kv/stalled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
                 "Expect: 100-continue\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 100);
    reply_free(&reply);
    uint64_t began = now_ms();
    server_signal(server, SIGTERM);
    expect_clean_end(server);
    assert_in_range(now_ms() - began, 1000, 10000);
    raw_wait_closed(fd);
    close(fd);
}

static void a_second_signal_ends_it_at_once(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--drain-timeout", "10m"));
    int fd = raw_connect(server);
    raw_send(fd, "PUT /kv/stalled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
                 "Expect: 100-continue\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 100);
    reply_free(&reply);
    server_signal(server, SIGTERM);
    server_wait_log(server, "event=draining");
    server_signal(server, SIGINT);
    assert_int_equal(server_wait(server, NULL), 1);
    close(fd);
}

static void during_the_delay_it_serves_and_says_not_ready(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--drain-delay", "3s"));
    int kept = raw_connect(server);
    raw_send(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reply reply = raw_reply(kept);
    assert_status(&reply, 200);
    assert_no_field(&reply, "Connection");
    reply_free(&reply);
    uint64_t began = now_ms();
    server_signal(server, SIGTERM);
    server_wait_log(server, "event=draining");
    struct client *client = client_new(server);
    reply = client_get(client, "/readyz");
    assert_status(&reply, 503);
    assert_body(&reply, "stopping: yes\n");
    assert_field(&reply, "Connection", "close");
    assert_field(&reply, "Retry-After", "5");
    reply_free(&reply);
    expect_status(client, 200, "GET", "/livez", NULL, NULL);
    expect_status(client, 200, "GET", "/startupz", NULL, NULL);
    reply = client_put(client, "/kv/late", "x");
    assert_status(&reply, 201);
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
    client_free(client);
    raw_send(kept, "GET /kv/late HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = raw_last_reply(kept);
    assert_status(&reply, 200);
    assert_field(&reply, "Connection", "close");
    reply_free(&reply);
    close(kept);
    expect_clean_end(server);
    assert_true(now_ms() - began >= 3000);
}

static void sigint_stops_as_sigterm_does(void **state)
{
    (void)state;
    struct server *server = server_start(NULL);
    server_signal(server, SIGINT);
    expect_clean_end(server);
}

static void a_signal_during_recovery_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        char dir[TEMP_DIR_BYTES];
        temp_dir_make(dir);
        struct server *server = server_spawn(dir, NULL);
        server_wait_listening(server);
        server_signal(server, SIGTERM);
        assert_int_equal(server_wait(server, NULL), 0);
        /* Whatever it left behind opens. */
        server = server_start_in(dir, NULL);
        server_stop(server);
        temp_dir_remove(dir);
    }
}

/* --- As the first process of a container --- */

static pid_t only_child(pid_t parent)
{
    char path[64];
    int child = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        (void)!fscanf(file, "%d", &child);
        fclose(file);
    }
    return (pid_t)child;
}

static void it_stops_cleanly_as_pid_1(void **state)
{
    (void)state;
    char script[TEMP_DIR_BYTES + 8], dir[TEMP_DIR_BYTES], command[4 * TEMP_DIR_BYTES];
    char *program = strdup(getenv("VARVE"));
    if (system("unshare --pid --fork true 2>/dev/null") != 0) {
        print_message("no process namespaces here\n");
        free(program);
        return;
    }
    temp_dir_make(dir);
    (void)snprintf(script, sizeof script, "%s/pid1", dir);
    (void)snprintf(command, sizeof command,
                   "printf '#!/bin/sh\\nexec unshare --pid --fork %s \"$@\"\\n' >%s; chmod +x %s",
                   program, script, script);
    assert_int_equal(system(command), 0);
    setenv("VARVE", script, 1);
    struct server *server = server_start(NULL);
    setenv("VARVE", program, 1);
    pid_t first = only_child(server_pid(server));
    assert_true(first > 0);
    assert_int_equal(kill(first, SIGTERM), 0);
    expect_clean_end(server);
    temp_dir_remove(dir);
    free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_write_that_was_taken_is_answered),
        cmocka_unit_test(signals_that_do_not_ask_to_stop_end_nothing),
        cmocka_unit_test(idle_connections_do_not_hold_it_up),
        cmocka_unit_test(a_body_under_way_is_awaited),
        cmocka_unit_test(what_takes_too_long_is_cut_off),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(during_the_delay_it_serves_and_says_not_ready),
        cmocka_unit_test(sigint_stops_as_sigterm_does),
        cmocka_unit_test(a_signal_during_recovery_ends_it),
        cmocka_unit_test(it_stops_cleanly_as_pid_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
