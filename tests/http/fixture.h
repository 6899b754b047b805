/*
 * fixture.h - one server for all tests of a program, and one connection to it.
 *
 * Threads:   the test's.
 * Ownership: group_stop() ends the server, and with it the check that it exits cleanly.
 * Errors:    the group fails.
 */
#ifndef TESTS_HTTP_FIXTURE_H
#define TESTS_HTTP_FIXTURE_H

#include <stdlib.h>

#include "tests/http/support.h"
#include "tests/support/check.h"

struct fixture {
    struct server *server;
    struct client *client;
};

static inline int group_start_with(void **state, const char *const arguments[])
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL) {
        return -1;
    }
    fixture->server = server_start(arguments);
    fixture->client = client_new(fixture->server);
    *state = fixture;
    return 0;
}

static inline int group_start(void **state)
{
    return group_start_with(state, NULL);
}

static inline int group_stop(void **state)
{
    struct fixture *fixture = *state;
    client_free(fixture->client);
    server_stop(fixture->server);
    free(fixture);
    return 0;
}

#endif
