/* One key: put, get, head, delete, what is kept beside the bytes, and what a key may be. */
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "tests/http/fixture.h"
#include "tests/support/pattern.h"

static void put_creates_then_replaces(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply first = client_put(client, "/kv/put/twice", "one");
    struct reply second = client_put(client, "/kv/put/twice", "two");
    assert_status(&first, 201);
    assert_status(&second, 204);
    assert_int_equal(first.size, 0);
    assert_non_null(reply_field(&first, "ETag"));
    assert_non_null(reply_field(&second, "ETag"));
    assert_string_not_equal(reply_field(&first, "ETag"), reply_field(&second, "ETag"));
    struct reply got = client_get(client, "/kv/put/twice");
    assert_status(&got, 200);
    assert_body(&got, "two");
    assert_field(&got, "ETag", reply_field(&second, "ETag"));
    reply_free(&first);
    reply_free(&second);
    reply_free(&got);
}

static void an_empty_value_is_a_value(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/empty-value", NULL, "");
    struct reply got = client_get(client, "/kv/empty-value");
    assert_status(&got, 200);
    assert_body(&got, "");
    assert_field(&got, "Content-Length", "0");
    reply_free(&got);
}

static void bytes_come_back_as_they_were_put(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const size_t sizes[] = {1, 255, 4096, 65535, 65536, 1000003, 16u << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/kv/bytes/%zu", sizes[i]);
        char *value = malloc(sizes[i]);
        assert_non_null(value);
        pattern_fill(bytes_of_text(path), i, value, sizes[i]);
        struct reply put = client_send(client, "PUT", path, NULL, value, sizes[i]);
        assert_status(&put, 201);
        struct reply got = client_get(client, path);
        assert_status(&got, 200);
        assert_int_equal(got.size, sizes[i]);
        assert_memory_equal(got.body, value, sizes[i]);
        reply_free(&put);
        reply_free(&got);
        free(value);
    }
}

static void chunked_bodies_are_taken(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const size_t pieces[] = {1, 7, 4096, 100000};
    char value[20000];
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        size_t size = pieces[i] == 1 ? 500 : sizeof value;
        pattern_fill(bytes_of_text("chunked"), i, value, size);
        struct reply put =
            client_send_chunked(client, "PUT", "/kv/chunked", NULL, value, size, pieces[i]);
        assert_status(&put, i == 0 ? 201 : 204);
        assert_field(&put, "Connection", "close");
        struct reply got = client_get(client, "/kv/chunked");
        assert_int_equal(got.size, size);
        assert_memory_equal(got.body, value, size);
        reply_free(&put);
        reply_free(&got);
    }
    struct reply empty = client_send_chunked(client, "PUT", "/kv/chunked", NULL, "", 0, 1);
    assert_status(&empty, 204);
    reply_free(&empty);
}

static void values_go_out_with_the_headers_of_the_contract(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/headers/plain", NULL, "x");
    struct reply got = client_get(client, "/kv/headers/plain");
    assert_field(&got, "Content-Type", "application/octet-stream");
    assert_field(&got, "Cache-Control", "no-cache");
    assert_field(&got, "X-Content-Type-Options", "nosniff");
    assert_field(&got, "Content-Security-Policy", "sandbox");
    assert_no_field(&got, "Content-Encoding");
    assert_no_field(&got, "Accept-Ranges");
    reply_free(&got);
}

static void content_type_encoding_and_cache_control_are_kept(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/headers/kept",
                  FIELDS("Content-Type: text/html; charset=utf-8", "Content-Encoding: gzip",
                         "Cache-Control: max-age=60, public"),
                  "x");
    struct reply got = client_get(client, "/kv/headers/kept");
    assert_field(&got, "Content-Type", "text/html; charset=utf-8");
    assert_field(&got, "Content-Encoding", "gzip");
    assert_field(&got, "Cache-Control", "max-age=60, public");
    reply_free(&got);
    /* They belong to the value: a put without them takes them away. */
    expect_status(client, 204, "PUT", "/kv/headers/kept", NULL, "y");
    got = client_get(client, "/kv/headers/kept");
    assert_field(&got, "Content-Type", "application/octet-stream");
    assert_field(&got, "Cache-Control", "no-cache");
    assert_no_field(&got, "Content-Encoding");
    reply_free(&got);
}

static void what_curl_sends_unasked_is_no_content_type(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/headers/form",
                  FIELDS("Content-Type: application/x-www-form-urlencoded"), "a=b");
    struct reply got = client_get(client, "/kv/headers/form");
    assert_field(&got, "Content-Type", "application/octet-stream");
    assert_body(&got, "a=b");
    reply_free(&got);
}

static void headers_that_can_not_be_stored_are_refused(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char field[400] = "Content-Type: ";
    memset(field + 14, 'a', 256);
    expect_status(client, 201, "PUT", "/kv/headers/long", FIELDS(field), "x");
    memset(field + 14, 'a', 257);
    struct reply refused = client_send(client, "PUT", "/kv/headers/longer", FIELDS(field), "x", 1);
    assert_problem(&refused, 400, "/problems/malformed-header");
    reply_free(&refused);
    refused = client_send(client, "PUT", "/kv/headers/longer", FIELDS("Cache-Control: caf\xc3\xa9"),
                          "x", 1);
    assert_problem(&refused, 400, "/problems/malformed-header");
    reply_free(&refused);
    expect_status(client, 404, "GET", "/kv/headers/longer", NULL, NULL);
}

static void head_answers_as_get_without_the_body(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/head", FIELDS("Content-Type: text/plain"),
                  "twelve bytes");
    struct reply got = client_get(client, "/kv/head");
    struct reply head = client_send(client, "HEAD", "/kv/head", NULL, NULL, 0);
    static const char *const same[] = {
        "Content-Length",         "Content-Type",  "ETag",
        "Cache-Control",          "Last-Modified", "X-Content-Type-Options",
        "Content-Security-Policy"};
    assert_status(&head, 200);
    assert_int_equal(head.size, 0);
    assert_field(&head, "Content-Length", "12");
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        const char *of_get = reply_field(&got, same[i]);
        /* The second may have passed between the two. */
        if (of_get != NULL) {
            assert_field(&head, same[i], of_get);
        }
    }
    reply_free(&got);
    reply_free(&head);
    expect_status(client, 404, "HEAD", "/kv/head/missing", NULL, NULL);
}

static void last_modified_comes_once_its_second_is_there(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    time_t before = time(NULL);
    expect_status(client, 201, "PUT", "/kv/modified", NULL, "x");
    time_t after = time(NULL);
    for (;;) {
        time_t asked = time(NULL);
        struct reply got = client_get(client, "/kv/modified");
        const char *field = reply_field(&got, "Last-Modified");
        struct tm tm = {0};
        if (field != NULL) {
            assert_non_null(strptime(field, "%a, %d %b %Y %H:%M:%S GMT", &tm));
            assert_in_range(timegm(&tm), before + 2, after + 2);
            assert_true(timegm(&tm) <= time(NULL));
            reply_free(&got);
            break;
        }
        reply_free(&got);
        assert_true(asked < after + 4);
    }
}

static void delete_says_whether_the_key_was_there(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/delete", NULL, "x");
    struct reply gone = client_delete(client, "/kv/delete");
    assert_status(&gone, 204);
    assert_field(&gone, "Varve-Deleted", "1");
    reply_free(&gone);
    expect_status(client, 404, "GET", "/kv/delete", NULL, NULL);
    gone = client_delete(client, "/kv/delete");
    assert_status(&gone, 204);
    assert_field(&gone, "Varve-Deleted", "0");
    reply_free(&gone);
    expect_status(client, 201, "PUT", "/kv/delete", NULL, "again");
}

static void delete_of_a_missing_key_can_be_an_error(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply missing = client_delete(client, "/kv/delete/never?missing=error");
    assert_problem(&missing, 404, "/problems/no-such-key");
    reply_free(&missing);
    expect_status(client, 201, "PUT", "/kv/delete/there", NULL, "x");
    expect_status(client, 204, "DELETE", "/kv/delete/there?missing=error", NULL, NULL);
}

static void a_missing_key_differs_from_no_such_route(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply reply = client_get(client, "/kv/missing");
    assert_problem(&reply, 404, "/problems/no-such-key");
    reply_free(&reply);
    reply = client_get(client, "/kx/missing");
    assert_problem(&reply, 404, "/problems/no-such-route");
    reply_free(&reply);
    reply = client_get(client, "/");
    assert_problem(&reply, 404, "/problems/no-such-route");
    reply_free(&reply);
}

static void other_methods_are_405_and_options_names_them(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply reply = client_send(client, "PATCH", "/kv/a", NULL, "x", 1);
    assert_problem(&reply, 405, "/problems/method-not-allowed");
    const char *allow = reply_field(&reply, "Allow");
    assert_non_null(allow);
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        assert_non_null(strstr(allow, methods[i]));
    }
    struct reply options = client_send(client, "OPTIONS", "/kv/a", NULL, NULL, 0);
    assert_status(&options, 204);
    assert_field(&options, "Allow", allow);
    reply_free(&reply);
    reply_free(&options);
    reply = client_send(client, "POST", "/kv/a", NULL, "x", 1);
    assert_problem(&reply, 405, "/problems/method-not-allowed");
    reply_free(&reply);
}

/* Targets that are one key, each pair. */
static void targets_that_mean_the_same_key(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const struct {
        const char *put, *get;
    } pairs[] = {
        {"/kv/same/slash", "/kv/same%2Fslash"},
        {"/kv/same%2flower", "/kv/same/lower"},
        {"/kv/same/%41", "/kv/same/A"},
        {"/kv/same/nul%00inside", "/kv64/c2FtZS9udWwAaW5zaWRl"},
        {"/kv/same/caf%C3%A9", "/kv64/c2FtZS9jYWbDqQ"},
        {"/kv64/c2FtZS8uLi9kb3Rz", "/kv/same/../dots"},
        {"/kv/same/hash%23question%3F", "/kv64/c2FtZS9oYXNoI3F1ZXN0aW9uPw"},
        {"/kv/%00", "/kv64/AA"},
        {"/kv/%ff%FE", "/kv64/__4"},
        {"/kv//", "/kv/%2F"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        expect_status(client, 201, "PUT", pairs[i].put, NULL, pairs[i].put);
        struct reply got = client_get(client, pairs[i].get);
        assert_status(&got, 200);
        assert_body(&got, pairs[i].put);
        reply_free(&got);
    }
}

static void targets_that_mean_different_keys(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const targets[] = {
        "/kv/different/a+b",     "/kv/different/a%20b",     "/kv/different/a/b",
        "/kv/different/a//b",    "/kv/different//a/b",      "/kv/different/a/b/",
        "/kv/different/A/b",     "/kv/different/a%00",      "/kv/different/a%00b",
        "/kv/different/a",       "/kv/different/a/./b",     "/kv/different/a/../b",
        "/kv/different/a%252Fb", "/kv/different/a%252520b",
    };
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        expect_status(client, 201, "PUT", targets[i], NULL, targets[i]);
    }
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        struct reply got = client_get(client, targets[i]);
        assert_status(&got, 200);
        assert_body(&got, targets[i]);
        reply_free(&got);
    }
}

static void targets_that_are_no_key_are_400(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const targets[] = {"/kv/a%",     "/kv/a%2",    "/kv/a%zz",
                                          "/kv/%u0041", "/kv64/YQ==", "/kv64/YR",
                                          "/kv64/a",    "/kv64/Y+Q/", "/kv64/%59Q"};
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        struct reply reply = client_get(client, targets[i]);
        assert_problem(&reply, 400, "/problems/malformed-key");
        reply_free(&reply);
    }
    static const char *const methods[] = {"GET", "PUT", "DELETE", "HEAD"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        struct reply reply =
            client_send(client, methods[i], "/kv/", NULL, methods[i][0] == 'P' ? "x" : NULL, 1);
        assert_status(&reply, 400);
        if (methods[i][0] != 'H') {
            assert_problem(&reply, 400, "/problems/empty-key");
            assert_non_null(strstr(reply.body, "/kv?prefix="));
        }
        reply_free(&reply);
    }
}

static void a_key_has_at_most_1024_bytes_after_decoding(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char target[4 + 3 * 1025 + 1] = "/kv/";
    for (size_t i = 0; i < 1024; i++) {
        memcpy(target + 4 + 3 * i, "%e9", 4);
    }
    expect_status(client, 201, "PUT", target, NULL, "x");
    expect_status(client, 200, "GET", target, NULL, NULL);
    memcpy(target + 4 + 3 * 1024, "%e9", 4);
    struct reply reply = client_send(client, "PUT", target, NULL, "x", 1);
    assert_problem(&reply, 414, "/problems/key-too-long");
    reply_free(&reply);
}

static void what_is_not_built_yet_is_refused_not_ignored(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    struct reply reply = client_send(client, "PUT", "/kv/refused?ttl=5", NULL, "x", 1);
    assert_problem(&reply, 400, "/problems/unknown-parameter");
    reply_free(&reply);
    reply = client_get(client, "/kv/refused?colour=red");
    assert_problem(&reply, 400, "/problems/unknown-parameter");
    reply_free(&reply);
    static const char *const fields[] = {"Varve-TTL: 5", "X-TTL: 5", "Content-Range: bytes 0-0/1"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        expect_status(client, 400, "PUT", "/kv/refused", FIELDS(fields[i]), "x");
    }
    expect_status(client, 404, "GET", "/kv/refused", NULL, NULL);
    /* But what Terraform sends goes through. */
    expect_status(client, 201, "PUT", "/kv/state?ID=4711", NULL, "x");
}

/* As RFC 9110 allows where ranges aren't known. */
static void a_range_is_answered_with_the_whole(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const fields[] = {"Range: bytes=0-1", "Range: bytes=0-0,2-3", "Range: x",
                                         "If-Range: \"x\""};
    struct reply reply = client_put(client, "/kv/range", "value");
    reply_free(&reply);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        reply = client_send(client, "GET", "/kv/range", FIELDS(fields[i], fields[0]), NULL, 0);
        assert_status(&reply, 200);
        assert_body(&reply, "value");
        assert_no_field(&reply, "Accept-Ranges");
        reply_free(&reply);
    }
}

static void put_wants_a_length_or_chunks(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply =
        raw_exchange(fixture->server, "PUT /kv/lengthless HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_problem(&reply, 411, "/problems/length-required");
    reply_free(&reply);
}

/* --- Races --- */

enum { RACERS = 16, ROUNDS = 25 };

struct race {
    struct server *server;
    pthread_barrier_t start;
    const char *const *fields;
    const char *name;
    unsigned statuses[ROUNDS][RACERS];
};

struct racer {
    struct race *race;
    unsigned number;
};

static void *run_racer(void *arg)
{
    const struct racer *racer = arg;
    struct race *race = racer->race;
    struct client *client = client_new(race->server);
    for (unsigned round = 0; round < ROUNDS; round++) {
        char path[64], value[16];
        (void)snprintf(path, sizeof path, "/kv/race/%s/%u", race->name, round);
        (void)snprintf(value, sizeof value, "%u", racer->number);
        pthread_barrier_wait(&race->start);
        struct reply reply = client_send(client, "PUT", path, race->fields, value, strlen(value));
        race->statuses[round][racer->number] = reply.status;
        reply_free(&reply);
    }
    client_free(client);
    return NULL;
}

/* In every round all put the same new key at once: one creates it, the others get `other`. The
 * winner of a conditional round is what is stored. */
static void race(const struct fixture *fixture, const char *name, const char *const *fields,
                 unsigned other)
{
    struct race race = {.server = fixture->server, .fields = fields, .name = name};
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    pthread_barrier_init(&race.start, NULL, RACERS);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.race = &race, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_racer, &racers[i]), 0);
    }
    for (unsigned i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&race.start);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned created = 0, winner = 0;
        for (unsigned i = 0; i < RACERS; i++) {
            if (race.statuses[round][i] == 201) {
                created++;
                winner = i;
            } else {
                assert_int_equal(race.statuses[round][i], other);
            }
        }
        assert_int_equal(created, 1);
        if (fields != NULL) {
            char path[64], value[16];
            (void)snprintf(path, sizeof path, "/kv/race/%s/%u", name, round);
            (void)snprintf(value, sizeof value, "%u", winner);
            struct reply got = client_get(fixture->client, path);
            assert_body(&got, value);
            reply_free(&got);
        }
    }
}

static void of_many_conditional_creators_exactly_one_wins(void **state)
{
    race(*state, "conditional", FIELDS("If-None-Match: *"), 412);
}

static void of_many_plain_puts_exactly_one_creates(void **state)
{
    race(*state, "plain", NULL, 204);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_creates_then_replaces),
        cmocka_unit_test(an_empty_value_is_a_value),
        cmocka_unit_test(bytes_come_back_as_they_were_put),
        cmocka_unit_test(chunked_bodies_are_taken),
        cmocka_unit_test(values_go_out_with_the_headers_of_the_contract),
        cmocka_unit_test(content_type_encoding_and_cache_control_are_kept),
        cmocka_unit_test(what_curl_sends_unasked_is_no_content_type),
        cmocka_unit_test(headers_that_can_not_be_stored_are_refused),
        cmocka_unit_test(head_answers_as_get_without_the_body),
        cmocka_unit_test(last_modified_comes_once_its_second_is_there),
        cmocka_unit_test(delete_says_whether_the_key_was_there),
        cmocka_unit_test(delete_of_a_missing_key_can_be_an_error),
        cmocka_unit_test(a_missing_key_differs_from_no_such_route),
        cmocka_unit_test(other_methods_are_405_and_options_names_them),
        cmocka_unit_test(targets_that_mean_the_same_key),
        cmocka_unit_test(targets_that_mean_different_keys),
        cmocka_unit_test(targets_that_are_no_key_are_400),
        cmocka_unit_test(a_key_has_at_most_1024_bytes_after_decoding),
        cmocka_unit_test(what_is_not_built_yet_is_refused_not_ignored),
        cmocka_unit_test(a_range_is_answered_with_the_whole),
        cmocka_unit_test(put_wants_a_length_or_chunks),
        cmocka_unit_test(of_many_conditional_creators_exactly_one_wins),
        cmocka_unit_test(of_many_plain_puts_exactly_one_creates),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
