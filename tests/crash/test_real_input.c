/* Real files stored over many connections, with a kill -9 half-way: every acknowledged byte stays.
 *
 * VARVE_TEST_FILES=all takes all that there are instead of some thousands. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/crash/dir_check.h"
#include "tests/crash/input_files.h"
#include "tests/http/support.h"
#include "tests/support/alloc.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

enum { CONNECTIONS = 16, FILES_MAX = 3000, BUSY_MAX = 1000 };
#define BYTES_MAX UINT64_C(200000000)

static const char *const folders[] = {"/usr/include", "/usr/share", NULL};
static const char *const arguments[] = {"--memtable-bytes", "8MiB", NULL};

enum fate { NOT_SENT, SENT, ACKED, CHANGED /* on disk, meanwhile: doesn't count */ };

struct test {
    char dir[TEMP_DIR_BYTES];
    struct server *server;
    struct input_files input;
    _Atomic int *fates; /* enum fate of each file */

    /* Of the threads that run now. */
    void (*job)(struct test *test, struct client *client, size_t file);
    _Atomic size_t next;
    _Atomic bool stop;
    _Atomic uint64_t acked_bytes, compared, absent, busy;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    unsigned running;
    char wrong[1200]; /* the first thing that is */
};

static void wrong(struct test *test, const struct input_file *file, const char *what,
                  const struct reply *reply)
{
    pthread_mutex_lock(&test->lock);
    if (test->wrong[0] == '\0') {
        (void)snprintf(test->wrong, sizeof test->wrong, "%.300s: %s; status %u, %zu bytes; %s",
                       file->path, what, reply->status, reply->size, reply->error);
    }
    pthread_mutex_unlock(&test->lock);
    atomic_store(&test->stop, true);
}

/* --- Jobs --- */

/* Stores it unless that was done. No answer is what a killed server gives. */
static void store_file(struct test *test, struct client *client, size_t i)
{
    const struct input_file *file = &test->input.files[i];
    if (atomic_load(&test->fates[i]) >= ACKED) {
        return;
    }
    void *bytes = input_file_read(file);
    if (bytes == NULL) {
        atomic_store(&test->fates[i], CHANGED);
        return;
    }
    bool created = atomic_load(&test->fates[i]) == NOT_SENT;
    atomic_store(&test->fates[i], SENT);
    struct reply reply = {.status = 503};
    for (int tries = 0; reply.status == 503 && tries < BUSY_MAX; tries++) {
        reply_free(&reply);
        reply = client_send(client, "PUT", file->target, NULL, bytes, file->size);
        test->busy += reply.status == 503;
    }
    free(bytes);
    if (reply.status == 201 || (reply.status == 204 && !created)) {
        atomic_store(&test->fates[i], ACKED);
        test->acked_bytes += file->size;
        pthread_cond_signal(&test->changed);
    } else if (reply.status != 0) {
        wrong(test, file, "not stored", &reply);
    }
    reply_free(&reply);
}

/* Compares; what has no acknowledgement may be missing. */
static void compare_file(struct test *test, struct client *client, size_t i)
{
    const struct input_file *file = &test->input.files[i];
    int fate = atomic_load(&test->fates[i]);
    void *bytes = fate == CHANGED ? NULL : input_file_read(file);
    if (bytes == NULL) {
        atomic_store(&test->fates[i], CHANGED);
        return;
    }
    struct reply reply = client_get(client, file->target);
    if (fate != ACKED && reply.status == 404) {
        test->absent++;
    } else if (fate == NOT_SENT) {
        wrong(test, file, "never sent, and not missing", &reply);
    } else if (reply.status != 200 || reply.size != file->size ||
               memcmp(reply.body, bytes, file->size) != 0) {
        wrong(test, file, "not what was stored", &reply);
    } else {
        test->compared++;
    }
    reply_free(&reply);
    free(bytes);
}

static void *work(void *arg)
{
    struct test *test = arg;
    struct client *client = client_new(test->server);
    size_t i;
    while (!atomic_load(&test->stop) &&
           (i = atomic_fetch_add(&test->next, 1)) < test->input.count) {
        test->job(test, client, i);
    }
    client_free(client);
    pthread_mutex_lock(&test->lock);
    test->running--;
    pthread_cond_signal(&test->changed);
    pthread_mutex_unlock(&test->lock);
    return NULL;
}

/* --- All connections --- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Waits until all threads have ended, or so many bytes are acknowledged. */
static void wait_bytes(struct test *test, uint64_t bytes)
{
    pthread_mutex_lock(&test->lock);
    while (test->running > 0 && atomic_load(&test->acked_bytes) < bytes) {
        struct timespec until; /* signals are sent without the lock: one may be missed */
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        (void)pthread_cond_timedwait(&test->changed, &test->lock, &until);
    }
    pthread_mutex_unlock(&test->lock);
}

/* Does the job for all files over all connections; kills the server once so many bytes are
 * acknowledged. */
static void do_all(struct test *test, const char *what,
                   void (*job)(struct test *, struct client *, size_t), uint64_t kill_at_bytes)
{
    double began = seconds();
    pthread_t threads[CONNECTIONS];
    test->job = job;
    test->running = CONNECTIONS;
    atomic_store(&test->next, 0);
    atomic_store(&test->compared, 0);
    atomic_store(&test->absent, 0);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, test), 0);
    }
    wait_bytes(test, kill_at_bytes);
    if (kill_at_bytes != UINT64_MAX) {
        atomic_store(&test->stop, true);
        server_signal(test->server, SIGKILL);
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        pthread_join(threads[i], NULL);
    }
    if (test->wrong[0] != '\0') {
        fail_msg("%s: %s (data directory kept: %s)", what, test->wrong, test->dir);
    }
    atomic_store(&test->stop, false);
    uint64_t acked = 0;
    for (size_t i = 0; i < test->input.count; i++) {
        acked += atomic_load(&test->fates[i]) == ACKED;
    }
    printf("%-28s %6" PRIu64 " acknowledged, %6" PRIu64 " compared, %6" PRIu64
           " missing as they may; %.1f s\n",
           what, acked, (uint64_t)test->compared, (uint64_t)test->absent, seconds() - began);
}

static void assert_all_compared(struct test *test)
{
    uint64_t changed = 0;
    for (size_t i = 0; i < test->input.count; i++) {
        int fate = atomic_load(&test->fates[i]);
        assert_true(fate == ACKED || fate == CHANGED);
        changed += fate == CHANGED;
    }
    assert_int_equal(atomic_load(&test->compared) + changed, test->input.count);
    assert_true(changed <= test->input.count / 100);
}

static void compact(struct test *test)
{
    double began = seconds();
    struct client *client = client_new(test->server);
    expect_status(client, 204, "POST", "/admin/compact", NULL, NULL);
    client_free(client);
    printf("%-28s %.1f s\n", "compact", seconds() - began);
}

static void every_acknowledged_file_survives(void **state)
{
    (void)state;
    struct test test = {.running = 0};
    pthread_mutex_init(&test.lock, NULL);
    pthread_cond_init(&test.changed, NULL);
    temp_dir_make(test.dir);
    test.input = input_files_find(folders);
    const char *all = getenv("VARVE_TEST_FILES");
    if (all == NULL || strcmp(all, "all") != 0) {
        input_files_thin(&test.input, FILES_MAX, BYTES_MAX);
    }
    printf("%zu files, %" PRIu64 " bytes\n", test.input.count, test.input.bytes);
    assert_true(test.input.count > 100);
    test.fates = test_alloc(test.input.count * sizeof *test.fates);

    test.server = server_start_in(test.dir, arguments);
    do_all(&test, "store, until kill -9", store_file, test.input.bytes / 2);
    assert_int_equal(server_wait(test.server, NULL), 128 + SIGKILL);
    check_dir_in_order(test.dir, false);
    test.server = server_start_in(test.dir, arguments);
    do_all(&test, "after recovery", compare_file, UINT64_MAX);
    do_all(&test, "store the rest", store_file, UINT64_MAX);
    do_all(&test, "compare", compare_file, UINT64_MAX);
    assert_all_compared(&test);
    server_stop(test.server);
    test.server = server_start_in(test.dir, arguments);
    do_all(&test, "after another restart", compare_file, UINT64_MAX);
    assert_all_compared(&test);
    compact(&test);
    do_all(&test, "after compaction", compare_file, UINT64_MAX);
    assert_all_compared(&test);
    server_stop(test.server);
    check_dir_in_order(test.dir, true);
    printf("%" PRIu64 " answers were 503\n", (uint64_t)test.busy);

    pthread_cond_destroy(&test.changed);
    pthread_mutex_destroy(&test.lock);
    free((void *)(uintptr_t)test.fates);
    input_files_free(&test.input);
    temp_dir_remove(test.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_acknowledged_file_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
