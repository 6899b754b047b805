/* The real server while its clock is set, to and fro by years. libfaketime stands for whoever sets
 * it: only the time of day is another one, what goes forward by itself goes on. Where it isn't
 * installed the program exits with 77. */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash/dir_check.h"
#include "tests/crash/kill_load.h"
#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, KEYS = 240, WRITES = 60, YEAR_S = 365 * 86400, DAY_S = 86400 };

static const char *const arguments[] = {"--memtable-bytes",
                                        "256KiB",
                                        "--max-value-bytes",
                                        "512KiB",
                                        "--max-inflight-bytes",
                                        "1MiB",
                                        "--header-timeout",
                                        "1s",
                                        "--idle-timeout",
                                        "10m",
                                        NULL};

/* --- The clock --- */

struct clock {
    char dir[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 16];
};

/* Seconds beside the true time, from now on. */
static void set_clock(const struct clock *clock, long offset_s)
{
    char next[TEMP_DIR_BYTES + 32];
    (void)snprintf(next, sizeof next, "%s.next", clock->path);
    FILE *file = fopen(next, "w");
    assert_non_null(file);
    (void)fprintf(file, "%+ld\n", offset_s);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(next, clock->path), 0);
}

/* What is started from now on goes by it. */
static void clock_begin(struct clock *clock)
{
    temp_dir_make(clock->dir);
    (void)snprintf(clock->path, sizeof clock->path, "%s/clock", clock->dir);
    set_clock(clock, 0);
    setenv("FAKETIME_TIMESTAMP_FILE", clock->path, 1);
}

static void clock_end(const struct clock *clock)
{
    unsetenv("FAKETIME_TIMESTAMP_FILE");
    temp_dir_remove(clock->dir);
}

static const char *library(void)
{
    static char path[200];
    glob_t found;
    if (glob("/usr/lib/*/faketime/libfaketimeMT.so.1", 0, NULL, &found) == 0) {
        (void)snprintf(path, sizeof path, "%s", found.gl_pathv[0]);
    }
    globfree(&found);
    return path;
}

/* The program alone has it preloaded. */
static struct server *start(const char *dir)
{
    setenv("LD_PRELOAD", library(), 1);
    struct server *server = server_spawn(dir, arguments);
    unsetenv("LD_PRELOAD");
    server_wait_listening(server);
    server_wait_log(server, "event=ready");
    return server;
}

static time_t date_of(const struct reply *reply, const char *field)
{
    struct tm parts = {0};
    const char *text = reply_field(reply, field);
    assert_non_null(text);
    assert_non_null(strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
    return timegm(&parts);
}

/* The server has seen it, give or take a minute. */
static void expect_clock(struct client *client, long offset_s)
{
    struct reply reply = client_get(client, "/livez");
    assert_status(&reply, 200);
    long beside_s = (long)(date_of(&reply, "Date") - time(NULL)) - offset_s;
    if (beside_s < -60 || beside_s > 60) {
        fail_msg("the clock is %ld s beside what it was set to", beside_s);
    }
    reply_free(&reply);
}

/* --- Writes --- */

static void check_journal(struct journal *journal)
{
    const char *violation = journal_violated(journal);
    if (violation != NULL) {
        fail_msg("%s", violation);
    }
}

/* Every writer knows what each of its conditions must come to; and after the kill the newest
 * versions are those that were written last, though by the clock they are the oldest. */
static void a_clock_that_is_set_changes_no_write_and_no_order(void **state)
{
    (void)state;
    static const long jumps_s[] = {3600,         -3600,  10L * YEAR_S,  -10L * YEAR_S,
                                   90L * YEAR_S, 2,      -40L * YEAR_S, -2,
                                   DAY_S,        -DAY_S, YEAR_S,        -20L * YEAR_S};
    char dir[TEMP_DIR_BYTES];
    struct clock clock;
    struct journal *journal = journal_new(KEYS);
    clock_begin(&clock);
    temp_dir_make(dir);
    struct server *server = start(dir);
    struct client *client = client_new(server);
    struct load *load = load_start(journal, KEYS, server, test_seed());
    for (size_t i = 0; i < COUNT_OF(jumps_s); i++) {
        load_wait_sent(load, load_sent(load) + WRITES);
        set_clock(&clock, jumps_s[i]);
        expect_clock(client, jumps_s[i]);
        const char *upkeep = i % 2 == 0 ? "/admin/flush" : "/admin/compact";
        expect_status(client, 204, "POST", upkeep, NULL, "");
        check_journal(journal);
    }
    load_wait_sent(load, load_sent(load) + WRITES);
    server_signal(server, SIGKILL);
    assert_int_equal(server_wait(server, NULL), 128 + SIGKILL);
    load_join(load);
    client_free(client);
    check_dir_in_order(dir, false);
    set_clock(&clock, -30L * YEAR_S);
    server = start(dir);
    client = client_new(server);
    load_check_all(journal, KEYS, client, true);
    check_journal(journal);
    client_free(client);
    server_stop(server);
    clock_end(&clock);
    journal_free(journal);
    temp_dir_remove(dir);
}

/* --- Deadlines --- */

/* By the time of day, who stalls would be cut off in ten years, who is idle at once, and the drain
 * would not end. */
static void deadlines_do_not_follow_the_clock(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    struct clock clock;
    clock_begin(&clock);
    temp_dir_make(dir);
    struct server *server = start(dir);
    struct client *client = client_new(server);
    int stalled = raw_connect(server), kept = raw_connect(server);
    raw_send(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reply reply = raw_reply(kept);
    assert_status(&reply, 200);
    reply_free(&reply);
    raw_send(stalled, "GET /livez HTTP/1.1\r\nHost: local");
    expect_clock(client, 0);
    set_clock(&clock, -10L * YEAR_S);
    expect_clock(client, -10L * YEAR_S);
    raw_drop_to_end(stalled);
    close(stalled);
    set_clock(&clock, 10L * YEAR_S);
    expect_clock(client, 10L * YEAR_S);
    stalled =
        raw_connect(server); /* cut off a second later, in which the idle ones are looked at */
    raw_send(stalled, "GET /livez HTTP/1.1\r\nHost: local");
    raw_drop_to_end(stalled);
    close(stalled);
    raw_send(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = raw_reply(kept);
    assert_status(&reply, 200);
    assert_false(reply.closed);
    reply_free(&reply);
    stalled = raw_connect(server);
    raw_send(stalled, "GET /livez HTTP/1.1\r\nHost: local");
    server_signal(server, SIGTERM);
    server_wait_log(server, "event=draining");
    set_clock(&clock, -10L * YEAR_S);
    client_free(client);
    close(kept);
    assert_int_equal(server_wait(server, NULL), 0);
    close(stalled);
    clock_end(&clock);
    temp_dir_remove(dir);
}

/* --- Dates --- */

/* Puts /kv/dated, if `condition` holds; ret_etag: its new tag. */
static void put_dated(struct client *client, const char *condition, unsigned status,
                      char ret_etag[100])
{
    const char *fields[] = {condition, NULL};
    struct reply reply = client_send(client, "PUT", "/kv/dated", fields, "x", 1);
    assert_status(&reply, status);
    if (status < 300) {
        (void)snprintf(ret_etag, 100, "%s", reply_field(&reply, "ETag"));
    }
    reply_free(&reply);
}

/* The version's date has come; it is the one of its write. */
static void expect_modified(struct client *client, const char *etag, time_t wanted)
{
    struct reply reply = client_get(client, "/kv/dated");
    assert_status(&reply, 200);
    assert_field(&reply, "ETag", etag);
    long beside_s = (long)(date_of(&reply, "Last-Modified") - wanted);
    if (beside_s < 0 || beside_s > 60) {
        fail_msg("Last-Modified is %ld s after the write", beside_s);
    }
    reply_free(&reply);
}

static void dates_are_those_of_the_clock_and_tags_go_on(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES], first[100], second[100], condition[130];
    struct clock clock;
    clock_begin(&clock);
    temp_dir_make(dir);
    struct server *server = start(dir);
    struct client *client = client_new(server);
    time_t began = time(NULL);
    put_dated(client, NULL, 201, first);
    set_clock(&clock, DAY_S);
    expect_modified(client, first, began);
    /* Set back: a date that hasn't come is not told. */
    set_clock(&clock, -DAY_S);
    struct reply reply = client_get(client, "/kv/dated");
    assert_status(&reply, 200);
    assert_field(&reply, "ETag", first);
    assert_no_field(&reply, "Last-Modified");
    reply_free(&reply);
    /* Tags decide as ever. */
    (void)snprintf(condition, sizeof condition, "If-Match: %s", first);
    put_dated(client, condition, 204, second);
    assert_string_not_equal(first, second);
    put_dated(client, condition, 412, NULL);
    (void)snprintf(condition, sizeof condition, "If-None-Match: %s", second);
    expect_status(client, 304, "GET", "/kv/dated", FIELDS(condition), NULL);
    /* The newer version has the older date. */
    set_clock(&clock, DAY_S);
    expect_modified(client, second, began - DAY_S);
    client_free(client);
    server_stop(server);
    clock_end(&clock);
    temp_dir_remove(dir);
}

int main(void)
{
    if (library()[0] == '\0') {
        fputs("libfaketime isn't installed\n", stderr);
        return SKIPPED;
    }
    setenv("FAKETIME_NO_CACHE", "1", 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_that_is_set_changes_no_write_and_no_order),
        cmocka_unit_test(deadlines_do_not_follow_the_clock),
        cmocka_unit_test(dates_are_those_of_the_clock_and_tags_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
