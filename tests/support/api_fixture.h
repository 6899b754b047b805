/*
 * api_fixture.h - the HTTP contract served on a port of its own, on a store that does as it is
 * told, and one connection to it.
 *
 * Threads:   the test's. What the hooks write is read under the mutex.
 * Ownership: api_setup() and api_teardown() are cmocka's setup and teardown.
 * Errors:    end the test or the program.
 */
#ifndef VARVE_TESTS_SUPPORT_API_FIXTURE_H
#define VARVE_TESTS_SUPPORT_API_FIXTURE_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "tests/support/fake_store.h"
#include "tests/support/raw_http.h"

enum { POOL_BYTES = 16384, VALUE_BYTES_MAX = 100000, DROP_BYTES_MAX = 300000 };

/* A server with the store behind it, and one connection to it. */
struct fixture {
    struct api *api;
    struct MHD_Daemon *daemon;
    struct store *store;
    uint16_t port;
    struct raw_connection peer;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned finished;
    struct api_outcome outcome; /* of the last request that finished */
    unsigned phases[4];
    enum problem refusal;
};

int api_setup(void **state);
int api_teardown(void **state);

/* A test with both of them. */
#define API_TEST(test) cmocka_unit_test_setup_teardown(test, api_setup, api_teardown)

/* Closes the connection and opens a new one. */
void reconnect(struct fixture *f);

/* Waits for the end of the nth request; its outcome. */
struct api_outcome wait_finished(struct fixture *f, unsigned n);

/* Requests that have ended. */
unsigned finished(struct fixture *f);

/* Waits until requests were in this phase n times. */
void wait_phase(struct fixture *f, enum api_phase phase, unsigned n);

/* Waits until no request is suspended: the store's thread says so a moment after the answer may
 * have left. */
void wait_nobody_waits(struct fixture *f);

#define HOST "Host: h\r\n"

/* One request without a body: "GET /kv/a" and more fields, each with its end of line. */
unsigned ask(struct fixture *f, const char *what, const char *fields);

/* The same for a PUT with a value. */
unsigned put(struct fixture *f, const char *target, const char *fields, const char *value);

/* A PUT of /kv/c in chunks. */
unsigned put_chunked(struct fixture *f, const char *data, size_t len, size_t chunk);

/* Bytes for free(). */
char *bytes_for_body(size_t len);

/* A field of the last answer, "(none)" where it has none. */
const char *field(struct fixture *f, const char *name);

/* The body of the last answer, for json_decref(). */
json_t *body_json(struct fixture *f);

/* The last answer is this problem, in every respect. */
void assert_problem(struct fixture *f, enum problem problem);

#define assert_refused(f, problem_, asked)                         \
    do {                                                           \
        assert_int_equal((asked), problem_kind(problem_)->status); \
        assert_problem((f), (problem_));                           \
    } while (0)

/* Another request on the same connection works. */
void assert_usable(struct fixture *f);

/* The server has closed the connection; opens a new one. */
void assert_closed(struct fixture *f);

#endif
