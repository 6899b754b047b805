/* The real server on a disk whose writes or syncs begin to fail under load: nobody is told of a
 * write that isn't there, what was visible stays readable, and nothing that was acknowledged is
 * lost. strace makes the system calls fail. Without it the program exits with 77. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/dir_check.h"
#include "tests/crash/kill_load.h"
#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, KEYS = 240 };

static const char *const arguments[] = {"--memtable-bytes",
                                        "256KiB",
                                        "--max-value-bytes",
                                        "512KiB",
                                        "--max-inflight-bytes",
                                        "1MiB",
                                        NULL};

static void check_journal(struct journal *journal)
{
    const char *violation = journal_violated(journal);
    if (violation != NULL) {
        fail_msg("%s", violation);
    }
}

static void expect_in_metrics(struct client *client, const char *line)
{
    struct reply reply = client_get(client, "/metrics");
    assert_status(&reply, 200);
    assert_non_null(strstr(reply.body, line));
    reply_free(&reply);
}

static void expect_read_only(struct client *client)
{
    struct reply reply = client_put(client, "/kv/own", "later");
    assert_problem(&reply, 503, "/problems/read-only");
    reply_free(&reply);
    expect_status(client, 200, "GET", "/kv/own", NULL, NULL);
    expect_status(client, 200, "GET", "/readyz", NULL, NULL);
    expect_status(client, 503, "GET", "/readyz?write", NULL, NULL);
    expect_status(client, 200, "GET", "/livez", NULL, NULL);
    expect_in_metrics(client, "varve_log_poisoned 1\n");
}

static void check_recovered(struct journal *journal, const char *dir)
{
    check_dir_in_order(dir, false);
    struct server *server = server_start_in(dir, arguments);
    struct client *client = client_new(server);
    load_check_all(journal, KEYS, client, true);
    check_journal(journal);
    expect_status(client, 204, "PUT", "/kv/own", NULL, "writable again");
    client_free(client);
    server_stop(server);
}

static void fail_under_load(const char *what)
{
    char dir[TEMP_DIR_BYTES];
    struct journal *journal = journal_new(KEYS);
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, arguments);
    struct client *client = client_new(server);
    expect_status(client, 201, "PUT", "/kv/own", NULL, "before");
    struct load *load = load_start(journal, KEYS, server, test_seed());
    load_wait_sent(load, 300);
    pid_t tracer = strace_server(server, what);
    server_wait_log(server, "event=log_poisoned");
    strace_stop(tracer);
    expect_read_only(client);
    load_wait_sent(load, load_sent(load) + 200); /* all refused; readers go on */
    load_check_all(journal, KEYS, client, false);
    server_signal(server, SIGKILL);
    assert_int_equal(server_wait(server, NULL), 128 + SIGKILL);
    client_free(client);
    load_join(load);
    check_journal(journal);
    check_recovered(journal, dir);
    journal_free(journal);
    temp_dir_remove(dir);
}

static void a_failed_sync_takes_nothing_back(void **state)
{
    (void)state;
    fail_under_load("inject=fdatasync:error=EIO");
}

static void a_single_failed_sync_is_not_forgotten(void **state)
{
    (void)state;
    fail_under_load("inject=fdatasync:error=EIO:when=7");
}

static void a_failed_write_takes_nothing_back(void **state)
{
    (void)state;
    fail_under_load("inject=pwritev,pwrite64:error=EIO:when=9+");
}

static void a_log_that_finds_no_space_is_a_failed_log(void **state)
{
    (void)state;
    fail_under_load("inject=pwritev:error=ENOSPC:when=3+");
}

int main(void)
{
    if (!strace_works()) {
        fputs("strace is not installed, or may not trace here\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_sync_takes_nothing_back),
        cmocka_unit_test(a_single_failed_sync_is_not_forgotten),
        cmocka_unit_test(a_failed_write_takes_nothing_back),
        cmocka_unit_test(a_log_that_finds_no_space_is_a_failed_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
