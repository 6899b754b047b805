/* One key: GET, HEAD, PUT, DELETE. */
#include <stdlib.h>
#include <string.h>

#include "api/httpdate.h"
#include "api/reply.h"
#include "api/routes.h"

/* A body of unknown length starts with this much room, and doubles it. */
#define CHUNKED_FIRST_BYTES UINT64_C(16384)

static struct bytes span_bytes(struct span span)
{
    return bytes_of(span.at, span.len);
}

/* --- Reading ------------------------------------------------------------------------------- */

static void got(void *arg, enum err err, const struct store_entry *entry)
{
    struct request *request = arg;

    request->err = err;
    request->found = err == ERR_OK && entry != NULL;
    if (request->found) {
        *request->entry = *entry;
    }
    request_complete(request);
}

static void note_version(struct request *request, struct store_version version)
{
    etag_format(version, request->current_etag);
    request->occurrence.current_etag = request->current_etag;
}

/* What GET, HEAD and 304 say alike. A stored page must not act as this site, whatever its type
 * says; and without a rule browsers would guess how long the value stays fresh. */
static void add_value_fields(struct reply *reply, const struct store_entry *entry)
{
    char etag[ETAG_SIZE];
    char date[HTTPDATE_SIZE];
    int64_t modified_s = precondition_date_s(entry->modified_ms);

    etag_format(entry->version, etag);
    reply_add(reply, "ETag", etag);
    if (modified_s <= clock_wall_s()) {
        httpdate_format(modified_s, date);
        reply_add(reply, "Last-Modified", date);
    }
    if (entry->cache_control.size > 0) {
        reply_add_text(reply, "Cache-Control", &entry->cache_control);
    } else {
        reply_add(reply, "Cache-Control", "no-cache");
    }
    reply_add(reply, "X-Content-Type-Options", "nosniff");
    reply_add(reply, "Content-Security-Policy", "sandbox");
}

static void add_content_fields(struct reply *reply, const struct store_entry *entry)
{
    if (entry->content_type.size > 0) {
        reply_add_text(reply, "Content-Type", &entry->content_type);
    } else {
        reply_add(reply, "Content-Type", "application/octet-stream");
    }
    if (entry->content_encoding.size > 0) {
        reply_add_text(reply, "Content-Encoding", &entry->content_encoding);
    }
}

static void answer_entry(struct request *request, unsigned status)
{
    struct store_entry *entry = request->entry;
    struct reply reply = reply_entry(entry);

    request->entry = NULL; /* the reply's now, and gone where that couldn't be made */
    request->found = false;
    if (reply.ok) {
        add_value_fields(&reply, entry);
        if (status == MHD_HTTP_OK) {
            add_content_fields(&reply, entry);
        }
    }
    reply_queue(request, status, &reply);
}

static enum precondition_verdict judge(const struct request *request)
{
    struct store_current current = {
        .exists = true,
        .version = request->entry->version,
        .modified_ms = request->entry->modified_ms,
    };

    return precondition_decide(&request->precondition, PRECONDITION_READ, &current);
}

static void answer_get(struct request *request)
{
    if (request->err != ERR_OK) {
        request_fail_err(request, request->err);
        return;
    }
    if (!request->found) {
        request_fail(request, PROBLEM_NO_SUCH_KEY);
        return;
    }
    switch (judge(request)) {
    case PRECONDITION_PROCEED:
        answer_entry(request, MHD_HTTP_OK);
        break;
    case PRECONDITION_NOT_MODIFIED:
        answer_entry(request, MHD_HTTP_NOT_MODIFIED);
        break;
    case PRECONDITION_FAILED:
        note_version(request, request->entry->version);
        request_fail(request, PROBLEM_PRECONDITION_FAILED);
        break;
    }
}

/* The value has to come from the disk. */
static void get_later(struct request *request)
{
    request_start(request);
    store_get_later(request_store(request), span_bytes(request->key), got, request);
    request_then(request, answer_get);
}

static void get_if_wanted(struct request *request)
{
    if (request->found && judge(request) == PRECONDITION_PROCEED) {
        store_entry_release(request->entry);
        request->found = false;
        get_later(request);
    } else {
        answer_get(request);
    }
}

/* The same, unless the client has it already. */
static void head_first(struct request *request)
{
    request_start(request);
    store_head(request_store(request), span_bytes(request->key), got, request);
    request_then(request, get_if_wanted);
}

static void get_finish(struct request *request)
{
    request->entry = malloc(sizeof(*request->entry));
    if (request->entry == NULL) {
        request_fail(request, PROBLEM_OUT_OF_MEMORY);
        return;
    }
    request_start(request);
    if (request->method == API_METHOD_HEAD) {
        store_head(request_store(request), span_bytes(request->key), got, request);
    } else if (!store_get_at_once(request_store(request), span_bytes(request->key), got, request)) {
        request_put_off(request, precondition_any(&request->precondition) ? head_first : get_later);
        return;
    }
    request_then(request, answer_get);
}

const struct handler kv_get = {.needs_store = true, .on_key = true, .finish = get_finish};

/* --- Writing ------------------------------------------------------------------------------- */

static void ready(void *arg, enum err err, struct store_write *write)
{
    struct request *request = arg;

    request->err = err;
    request->write = err == ERR_OK ? write : NULL;
    request_complete(request);
}

static void written(void *arg, enum err err, const struct store_written *result)
{
    struct request *request = arg;

    request->err = err;
    if (err == ERR_OK) {
        request->condition_failed = result->condition_failed;
        request->before = result->ops[0].before;
        request->version = result->ops[0].version;
    }
    request_complete(request);
}

/* Under a lock of the store: reads the request, changes nothing. */
static bool may_put(void *arg, const struct store_current *current)
{
    const struct request *request = arg;

    return precondition_decide(&request->precondition, PRECONDITION_WRITE, current) ==
           PRECONDITION_PROCEED;
}

static bool may_delete_existing(void *arg, const struct store_current *current)
{
    const struct request *request = arg;

    return precondition_decide(&request->precondition, PRECONDITION_WRITE_EXISTING, current) ==
           PRECONDITION_PROCEED;
}

static void commit(struct request *request, store_condition_fn *condition,
                   void (*next)(struct request *request))
{
    struct store_write *write = request->write;

    if (precondition_any(&request->precondition)) {
        store_write_condition(write, condition, request);
    }
    request->write = NULL; /* the store's from here on */
    request_start(request);
    store_write_commit(write, written, request);
    request_then(request, next);
}

/* Notes what went wrong with a commit; false if nothing did. */
static bool commit_failed(struct request *request)
{
    if (request->err != ERR_OK) {
        request_fail_err(request, request->err);
        return true;
    }
    if (!request->condition_failed) {
        return false;
    }
    if (request->before.exists) {
        note_version(request, request->before.version);
        request_fail(request, PROBLEM_PRECONDITION_FAILED);
    } else {
        request_fail_because(request, PROBLEM_PRECONDITION_FAILED,
                             "The key isn't there; nothing was changed.");
    }
    return true;
}

/* --- PUT ----------------------------------------------------------------------------------- */

/* Takes a field that is stored with the value. */
static struct bytes stored_field(struct request *request, const struct wire_value *value,
                                 const char *name)
{
    bool good = value->count <= 1 && value->first.len <= STORE_TEXT_MAX_BYTES;

    for (size_t i = 0; i < value->first.len; i++) {
        char c = value->first.at[i];

        if ((c < ' ' || c > '~') && c != '\t') {
            good = false;
        }
    }
    if (!good) {
        request_fail_parameter(request, PROBLEM_MALFORMED_HEADER, span_of(name, strlen(name)),
                               NULL);
    }
    return span_bytes(value->first);
}

/* What `curl -d` says of everything that it sends says nothing of the value. */
static bool is_form(struct bytes content_type)
{
    struct span type = {content_type.data, content_type.size};
    const char *semicolon = type.len == 0 ? NULL : memchr(type.at, ';', type.len);

    if (semicolon != NULL) {
        type.len = (size_t)(semicolon - type.at);
    }
    while (type.len > 0 && (type.at[type.len - 1] == ' ' || type.at[type.len - 1] == '\t')) {
        type.len--;
    }
    return span_is_nocase(type, "application/x-www-form-urlencoded");
}

static struct store_put put_of(struct request *request)
{
    struct store_put put = {
        .key = span_bytes(request->key),
        .content_type = stored_field(request, &request->content_type, "Content-Type"),
        .content_encoding = stored_field(request, &request->content_encoding, "Content-Encoding"),
        .cache_control = stored_field(request, &request->cache_control, "Cache-Control"),
        .value_bytes = request->length,
    };

    if (is_form(put.content_type)) {
        put.content_type = bytes_of(NULL, 0);
    }
    if (request->chunked) {
        put.value_bytes = CHUNKED_FIRST_BYTES;
        if (put.value_bytes > request->api->config.max_value_bytes) {
            put.value_bytes = request->api->config.max_value_bytes;
        }
    }
    return put;
}

static void put_admitted(struct request *request)
{
    struct store_put put = put_of(request);
    enum err err = request->err;

    if (err == ERR_OK) {
        err = store_write_put(request->write, &put, &request->value);
    }
    request->value_room = put.value_bytes;
    request_fail_err(request, err);
}

static void put_begin(struct request *request)
{
    uint64_t limit = request->api->config.max_value_bytes;
    struct store_put put = put_of(request);
    struct store_write_size size = {
        .ops = 1,
        .bytes = put.key.size + put.content_type.size + put.content_encoding.size +
                 put.cache_control.size + put.value_bytes,
    };

    if (!request->chunked && !request->has_length) {
        request_fail(request, PROBLEM_LENGTH_REQUIRED);
    }
    if (request->length > limit) {
        request_fail_limit(request, PROBLEM_VALUE_TOO_LARGE, limit);
    }
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    request_start(request);
    store_write_new(request_store(request), &size, ready, request);
    request_then(request, put_admitted);
}

/* Makes room for `needed` bytes of a body of unknown length. */
static bool put_grow(struct request *request, uint64_t needed)
{
    uint64_t limit = request->api->config.max_value_bytes;
    uint64_t room = request->value_room * 2 > needed ? request->value_room * 2 : needed;
    enum err err;

    if (needed > limit) {
        request_fail_limit(request, PROBLEM_VALUE_TOO_LARGE, limit);
        return false;
    }
    if (room > limit) {
        room = limit;
    }
    err = store_write_resize(request->write, room, &request->value);
    request_fail_err(request, err);
    if (err == ERR_OK) {
        request->value_room = room;
    }
    return err == ERR_OK;
}

static void put_body(struct request *request, const char *data, size_t size)
{
    uint64_t before = request->received_bytes - size;

    if (request->received_bytes > request->value_room &&
        (!request->chunked || !put_grow(request, request->received_bytes))) {
        request_fail(request, PROBLEM_INTERNAL); /* more than Content-Length: can't be */
        return;
    }
    memcpy((char *)request->value + before, data, size);
}

static void put_answer(struct request *request)
{
    struct reply reply;
    char etag[ETAG_SIZE];

    if (commit_failed(request)) {
        return;
    }
    reply = reply_empty();
    etag_format(request->version, etag);
    reply_add(&reply, "ETag", etag);
    reply_queue(request, request->before.exists ? MHD_HTTP_NO_CONTENT : MHD_HTTP_CREATED, &reply);
}

static void put_finish(struct request *request)
{
    if (request->received_bytes < request->value_room) {
        request_fail_err(
            request, store_write_resize(request->write, request->received_bytes, &request->value));
        if (request->problem != PROBLEM_NONE) {
            return;
        }
    }
    commit(request, may_put, put_answer);
}

const struct handler kv_put = {
    .needs_store = true,
    .on_key = true,
    .suspends = true,
    .begin = put_begin,
    .body = put_body,
    .finish = put_finish,
};

/* --- DELETE -------------------------------------------------------------------------------- */

enum { DELETE_MISSING }; /* its parameters */

static bool missing_is_error(const struct request *request)
{
    return request->parameters[DELETE_MISSING].value.at != NULL;
}

static void delete_begin(struct request *request)
{
    struct span missing = request->parameters[DELETE_MISSING].value;

    if (missing.at != NULL && !span_is(missing, "error")) {
        request_fail_parameter(request, PROBLEM_MALFORMED_PARAMETER, span_of("missing", 7),
                               "The only value of missing is error.");
    }
}

static void delete_answer(struct request *request)
{
    struct reply reply;

    if (commit_failed(request)) {
        return;
    }
    if (!request->before.exists && missing_is_error(request)) {
        request_fail(request, PROBLEM_NO_SUCH_KEY);
        return;
    }
    reply = reply_empty();
    reply_add(&reply, "Varve-Deleted", request->before.exists ? "1" : "0");
    reply_queue(request, MHD_HTTP_NO_CONTENT, &reply);
}

static void delete_admitted(struct request *request)
{
    enum err err = request->err;

    if (err == ERR_OK) {
        err = store_write_delete(request->write, span_bytes(request->key));
    }
    request_fail_err(request, err);
    if (err == ERR_OK) {
        commit(request, missing_is_error(request) ? may_delete_existing : may_put, delete_answer);
    }
}

static void delete_finish(struct request *request)
{
    struct store_write_size size = {.ops = 1, .bytes = request->key.len, .deletes_only = true};

    request_start(request);
    store_write_new(request_store(request), &size, ready, request);
    request_then(request, delete_admitted);
}

const struct handler kv_delete = {
    .needs_store = true,
    .on_key = true,
    .suspends = true,
    .parameters = {[DELETE_MISSING] = "missing"},
    .begin = delete_begin,
    .finish = delete_finish,
};
