/* What the owner of the sockets answers: probes and metrics; and OPTIONS, which nobody owns. */
#include <stdio.h>
#include <string.h>

#include "api/reply.h"
#include "api/router.h"
#include "api/routes.h"

enum { PAGE_VERBOSE, PAGE_WRITE }; /* the parameters of /readyz */

/* A name alone switches on; what looks like switching off must not do that too. */
static void page_begin(struct request *request)
{
    for (size_t i = 0; request->handler->parameters[i] != NULL; i++) {
        const struct parameter *parameter = &request->parameters[i];
        struct span value = parameter->value;

        if (value.len > 0 && !span_is(value, "1") && !span_is(value, "true")) {
            request_fail_parameter(request, PROBLEM_MALFORMED_PARAMETER,
                                   span_of(parameter->name, strlen(parameter->name)),
                                   "Send the parameter without a value, or with 1 or true.");
        }
    }
}

static void page_finish(struct request *request)
{
    const struct api_hooks *hooks = &request->api->config.hooks;
    struct api_probe_query query = {
        .verbose = request->parameters[PAGE_VERBOSE].value.at != NULL,
        .write = request->parameters[PAGE_WRITE].value.at != NULL,
    };
    struct api_page page = {.status = MHD_HTTP_OK, .content_type = "text/plain; charset=utf-8"};
    struct reply reply;

    if (hooks->page == NULL) {
        request_fail(request, PROBLEM_NO_SUCH_ROUTE);
        return;
    }
    hooks->page(hooks->arg, request->connection, request->route->id, &query, &page);
    reply = reply_text(page.text, page.text_bytes);
    reply_add(&reply, "Content-Type", page.content_type);
    reply_add(&reply, "Cache-Control", "no-store");
    if (page.retry_after_s > 0) {
        char number[16];

        snprintf(number, sizeof(number), "%u", page.retry_after_s);
        reply_add(&reply, "Retry-After", number);
    }
    reply_queue(request, page.status, &reply);
}

const struct handler page_get = {.finish = page_finish};

const struct handler page_readyz = {
    .parameters = {[PAGE_VERBOSE] = "verbose", [PAGE_WRITE] = "write"},
    .begin = page_begin,
    .finish = page_finish,
};

static void options_finish(struct request *request)
{
    struct reply reply = reply_empty();
    char allow[ALLOW_SIZE];

    router_allow(request->route, allow);
    reply_add(&reply, "Allow", allow);
    reply_queue(request, MHD_HTTP_NO_CONTENT, &reply);
}

const struct handler options_any = {.finish = options_finish};
