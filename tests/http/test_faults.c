/* What clients are told when the disk fails under the real server: strace makes its system calls
 * fail. Without strace the program exits with 77. */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, ATTEMPTS = 100000, VALUE_BYTES = 20000, DATED_ATTEMPTS = 15 };

struct faulty {
    char dir[TEMP_DIR_BYTES];
    struct server *server;
    struct client *client;
    pid_t strace;
};

static void begin(struct faulty *faulty, const char *const arguments[])
{
    temp_dir_make(faulty->dir);
    faulty->server = server_start_in(faulty->dir, arguments);
    faulty->client = client_new(faulty->server);
}

static void inject(struct faulty *faulty, const char *what)
{
    faulty->strace = strace_server(faulty->server, what);
}

static void stop_injecting(struct faulty *faulty)
{
    strace_stop(faulty->strace);
}

static struct reply put(struct faulty *faulty, unsigned key)
{
    static char value[VALUE_BYTES];
    char path[32];
    (void)snprintf(path, sizeof path, "/kv/key%u", key);
    return client_send(faulty->client, "PUT", path, NULL, value, sizeof value);
}

/* Puts one key after the other until one is answered so; every other answer is a success. */
static struct reply put_until(struct faulty *faulty, unsigned status)
{
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        struct reply reply = put(faulty, i % 50);
        if (reply.status == status) {
            return reply;
        }
        assert_true(reply.status == 201 || reply.status == 204);
        reply_free(&reply);
    }
    fail_msg("no PUT was answered with %u", status);
    return (struct reply){0};
}

static void expect_in_body(struct faulty *faulty, const char *path, const char *text)
{
    struct reply reply = client_get(faulty->client, path);
    assert_status(&reply, 200);
    if (strstr(reply.body, text) == NULL) {
        fail_msg("%s doesn't say \"%s\": %s", path, text, reply.body);
    }
    reply_free(&reply);
}

static void end(struct faulty *faulty)
{
    client_free(faulty->client);
    server_signal(faulty->server, SIGKILL);
    (void)server_wait(faulty->server, NULL);
}

/* A server whose log has failed under a PUT, and the answer to that. Where no PUT was under way, it
 * was the frame that the idle log writes that failed, and another server has to be tried. */
static struct reply fail_under_a_put(struct faulty *faulty)
{
    for (;;) {
        struct reply reply = {.status = 201};
        begin(faulty, NULL);
        expect_status(faulty->client, 201, "PUT", "/kv/before", NULL, "acknowledged");
        inject(faulty, "inject=fdatasync:error=EIO");
        for (unsigned i = 0; reply.status == 201 || reply.status == 204; i++) {
            reply_free(&reply);
            reply = put(faulty, i % 50);
        }
        if (reply.status != 503) {
            return reply;
        }
        reply_free(&reply);
        stop_injecting(faulty);
        end(faulty);
        temp_dir_remove(faulty->dir);
    }
}

static void a_failed_sync_is_outcome_unknown_and_then_read_only(void **state)
{
    (void)state;
    struct faulty faulty;
    struct reply reply = fail_under_a_put(&faulty);
    assert_problem(&reply, 500, "/problems/outcome-unknown");
    assert_no_field(&reply, "Retry-After");
    reply_free(&reply);
    reply = put(&faulty, 0);
    assert_problem(&reply, 503, "/problems/read-only");
    reply_free(&reply);
    expect_status(faulty.client, 503, "DELETE", "/kv/before", NULL, NULL);
    expect_status(faulty.client, 200, "GET", "/kv/before", NULL, NULL);
    expect_status(faulty.client, 200, "GET", "/readyz", NULL, NULL);
    expect_status(faulty.client, 503, "GET", "/readyz?write", NULL, NULL);
    expect_status(faulty.client, 200, "GET", "/livez", NULL, NULL);
    expect_in_body(&faulty, "/metrics", "varve_log_poisoned 1");
    server_wait_log(faulty.server, "event=log_poisoned");
    stop_injecting(&faulty);
    end(&faulty);

    faulty.server = server_start_in(faulty.dir, NULL);
    faulty.client = client_new(faulty.server);
    reply = client_get(faulty.client, "/kv/before");
    assert_status(&reply, 200);
    assert_body(&reply, "acknowledged");
    reply_free(&reply);
    expect_status(faulty.client, 201, "PUT", "/kv/after", NULL, "writable again");
    end(&faulty);
    temp_dir_remove(faulty.dir);
}

/* Others may take ten minutes to stop; a failed log doesn't. */
static const char *const exits[] = {
    "--on-log-failure", "exit", "--drain-timeout", "10m", "--idle-timeout", "10m", NULL};

/* The process ends by itself, with 1, and its log says why. Another one finds what was
 * acknowledged, and takes writes. */
static void expect_exit(struct faulty *faulty, const char *event)
{
    char *log = NULL;
    client_free(faulty->client);
    assert_int_equal(server_wait(faulty->server, &log), 1);
    assert_non_null(strstr(log, event));
    assert_non_null(strstr(log, "event=draining reason=log_failed"));
    free(log);
    assert_int_equal(waitpid(faulty->strace, NULL, 0), faulty->strace);

    faulty->server = server_start_in(faulty->dir, NULL);
    faulty->client = client_new(faulty->server);
    struct reply reply = client_get(faulty->client, "/kv/before");
    assert_status(&reply, 200);
    assert_body(&reply, "acknowledged");
    reply_free(&reply);
    expect_status(faulty->client, 201, "PUT", "/kv/after", NULL, "writable again");
    client_free(faulty->client);
    server_stop(faulty->server);
    temp_dir_remove(faulty->dir);
}

/* What is under way is answered first, but nobody who stalls is waited for. */
static void a_failed_log_ends_the_process_where_that_was_asked_for(void **state)
{
    (void)state;
    struct faulty faulty;
    begin(&faulty, exits);
    expect_status(faulty.client, 201, "PUT", "/kv/before", NULL, "acknowledged");
    int stalled = raw_connect(faulty.server);
    raw_send(stalled,
             "PUT /kv/stalled HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx");
    int idle = raw_connect(faulty.server);
    inject(&faulty, "inject=fdatasync:error=EIO");
    struct reply reply = {.status = 201};
    for (unsigned i = 0; i < ATTEMPTS && (reply.status == 201 || reply.status == 204); i++) {
        reply_free(&reply);
        reply = put(&faulty, i % 50);
    }
    if (reply.status == 500) {
        assert_problem(&reply, 500, "/problems/outcome-unknown");
    } else { /* nothing was under way: it failed at the frame that is written when idle */
        assert_true(reply.status == 503 || reply.status == 0);
    }
    reply_free(&reply);
    expect_exit(&faulty, "event=log_poisoned");
    close(stalled);
    close(idle);
}

static void so_does_a_manifest_that_can_not_be_replaced(void **state)
{
    (void)state;
    struct faulty faulty;
    begin(&faulty, exits);
    expect_status(faulty.client, 201, "PUT", "/kv/before", NULL, "acknowledged");
    inject(&faulty, "inject=rename,renameat,renameat2:error=EIO");
    unsigned status = 204;
    for (unsigned i = 0; i < ATTEMPTS && status != 503; i++) {
        struct reply reply = put(&faulty, i % 50);
        status = reply.status;
        reply_free(&reply);
        if (status != 503) { /* 503: it failed at a spare segment, after the flush before */
            reply = client_send(faulty.client, "POST", "/admin/flush", NULL, NULL, 0);
            status = reply.status;
            reply_free(&reply);
        }
    }
    assert_int_equal(status, 503);
    expect_exit(&faulty, "event=manifest_failed");
}

static void a_full_disk_refuses_puts_and_heals_by_itself(void **state)
{
    (void)state;
    struct faulty faulty;
    begin(&faulty, (const char *const[]){"--memtable-bytes", "256KiB", "--max-value-bytes", "64KiB",
                                         "--max-inflight-bytes", "1MiB", NULL});
    inject(&faulty, "inject=fallocate:error=ENOSPC");
    unsigned status;
    struct reply reply = put_until(&faulty, 507);
    assert_problem(&reply, 507, "/problems/no-space");
    reply_free(&reply);
    server_wait_log(faulty.server, "event=no_space");
    expect_status(faulty.client, 200, "GET", "/kv/key0", NULL, NULL);
    reply = client_delete(faulty.client, "/kv/key0");
    assert_status(&reply, 204);
    assert_field(&reply, "Varve-Deleted", "1");
    reply_free(&reply);
    expect_status(faulty.client, 200, "GET", "/readyz", NULL, NULL);
    expect_status(faulty.client, 503, "GET", "/readyz?write", NULL, NULL);
    expect_in_body(&faulty, "/metrics", "varve_no_space 1");
    expect_status(faulty.client, 507, "POST", "/admin/flush", NULL, NULL);
    stop_injecting(&faulty);

    server_wait_log(faulty.server, "event=space_back");
    do { /* until the log thread has opened the gate */
        reply = client_put(faulty.client, "/kv/key0", "again");
        status = reply.status;
        reply_free(&reply);
    } while (status == 507);
    assert_int_equal(status, 201);
    expect_status(faulty.client, 200, "GET", "/readyz?write", NULL, NULL);
    client_free(faulty.client);
    server_stop(faulty.server);
    temp_dir_remove(faulty.dir);
}

/* Sends a PUT, and asks for the key again and again until that is answered: at which Date was the
 * version before it last seen? False if the second didn't change meanwhile, or if the commit may
 * have taken more than one second, for which nothing is promised. */
static bool see_the_version_before(struct faulty *faulty, char seen[64])
{
    char first[64] = "";
    struct timespec began, ended;
    seen[0] = '\0';
    int fd = raw_connect(faulty->server);
    struct pollfd answered = {.fd = fd, .events = POLLIN};
    clock_gettime(CLOCK_MONOTONIC, &began);
    raw_send(fd, "PUT /kv/dated HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nnew");
    while (poll(&answered, 1, 0) == 0) {
        struct reply got = client_get(faulty->client, "/kv/dated");
        if (strcmp(got.body, "old") == 0) {
            (void)snprintf(seen, 64, "%s", reply_field(&got, "Date"));
            if (first[0] == '\0') {
                (void)snprintf(first, 64, "%s", seen);
            }
        }
        reply_free(&got);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    struct reply put = raw_reply(fd);
    assert_status(&put, 204);
    reply_free(&put);
    close(fd);
    int64_t took_ms =
        (ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000;
    return strcmp(first, seen) != 0 && took_ms < 1000;
}

/* The one before may still be seen in the second after the one that its commit began in. */
static void versions_are_told_apart_by_date_where_syncs_are_slow(void **state)
{
    (void)state;
    struct faulty faulty;
    char seen[64] = "", field[100];
    bool told = false;
    begin(&faulty, NULL);
    /* A round is two syncs, 1.2 s: each begins later within its second than the one before. */
    inject(&faulty, "inject=fdatasync:delay_enter=600000");
    for (unsigned i = 0; i < DATED_ATTEMPTS && !told; i++) {
        struct reply reply = client_put(faulty.client, "/kv/dated", "old");
        reply_free(&reply);
        if (see_the_version_before(&faulty, seen)) {
            (void)snprintf(field, sizeof field, "If-Modified-Since: %s", seen);
            expect_status(faulty.client, 200, "GET", "/kv/dated", FIELDS(field), NULL);
            (void)snprintf(field, sizeof field, "If-Unmodified-Since: %s", seen);
            expect_status(faulty.client, 412, "PUT", "/kv/dated", FIELDS(field), "lost");
            told = true;
        }
    }
    if (!told) {
        print_message(
            "no commit went over the end of a second and took less than one: nothing is shown\n");
    }
    stop_injecting(&faulty);
    client_free(faulty.client);
    server_stop(faulty.server);
    temp_dir_remove(faulty.dir);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The worker stands still behind each answer that it has sent: for much longer than a client may
 * take for the headers of a request, which another client sends meanwhile, all at once. */
static void who_has_sent_a_request_is_not_cut_off_because_nobody_reads_it(void **state)
{
    (void)state;
    enum { STILL_MS = 1500 };
    static const char request[] = "GET /kv/key HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct faulty faulty;
    begin(&faulty, FIELDS("--threads", "1", "--header-timeout", "200ms"));
    expect_status(faulty.client, 201, "PUT", "/kv/key", NULL, "value");
    int other = raw_connect(faulty.server);
    raw_send(other, request);
    struct reply reply = raw_reply(other);
    assert_status(&reply, 200);
    reply_free(&reply);
    inject(&faulty, "inject=sendto,sendmsg,writev:delay_exit=1500000");
    uint64_t began, took = 0;
    while (took < STILL_MS / 2) { /* until strace is there */
        began = now_ms();
        expect_status(faulty.client, 200, "GET", "/kv/key", NULL, NULL);
        expect_status(faulty.client, 200, "GET", "/kv/key", NULL, NULL);
        took = now_ms() - began;
    }
    began = now_ms();
    raw_send(other, request);
    reply = raw_reply(other);
    printf("a request that nobody read for %.1f s was answered with %u\n",
           (double)(now_ms() - began) / 1000, reply.status);
    assert_status(&reply, 200);
    reply_free(&reply);
    stop_injecting(&faulty);
    close(other);
    end(&faulty);
    temp_dir_remove(faulty.dir);
}

/* Regression: it looked again at once, without end, and for no signal. */
static void a_server_that_can_not_wait_still_hears_signals(void **state)
{
    (void)state;
    struct faulty faulty;
    begin(&faulty, NULL);
    inject(&faulty, "inject=?poll,ppoll:error=ENOMEM");
    while (server_memory_kib(faulty.server, "TracerPid") == 0) { /* a line like the others */
        sched_yield();
    }
    server_signal(faulty.server, SIGHUP); /* its last wait ends, and the next one fails */
    server_wait_log(faulty.server, "event=nothing_to_reload");
    expect_status(faulty.client, 201, "PUT", "/kv/key", NULL, "value");
    client_free(faulty.client);
    server_stop(faulty.server);
    assert_int_equal(waitpid(faulty.strace, NULL, 0), faulty.strace);
    temp_dir_remove(faulty.dir);
}

int main(void)
{
    if (!strace_works()) {
        fputs("strace is not installed, or may not trace here\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_sync_is_outcome_unknown_and_then_read_only),
        cmocka_unit_test(a_failed_log_ends_the_process_where_that_was_asked_for),
        cmocka_unit_test(so_does_a_manifest_that_can_not_be_replaced),
        cmocka_unit_test(a_full_disk_refuses_puts_and_heals_by_itself),
        cmocka_unit_test(versions_are_told_apart_by_date_where_syncs_are_slow),
        cmocka_unit_test(who_has_sent_a_request_is_not_cut_off_because_nobody_reads_it),
        cmocka_unit_test(a_server_that_can_not_wait_still_hears_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
