#include "api/reply.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/router.h"

static struct reply reply_of(struct MHD_Response *response, size_t body_bytes)
{
    return (struct reply){.response = response, .body_bytes = body_bytes, .ok = response != NULL};
}

struct reply reply_static(const void *data, size_t size)
{
    /* libmicrohttpd doesn't write there, it only has no const. */
    return reply_of(
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)data, MHD_RESPMEM_PERSISTENT),
        size);
}

struct reply reply_empty(void)
{
    return reply_static("", 0);
}

struct reply reply_text(char *text, size_t size)
{
    struct MHD_Response *response =
        text == NULL ? NULL : MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);

    if (response == NULL) {
        free(text);
    }
    return reply_of(response, size);
}

static void unpin(void *arg)
{
    struct store_entry *entry = arg;

    store_entry_release(entry);
    free(entry);
}

struct reply reply_entry(struct store_entry *entry)
{
    size_t size = entry->value.size;
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        size, (void *)(uintptr_t)entry->value.data, unpin, entry);

    if (response == NULL) { /* then the callback never runs */
        unpin(entry);
    }
    return reply_of(response, size);
}

void reply_add(struct reply *reply, const char *name, const char *value)
{
    if (reply->ok && MHD_add_response_header(reply->response, name, value) == MHD_NO) {
        reply->ok = false;
    }
}

void reply_add_text(struct reply *reply, const char *name, const struct store_text *value)
{
    char text[STORE_TEXT_MAX_BYTES + 1];

    assert(value->size < sizeof(text));
    memcpy(text, value->data, value->size);
    text[value->size] = '\0';
    reply_add(reply, name, text);
}

static bool queue(struct request *request, unsigned status, struct MHD_Response *response)
{
    if (MHD_queue_response(request->connection, status, response) == MHD_NO) {
        return false;
    }
    request->answered = true;
    request->status = status;
    return true;
}

void reply_queue(struct request *request, unsigned status, struct reply *reply)
{
    struct api *api = request->api;
    const struct api_hooks *hooks = &api->config.hooks;

    assert(!request->answered);
    /* After a chunked body another parser may see the message's end elsewhere. */
    if (request->close || request->chunked ||
        atomic_load_explicit(&api->draining, memory_order_relaxed)) {
        reply_add(reply, "Connection", "close");
    }
    if (reply->ok) {
        if (queue(request, status, reply->response)) {
            request->answer_bytes = reply->body_bytes;
        }
    } else {
        request->problem = PROBLEM_OUT_OF_MEMORY;
        (void)queue(request, MHD_HTTP_SERVICE_UNAVAILABLE, api->out_of_memory);
    }
    if (reply->response != NULL) {
        MHD_destroy_response(reply->response);
    }
    reply->response = NULL;
    if (request->answered && hooks->phase != NULL) {
        hooks->phase(hooks->arg, request->connection, API_PHASE_ANSWER);
    }
}

static uint64_t random_u64(void)
{
    static _Thread_local uint64_t state;

    if (state == 0 && getrandom(&state, sizeof(state), 0) != sizeof(state)) {
        state = (uint64_t)clock_monotonic_us() ^ (uint64_t)(uintptr_t)&state;
    }
    /* splitmix64 (Steele, Lea, Flood, OOPSLA 2014): ids need to differ, not to be secret */
    state += 0x9E3779B97F4A7C15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static void make_id(char id[REQUEST_ID_SIZE])
{
    uint64_t number = random_u64();

    for (size_t i = 0; i < REQUEST_ID_SIZE - 1; i++, number >>= 4) {
        id[i] = "0123456789abcdef"[number & 15];
    }
    id[REQUEST_ID_SIZE - 1] = '\0';
}

static void add_problem_fields(struct reply *reply, const struct problem_kind *kind)
{
    char number[16];

    reply_add(reply, "Content-Type", PROBLEM_MEDIA_TYPE);
    reply_add(reply, "Cache-Control", "no-store");
    if (kind->retry_after_s > 0) {
        snprintf(number, sizeof(number), "%u", kind->retry_after_s);
        reply_add(reply, "Retry-After", number);
    }
}

void reply_problem(struct request *request)
{
    const struct problem_kind *kind = problem_kind(request->problem);
    struct problem_occurrence *occurrence = &request->occurrence;
    size_t len = 0;
    char *text;
    struct reply reply;

    make_id(request->id);
    occurrence->request_id = request->id;
    text = problem_body(request->problem, occurrence, &len);
    reply = reply_text(text, len);
    reply_add(&reply, "Varve-Request-Id", request->id);
    add_problem_fields(&reply, kind);
    if (occurrence->current_etag != NULL) {
        reply_add(&reply, "ETag", occurrence->current_etag);
    }
    if (request->problem == PROBLEM_METHOD_NOT_ALLOWED) {
        char allow[ALLOW_SIZE];

        router_allow(request->route, allow);
        reply_add(&reply, "Allow", allow);
    }
    reply_queue(request, kind->status, &reply);
}

struct MHD_Response *reply_new_out_of_memory(void)
{
    const struct problem_kind *kind = problem_kind(PROBLEM_OUT_OF_MEMORY);
    size_t len = 0;
    char *text = problem_body(PROBLEM_OUT_OF_MEMORY, &(struct problem_occurrence){0}, &len);
    struct reply reply = reply_text(text, len);

    add_problem_fields(&reply, kind);
    if (!reply.ok && reply.response != NULL) {
        MHD_destroy_response(reply.response);
        reply.response = NULL;
    }
    return reply.response;
}
