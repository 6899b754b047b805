/* The real server disturbed from outside while it runs: stopped and let go on, its clock set, one
 * of its tables cut short. */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash/dir_check.h"
#include "tests/crash/kill_load.h"
#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { KEYS = 240, PAUSES = 8, PAUSE_MS = 150, PATH_BYTES = 400 };

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

/* --- Stopped --- */

static void stop_for_a_while(struct server *server)
{
    const struct timespec time = {.tv_nsec = PAUSE_MS * 1000000L};
    int status;
    server_signal(server, SIGSTOP);
    assert_int_equal(waitpid(server_pid(server), &status, WUNTRACED), server_pid(server));
    assert_true(WIFSTOPPED(status));
    (void)nanosleep(&time, NULL); /* how long it is away */
    server_signal(server, SIGCONT);
}

/* The writers know what each of their conditions must come to: a write that took effect twice, or
 * not at all, shows in the next one's answer. */
static void a_server_that_was_stopped_goes_on_where_it_was(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    struct journal *journal = journal_new(KEYS);
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, arguments);
    struct client *client = client_new(server);
    struct load *load = load_start(journal, KEYS, server, test_seed());
    load_wait_sent(load, 100);
    for (unsigned i = 0; i < PAUSES; i++) {
        stop_for_a_while(server);
        load_wait_sent(load, load_sent(load) + 50);
    }
    check_journal(journal);
    expect_status(client, 200, "GET", "/livez", NULL, NULL);
    server_signal(server, SIGKILL);
    assert_int_equal(server_wait(server, NULL), 128 + SIGKILL);
    load_join(load);
    client_free(client);
    check_dir_in_order(dir, false);
    server = server_start_in(dir, arguments);
    client = client_new(server);
    load_check_all(journal, KEYS, client, true);
    check_journal(journal);
    client_free(client);
    server_stop(server);
    journal_free(journal);
    temp_dir_remove(dir);
}

/* --- A table cut short --- */

/* The table that was made last: files are numbered upward. */
static void newest_table(const char *dir, char ret_path[PATH_BYTES])
{
    char newest[64] = "";
    DIR *entries = opendir(dir);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        const char *dot = strchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".table") == 0 && strcmp(entry->d_name, newest) > 0) {
            (void)snprintf(newest, sizeof newest, "%.60s", entry->d_name);
        }
    }
    closedir(entries);
    assert_true(newest[0] != '\0');
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s", dir, newest);
}

static void put_value(struct client *client, const char *path, char byte, size_t size)
{
    char *value = malloc(size);
    assert_non_null(value);
    memset(value, byte, size);
    struct reply reply = client_send(client, "PUT", path, NULL, value, size);
    assert_true(reply.status == 201 || reply.status == 204);
    reply_free(&reply);
    free(value);
}

/* Of each size an older version is in a table that stays whole. */
static void a_table_cut_short_fails_its_keys_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        size_t size;
    } cut[] = {{"/kv/m-small", 100}, {"/kv/m-middle", 40000}, {"/kv/m-large", 400000}};
    char path[PATH_BYTES];
    struct server *server = server_start(NULL);
    struct client *client = client_new(server);
    put_value(client, "/kv/a", '1', 1000);
    put_value(client, "/kv/z", '1', 100000);
    for (size_t i = 0; i < COUNT_OF(cut); i++) {
        put_value(client, cut[i].path, '1', cut[i].size);
    }
    expect_status(client, 204, "POST", "/admin/flush", NULL, "");
    for (size_t i = 0; i < COUNT_OF(cut); i++) {
        put_value(client, cut[i].path, '2', cut[i].size);
    }
    expect_status(client, 204, "POST", "/admin/flush", NULL, "");
    newest_table(server_dir(server), path);
    assert_int_equal(truncate(path, 64), 0);

    for (size_t i = 0; i < COUNT_OF(cut); i++) {
        struct reply reply = client_get(client, cut[i].path);
        /* Never the older version. A large value may break off after its head was sent. */
        if (reply.status != 500 && reply.status != 0) {
            fail_msg("%s: status %u with %zu bytes", cut[i].path, reply.status, reply.size);
        }
        reply_free(&reply);
    }
    server_wait_log(server, "event=table_damaged");
    expect_status(client, 200, "GET", "/kv/a", NULL, NULL);
    expect_status(client, 200, "GET", "/kv/z", NULL, NULL);
    expect_status(client, 201, "PUT", "/kv/new", NULL, "x");
    expect_status(client, 200, "GET", "/kv/new", NULL, NULL);
    expect_status(client, 200, "GET", "/livez", NULL, NULL);
    expect_status(client, 200, "GET", "/readyz", NULL, NULL);
    client_free(client);
    server_signal(server, SIGKILL);
    assert_int_equal(server_wait(server, NULL), 128 + SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_was_stopped_goes_on_where_it_was),
        cmocka_unit_test(a_table_cut_short_fails_its_keys_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
