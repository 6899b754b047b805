/* Memory that stays bounded, however much is stored: what the process itself allocates, without the
 * files that it maps.
 *
 * VARVE_TEST_VALUES and VARVE_TEST_VALUE_BYTES choose how many values of which size are stored;
 * 1 GiB in values of 64 KiB unless they say otherwise. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "service/http.h"
#include "tests/http/support.h"
#include "tests/support/alloc.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"

enum { CONNECTIONS = 16, LOOK_MS = 5, BUSY_MAX = 1000 };

#define MEMTABLE_KIB UINT64_C(65536) /* the defaults */
#define INFLIGHT_KIB UINT64_C(65536)
#define SEALED_MAX   2
#define REST_KIB     UINT64_C(65536) /* everything else */

static uint64_t number(const char *variable, uint64_t fallback)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

struct test {
    struct server *server;
    uint64_t values, value_bytes;

    bool read; /* what the threads do: store, or read */
    _Atomic uint64_t next, done, busy;
    _Atomic unsigned running;
    _Atomic bool failed;
};

static struct reply one(struct test *test, struct client *client, uint64_t i, char *value)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/kv/%016" PRIx64, scramble64(i));
    pattern_fill(bytes_of_text(path), i, value, test->value_bytes);
    struct reply reply = {.status = 503};
    for (int tries = 0; reply.status == 503 && tries < BUSY_MAX; tries++) {
        reply_free(&reply);
        reply = test->read
                    ? client_get(client, path)
                    : client_send(client, "PUT", path, NULL, value, (size_t)test->value_bytes);
        test->busy += reply.status == 503;
    }
    return reply;
}

static void *work(void *arg)
{
    struct test *test = arg;
    struct client *client = client_new(test->server);
    char *value = test_alloc(test->value_bytes);
    uint64_t i;
    while (!atomic_load(&test->failed) && (i = atomic_fetch_add(&test->next, 1)) < test->values) {
        struct reply reply = one(test, client, i, value);
        bool good = test->read ? reply.status == 200 && reply.size == test->value_bytes &&
                                     memcmp(reply.body, value, reply.size) == 0
                               : reply.status == 201;
        if (!good) {
            fprintf(stderr, "value %" PRIu64 ": status %u %s %s\n", i, reply.status, reply.error,
                    reply.body != NULL && reply.status >= 400 ? reply.body : "");
            atomic_store(&test->failed, true);
        }
        test->done += good;
        reply_free(&reply);
    }
    free(value);
    client_free(client);
    test->running--;
    return NULL;
}

/* Stores or reads all, and looks at the memory all the while; returns the most that there was. */
static uint64_t do_all(struct test *test, bool read)
{
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    pthread_t threads[CONNECTIONS];
    test->read = read;
    atomic_store(&test->next, 0);
    atomic_store(&test->done, 0);
    atomic_store(&test->running, CONNECTIONS);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, test), 0);
    }
    uint64_t most = 0;
    while (atomic_load(&test->running) > 0) {
        uint64_t now = server_memory_kib(test->server, "RssAnon");
        most = now > most ? now : most;
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        pthread_join(threads[i], NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds =
        (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec);
    printf("%s %" PRIu64 " values of %" PRIu64 " bytes: %.1f s, %.0f a second, at most %" PRIu64
           " KiB anonymous memory; %" PRIu64 " answers were 503\n",
           read ? "read" : "stored", (uint64_t)test->done, test->value_bytes, seconds,
           (double)test->done / seconds, most, (uint64_t)test->busy);
    assert_false(atomic_load(&test->failed));
    assert_int_equal(atomic_load(&test->done), test->values);
    return most;
}

static void memory_is_bounded_whatever_is_stored(void **state)
{
    (void)state;
    struct test test = {.values = number("VARVE_TEST_VALUES", 16384),
                        .value_bytes = number("VARVE_TEST_VALUE_BYTES", 65536)};
    uint64_t bound_kib = MEMTABLE_KIB * (1 + SEALED_MAX) + INFLIGHT_KIB +
                         CONNECTIONS * HTTP_POOL_BYTES / 1024 + REST_KIB;
    test.server = server_start(NULL);
    uint64_t storing_kib = do_all(&test, false);
    uint64_t reading_kib = do_all(&test, true);
    printf("the bound is %" PRIu64 " KiB\n", bound_kib);
    assert_in_range(storing_kib, 1, bound_kib);
    assert_in_range(reading_kib, 1, bound_kib);
    server_stop(test.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_bounded_whatever_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
