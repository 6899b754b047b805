/* What web pages on other sites may do to a store on this machine: nothing. */
#include <stdio.h>

#include "tests/http/fixture.h"

static int group_start_named(void **state)
{
    return group_start_with(state,
                            FIELDS("--host-name", "store.example", "--host-name", "Other.Example"));
}

static struct reply with_host(const struct fixture *fixture, const char *method, const char *host,
                              const char *field)
{
    char text[500];
    (void)snprintf(text, sizeof text,
                   "%s /kv/browser HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\n%s%s\r\nx", method,
                   host, field, field[0] != '\0' ? "\r\n" : "");
    return raw_exchange(fixture->server, text);
}

static void only_names_of_this_machine_are_answered(void **state)
{
    static const char *const ours[] = {
        "localhost",     "LocalHost:7070", "127.0.0.1",          "127.1.2.3:80",
        "[::1]",         "[::1]:9",        "store.example",      "store.example:7070",
        "STORE.example", "other.example",  "[::ffff:127.0.0.1]",
    };
    static const char *const others[] = {
        "evil.example",
        "localhost.evil.example",
        "evil.example:7070",
        "127.0.0.1.evil.example",
        "xlocalhost",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "2130706433",
        "store.example.evil",
        "localhost:80x",
        "127.0.0.1@evil",
        "",
    };
    for (size_t i = 0; i < COUNT_OF(ours); i++) {
        struct reply reply = with_host(*state, "PUT", ours[i], "");
        assert_true(reply.status == 201 || reply.status == 204);
        reply_free(&reply);
    }
    static const char *const methods[] = {"GET", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            struct reply reply = with_host(*state, methods[j], others[i], "");
            if (reply.status != 421) {
                print_error("Host: %s\n", others[i]);
            }
            assert_problem(&reply, 421, "/problems/misdirected-request");
            reply_free(&reply);
        }
    }
    const struct fixture *fixture = *state;
    expect_status(fixture->client, 200, "GET", "/kv/browser", NULL, NULL);
}

static void probes_too_ask_for_a_name_of_ours(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply =
        raw_exchange(fixture->server, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_problem(&reply, 421, "/problems/misdirected-request");
    reply_free(&reply);
}

static void an_absolute_target_names_the_host(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply =
        raw_exchange(fixture->server, "GET http://evil.example/kv/browser HTTP/1.1\r\n"
                                      "Host: localhost\r\n\r\n");
    assert_problem(&reply, 421, "/problems/misdirected-request");
    reply_free(&reply);
}

static void other_origins_may_not_change_anything(void **state)
{
    static const char *const origins[] = {"Origin: http://evil.example",
                                          "Origin: null",
                                          "Origin: https://localhost:9",
                                          "Origin: http://127.0.0.1",
                                          "Origin: http://localhost.evil.example",
                                          "Origin: file://",
                                          "Origin: ",
                                          "Origin:",
                                          "Origin: http://localhost:7070\r\n"
                                          "Origin: http://localhost:7070",
                                          "Origin: http://localhost:7070\r\n"
                                          "Origin: http://evil.example",
                                          "Origin: http://evil.example\r\n"
                                          "Origin: http://localhost:7070"};
    static const char *const methods[] = {"PUT", "DELETE", "POST"};
    for (size_t i = 0; i < COUNT_OF(origins); i++) {
        for (size_t j = 0; j < COUNT_OF(methods); j++) {
            struct reply reply = with_host(*state, methods[j], "localhost:7070", origins[i]);
            if (reply.status != 403) {
                print_error("%s %s\n", methods[j], origins[i]);
            }
            assert_problem(&reply, 403, "/problems/cross-site-request");
            reply_free(&reply);
        }
    }
    const struct fixture *fixture = *state;
    struct reply reply = client_send(fixture->client, "POST", "/admin/flush",
                                     FIELDS("Origin: http://evil.example"), "", 0);
    assert_problem(&reply, 403, "/problems/cross-site-request");
    reply_free(&reply);
}

static void our_own_origin_may(void **state)
{
    static const struct {
        const char *host, *origin;
    } pairs[] = {
        {"localhost:7070", "Origin: http://localhost:7070"},
        {"localhost:7070", "Origin: HTTP://LocalHost:7070"},
        {"localhost", "Origin: http://localhost"},
        {"localhost", "Origin: http://localhost:80"},
        {"store.example", "Origin: https://store.example"},
        {"[::1]:7070", "Origin: http://[::1]:7070"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct reply reply = with_host(*state, "PUT", pairs[i].host, pairs[i].origin);
        assert_status(&reply, 204);
        reply_free(&reply);
    }
}

/* They may ask; without CORS headers the browser keeps the answer from the page. */
static void other_origins_may_ask_and_not_read(void **state)
{
    const struct fixture *fixture = *state;
    struct reply reply = client_send(fixture->client, "GET", "/kv/browser",
                                     FIELDS("Origin: http://evil.example"), NULL, 0);
    assert_status(&reply, 200);
    assert_no_field(&reply, "Access-Control-Allow-Origin");
    assert_field(&reply, "Content-Security-Policy", "sandbox");
    assert_field(&reply, "X-Content-Type-Options", "nosniff");
    reply_free(&reply);
}

static void elsewhere_than_on_loopback_any_name_is_answered(void **state)
{
    (void)state;
    struct server *server = server_start(FIELDS("--listen", "0.0.0.0:0", "--no-auth"));
    struct reply reply = raw_exchange(server, "GET /livez HTTP/1.1\r\nHost: any.example\r\n\r\n");
    assert_status(&reply, 200);
    reply_free(&reply);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_names_of_this_machine_are_answered),
        cmocka_unit_test(probes_too_ask_for_a_name_of_ours),
        cmocka_unit_test(an_absolute_target_names_the_host),
        cmocka_unit_test(other_origins_may_not_change_anything),
        cmocka_unit_test(our_own_origin_may),
        cmocka_unit_test(other_origins_may_ask_and_not_read),
        cmocka_unit_test(elsewhere_than_on_loopback_any_name_is_answered),
    };
    return cmocka_run_group_tests(tests, group_start_named, group_stop);
}
