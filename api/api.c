#include "api/api.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/header_section.h"
#include "api/reply.h"
#include "api/request.h"

struct api_config api_config_default(void)
{
    return (struct api_config){
        .version = "",
        .policy = {.target_bytes_max = 8192, .header_bytes_max = 6144},
        .max_value_bytes = UINT64_C(16) << 20,
        .drop_bytes_max = UINT64_C(64) << 20,
        .drop_ms_max = 30000,
    };
}

struct api *api_new(const struct api_config *config)
{
    struct api *api = calloc(1, sizeof(*api));

    if (api == NULL) {
        return NULL;
    }
    api->config = *config;
    api->started_ms = clock_monotonic_us() / 1000;
    api->out_of_memory = reply_new_out_of_memory();
    if (api->out_of_memory == NULL) {
        free(api);
        return NULL;
    }
    return api;
}

void api_free(struct api *api)
{
    if (api == NULL) {
        return;
    }
    assert(atomic_load(&api->waiting) == 0);
    MHD_destroy_response(api->out_of_memory);
    free(api);
}

void api_set_store(struct api *api, struct store *store)
{
    atomic_store_explicit(&api->store, store, memory_order_release);
}

void api_set_draining(struct api *api)
{
    atomic_store_explicit(&api->draining, true, memory_order_relaxed);
}

unsigned api_waiting(const struct api *api)
{
    return atomic_load(&api->waiting);
}

/* --- A request begins ------------------------------------------------------------------------ */

/* libmicrohttpd would look for parameters itself, after this, and keep each in the connection's
 * memory: with some hundreds that is used up, and then it neither answers nor goes on. We have our
 * own copy of the query. It asks for a const target, but the bytes are those of the connection's
 * buffer, which it is about to write to itself. Later versions answer by themselves. */
static void hide_query(const char *raw_target)
{
#if MHD_VERSION < 0x01000000
    const char *mark = raw_target == NULL ? NULL : strchr(raw_target, '?');

    if (mark != NULL) {
        ((char *)(uintptr_t)mark)[1] = '\0';
    }
#else
    (void)raw_target;
#endif
}

void *api_begin(void *api_arg, const char *raw_target, struct MHD_Connection *connection)
{
    struct api *api = api_arg;
    const struct api_hooks *hooks = &api->config.hooks;
    size_t len = raw_target == NULL ? 0 : strlen(raw_target);
    /* malloc, since calloc goes past the allocator's cache of freed blocks */
    struct request *request = malloc(sizeof(*request) + len + 1);

    if (hooks->phase != NULL) {
        hooks->phase(hooks->arg, connection, API_PHASE_HEADERS);
    }
    if (request == NULL) {
        return NULL;
    }
    memset(request, 0, sizeof(*request));
    request->api = api;
    request->connection = connection;
    request->started_us = clock_monotonic_us();
    request->method = API_METHOD_OTHER;
    precondition_init(&request->precondition);
    if (len > 0) {
        memcpy(request->target_text, raw_target, len);
    }
    request->target_text[len] = '\0';
    request->target_len = len;
    hide_query(raw_target);
    return request;
}

size_t api_keep_escapes(void *api, struct MHD_Connection *connection, char *text)
{
    (void)api;
    (void)connection;
    return strlen(text);
}

static void go_on(struct request *request)
{
    void (*next)(struct request *) = request->next;
    const struct api_hooks *hooks = &request->api->config.hooks;

    request->next = NULL;
    if (hooks->phase != NULL) {
        hooks->phase(hooks->arg, request->connection, API_PHASE_BODY);
    }
    next(request);
}

/* --- The body ------------------------------------------------------------------------------ */

/* Drops a piece of a body that nobody wants. False once that took too long: cut it off. */
static bool drop(struct request *request, size_t size)
{
    const struct api_config *config = &request->api->config;
    int64_t now_ms = clock_monotonic_us() / 1000;

    if (request->dropping_since_ms == 0) {
        request->dropping_since_ms = now_ms;
    }
    request->dropped_bytes += size;
    return request->dropped_bytes <= config->drop_bytes_max &&
           now_ms - request->dropping_since_ms <= (int64_t)config->drop_ms_max;
}

/* Nothing will come of a write that failed: what it holds is needed elsewhere, and the rest of its
 * body may take long to come. */
static void give_up_write(struct request *request)
{
    if (request->problem != PROBLEM_NONE) {
        store_write_abort(request->write);
        request->write = NULL;
        request->value = NULL;
    }
}

static bool take_body(struct request *request, const char *data, size_t size)
{
    request->received_bytes += size;
    if (request->problem == PROBLEM_NONE && request->handler->body != NULL) {
        request->handler->body(request, data, size);
        give_up_write(request);
        return true;
    }
    return drop(request, size);
}

/* An answer before the body closes the connection; that is right where nothing that follows can
 * be trusted, where the client waits for a word before it sends, and where the body would be cut
 * off anyway. */
static bool must_answer_now(const struct request *request)
{
    bool has_body = request->chunked || request->length > 0;

    if (request->close) {
        return true;
    }
    if (has_body && request->expects_continue) {
        return true;
    }
    return request->length > request->api->config.drop_bytes_max;
}

/* A connection that was suspended goes on with what it was about to do, and while a request comes
 * in that is reading: where the client has closed its half, libmicrohttpd would find the end of
 * the stream and drop the connection, and a write that was taken would have no answer. When the end
 * of a request is left without an answer once, the connection no longer reads, and the next round
 * calls again. It costs nothing: it saves the read. */
static bool put_off_end(struct request *request)
{
    bool first = !request->put_off;

    request->put_off = true;
    return first && request->problem == PROBLEM_NONE && request->handler->suspends;
}

/* --- The whole ----------------------------------------------------------------------------- */

static enum MHD_Result answer_without_memory(struct api *api, struct MHD_Connection *connection)
{
    return MHD_queue_response(connection, MHD_HTTP_SERVICE_UNAVAILABLE, api->out_of_memory);
}

enum MHD_Result api_handle(void *api, struct MHD_Connection *connection, const char *url,
                           const char *method, const char *version, const char *upload_data,
                           size_t *upload_data_size, void **context)
{
    struct request *request = *context;

    if (request == NULL) {
        return answer_without_memory(api, connection);
    }
    if (*upload_data_size > 0) {
        bool keep = take_body(request, upload_data, *upload_data_size);

        *upload_data_size = 0;
        return keep ? MHD_YES : MHD_NO;
    }
    if (request->next != NULL) {
        go_on(request);
    } else if (request->stage == STAGE_HEADERS) {
        header_section_take(request, url, method, version);
    } else if (put_off_end(request)) {
        return MHD_YES;
    } else {
        request->stage = STAGE_END;
        if (request->problem == PROBLEM_NONE) {
            request->handler->finish(request);
        }
    }
    if (request->next != NULL) {
        return MHD_YES; /* suspended; or resumed already, and called again */
    }
    give_up_write(request);
    if (request->stage == STAGE_HEADERS) {
        request->stage = STAGE_BODY;
        if (request->problem != PROBLEM_NONE && must_answer_now(request)) {
            reply_problem(request);
        }
        return MHD_YES;
    }
    if (!request->answered && request->problem != PROBLEM_NONE) {
        reply_problem(request);
    }
    return request->answered ? MHD_YES : MHD_NO;
}

static void give_back(struct request *request)
{
    if (request->found) {
        store_entry_release(request->entry);
    }
    if (request->state != NULL) {
        request->state_free(request->state);
    }
    free(request->entry);
    store_write_abort(request->write);
    precondition_release(&request->precondition);
}

void api_end(void *api_arg, struct MHD_Connection *connection, void **context,
             enum MHD_RequestTerminationCode reason)
{
    struct api *api = api_arg;
    const struct api_hooks *hooks = &api->config.hooks;
    struct request *request = *context;
    bool head;

    *context = NULL;
    if (request == NULL) {
        return;
    }
    /* A client that went away while its request was suspended: libmicrohttpd may end the request
     * without calling the handler again. The store has let go of it before it was resumed. */
    assert(request->next == NULL || atomic_load(&request->operation) == OPERATION_DONE);
    give_back(request);
    head = request->method == API_METHOD_HEAD || request->status == MHD_HTTP_NOT_MODIFIED;
    if (hooks->finished != NULL) {
        struct api_outcome outcome = {
            .route = request->route == NULL ? API_ROUTE_NONE : request->route->id,
            .method = request->method,
            .status = request->status,
            .complete = request->answered && reason == MHD_REQUEST_TERMINATED_COMPLETED_OK,
            .problem = request->problem,
            .err = request->err,
            .duration_us = (uint64_t)(clock_monotonic_us() - request->started_us),
            .received_bytes = request->received_bytes,
            .sent_bytes = head ? 0 : request->answer_bytes,
            .request_id = request->id,
        };
        hooks->finished(hooks->arg, connection, &outcome);
    }
    free(request);
}
