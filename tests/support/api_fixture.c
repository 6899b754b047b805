#include "tests/support/api_fixture.h"

#include <arpa/inet.h>
#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/alloc.h"
#include "tests/support/check.h"

static void hook_page(void *arg, struct MHD_Connection *connection, enum api_route route,
                      const struct api_probe_query *query, struct api_page *ret_page)
{
    (void)arg;
    (void)connection;
    ret_page->status = route == API_ROUTE_STARTUPZ ? 503 : 200;
    ret_page->retry_after_s = route == API_ROUTE_STARTUPZ ? 1 : 0;
    ret_page->text = test_strdup(query->verbose ? "verbose\n" : query->write ? "write\n" : "ok\n");
    ret_page->text_bytes = strlen(ret_page->text);
}

static enum problem hook_refuse(void *arg, struct MHD_Connection *connection)
{
    const struct fixture *f = arg;

    (void)connection;
    return f->refusal;
}

static void hook_phase(void *arg, struct MHD_Connection *connection, enum api_phase phase)
{
    struct fixture *f = arg;

    (void)connection;
    pthread_mutex_lock(&f->mutex);
    f->phases[phase]++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void hook_finished(void *arg, struct MHD_Connection *connection,
                          const struct api_outcome *outcome)
{
    struct fixture *f = arg;

    (void)connection;
    assert(outcome->request_id[0] == '\0' || outcome->problem != PROBLEM_NONE);
    pthread_mutex_lock(&f->mutex);
    f->finished++;
    f->outcome = *outcome;
    f->outcome.request_id = NULL;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static struct api_config config_of(struct fixture *f)
{
    struct api_config config = api_config_default();

    config.version = "1.2.3";
    config.max_value_bytes = VALUE_BYTES_MAX;
    config.drop_bytes_max = DROP_BYTES_MAX;
    config.hooks = (struct api_hooks){
        .arg = f,
        .page = hook_page,
        .refuse = hook_refuse,
        .phase = hook_phase,
        .finished = hook_finished,
    };
    return config;
}

static void start(struct fixture *f)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    f->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, api_handle, f->api,
        MHD_OPTION_SOCK_ADDR, &any, MHD_OPTION_URI_LOG_CALLBACK, api_begin, f->api,
        MHD_OPTION_NOTIFY_COMPLETED, api_end, f->api, MHD_OPTION_UNESCAPE_CALLBACK,
        api_keep_escapes, f->api, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
        MHD_OPTION_END);
    assert(f->daemon != NULL);
    f->port = MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    f->peer = raw_connect(f->port);
}

int api_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert(f != NULL);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    struct api_config config = config_of(f);
    f->api = api_new(&config);
    assert(f->api != NULL);
    f->store = fake_store_new();
    api_set_store(f->api, f->store);
    start(f);
    *state = f;
    return 0;
}

void wait_nobody_waits(struct fixture *f)
{
    while (api_waiting(f->api) != 0) { /* ctest's limit of time ends a wait in vain */
        sched_yield();
    }
}

int api_teardown(void **state)
{
    struct fixture *f = *state;

    raw_close(&f->peer);
    wait_nobody_waits(f);
    MHD_stop_daemon(f->daemon);
    api_free(f->api);
    fake_store_free(f->store);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->changed);
    free(f);
    return 0;
}

void reconnect(struct fixture *f)
{
    raw_close(&f->peer);
    f->peer = raw_connect(f->port);
}

struct api_outcome wait_finished(struct fixture *f, unsigned n)
{
    pthread_mutex_lock(&f->mutex);
    while (f->finished < n) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    struct api_outcome outcome = f->outcome;
    pthread_mutex_unlock(&f->mutex);
    return outcome;
}

unsigned finished(struct fixture *f)
{
    pthread_mutex_lock(&f->mutex);
    unsigned n = f->finished;
    pthread_mutex_unlock(&f->mutex);
    return n;
}

void wait_phase(struct fixture *f, enum api_phase phase, unsigned n)
{
    pthread_mutex_lock(&f->mutex);
    while (f->phases[phase] < n) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}

unsigned ask(struct fixture *f, const char *what, const char *fields)
{
    char request[12000];

    int len = snprintf(request, sizeof request, "%s HTTP/1.1\r\n" HOST "%s\r\n", what, fields);
    assert_true(len > 0 && (size_t)len < sizeof request);
    return raw_ask(&f->peer, request);
}

unsigned put(struct fixture *f, const char *target, const char *fields, const char *value)
{
    char all[12000];

    snprintf(all, sizeof all, "%sContent-Length: %zu\r\n\r\n%s", fields, strlen(value), value);
    char request[13000];
    snprintf(request, sizeof request, "PUT %s HTTP/1.1\r\n" HOST "%s", target, all);
    return raw_ask(&f->peer, request);
}

const char *field(struct fixture *f, const char *name)
{
    const char *value = raw_field(&f->peer, name);

    return value == NULL ? "(none)" : value;
}

json_t *body_json(struct fixture *f)
{
    json_t *json =
        json_loadb(f->peer.body, f->peer.body_len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);

    assert_non_null(json);
    return json;
}

void assert_problem(struct fixture *f, enum problem problem)
{
    json_t *json = body_json(f);
    const char *type = json_string_value(json_object_get(json, "type"));
    const char *id = json_string_value(json_object_get(json, "request_id"));

    assert_non_null(type);
    assert_string_equal(type, problem_kind(problem)->type);
    assert_int_equal(json_integer_value(json_object_get(json, "status")),
                     problem_kind(problem)->status);
    assert_string_equal(field(f, "Varve-Request-Id"), id);
    assert_string_equal(field(f, "Content-Type"), "application/problem+json");
    assert_string_equal(field(f, "Cache-Control"), "no-store");
    assert_int_equal(raw_field(&f->peer, "Retry-After") != NULL,
                     problem_kind(problem)->retry_after_s > 0);
    json_decref(json);
}

void assert_usable(struct fixture *f)
{
    assert_int_equal(ask(f, "GET /version", ""), 200);
}

void assert_closed(struct fixture *f)
{
    assert_true(raw_ended(&f->peer));
    reconnect(f);
}

unsigned put_chunked(struct fixture *f, const char *data, size_t len, size_t chunk)
{
    char head[32];

    raw_send_text(&f->peer, "PUT /kv/c HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n");
    for (size_t at = 0; at < len; at += chunk) {
        size_t size = len - at < chunk ? len - at : chunk;

        raw_send(&f->peer, head, (size_t)snprintf(head, sizeof head, "%zx;x=y\r\n", size));
        raw_send(&f->peer, data + at, size);
        raw_send_text(&f->peer, "\r\n");
    }
    raw_send_text(&f->peer, "0\r\n\r\n");
    return raw_receive(&f->peer, false);
}

char *bytes_for_body(size_t len)
{
    char *data = malloc(len + 1);

    assert(data != NULL);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 7 + i / 251);
    }
    data[len] = '\0';
    return data;
}
