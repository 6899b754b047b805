/* The process: start, probes, metrics, what it says of itself, and how it fails to start. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/http/fixture.h"
#include "tests/support/temp_dir.h"

/* Runs `varve <arguments>`; the first line of its output, standard error included. */
static int run(const char *arguments, char line[1000])
{
    char command[2000];
    (void)snprintf(command, sizeof command, "exec 2>&1; exec \"$VARVE\" %s", arguments);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    if (fgets(line, 1000, output) == NULL) {
        line[0] = '\0';
    }
    while (fgetc(output) != EOF) {
    }
    int status = pclose(output);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void probes_of_a_healthy_server_are_200(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const probes[] = {"/livez", "/readyz", "/startupz", "/readyz?write"};
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        struct reply reply = client_get(client, probes[i]);
        assert_status(&reply, 200);
        assert_body(&reply, "ok\n");
        assert_field(&reply, "Cache-Control", "no-store");
        reply_free(&reply);
        expect_status(client, 200, "HEAD", probes[i], NULL, NULL);
        expect_status(client, 405, "PUT", probes[i], NULL, "x");
    }
    struct reply verbose = client_get(client, "/readyz?verbose");
    assert_status(&verbose, 200);
    assert_body(&verbose, "open: yes\nstopping: no\nwritable: yes\n");
    reply_free(&verbose);
    expect_status(client, 400, "GET", "/readyz?colour", NULL, NULL);
    expect_status(client, 400, "GET", "/livez?verbose", NULL, NULL);
    expect_status(client, 200, "GET", "/readyz?verbose=1&write=true", NULL, NULL);
    expect_status(client, 400, "GET", "/readyz?verbose=false", NULL, NULL);
    expect_status(client, 400, "GET", "/readyz?write=0", NULL, NULL);
}

static void version_and_description_are_served(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply reply = client_get(client, "/version");
    assert_status(&reply, 200);
    assert_non_null(strstr(reply.body, "\"varve\""));
    reply_free(&reply);
    reply = client_get(client, "/openapi.yaml");
    assert_status(&reply, 200);
    assert_int_equal(strncmp(reply.body, "openapi: 3.1", 12), 0);
    reply_free(&reply);
}

static void stats_are_json_with_numbers_that_move(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/stats", NULL, "x");
    struct reply reply = client_get(client, "/stats");
    assert_status(&reply, 200);
    assert_field(&reply, "Content-Type", "application/json");
    json_t *stats = json_loadb(reply.body, reply.size, 0, NULL);
    assert_non_null(stats);
    assert_true(json_integer_value(json_object_get(stats, "keys_approximate")) > 0);
    json_decref(stats);
    reply_free(&reply);
}

static void upkeep_answers_when_it_is_done(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/upkeep", NULL, "x");
    expect_status(client, 204, "POST", "/admin/flush", NULL, "");
    expect_status(client, 204, "POST", "/admin/compact", NULL, "");
    expect_status(client, 405, "GET", "/admin/flush", NULL, NULL);
    expect_status(client, 200, "GET", "/kv/upkeep", NULL, NULL);
}

/* --- Metrics --- */

/* "name{labels} value", after a # HELP and a # TYPE line of its family. */
static void check_sample(const char *line, const char *family)
{
    size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_0123456789");
    char *end;
    assert_true(name >= strlen(family) && strncmp(line, family, strlen(family)) == 0);
    const char *value = memrchr(line, ' ', strcspn(line, "\n"));
    assert_non_null(value);
    (void)strtod(value + 1, &end);
    assert_true(end > value + 1 && *end == '\n');
    assert_true(line[name] == ' ' || (line[name] == '{' && value[-1] == '}'));
}

static void metrics_are_in_prometheus_format(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const wanted[] = {
        "varve_build_info{version=\"",
        "varve_http_requests_total{route=\"/kv/{key}\",method=\"PUT\",status=\"201\"} ",
        "varve_http_request_seconds_bucket{route=\"/kv/{key}\",le=\"+Inf\"} ",
        "varve_http_connections ",
        "varve_http_received_bytes_total ",
        "varve_http_sent_bytes_total ",
        "varve_commit_batch_ops_bucket{le=\"+Inf\"} ",
        "varve_fsync_seconds_bucket{le=\"+Inf\"} ",
        "varve_memtable_bytes ",
        "varve_log_bytes ",
        "varve_level_bytes{level=\"0\"} ",
        "varve_compaction_debt_bytes ",
        "varve_write_stalls_total ",
        "varve_filter_false_positives_total ",
        "varve_pinned_entries ",
        "varve_cold_reads_total ",
        "varve_waiting_reads ",
        "varve_rcu_backlog ",
        "varve_recovery_seconds ",
        "varve_log_poisoned 0\n",
        "varve_no_space 0\n",
    };
    expect_status(client, 201, "PUT", "/kv/metrics", NULL, "x");
    struct reply reply = client_get(client, "/metrics");
    assert_status(&reply, 200);
    assert_field(&reply, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        if (strstr(reply.body, wanted[i]) == NULL) {
            fail_msg("no %s in:\n%s", wanted[i], reply.body);
        }
    }
    char family[100] = "", typed[100] = "";
    for (const char *line = reply.body; *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%99s", family), 1);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%99s", typed), 1);
            assert_string_equal(typed, family);
        } else {
            check_sample(line, typed);
        }
    }
    reply_free(&reply);
}

/* Where promtool is installed it has the last word. */
static void promtool_has_no_complaints(void **state)
{
    const struct fixture *fixture = *state;
    char command[300];
    if (system("command -v promtool >/dev/null") != 0) {
        print_message("promtool is not installed: our own check has to do\n");
        return;
    }
    (void)snprintf(command, sizeof command, "curl -sS %s/metrics | promtool check metrics",
                   server_url(fixture->server));
    assert_int_equal(system(command), 0);
}

static void counters_count(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char series[] =
        "varve_http_requests_total{route=\"/kv/{key}\",method=\"GET\",status=\"404\"} ";
    unsigned long counts[2];
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < 10; n++) {
            expect_status(client, 404, "GET", "/kv/never/there", NULL, NULL);
        }
        struct reply reply = client_get(client, "/metrics");
        const char *at = strstr(reply.body, series);
        assert_non_null(at);
        counts[i] = strtoul(at + sizeof series - 1, NULL, 10);
        reply_free(&reply);
    }
    assert_int_equal(counts[1], counts[0] + 10);
}

enum { METRICS_ATTEMPTS = 10000 };

/* Regression: all of them were counted as method="other". */
static void refused_requests_are_counted_under_their_method(void **state)
{
    const struct fixture *fixture = *state;
    struct reply refused =
        raw_exchange(fixture->server, "DELETE /kv/a HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert_problem(&refused, 421, "/problems/misdirected-request");
    reply_free(&refused);
    /* Its thread counts it once the answer is gone. */
    bool counted = false;
    for (unsigned i = 0; i < METRICS_ATTEMPTS && !counted; i++) {
        struct reply reply = client_get(fixture->client, "/metrics");
        counted = strstr(reply.body, "method=\"DELETE\",status=\"421\"} 1\n") != NULL;
        reply_free(&reply);
    }
    assert_true(counted);
}

/* --- varve health --- */

static void health_asks_and_exits_accordingly(void **state)
{
    const struct fixture *fixture = *state;
    char arguments[300], line[1000];
    (void)snprintf(arguments, sizeof arguments, "health --url %s", server_url(fixture->server));
    assert_int_equal(run(arguments, line), 0);
    assert_string_equal(line, "ok\n");
    (void)snprintf(arguments, sizeof arguments, "health --url %s/livez --wait 5s",
                   server_url(fixture->server));
    assert_int_equal(run(arguments, line), 0);
    (void)snprintf(arguments, sizeof arguments, "health --url %s/kv/none",
                   server_url(fixture->server));
    assert_int_equal(run(arguments, line), 1);
    assert_non_null(strstr(line, "404"));
    (void)snprintf(arguments, sizeof arguments, "health --url '%s?write'",
                   server_url(fixture->server));
    assert_int_equal(run(arguments, line), 0);
    (void)snprintf(arguments, sizeof arguments, "health --url '%s/?verbose=no/way'",
                   server_url(fixture->server));
    assert_int_equal(run(arguments, line), 1);
    assert_non_null(strstr(line, "/readyz?verbose=no/way: status 400"));
    assert_int_equal(run("health --url http://127.0.0.1:1", line), 1);
    assert_non_null(strstr(line, "127.0.0.1"));
    assert_int_equal(run("health --url http://127.0.0.1:1 --wait 300ms", line), 1);
    assert_int_equal(run("health --url gopher://127.0.0.1:1", line), 1);
    assert_int_equal(run("health --wait 5", line), 2);
}

struct health {
    char arguments[300];
    int status;
};

static void *wait_for_health(void *arg)
{
    struct health *health = arg;
    char line[1000];
    health->status = run(health->arguments, line);
    return NULL;
}

/* The port is known beforehand, because a server had it; nobody listens there when the wait
 * begins. */
static void health_waits_for_a_server_that_is_yet_to_start(void **state)
{
    (void)state;
    char address[64];
    struct health health = {.status = -1};
    pthread_t thread;
    struct server *server = server_start(NULL);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", server_port(server));
    server_stop(server);
    (void)snprintf(health.arguments, sizeof health.arguments, "health --url http://%s --wait 60s",
                   address);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_health, &health), 0);
    server = server_start(FIELDS("--listen", address));
    pthread_join(thread, NULL);
    assert_int_equal(health.status, 0);
    server_stop(server);
}

/* --- Starting --- */

static void the_port_is_open_before_the_store_is(void **state)
{
    (void)state;
    bool seen = false;
    /* Opening takes milliseconds; a request comes in between sooner or later. */
    for (int round = 0; round < 50 && !seen; round++) {
        char dir[TEMP_DIR_BYTES];
        temp_dir_make(dir);
        struct server *server = server_spawn(dir, FIELDS("--memtable-bytes", "256MiB"));
        server_wait_listening(server);
        struct reply live = raw_exchange(server, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct reply ready =
            raw_exchange(server, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct reply key = raw_exchange(server, "GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct reply started =
            raw_exchange(server, "GET /startupz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_status(&live, 200);
        assert_true(ready.status == 200 || ready.status == 503);
        assert_true(key.status == 404 || key.status == 503);
        if (started.status == 503) {
            /* Not open yet at the end, so it wasn't before. */
            seen = true;
            assert_non_null(strstr(started.body, "recovering: "));
            assert_field(&started, "Retry-After", "1");
            assert_status(&ready, 503);
            assert_problem(&key, 503, "/problems/recovering");
            assert_field(&key, "Retry-After", "1");
        }
        reply_free(&live);
        reply_free(&ready);
        reply_free(&key);
        reply_free(&started);
        server_wait_log(server, "event=ready");
        server_stop(server);
        temp_dir_remove(dir);
    }
    assert_true(seen);
}

/* Starts a server that must not start; its log has one error line with `text`. */
static void expect_no_start(const char *dir, const char *const arguments[], const char *text)
{
    char *log = NULL;
    struct server *server = server_spawn(dir, arguments);
    int status = server_wait(server, &log);
    const char *error = strstr(log, "level=error");
    if (status != 1 || error == NULL || strstr(error, text) == NULL) {
        fail_msg("status %d, wanted \"%s\" in:\n%s", status, text, log);
    }
    free(log);
}

/* --- The environment --- */

static void expect_put(struct server *server, unsigned status, const char *path, size_t size)
{
    static char value[4000];
    struct client *client = client_new(server);
    struct reply reply = client_send(client, "PUT", path, NULL, value, size);
    assert_status(&reply, status);
    reply_free(&reply);
    client_free(client);
}

static const char *const variables[][2] = {
    {"VARVE_MAX_VALUE_BYTES", "1000B"},
    {"VARVE_HOST_NAME", "one.example,two.example"},
    {"VARVE_IDLE_TIMEOUT", ""},            /* as if it weren't there */
    {"VARVE_PORT", "tcp://10.0.0.1:7070"}, /* of Kubernetes: no option of ours */
    {"VARVE_LISTEN", "not looked at: there is an option"},
};

static int set_variables(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(variables); i++) {
        setenv(variables[i][0], variables[i][1], 1);
    }
    return 0;
}

static int unset_variables(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(variables); i++) {
        unsetenv(variables[i][0]);
    }
    return 0;
}

static void options_come_from_the_environment_too(void **state)
{
    (void)state;
    struct server *server = server_start(NULL);
    expect_put(server, 201, "/kv/small", 1000);
    expect_put(server, 413, "/kv/large", 1001);
    struct reply reply =
        raw_exchange(server, "GET /kv/small HTTP/1.1\r\nHost: two.example\r\n\r\n");
    assert_status(&reply, 200);
    reply_free(&reply);
    server_stop(server);
    /* The command line wins. */
    server = server_start(FIELDS("--max-value-bytes", "2000B", "--host-name", "three.example"));
    expect_put(server, 201, "/kv/large", 2000);
    expect_put(server, 413, "/kv/larger", 2001);
    reply = raw_exchange(server, "GET /kv/large HTTP/1.1\r\nHost: two.example\r\n\r\n");
    assert_status(&reply, 421);
    reply_free(&reply);
    server_stop(server);
}

/* One line that names the variable and what it takes, and no directory. */
static void a_bad_variable_is_one_line_and_status_2(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"VARVE_MAX_VALUE_BYTES", "lots"}, {"VARVE_DRAIN_TIMEOUT", "5"}, {"VARVE_NO_AUTH", "yes"},
        {"VARVE_LOG_FORMAT", "xml\nxml"},  {"VARVE_HOST_NAME", "a,,b"},  {"VARVE_THREADS", "0"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char dir[TEMP_DIR_BYTES], below[TEMP_DIR_BYTES + 8];
        char *log = NULL;
        temp_dir_make(dir);
        (void)snprintf(below, sizeof below, "%s/data", dir);
        setenv(bad[i][0], bad[i][1], 1);
        int status = server_wait(server_spawn(below, NULL), &log);
        unsetenv(bad[i][0]);
        if (status != 2 || strncmp(log, "varve serve: ", 13) != 0 ||
            strstr(log, bad[i][0]) == NULL || strchr(log, '\n') != log + strlen(log) - 1) {
            fail_msg("status %d:\n%s", status, log);
        }
        assert_int_equal(access(below, F_OK), -1);
        free(log);
        temp_dir_remove(dir);
    }
}

static void a_port_in_use_is_said(void **state)
{
    const struct fixture *fixture = *state;
    char dir[TEMP_DIR_BYTES], address[64];
    temp_dir_make(dir);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", server_port(fixture->server));
    expect_no_start(dir, FIELDS("--listen", address), "in use");
    temp_dir_remove(dir);
}

static void an_address_of_another_machine_is_said(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    expect_no_start(dir, FIELDS("--listen", "192.0.2.1:0", "--no-auth"), "192.0.2.1");
    temp_dir_remove(dir);
}

static void a_directory_in_use_is_said(void **state)
{
    const struct fixture *fixture = *state;
    expect_no_start(server_dir(fixture->server), NULL, server_dir(fixture->server));
    /* And whoever has it goes on. */
    expect_status(fixture->client, 200, "GET", "/readyz?write", NULL, NULL);
}

static void a_directory_that_can_not_be_made_is_said(void **state)
{
    (void)state;
    expect_no_start("/proc/nothing/here", NULL, "/proc/nothing");
    expect_no_start("/dev/null", NULL, "/dev/null");
}

static void a_directory_of_other_files_is_said(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 16];
    temp_dir_make(dir);
    (void)snprintf(path, sizeof path, "%s/passwd", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    expect_no_start(dir, NULL, "not a data directory and not empty (there is passwd)");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* nothing else is in it */
}

/* The last test: the limit stays low. */
static void too_few_descriptors_are_said(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    /* What may be raised is raised. */
    struct server *server = server_start(FIELDS("--connections", "1000"));
    server_stop(server);
    limit.rlim_max = 1000;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    temp_dir_make(dir);
    expect_no_start(dir, FIELDS("--connections", "1000"), "--connections 1000 needs");
    temp_dir_remove(dir);
}

static void it_listens_on_ipv6(void **state)
{
    (void)state;
    if (access("/proc/net/if_inet6", F_OK) != 0) {
        print_message("no IPv6 here\n");
        return;
    }
    struct server *server = server_start(FIELDS("--listen", "[::1]:0"));
    assert_int_equal(strncmp(server_url(server), "http://[::1]:", 13), 0);
    struct client *client = client_new(server);
    expect_status(client, 201, "PUT", "/kv/six", NULL, "x");
    client_free(client);
    server_stop(server);
}

static void the_log_can_be_json(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    char *log = NULL;
    temp_dir_make(dir);
    struct server *server = server_spawn(dir, FIELDS("--log-format", "json"));
    server_wait_log(server, "\"event\":\"ready\"");
    server_signal(server, SIGTERM);
    assert_int_equal(server_wait(server, &log), 0);
    for (char *line = strtok(log, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        assert_non_null(json_object_get(object, "event"));
        json_decref(object);
    }
    free(log);
    temp_dir_remove(dir);
}

static void what_was_stored_is_there_after_a_restart(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES], etag[64];
    temp_dir_make(dir);
    struct server *server = server_start_in(dir, NULL);
    struct client *client = client_new(server);
    struct reply put =
        client_send(client, "PUT", "/kv/kept", FIELDS("Content-Type: text/plain"), "kept", 4);
    (void)snprintf(etag, sizeof etag, "%s", reply_field(&put, "ETag"));
    reply_free(&put);
    client_free(client);
    server_stop(server);
    /* The second time it is killed: what matters is in the log. */
    for (int i = 0; i < 2; i++) {
        server = server_start_in(dir, NULL);
        client = client_new(server);
        struct reply got = client_get(client, "/kv/kept");
        assert_status(&got, 200);
        assert_body(&got, "kept");
        assert_field(&got, "ETag", etag);
        assert_field(&got, "Content-Type", "text/plain");
        reply_free(&got);
        expect_status(client, i == 0 ? 201 : 204, "PUT", "/kv/second", NULL, "x");
        client_free(client);
        server_signal(server, SIGKILL);
        assert_int_equal(server_wait(server, NULL), 128 + SIGKILL);
    }
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probes_of_a_healthy_server_are_200),
        cmocka_unit_test(version_and_description_are_served),
        cmocka_unit_test(stats_are_json_with_numbers_that_move),
        cmocka_unit_test(upkeep_answers_when_it_is_done),
        cmocka_unit_test(metrics_are_in_prometheus_format),
        cmocka_unit_test(promtool_has_no_complaints),
        cmocka_unit_test(counters_count),
        cmocka_unit_test(refused_requests_are_counted_under_their_method),
        cmocka_unit_test(health_asks_and_exits_accordingly),
        cmocka_unit_test(health_waits_for_a_server_that_is_yet_to_start),
        cmocka_unit_test(the_port_is_open_before_the_store_is),
        cmocka_unit_test_setup_teardown(options_come_from_the_environment_too, set_variables,
                                        unset_variables),
        cmocka_unit_test(a_bad_variable_is_one_line_and_status_2),
        cmocka_unit_test(a_port_in_use_is_said),
        cmocka_unit_test(an_address_of_another_machine_is_said),
        cmocka_unit_test(a_directory_in_use_is_said),
        cmocka_unit_test(a_directory_that_can_not_be_made_is_said),
        cmocka_unit_test(a_directory_of_other_files_is_said),
        cmocka_unit_test(it_listens_on_ipv6),
        cmocka_unit_test(the_log_can_be_json),
        cmocka_unit_test(what_was_stored_is_there_after_a_restart),
        cmocka_unit_test(too_few_descriptors_are_said),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
