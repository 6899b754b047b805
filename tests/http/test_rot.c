/* A disk that changes what was written, under the running server: the scrubber says so, and nobody
 * gets a wrong byte. */
#include <dirent.h>
#include <stdio.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

enum { KEYS = 200, VALUE_BYTES = 300 };

static void value_of(unsigned key, char ret_value[VALUE_BYTES + 1])
{
    (void)snprintf(ret_value, VALUE_BYTES + 1, "%0*u", VALUE_BYTES, key);
}

/* Stores all keys in one table and reads them, so that all of it counts as verified. */
static void fill(struct client *client)
{
    char path[32], value[VALUE_BYTES + 1];
    for (unsigned key = 0; key < KEYS; key++) {
        (void)snprintf(path, sizeof path, "/kv/key%03u", key);
        value_of(key, value);
        expect_status(client, 201, "PUT", path, NULL, value);
    }
    expect_status(client, 204, "POST", "/admin/flush", NULL, NULL);
    for (unsigned key = 0; key < KEYS; key++) {
        (void)snprintf(path, sizeof path, "/kv/key%03u", key);
        expect_status(client, 200, "GET", path, NULL, NULL);
    }
}

/* Inverts a bit of the only table, in its third block. */
static void flip_a_bit(const char *dir)
{
    char path[TEMP_DIR_BYTES + 300] = "";
    DIR *names = opendir(dir);
    assert_non_null(names);
    for (struct dirent *name = readdir(names); name != NULL; name = readdir(names)) {
        if (strstr(name->d_name, ".table") != NULL) {
            (void)snprintf(path, sizeof path, "%s/%s", dir, name->d_name);
        }
    }
    closedir(names);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 3 * 4096 + 300, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, 3 * 4096 + 300, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 4, file), byte ^ 4);
    assert_int_equal(fclose(file), 0);
}

/* Reads all keys: each is right, or 500. Returns how many are 500. */
static unsigned count_damaged(struct client *client)
{
    char path[32], value[VALUE_BYTES + 1];
    unsigned n = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        (void)snprintf(path, sizeof path, "/kv/key%03u", key);
        value_of(key, value);
        struct reply reply = client_get(client, path);
        if (reply.status == 500) {
            n++;
        } else {
            assert_status(&reply, 200);
            assert_body(&reply, value);
        }
        reply_free(&reply);
    }
    return n;
}

static void expect_in_body(struct client *client, const char *path, const char *text)
{
    struct reply reply = client_get(client, path);
    assert_status(&reply, 200);
    if (strstr(reply.body, text) == NULL) {
        fail_msg("%s doesn't say \"%s\": %s", path, text, reply.body);
    }
    reply_free(&reply);
}

static void what_rots_after_it_was_read_is_found_and_not_served(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--scrub-rate", "1GiB"));
    struct client *client = client_new(server);
    fill(client);
    expect_in_body(client, "/metrics", "varve_damaged_tables 0\n");
    flip_a_bit(server_dir(server));
    server_wait_log(server, "event=table_damaged");
    unsigned damaged = count_damaged(client);
    assert_in_range(damaged, 1, 20);
    assert_int_equal(count_damaged(client), damaged);
    expect_in_body(client, "/metrics", "varve_damaged_tables 1\n");
    expect_in_body(client, "/stats", "\"damaged_tables\":1");
    assert_false(server_log_has(server, "key0")); /* keys are not for the log */
    expect_status(client, 200, "GET", "/readyz", NULL, NULL);
    expect_status(client, 201, "PUT", "/kv/new", NULL, "writes go on");
    client_free(client);
    server_stop(server);
}

static void which_keys_are_affected_is_said_to_those_who_debug(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--scrub-rate", "1GiB", "--log-level", "debug"));
    struct client *client = client_new(server);
    fill(client);
    flip_a_bit(server_dir(server));
    server_wait_log(server, "event=damaged_keys keys=\"from \\\"key0");
    client_free(client);
    server_stop(server);
}

static void without_a_rate_nothing_is_scrubbed(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--scrub-rate", "0"));
    struct client *client = client_new(server);
    fill(client);
    flip_a_bit(server_dir(server));
    expect_in_body(client, "/metrics", "varve_scrub_passes_total 0\n");
    expect_in_body(client, "/metrics", "varve_scrub_bytes_total 0\n");
    client_free(client);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_rots_after_it_was_read_is_found_and_not_served),
        cmocka_unit_test(which_keys_are_affected_is_said_to_those_who_debug),
        cmocka_unit_test(without_a_rate_nothing_is_scrubbed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
