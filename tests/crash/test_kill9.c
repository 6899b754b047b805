/* The real server, killed at random moments under load: nothing that was promised is lost. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jansson.h>

#include "tests/crash/dir_check.h"
#include "tests/crash/kill_journal.h"
#include "tests/crash/kill_load.h"
#include "tests/http/support.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { KEYS = 240 };

/* Small, so that logs rotate, memtables are flushed and tables merged all the time. */
static const char *const arguments[] = {"--memtable-bytes",
                                        "256KiB",
                                        "--max-value-bytes",
                                        "512KiB",
                                        "--max-inflight-bytes",
                                        "1MiB",
                                        NULL};

/* Rounds that must count; VARVE_TEST_KILLS overrides. */
static unsigned kills_wanted(void)
{
    const char *text = getenv("VARVE_TEST_KILLS");
#ifdef VARVE_SANITIZED
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 12;
#else
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 50;
#endif
}

struct test {
    char dir[TEMP_DIR_BYTES];
    struct journal *journal;
    struct prng prng;
    unsigned kills, kills_in_recovery, counted;
    uint64_t seen, unanswered, flushes, compactions, torn_tails;
};

static void check_journal(struct test *test)
{
    const char *violation = journal_violated(test->journal);
    if (violation != NULL) {
        fail_msg("kill %u: %s (data directory kept: %s)", test->kills, violation, test->dir);
    }
}

static void kill_server(struct test *test, struct server *server)
{
    server_signal(server, SIGKILL);
    char *log = NULL;
    int status = server_wait(server, &log);
    if (status != 128 + SIGKILL) {
        fail_msg("the server ended by itself, status %d:\n%s", status, log);
    }
    test->torn_tails += strstr(log, "event=torn_tail") != NULL;
    free(log);
    test->kills++;
}

static void pause_us(uint64_t us)
{
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};
    (void)nanosleep(&time, NULL);
}

/* --- What a server says of itself --- */

static json_t *get_json(struct client *client, const char *path)
{
    struct reply reply = client_get(client, path);
    assert_status(&reply, 200);
    json_t *json = json_loadb(reply.body, reply.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    reply_free(&reply);
    return json;
}

/* All keys by one scan: the same as what each says for itself. */
static void scan_all(struct test *test, struct client *client)
{
    json_t *page = get_json(client, "/kv?prefix=kill/&limit=10000");
    json_t *keys = json_object_get(page, "keys");
    assert_true(json_is_array(keys));
    assert_null(json_object_get(page, "cursor"));
    bool listed[KEYS] = {false};
    for (size_t i = 0; i < json_array_size(keys); i++) {
        json_t *entry = json_array_get(keys, i);
        const char *name = json_string_value(json_object_get(entry, "key"));
        size_t key = strtoull(name + strlen("kill/"), NULL, 10);
        assert_true(key < KEYS && !listed[key]);
        listed[key] = true;
        journal_unchanged(test->journal, key, json_string_value(json_object_get(entry, "etag")),
                          (size_t)json_integer_value(json_object_get(entry, "size")));
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (!listed[key]) {
            journal_unchanged(test->journal, key, NULL, SIZE_MAX);
        }
    }
    json_decref(page);
    check_journal(test);
}

static void get_all(struct test *test, struct client *client, bool first)
{
    load_check_all(test->journal, KEYS, client, first);
    check_journal(test);
}

/* Adds up what the server has done beside. False, and nothing added, where a compaction has to be
 * among it and isn't yet. */
static bool count_background_work(struct test *test, struct client *client, bool with_compaction)
{
    struct reply reply = client_get(client, "/metrics");
    if (reply.status == 0) { /* it has ended: kill_server() says how */
        reply_free(&reply);
        return true;
    }
    assert_status(&reply, 200);
    const char *flushes = strstr(reply.body, "\nvarve_flushes_total ");
    const char *compactions = strstr(reply.body, "\nvarve_compactions_total ");
    assert_true(flushes != NULL && compactions != NULL);
    uint64_t n_compactions = strtoull(strchr(compactions, ' '), NULL, 10);
    bool counts = n_compactions > 0 || !with_compaction;
    if (counts) {
        test->flushes += strtoull(strchr(flushes, ' '), NULL, 10);
        test->compactions += n_compactions;
    }
    reply_free(&reply);
    return counts;
}

/* --- Rounds --- */

/* Lets recoveries be killed, too, at any moment of theirs. */
static void maybe_kill_recovery(struct test *test)
{
    while (prng_chance(&test->prng, 30)) {
        struct server *server = server_spawn(test->dir, arguments);
        pause_us(prng_below(&test->prng, 40000));
        kill_server(test, server);
        test->kills_in_recovery++;
    }
}

/* Recovers and compares with what was promised; ends in the same ways as servers do. */
static void recover_once(struct test *test)
{
    maybe_kill_recovery(test);
    if (prng_chance(&test->prng, 50)) {
        check_dir_in_order(test->dir, false);
    }
    struct server *server = server_start_in(test->dir, arguments);
    struct client *client = client_new(server);
    get_all(test, client, true);
    scan_all(test, client);
    client_free(client);
    bool clean = prng_chance(&test->prng, 30);
    if (clean) {
        server_stop(server);
    } else {
        kill_server(test, server);
    }
    check_dir_in_order(test->dir, clean);
}

/* `to_compaction`: the kill comes after the first compaction of this server, however slow it is. */
static void round_of_load(struct test *test, bool to_compaction)
{
    struct server *server = server_start_in(test->dir, arguments);
    struct client *client = client_new(server);
    get_all(test, client, false);
    scan_all(test, client);
    uint64_t unanswered, seen;
    journal_crash(test->journal, &unanswered, &seen);

    struct load *load = load_start(test->journal, KEYS, server, prng_next(&test->prng));
    uint64_t until = 1 + prng_below(&test->prng, UINT64_C(8) << prng_below(&test->prng, 9));
    load_wait_sent(load, until);
    if (to_compaction) {
        while (!count_background_work(test, client, true)) {
            pause_us(1000);
        }
    } else if (until > 100) {
        (void)count_background_work(test, client, false);
    }
    pause_us(prng_below(&test->prng, 3000));
    kill_server(test, server);
    load_join(load);
    client_free(client);
    check_journal(test);

    journal_crash(test->journal, &unanswered, &seen);
    test->unanswered += unanswered;
    test->seen += seen;
    test->counted += unanswered > 0 && seen > 0;
}

static void every_kill_keeps_what_was_promised(void **state)
{
    (void)state;
    struct test test = {.journal = journal_new(KEYS)};
    unsigned wanted = kills_wanted();
    prng_init(&test.prng, test_seed());
    temp_dir_make(test.dir);
    unsigned rounds = 0;
    for (; test.counted < wanted && rounds < 3 * wanted + 10; rounds++) {
        round_of_load(&test, rounds % 8 == 7);
        recover_once(&test);
    }
    printf("%u rounds, %u counted; %u kills, %u of them in recovery; %" PRIu64
           " writes acknowledged, %" PRIu64 " unanswered; %" PRIu64 " reads; %" PRIu64
           " flushes, %" PRIu64 " compactions; %" PRIu64 " torn tails\n",
           rounds, test.counted, test.kills, test.kills_in_recovery, journal_acked(test.journal),
           test.unanswered, test.seen, test.flushes, test.compactions, test.torn_tails);
    assert_true(test.counted >= wanted);
    if (wanted >= 10) {
        assert_true(test.flushes > 0 && test.compactions > 0);
    }
    journal_free(test.journal);
    temp_dir_remove(test.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kill_keeps_what_was_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
