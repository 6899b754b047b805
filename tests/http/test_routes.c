/* Every route, and paths that are none: which methods they have, and what OPTIONS and HEAD say. */
#include <stdio.h>
#include <unistd.h>

#include "tests/http/fixture.h"

static int group_start_with_a_key(void **state)
{
    if (group_start(state) != 0) {
        return -1;
    }
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 201, "PUT", "/kv/a", NULL, "value");
    return 0;
}

#define OF_A_KEY  "GET, HEAD, PUT, DELETE, OPTIONS"
#define TO_READ   "GET, HEAD, OPTIONS"
#define TO_HAPPEN "POST, OPTIONS"

static const struct {
    const char *path, *allow;
} routes[] = {
    {"/kv/a", OF_A_KEY},   {"/kv64/YQ", OF_A_KEY},      {"/kv", TO_READ},
    {"/stats", TO_READ},   {"/admin/flush", TO_HAPPEN}, {"/admin/compact", TO_HAPPEN},
    {"/version", TO_READ}, {"/openapi.yaml", TO_READ},  {"/livez", TO_READ},
    {"/readyz", TO_READ},  {"/startupz", TO_READ},      {"/metrics", TO_READ},
};

static const char *const methods[] = {"GET",    "HEAD",  "PUT", "POST",
                                      "DELETE", "PATCH", "get", "OPTIONS"};

/* One request, with a body where one may be expected. */
static struct reply ask(struct client *client, const char *method, const char *path)
{
    const char *body = method[0] == 'P' ? "x" : NULL;
    return client_send(client, method, path, NULL, body, body != NULL ? 1 : 0);
}

/* As assert_problem(), but that the answer to HEAD has no body. */
static void assert_refused(const struct reply *reply, const char *method, const char *path,
                           unsigned status, const char *type)
{
    if (reply->status != status) {
        print_error("%s %s\n", method, path);
    }
    if (strcmp(method, "HEAD") == 0) {
        assert_status(reply, status);
        assert_field(reply, "Content-Type", "application/problem+json");
        assert_int_equal(reply->size, 0);
    } else {
        assert_problem(reply, status, type);
    }
}

static void options_names_the_methods_of_every_route(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        struct reply reply = ask(client, "OPTIONS", routes[i].path);
        assert_status(&reply, 204);
        assert_field(&reply, "Allow", routes[i].allow);
        assert_int_equal(reply.size, 0);
        reply_free(&reply);
    }
}

static void other_methods_of_every_route_are_405_and_say_which_there_are(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            if (strstr(routes[i].allow, methods[j]) != NULL) {
                continue;
            }
            struct reply reply = ask(client, methods[j], routes[i].path);
            assert_refused(&reply, methods[j], routes[i].path, 405, "/problems/method-not-allowed");
            assert_field(&reply, "Allow", routes[i].allow);
            reply_free(&reply);
        }
    }
    expect_status(client, 200, "GET", "/kv/a", NULL, NULL);
}

/* Pipelined: a body that came with the answer to HEAD would be taken for the next answer. */
static void expect_head_as_get(const struct fixture *fixture, const char *path, bool moves)
{
    static const char *const same[] = {"Content-Type", "Cache-Control", "ETag"};
    char text[400];
    (void)snprintf(text, sizeof text,
                   "HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
                   "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                   path, path);
    int fd = raw_connect(fixture->server);
    raw_send(fd, text);
    struct reply head = raw_reply_to_head(fd);
    struct reply got = raw_reply(fd);
    assert_status(&head, 200);
    assert_status(&got, 200);
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        const char *of_get = reply_field(&got, same[i]);
        if (of_get != NULL) {
            assert_field(&head, same[i], of_get);
        } else {
            assert_no_field(&head, same[i]);
        }
    }
    assert_non_null(reply_field(&head, "Content-Length"));
    if (!moves) {
        assert_field(&head, "Content-Length", reply_field(&got, "Content-Length"));
    }
    reply_free(&head);
    reply_free(&got);
    close(fd);
}

static void head_answers_as_get_wherever_get_does(void **state)
{
    static const char *const paths[] = {"/kv/a",         "/kv64/YQ", "/kv",     "/kv?prefix=none",
                                        "/version",      "/livez",   "/readyz", "/readyz?verbose",
                                        "/openapi.yaml", "/startupz"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        expect_head_as_get(*state, paths[i], false);
    }
    expect_head_as_get(*state, "/stats", true);
    expect_head_as_get(*state, "/metrics", true);
    /* Refusals too. */
    struct client *client = ((struct fixture *)*state)->client;
    expect_status(client, 400, "HEAD", "/kv?colour=red", NULL, NULL);
    expect_status(client, 400, "HEAD", "/version?x", NULL, NULL);
}

static void paths_that_lead_nowhere_are_404_whatever_the_method(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const paths[] = {
        "/", "/none", "/KV/a", "/kv64", "/kvx", "//kv/a", "/livez/", "/admin", "/admin/",
        "/admin/flush/", "/version/x", "/openapi.json", "/%6b%76/a", "/metrics%20", "/.",
        /* not built yet */
        "/batch", "/watch", "/watch/token", "/watch?prefix=a", "/admin/checkpoint"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            struct reply reply = ask(client, methods[j], paths[i]);
            assert_refused(&reply, methods[j], paths[i], 404, "/problems/no-such-route");
            assert_no_field(&reply, "Allow");
            reply_free(&reply);
        }
    }
}

static void an_empty_key_is_400_whatever_the_method(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const paths[] = {"/kv/", "/kv64/", "/kv/?missing=error"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            struct reply reply = ask(client, methods[j], paths[i]);
            assert_refused(&reply, methods[j], paths[i], 400, "/problems/empty-key");
            if (strcmp(methods[j], "HEAD") != 0) {
                assert_non_null(strstr(reply.body, "/kv?prefix="));
            }
            reply_free(&reply);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_names_the_methods_of_every_route),
        cmocka_unit_test(other_methods_of_every_route_are_405_and_say_which_there_are),
        cmocka_unit_test(head_answers_as_get_wherever_get_does),
        cmocka_unit_test(paths_that_lead_nowhere_are_404_whatever_the_method),
        cmocka_unit_test(an_empty_key_is_400_whatever_the_method),
    };
    return cmocka_run_group_tests(tests, group_start_with_a_key, group_stop);
}
