#include "api/request.h"

#include <assert.h>
#include <string.h>
#include <time.h>

int64_t clock_monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_wall_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec;
}

struct store *request_store(const struct request *request)
{
    struct store *store = atomic_load_explicit(&request->api->store, memory_order_acquire);

    assert(store != NULL);
    return store;
}

/* --- Failing ------------------------------------------------------------------------------- */

void request_fail(struct request *request, enum problem problem)
{
    if (request->problem == PROBLEM_NONE) {
        request->problem = problem;
    }
}

void request_fail_because(struct request *request, enum problem problem, const char *detail)
{
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    request->problem = problem;
    request->occurrence.detail = detail;
}

void request_fail_limit(struct request *request, enum problem problem, uint64_t limit)
{
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    request->problem = problem;
    request->occurrence.limit = limit;
    request->occurrence.has_limit = true;
}

void request_fail_parameter(struct request *request, enum problem problem, struct span name,
                            const char *detail)
{
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    request->problem = problem;
    request->occurrence.detail = detail;
    if (name.len > 0 && name.len < sizeof(request->parameter_name)) {
        memcpy(request->parameter_name, name.at, name.len);
        request->parameter_name[name.len] = '\0';
        request->occurrence.parameter = request->parameter_name;
    }
}

void request_fail_err(struct request *request, enum err err)
{
    if (err == ERR_OK || request->problem != PROBLEM_NONE) {
        return;
    }
    request->problem = problem_from_err(err);
    request->err = err;
}

/* --- Waiting ------------------------------------------------------------------------------- */

/*
 * The callback may run before request_then(), during it, or much later, on any thread. Both sides
 * exchange the state, and whoever comes second knows that the other one was there: so the
 * connection is resumed exactly once, and never before it was suspended.
 */
void request_start(struct request *request)
{
    assert(request->next == NULL);
    atomic_store_explicit(&request->operation, OPERATION_RUNNING, memory_order_relaxed);
}

static void resume(struct api *api, struct MHD_Connection *connection)
{
    const struct api_hooks *hooks = &api->config.hooks;

    if (hooks->resume != NULL) {
        hooks->resume(hooks->arg, connection);
    } else {
        MHD_resume_connection(connection);
    }
    atomic_fetch_sub(&api->waiting, 1);
}

void request_complete(struct request *request)
{
    struct api *api = request->api;
    struct MHD_Connection *connection = request->connection;
    enum operation before =
        atomic_exchange_explicit(&request->operation, OPERATION_DONE, memory_order_acq_rel);

    assert(before != OPERATION_DONE);
    if (before == OPERATION_SUSPENDED) {
        resume(api, connection);
    }
}

void request_put_off(struct request *request, void (*next)(struct request *request))
{
    assert(request->next == NULL);
    atomic_store_explicit(&request->operation, OPERATION_DONE, memory_order_relaxed);
    request->next = next;
}

void request_then(struct request *request, void (*next)(struct request *request))
{
    const struct api_hooks *hooks = &request->api->config.hooks;

    if (atomic_load_explicit(&request->operation, memory_order_acquire) == OPERATION_DONE) {
        next(request);
        return;
    }
    request->next = next;
    atomic_fetch_add(&request->api->waiting, 1);
    if (hooks->phase != NULL) {
        hooks->phase(hooks->arg, request->connection, API_PHASE_WAITING);
    }
    MHD_suspend_connection(request->connection);
    if (atomic_exchange_explicit(&request->operation, OPERATION_SUSPENDED, memory_order_acq_rel) ==
        OPERATION_DONE) {
        atomic_store_explicit(&request->operation, OPERATION_DONE, memory_order_relaxed);
        resume(request->api, request->connection);
    }
}
