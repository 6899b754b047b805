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

/* PUT with these fields, as they are. */
static struct reply put_raw(const struct fixture *fixture, const char *path, const char *fields)
{
    char text[1000];
    (void)snprintf(text, sizeof text,
                   "PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n%s\r\n\r\na=b", path,
                   fields);
    return raw_exchange(fixture->server, text);
}

static void what_is_kept_of_a_content_type(void **state)
{
    const struct fixture *fixture = *state;
    static const char absent[] = "application/octet-stream";
    static const struct {
        const char *sent, *kept;
    } cases[] = {
        {"", absent},
        {" ", absent},
        /* what curl -d sends unasked */
        {"application/x-www-form-urlencoded", absent},
        {"Application/X-WWW-Form-URLEncoded", absent},
        {"application/x-www-form-urlencoded; charset=UTF-8", absent},
        {"application/x-www-form-urlencoded ;charset=utf-8", absent},
        {"application/x-www-form-urlencoded-not", "application/x-www-form-urlencoded-not"},
        {"x/y; z=application/x-www-form-urlencoded", "x/y; z=application/x-www-form-urlencoded"},
        {"multipart/form-data; boundary=----x1", "multipart/form-data; boundary=----x1"},
        {" \ttext/plain;\tcharset=\"~ !\"\t ", "text/plain;\tcharset=\"~ !\""},
        {"no type at all", "no type at all"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char field[200];
        (void)snprintf(field, sizeof field, "Content-Type:%s", cases[i].sent);
        struct reply reply = put_raw(fixture, "/kv/headers/type", field);
        assert_status(&reply, i == 0 ? 201 : 204);
        reply_free(&reply);
        reply = client_get(fixture->client, "/kv/headers/type");
        assert_field(&reply, "Content-Type", cases[i].kept);
        assert_body(&reply, "a=b");
        reply_free(&reply);
    }
}

static const char *const stored_fields[] = {"Content-Type", "Content-Encoding", "Cache-Control"};

/* 400, the field at fault named, and nothing stored. */
static void expect_field_refused(const struct fixture *fixture, const char *name,
                                 const char *fields)
{
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "\"parameter\":\"%s\"", name);
    struct reply reply = put_raw(fixture, "/kv/headers/refused", fields);
    if (reply.status != 400) {
        print_error("%s\n", fields);
    }
    assert_problem(&reply, 400, "/problems/malformed-header");
    assert_non_null(strstr(reply.body, wanted));
    reply_free(&reply);
    expect_status(fixture->client, 404, "GET", "/kv/headers/refused", NULL, NULL);
}

static void stored_headers_have_at_most_256_bytes(void **state)
{
    const struct fixture *fixture = *state;
    char letters[258] = "";
    memset(letters, 'a', 257);
    for (size_t i = 0; i < COUNT_OF(stored_fields); i++) {
        char field[400];
        (void)snprintf(field, sizeof field, "%s: %.256s", stored_fields[i], letters);
        struct reply reply = put_raw(fixture, "/kv/headers/long", field);
        assert_status(&reply, i == 0 ? 201 : 204);
        reply_free(&reply);
        reply = client_get(fixture->client, "/kv/headers/long");
        assert_field(&reply, stored_fields[i], letters + 1);
        reply_free(&reply);
        (void)snprintf(field, sizeof field, "%s: %s", stored_fields[i], letters);
        expect_field_refused(fixture, stored_fields[i], field);
    }
}

static void headers_that_can_not_be_stored_are_refused(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const bad[] = {"caf\xc3\xa9", "\x80", "\xff", "a\x7f",
                                      "a\x01z",      "\x1f", "a\vb"};
    for (size_t i = 0; i < COUNT_OF(stored_fields); i++) {
        const char *name = stored_fields[i];
        char fields[400];
        for (size_t j = 0; j < COUNT_OF(bad); j++) {
            (void)snprintf(fields, sizeof fields, "%s: %s", name, bad[j]);
            expect_field_refused(fixture, name, fields);
        }
        static const char *const twice[][2] = {{"a", "a"}, {"a", ""}, {"", "a"}};
        for (size_t j = 0; j < COUNT_OF(twice); j++) {
            (void)snprintf(fields, sizeof fields, "%s: %s\r\n%s: %s", name, twice[j][0], name,
                           twice[j][1]);
            expect_field_refused(fixture, name, fields);
        }
    }
}

static void empty_headers_are_as_good_as_none(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply = put_raw(fixture, "/kv/headers/empty",
                                 "Content-Type:\r\nContent-Encoding: \r\nCache-Control:\t");
    assert_status(&reply, 201);
    reply_free(&reply);
    reply = client_get(fixture->client, "/kv/headers/empty");
    assert_status(&reply, 200);
    assert_field(&reply, "Content-Type", "application/octet-stream");
    assert_field(&reply, "Cache-Control", "no-cache");
    assert_no_field(&reply, "Content-Encoding");
    reply_free(&reply);
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

static void missing_has_one_value_and_one_method(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const malformed[] = {
        "?missing",       "?missing=",         "?missing=ok",
        "?missing=Error", "?missing=error%20", "?missing=error&missing=error"};
    expect_status(client, 201, "PUT", "/kv/delete/kept", NULL, "x");
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "/kv/delete/kept%s", malformed[i]);
        struct reply reply = client_delete(client, path);
        if (reply.status != 400) {
            print_error("%s\n", path);
        }
        assert_problem(&reply, 400, "/problems/malformed-parameter");
        reply_free(&reply);
    }
    struct reply reply = client_get(client, "/kv/delete/kept?missing=error");
    assert_problem(&reply, 400, "/problems/unknown-parameter");
    reply_free(&reply);
    reply = client_put(client, "/kv/delete/kept?missing=error", "y");
    assert_problem(&reply, 400, "/problems/unknown-parameter");
    reply_free(&reply);
    reply = client_get(client, "/kv/delete/kept");
    assert_body(&reply, "x");
    reply_free(&reply);
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

/* Both targets of a key of `n` zero bytes; so many bits are `n` * 8 / 6 letters of base64url. */
static void targets_of_zeros(size_t n, char plain[4000], char base64url[4000])
{
    (void)strcpy(plain, "/kv/");
    for (size_t i = 0; i < n; i++) {
        memcpy(plain + 4 + 3 * i, "%00", 4);
    }
    (void)strcpy(base64url, "/kv64/");
    memset(base64url + 6, 'A', (n * 8 + 5) / 6);
    base64url[6 + (n * 8 + 5) / 6] = '\0';
}

static void a_key_has_at_most_1024_bytes_after_decoding(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE"};
    char targets[2][4000];
    targets_of_zeros(1024, targets[0], targets[1]);
    for (size_t i = 0; i < 2; i++) {
        const char *one = targets[i], *other = targets[1 - i];
        expect_status(client, 201, "PUT", one, NULL, "x");
        expect_status(client, 200, "GET", other, NULL, NULL);
        expect_status(client, 200, "HEAD", other, NULL, NULL);
        struct reply gone = client_delete(client, other);
        assert_status(&gone, 204);
        assert_field(&gone, "Varve-Deleted", "1");
        reply_free(&gone);
        expect_status(client, 404, "GET", one, NULL, NULL);
    }
    for (size_t n = 1025; n <= 1027; n++) { /* the lengths of base64url's three endings */
        targets_of_zeros(n, targets[0], targets[1]);
        for (size_t i = 0; i < 2 * COUNT_OF(methods); i++) {
            const char *method = methods[i / 2];
            const char *body = method[0] == 'P' ? "x" : NULL;
            struct reply reply = client_send(client, method, targets[i % 2], NULL, body, 1);
            assert_status(&reply, 414);
            if (method[0] != 'H') {
                assert_problem(&reply, 414, "/problems/key-too-long");
                assert_non_null(strstr(reply.body, "\"limit\":1024,"));
            }
            reply_free(&reply);
        }
    }
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
    static const char *const methods[] = {"GET", "PUT", "DELETE"};
    for (size_t i = 0; i < 2 * COUNT_OF(methods); i++) {
        const char *body = methods[i / 2][0] == 'P' ? "x" : NULL;
        reply = client_send(client, methods[i / 2], "/kv/refused", FIELDS(fields[i % 2]), body, 1);
        assert_problem(&reply, 400, "/problems/unknown-parameter");
        assert_non_null(strstr(reply.body, "\"title\":\"Unsupported parameter or field\""));
        assert_non_null(strstr(reply.body, i % 2 == 0 ? "\"Varve-TTL\"" : "\"X-TTL\""));
        reply_free(&reply);
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
        cmocka_unit_test(what_is_kept_of_a_content_type),
        cmocka_unit_test(stored_headers_have_at_most_256_bytes),
        cmocka_unit_test(headers_that_can_not_be_stored_are_refused),
        cmocka_unit_test(empty_headers_are_as_good_as_none),
        cmocka_unit_test(head_answers_as_get_without_the_body),
        cmocka_unit_test(last_modified_comes_once_its_second_is_there),
        cmocka_unit_test(delete_says_whether_the_key_was_there),
        cmocka_unit_test(delete_of_a_missing_key_can_be_an_error),
        cmocka_unit_test(missing_has_one_value_and_one_method),
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
