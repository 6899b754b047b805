#include "api/header_section.h"

#include <string.h>
#include <strings.h>

#include "api/router.h"
#include "api/routes.h"

enum { LINE_END_BYTES = 2 };

/* A header section being read. */
struct section {
    struct request *request;
    struct wire wire;
    const char *next; /* where the next line must begin */
    bool has_gap;
};

static bool contains_nocase(struct span text, const char *part)
{
    size_t len = strlen(part);

    for (size_t i = 0; i + len <= text.len; i++) {
        if (strncasecmp(text.at + i, part, len) == 0) {
            return true;
        }
    }
    return false;
}

static enum MHD_Result take_field(void *arg, enum MHD_ValueKind kind, const char *name,
                                  size_t name_len, const char *value, size_t value_len)
{
    struct section *section = arg;
    struct request *request = section->request;
    struct span text = span_of(value == NULL ? "" : value, value == NULL ? 0 : value_len);
    enum problem problem = PROBLEM_NONE;

    (void)kind;
    section->has_gap |= name != section->next || value == NULL;
    section->next = text.at + text.len + LINE_END_BYTES;
    switch (wire_field(&section->wire, span_of(name, name_len), text)) {
    case WIRE_IF_MATCH:
        problem = precondition_if_match(&request->precondition, text);
        break;
    case WIRE_IF_NONE_MATCH:
        problem = precondition_if_none_match(&request->precondition, text);
        break;
    case WIRE_ACCEPT:
        request->wants_ndjson |= contains_nocase(text, "application/x-ndjson");
        request->takes_json |= contains_nocase(text, "application/json") ||
                               contains_nocase(text, "*/*") ||
                               contains_nocase(text, "application/*");
        break;
    case WIRE_AUTHORIZATION:
    case WIRE_CACHE_CONTROL:
    case WIRE_CONTENT_ENCODING:
    case WIRE_CONTENT_LENGTH:
    case WIRE_CONTENT_RANGE:
    case WIRE_CONTENT_TYPE:
    case WIRE_EXPECT:
    case WIRE_HOST:
    case WIRE_IF_MODIFIED_SINCE:
    case WIRE_IF_RANGE:
    case WIRE_IF_UNMODIFIED_SINCE:
    case WIRE_ORIGIN:
    case WIRE_RANGE:
    case WIRE_TRANSFER_ENCODING:
    case WIRE_VARVE_TTL:
    case WIRE_X_TTL:
    case WIRE_FIELD_COUNT:
        break;
    }
    if (request->precondition_problem == PROBLEM_NONE) {
        request->precondition_problem = problem;
    }
    return MHD_YES;
}

static void take_dates(struct request *request, const struct wire *wire)
{
    const struct wire_value *modified = &wire->fields[WIRE_IF_MODIFIED_SINCE];
    const struct wire_value *unmodified = &wire->fields[WIRE_IF_UNMODIFIED_SINCE];

    /* A second line makes the field invalid, and with it as good as absent. */
    if (modified->count == 1) {
        precondition_modified_since(&request->precondition, modified->first, clock_wall_s());
    }
    if (unmodified->count == 1) {
        precondition_unmodified_since(&request->precondition, unmodified->first, clock_wall_s());
    }
}

/* Keeps what later steps want to know: the section itself is soon forgotten. */
static void keep(struct request *request, const struct wire *wire, const struct wire_line *line)
{
    take_dates(request, wire);
    request->content_type = wire->fields[WIRE_CONTENT_TYPE];
    request->content_encoding = wire->fields[WIRE_CONTENT_ENCODING];
    request->cache_control = wire->fields[WIRE_CACHE_CONTROL];
    request->chunked = wire_has(wire, WIRE_TRANSFER_ENCODING);
    request->has_length =
        number_parse(wire->fields[WIRE_CONTENT_LENGTH].first, 0, UINT64_MAX, &request->length);
    request->expects_continue =
        !line->http_1_0 && span_is_nocase(wire->fields[WIRE_EXPECT].first, "100-continue");
}

/* libmicrohttpd leaves names and values where they came in, with zero bytes in place of colons and
 * line ends, and counts the bytes of the section. So it shows where it dropped something: what
 * follows a zero byte in a value, line ends without CR, folded lines, and all that comes behind a
 * line that begins with a colon, which it takes for the section's end and the rest for a request.
 * Later versions are as strict as that by themselves, and move values. */
static bool has_gap(const struct section *section, const char *method)
{
#if MHD_VERSION < 0x01000000
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        section->request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    return section->has_gap || info == NULL ||
           section->next + LINE_END_BYTES != method + info->header_size;
#else
    (void)section;
    (void)method;
    return false;
#endif
}

/* Everything that can be said about the message before its route matters. */
static void check_message(struct request *request, const char *url, const char *method,
                          const char *version)
{
    struct span target = {request->target_text, request->target_len};
    /* libmicrohttpd cuts the target at a zero byte, but the version that follows stays where it
     * was in the connection's buffer. */
    uintptr_t distance = (uintptr_t)version - (uintptr_t)url;
    struct wire_line line = {
        .method = span_of(method, strlen(method)),
        .target = target,
        .http_1_0 = strcmp(version, "HTTP/1.0") == 0,
        .target_cut = distance != target.len + 1,
    };
    struct section section;
    struct wire_refusal refusal;

    section.request = request;
    section.next = version + strlen(version) + LINE_END_BYTES;
    section.has_gap = false;
    wire_init(&section.wire);
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, take_field, &section);
    line.section_gap = has_gap(&section, method);
    keep(request, &section.wire, &line);
    refusal = wire_check(&section.wire, &line, &request->api->config.policy);
    if (refusal.limit > 0) {
        request_fail_limit(request, refusal.problem, refusal.limit);
    } else if (refusal.problem != PROBLEM_NONE) {
        request_fail_parameter(
            request, refusal.problem,
            refusal.field == NULL ? span_of("", 0) : span_of(refusal.field, strlen(refusal.field)),
            refusal.detail);
    }
    request->close = refusal.close;
}

/* Where a span of the target is in our own copy, which may be decoded in place. */
static char *writable(struct request *request, struct span part)
{
    return request->target_text + (part.at - request->target_text);
}

static void decode_key(struct request *request, struct span rest)
{
    char *out = writable(request, rest);
    enum problem problem = request->route->id == API_ROUTE_KEY64
                               ? key_from_base64url(rest, out, &request->key)
                               : key_from_path(rest, out, &request->key);

    if (problem == PROBLEM_KEY_TOO_LONG) {
        request_fail_limit(request, problem, KEY_BYTES_MAX);
    } else if (problem == PROBLEM_MALFORMED_KEY && request->route->id == API_ROUTE_KEY64) {
        request_fail_because(request, problem,
                             "Write the key as canonical base64url without padding.");
    } else {
        request_fail(request, problem);
    }
}

static void parse_query(struct request *request)
{
    struct span query = request->target.query;
    struct span name = {NULL, 0};
    enum problem problem;
    size_t n = 0;

    for (; request->handler->parameters[n] != NULL; n++) {
        request->parameters[n].name = request->handler->parameters[n];
    }
    if (query.at == NULL) {
        return;
    }
    problem = query_parse(writable(request, query), query.len, request->parameters, n, &name);
    if (problem != PROBLEM_NONE) {
        request_fail_parameter(request, problem, name, NULL);
    }
}

/* Overload must not make a supervisor restart what works, nor hide itself from the metrics. */
static bool is_page(const struct route *route)
{
    return route != NULL && (route->id == API_ROUTE_LIVEZ || route->id == API_ROUTE_READYZ ||
                             route->id == API_ROUTE_STARTUPZ || route->id == API_ROUTE_METRICS);
}

static void find_route(struct request *request)
{
    const struct api_hooks *hooks = &request->api->config.hooks;
    struct span target = {request->target_text, request->target_len};
    enum problem problem = target_split(target, &request->target);
    struct span rest = {NULL, 0};
    bool any = false;

    if (problem == PROBLEM_NONE) {
        request->route = router_find(request->target.path, &rest);
        any = span_is(request->target.path, "*") && request->method == API_METHOD_OPTIONS;
    }
    if (hooks->refuse != NULL) {
        enum problem refused = hooks->refuse(hooks->arg, request->connection);

        request->close |= refused != PROBLEM_NONE;
        request_fail(request, is_page(request->route) ? PROBLEM_NONE : refused);
    }
    request_fail(request, problem);
    request->close |= problem != PROBLEM_NONE; /* as wherever a message isn't understood */
    if (request->route == NULL && !any) {
        request_fail(request, PROBLEM_NO_SUCH_ROUTE);
    }
    if (request->route != NULL && request->route->prefix && request->problem == PROBLEM_NONE) {
        decode_key(request, rest);
    }
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    request->handler = request->method == API_METHOD_OPTIONS
                           ? &options_any
                           : router_handler(request->route, request->method);
    if (request->handler == NULL) {
        request_fail(request, PROBLEM_METHOD_NOT_ALLOWED);
    }
}

void header_section_take(struct request *request, const char *url, const char *method,
                         const char *version)
{
    const struct api_hooks *hooks = &request->api->config.hooks;

    if (hooks->phase != NULL) {
        hooks->phase(hooks->arg, request->connection, API_PHASE_BODY);
    }
    request->method = router_method(method);
    check_message(request, url, method, version);
    if (request->problem == PROBLEM_NONE) {
        find_route(request);
    }
    if (request->problem == PROBLEM_NONE) {
        parse_query(request);
    }
    if (request->problem == PROBLEM_NONE && request->handler->on_key) {
        request_fail(request, request->precondition_problem);
    }
    if (request->problem == PROBLEM_NONE && request->handler->needs_store &&
        atomic_load_explicit(&request->api->store, memory_order_acquire) == NULL) {
        request_fail(request, PROBLEM_RECOVERING);
    }
    if (request->problem == PROBLEM_NONE && request->handler->begin != NULL) {
        request->handler->begin(request);
    }
}
