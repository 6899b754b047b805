/* Clients of the real server that write, read and delete the same few keys at once, while it is
 * killed and started again: there is one order that explains everything that they were told. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/linear_clients.h"
#include "tests/support/check.h"
#include "tests/support/linear.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

/* More threads than cores, so that they stop each other in the middle of a request. */
static const char *const arguments[] = {"--threads",
                                        "8",
                                        "--memtable-bytes",
                                        "64KiB",
                                        "--max-value-bytes",
                                        "16KiB",
                                        "--max-inflight-bytes",
                                        "512KiB",
                                        NULL};

/* How the lives of a history's servers end: k killed, t told to stop. */
static const struct shape {
    const char *ends;
    bool lists, upkeep, large;
} shapes[] = {
    {.ends = "kk"},
    {.ends = "t", .lists = true},
    {.ends = "ktk", .large = true},
    {.ends = "tk", .upkeep = true},
    {.ends = "kkk", .lists = true, .upkeep = true, .large = true},
};

/* VARVE_TEST_HISTORIES overrides. */
static unsigned histories_wanted(void)
{
    const char *text = getenv("VARVE_TEST_HISTORIES");
#ifdef VARVE_SANITIZED
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : COUNT_OF(shapes);
#else
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 4 * COUNT_OF(shapes);
#endif
}

struct test {
    char dir[TEMP_DIR_BYTES];
    struct prng prng;
    struct linear_worth worth;
    unsigned kills, stops, upkeep;
};

static void kill_server(struct server *server)
{
    char *log = NULL;
    server_signal(server, SIGKILL);
    int status = server_wait(server, &log);
    if (status != 128 + SIGKILL) {
        fail_msg("the server ended by itself, status %d:\n%s", status, log);
    }
    free(log);
}

/* One server from its start to its end. */
static void live(struct test *test, struct crowd *crowd, struct linear_history *history, char end)
{
    struct server *server = server_start_in(test->dir, arguments);
    crowd_start(crowd, server);
    crowd_wait_sent(crowd, 20 + prng_below(&test->prng, 180));
    if (end == 'k') {
        kill_server(server);
        test->kills++;
    } else {
        server_stop(server);
        test->stops++;
    }
    crowd_join(crowd);
    linear_down(history);
}

static void check(const struct linear_history *history, const struct crowd *crowd, unsigned number)
{
    char *report;
    if (crowd_violation(crowd) != NULL) {
        fail_msg("history %u: %s", number, crowd_violation(crowd));
    }
    if (linear_check(history, &report) != LINEAR_GOOD) {
        /* As a whole: cmocka cuts long messages. */
        fprintf(stderr, "history %u is not linearizable:\n%s", number, report);
        fail();
    }
}

static void make_history(struct test *test, unsigned number)
{
    const struct shape *shape = &shapes[number % COUNT_OF(shapes)];
    struct crowd_plan plan = {
        .number = number,
        .clients = 4 + (unsigned)prng_below(&test->prng, CROWD_CLIENTS_MAX - 3),
        .keys = 1 + (unsigned)prng_below(&test->prng, 4),
        .lists = shape->lists,
        .upkeep = shape->upkeep,
        .large = shape->large,
        .seed = prng_next(&test->prng),
    };
    struct linear_history *history = linear_new();
    struct crowd *crowd = crowd_new(&plan, history);
    for (const char *end = shape->ends; *end != '\0'; end++) {
        live(test, crowd, history, *end);
    }
    struct server *server = server_start_in(test->dir, arguments);
    crowd_read_all(crowd, server);
    server_stop(server);
    test->upkeep += crowd_upkeep(crowd);
    linear_weigh(history, &test->worth);
    check(history, crowd, number);
    crowd_free(crowd);
    linear_free(history);
}

static void one_order_explains_every_answer(void **state)
{
    (void)state;
    struct test test = {.kills = 0};
    unsigned wanted = histories_wanted();
    prng_init(&test.prng, test_seed());
    temp_dir_make(test.dir);
    for (unsigned number = 0; number < wanted; number++) {
        make_history(&test, number);
    }
    const struct linear_worth *worth = &test.worth;
    printf("%u histories, %u kills, %u stops; %zu operations, %zu of them reads, %zu pairs at the "
           "same time on one key; conditions: %zu held, %zu refused; %zu writes without answer, "
           "%zu of them seen; %zu lists; %u flushes and compactions asked for\n",
           wanted, test.kills, test.stops, worth->ops, worth->reads, worth->overlaps, worth->held,
           worth->refused, worth->maybe, worth->maybe_seen, worth->together, test.upkeep);
    assert_true(worth->overlaps > worth->ops / 4);
    assert_true(worth->reads > wanted && worth->held > wanted && worth->refused > wanted);
    if (wanted >= COUNT_OF(shapes)) {
        assert_true(test.kills > 0 && test.stops > 0 && test.upkeep > 0);
        assert_true(worth->maybe > 0);
    }
    if (wanted >= 4 * COUNT_OF(shapes)) {
        assert_true(worth->maybe_seen > 0 && worth->maybe_seen < worth->maybe);
        assert_true(worth->together > 0);
    }
    temp_dir_remove(test.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_order_explains_every_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
