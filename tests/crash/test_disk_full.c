/* The real server on a file system of a few megabytes that is full, again and again: puts get 507,
 * everything else goes on, nothing that was acknowledged is lost, and it ends by itself. Mounting
 * takes root; otherwise the program exits with 77. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
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

enum { SKIPPED = 77, KEYS = 240, VALUE_BYTES = 40000, PAUSE_MS = 20 };

/* A segment has about 1.5 MiB, the ballast 2 MiB. */
static const char *const arguments[] = {"--memtable-bytes",
                                        "256KiB",
                                        "--max-value-bytes",
                                        "512KiB",
                                        "--max-inflight-bytes",
                                        "1MiB",
                                        NULL};

struct test {
    char mount[TEMP_DIR_BYTES];
    char dir[TEMP_DIR_BYTES + 8], filler[TEMP_DIR_BYTES + 8], ballast[TEMP_DIR_BYTES + 16];
    off_t ballast_bytes; /* when it is whole */
    struct server *server;
    struct client *client;
    struct journal *journal;
    struct prng prng;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pause_ms(uint64_t ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}

/* --- The file system --- */

static void set_size(const struct test *test, const char *size, unsigned long flags)
{
    char option[32];
    (void)snprintf(option, sizeof option, "size=%s", size);
    assert_int_equal(mount("varve-test", test->mount, "tmpfs", flags, option), 0);
}

/* Takes all that is free. */
static void fill(struct test *test)
{
    static char bytes[4096];
    int fd = open(test->filler, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static void begin(struct test *test, const char *size)
{
    *test = (struct test){.journal = journal_new(KEYS)};
    prng_init(&test->prng, test_seed());
    temp_dir_make(test->mount);
    (void)snprintf(test->dir, sizeof test->dir, "%s/data", test->mount);
    (void)snprintf(test->ballast, sizeof test->ballast, "%s/BALLAST", test->dir);
    (void)snprintf(test->filler, sizeof test->filler, "%s/filler", test->mount);
    set_size(test, size, 0);
}

static void end(struct test *test)
{
    assert_int_equal(umount2(test->mount, MNT_DETACH), 0);
    temp_dir_remove(test->mount);
    journal_free(test->journal);
}

/* --- The server --- */

static void start(struct test *test)
{
    test->server = server_start_in(test->dir, arguments);
    test->client = client_new(test->server);
}

static void kill_server(struct test *test)
{
    char *log = NULL;
    server_signal(test->server, SIGKILL);
    int status = server_wait(test->server, &log);
    if (status != 128 + SIGKILL) {
        fail_msg("the server ended by itself, status %d:\n%s", status, log);
    }
    free(log);
    client_free(test->client);
}

static void check_journal(const struct test *test)
{
    const char *violation = journal_violated(test->journal);
    if (violation != NULL) {
        fail_msg("%s", violation);
    }
}

static unsigned status_of(struct test *test, const char *method, const char *path, size_t size)
{
    static char value[VALUE_BYTES];
    struct reply reply =
        client_send(test->client, method, path, NULL, size > 0 ? value : NULL, size);
    unsigned status = reply.status;
    reply_free(&reply);
    return status;
}

static bool takes_puts(struct test *test)
{
    return status_of(test, "GET", "/readyz?write", 0) == 200;
}

/* Seconds until a put is taken. */
static double wait_for_puts(struct test *test)
{
    double began = now_s();
    while (status_of(test, "PUT", "/kv/own", VALUE_BYTES) == 507) {
        assert_true(now_s() - began < PATIENCE_MS / 1000.0);
        pause_ms(PAUSE_MS);
    }
    assert_int_equal(status_of(test, "PUT", "/kv/own", VALUE_BYTES), 204);
    return now_s() - began;
}

static off_t ballast_bytes(const struct test *test)
{
    struct stat status;
    return stat(test->ballast, &status) == 0 ? status.st_size : 0;
}

/* Takes all that is free, but nothing that the store has freed for itself. */
static void fill_beside_ballast(struct test *test)
{
    int status;
    server_signal(test->server, SIGSTOP);
    assert_int_equal(waitpid(server_pid(test->server), &status, WUNTRACED),
                     server_pid(test->server));
    if (ballast_bytes(test) == test->ballast_bytes) {
        fill(test);
    }
    server_signal(test->server, SIGCONT);
}

static void wait_until_full(struct test *test, void (*fill_up)(struct test *))
{
    double began = now_s();
    while (takes_puts(test)) {
        fill_up(test);
        (void)status_of(test, "PUT", "/kv/own", VALUE_BYTES); /* space is noticed by who needs it */
        assert_true(now_s() - began < PATIENCE_MS / 1000.0);
        pause_ms(PAUSE_MS);
    }
}

/* What is promised on a full disk, asked for by a client of its own. A compaction may bring some
 * space in between. */
static void expect_full(struct test *test)
{
    unsigned status;
    for (;;) {
        wait_until_full(test, fill);
        struct reply reply = client_put(test->client, "/kv/refused", "x");
        status = reply.status;
        if (status == 507) {
            assert_problem(&reply, 507, "/problems/no-space");
        }
        reply_free(&reply);
        if (status == 507) {
            break;
        }
        assert_true(status == 201 || status == 204 || status == 503);
    }
    assert_int_equal(status_of(test, "GET", "/kv/own", 0), 200);
    assert_int_equal(status_of(test, "DELETE", "/kv/nobody", 0), 204);
    assert_int_equal(status_of(test, "GET", "/readyz", 0), 200);
    assert_int_equal(status_of(test, "GET", "/livez", 0), 200);
    server_wait_log(test->server, "event=no_space");
}

/* --- Tests --- */

static unsigned full_seconds(void)
{
    const char *text = getenv("VARVE_TEST_FULL_SECONDS");
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 3;
}

static void a_full_disk_under_load_loses_nothing_and_ends_by_itself(void **state)
{
    (void)state;
    struct test test;
    unsigned seconds = full_seconds();
    begin(&test, "24m");
    start(&test);
    assert_int_equal(status_of(&test, "PUT", "/kv/own", VALUE_BYTES), 201);
    struct load *load = load_start(test.journal, KEYS, test.server, prng_next(&test.prng));
    load_wait_sent(load, 500);
    uint64_t acked = journal_acked(test.journal);
    unsigned times = 0;
    expect_full(&test);
    for (double until = now_s() + seconds; now_s() < until; pause_ms(PAUSE_MS)) {
        if (takes_puts(&test)) {
            times++;
            fill(&test);
        }
    }
    expect_full(&test);
    uint64_t acked_full = journal_acked(test.journal) - acked;
    assert_int_equal(unlink(test.filler), 0);
    double waited = wait_for_puts(&test);
    server_wait_log(test.server, "event=space_back");
    printf("full for %u s under load, %u times anew; %" PRIu64
           " writes were acknowledged then; puts"
           " were taken again %.2f s after space was freed\n",
           seconds, times + 1, acked_full, waited);
    load_wait_sent(load, load_sent(load) + 500);
    kill_server(&test);
    load_join(load);
    check_journal(&test);
    check_dir_in_order(test.dir, false);
    start(&test);
    load_check_all(test.journal, KEYS, test.client, true);
    check_journal(&test);
    client_free(test.client);
    server_stop(test.server);
    end(&test);
}

static void a_server_killed_on_a_full_disk_starts_there_with_everything(void **state)
{
    (void)state;
    struct test test;
    begin(&test, "24m");
    for (unsigned round = 0; round < 4; round++) {
        uint64_t unanswered, seen;
        start(&test);
        test.ballast_bytes = round == 0 ? ballast_bytes(&test) : test.ballast_bytes;
        load_check_all(test.journal, KEYS, test.client, true);
        check_journal(&test);
        journal_crash(test.journal, &unanswered, &seen);
        struct load *load = load_start(test.journal, KEYS, test.server, prng_next(&test.prng));
        load_wait_sent(load, 100 + prng_below(&test.prng, 400));
        wait_until_full(&test, fill_beside_ballast);
        load_wait_sent(load, load_sent(load) + prng_below(&test.prng, 300));
        kill_server(&test);
        load_join(load);
        check_journal(&test);
        check_dir_in_order(test.dir, false);
    }
    start(&test);
    load_check_all(test.journal, KEYS, test.client, true);
    check_journal(&test);
    /* The file system grows, under the running server. */
    wait_until_full(&test, fill_beside_ballast);
    set_size(&test, "64m", MS_REMOUNT);
    double began = now_s();
    while (!takes_puts(&test)) {
        assert_true(now_s() - began < PATIENCE_MS / 1000.0);
        pause_ms(PAUSE_MS);
    }
    client_free(test.client);
    server_stop(test.server);
    end(&test);
}

static void deletes_on_a_full_disk_bring_space_for_puts(void **state)
{
    (void)state;
    struct test test;
    char path[32];
    unsigned n = 0, status;
    begin(&test, "24m");
    start(&test);
    do {
        (void)snprintf(path, sizeof path, "/kv/%06u", n++);
        status = status_of(&test, "PUT", path, VALUE_BYTES);
    } while (status == 201);
    assert_int_equal(status, 507);
    assert_true(n > 50);
    for (unsigned i = 0; i < n * 3 / 4; i++) {
        (void)snprintf(path, sizeof path, "/kv/%06u", i);
        assert_int_equal(status_of(&test, "DELETE", path, 0), 204);
    }
    double began = now_s();
    while (status_of(&test, "PUT", "/kv/new", VALUE_BYTES) == 507) {
        assert_true(now_s() - began < PATIENCE_MS / 1000.0);
        pause_ms(PAUSE_MS);
    }
    printf("%u puts filled the disk; after %u deletes puts were taken again within %.2f s\n", n,
           n * 3 / 4, now_s() - began);
    (void)snprintf(path, sizeof path, "/kv/%06u", n - 2);
    assert_int_equal(status_of(&test, "GET", path, 0), 200);
    assert_int_equal(status_of(&test, "GET", "/kv/000000", 0), 404);
    client_free(test.client);
    server_stop(test.server);
    check_dir_in_order(test.dir, true);
    end(&test);
}

static void a_disk_without_room_for_a_log_is_said_at_the_start(void **state)
{
    (void)state;
    struct test test;
    char *log = NULL;
    begin(&test, "1m");
    struct server *server = server_spawn(test.dir, arguments);
    assert_int_equal(server_wait(server, &log), 1);
    assert_non_null(strstr(log, "event=open_failed"));
    assert_non_null(strstr(log, "no space left on the device"));
    free(log);
    end(&test);
}

int main(void)
{
    /* Mounts of its own, which go with the process. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        fputs("mounting a small file system takes root\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_under_load_loses_nothing_and_ends_by_itself),
        cmocka_unit_test(a_server_killed_on_a_full_disk_starts_there_with_everything),
        cmocka_unit_test(deletes_on_a_full_disk_bring_space_for_puts),
        cmocka_unit_test(a_disk_without_room_for_a_log_is_said_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
