/* Values that have to come from the disk: they come, whole and right, to many clients at once.
 * Exits with 77 where TMPDIR is on a file system that has nothing but memory. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/http/fixture.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

enum { SKIPPED = 77, KEYS = 12, CLIENTS = 6 };

/* From what is sent in one piece to more than is verified at once. */
static const size_t sizes[KEYS] = {1,     300,    5000,    20000,   40000,   65536,
                                   65537, 200000, 1 << 20, 1500000, 3000000, 100};

static const char *path_of(size_t key, char path[32])
{
    (void)snprintf(path, 32, "/kv/cold%02zu", key);
    return path;
}

static void fill(const char *dir)
{
    char path[32];
    struct server *server = server_start_in(dir, NULL);
    struct client *client = client_new(server);
    for (size_t key = 0; key < KEYS; key++) {
        char *value = malloc(sizes[key]);
        assert_non_null(value);
        pattern_fill(bytes_of_text(path_of(key, path)), 1, value, sizes[key]);
        struct reply reply = client_send(client, "PUT", path, NULL, value, sizes[key]);
        assert_status(&reply, 201);
        reply_free(&reply);
        free(value);
    }
    client_free(client);
    server_stop(server);
}

static bool get(struct client *client, size_t key)
{
    char path[32];
    struct reply reply = client_get(client, path_of(key, path));
    bool right = reply.status == 200 && reply.size == sizes[key] &&
                 pattern_matches(bytes_of_text(path), 1, bytes_of(reply.body, reply.size));
    reply_free(&reply);
    return right;
}

struct reader {
    pthread_t thread;
    const struct server *server;
    size_t first_key;
    unsigned wrong;
};

static void *get_all(void *arg)
{
    struct reader *reader = arg;
    struct client *client = client_new(reader->server);
    for (size_t i = 0; i < KEYS; i++) {
        reader->wrong += !get(client, (reader->first_key + i) % KEYS);
    }
    client_free(client);
    return NULL;
}

static unsigned long metric(struct client *client, const char *name)
{
    unsigned long value = 0;
    struct reply reply = client_get(client, "/metrics");
    assert_status(&reply, 200);
    const char *line = strstr(reply.body, name);
    assert_non_null(line);
    assert_int_equal(sscanf(line + strlen(name), " %lu", &value), 1);
    reply_free(&reply);
    return value;
}

static void cold_values_come_whole_and_right(void **state)
{
    char dir[TEMP_DIR_BYTES];
    struct reader readers[CLIENTS];
    (void)state;
    temp_dir_make(dir);
    fill(dir);
    evict_tables(dir);
    struct server *server = server_start_in(dir, NULL);
    for (size_t i = 0; i < CLIENTS; i++) {
        readers[i] = (struct reader){.server = server, .first_key = i * 2};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, get_all, &readers[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(readers[i].wrong, 0);
    }
    struct client *client = client_new(server);
    assert_true(metric(client, "\nvarve_cold_reads_total") > 0);
    assert_int_equal(metric(client, "\nvarve_waiting_reads"), 0);
    assert_int_equal(metric(client, "\nvarve_pinned_entries"), 0);
    client_free(client);
    server_stop(server);
    temp_dir_remove(dir);
}

int main(void)
{
    if (!can_evict()) {
        fputs("TMPDIR is on a file system that has nothing but memory\n", stderr);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_values_come_whole_and_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
