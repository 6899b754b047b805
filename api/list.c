/* Many keys: GET /kv, a page at a time. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/base64url.h"
#include "api/cursor.h"
#include "api/httpdate.h"
#include "api/json_text.h"
#include "api/reply.h"
#include "api/routes.h"

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 10000 };
/* A page's text stays below this; an entry's is at most a key of control bytes, each written with
 * six characters, and a content type of quotes. */
enum { PAGE_BYTES_MAX = 4 << 20, ENTRY_BYTES_MAX = 6 * KEY_BYTES_MAX + 2 * 256 + 256 };
enum { LIST_PREFIX, LIST_START, LIST_END, LIST_LIMIT, LIST_CURSOR }; /* its parameters */

/* A page being made. Lives until its scan is over. */
struct page {
    struct request *request;
    struct store_scan *scan;
    struct cursor cursor; /* of the next page; last: the last key so far, at `last_key` */
    struct span after;    /* the first key is left out if it is this one; or empty */
    size_t count;
    bool more; /* there is at least one key beyond the page */
    enum err err;
    struct json_text text;
    char last_key[KEY_BYTES_MAX];
    char end[KEY_BYTES_MAX];
};

/* --- The range ----------------------------------------------------------------------------- */

/* The first key after all those with the prefix; empty where there is none. */
static struct span prefix_end(struct span prefix, char out[KEY_BYTES_MAX])
{
    size_t len = prefix.len;

    while (len > 0 && (unsigned char)prefix.at[len - 1] == 0xFF) {
        len--;
    }
    if (len == 0) {
        return span_of(out, 0);
    }
    memcpy(out, prefix.at, len);
    out[len - 1] = (char)((unsigned char)out[len - 1] + 1);
    return span_of(out, len);
}

static int compare(struct span a, struct span b)
{
    return bytes_compare(bytes_of(a.at, a.len), bytes_of(b.at, b.len));
}

/* A bound that a client sent. No key is longer than KEY_BYTES_MAX, so that no longer bound says
 * anything that a shorter one couldn't. */
static struct span bound(struct request *request, size_t parameter)
{
    struct span value = request->parameters[parameter].value;

    if (value.len > KEY_BYTES_MAX) {
        const char *name = request->parameters[parameter].name;

        request_fail_parameter(
            request, PROBLEM_MALFORMED_PARAMETER, span_of(name, strlen(name)),
            "Keys, and with them the bounds of a list, have at most 1024 bytes.");
    }
    return value;
}

static void range_from_cursor(struct request *request, struct page *page, struct span *ret_start)
{
    struct span text = request->parameters[LIST_CURSOR].value;
    struct cursor cursor;

    for (size_t i = 0; i < LIST_CURSOR; i++) {
        if (request->parameters[i].value.at == NULL) {
            continue;
        }
        request_fail_because(request, PROBLEM_MALFORMED_PARAMETER,
                             "A cursor stands for all other parameters: send it alone.");
        return;
    }
    if (!cursor_parse(request->target_text + (text.at - request->target_text), text.len, LIMIT_MAX,
                      &cursor)) {
        request_fail(request, PROBLEM_MALFORMED_CURSOR);
        return;
    }
    page->cursor.limit = cursor.limit;
    page->cursor.end = cursor.end;
    page->after = cursor.last;
    *ret_start = cursor.last;
}

static void range_from_bounds(struct request *request, struct page *page, struct span *ret_start)
{
    struct span prefix = bound(request, LIST_PREFIX);
    struct span start = bound(request, LIST_START);
    struct span end = bound(request, LIST_END);
    struct span limit = request->parameters[LIST_LIMIT].value;
    struct span beyond;
    uint64_t number = LIMIT_DEFAULT;

    if (limit.at != NULL && !number_parse(limit, 1, LIMIT_MAX, &number)) {
        request_fail_parameter(request, PROBLEM_MALFORMED_PARAMETER, span_of("limit", 5),
                               "Send a limit from 1 to 10000.");
    }
    if (request->problem != PROBLEM_NONE) {
        return;
    }
    beyond = prefix_end(prefix, page->end);
    if (end.len == 0 || (beyond.len > 0 && compare(beyond, end) < 0)) {
        end = beyond;
    }
    page->cursor.limit = (uint16_t)number;
    page->cursor.end = end;
    if (compare(start, prefix) < 0) {
        start = prefix;
    }
    if (end.len > 0 && compare(start, end) > 0) {
        start = end; /* nothing lies between them */
    }
    *ret_start = start;
}

/* --- The page ------------------------------------------------------------------------------ */

static int set_text(json_t *object, const char *name, const char *text, size_t len)
{
    return json_object_set_new_nocheck(object, name, json_stringn_nocheck(text, len));
}

static int set_key(json_t *object, struct span key)
{
    char text[KEY_BYTES_MAX / 3 * 4 + 4];

    if (key_is_utf8(key)) {
        return set_text(object, "key", key.at, key.len);
    }
    base64url_encode((const uint8_t *)key.at, key.len, text);
    return set_text(object, "key64", text, base64url_text_len(key.len));
}

static json_t *entry_object(const struct store_entry *entry)
{
    json_t *object = json_object();
    char etag[ETAG_SIZE];
    char date[RFC3339_SIZE];
    int failed = set_key(object, span_of(entry->key.data, entry->key.size));

    failed |= set_text(object, "etag", etag, etag_format(entry->version, etag));
    failed |=
        json_object_set_new_nocheck(object, "size", json_integer((json_int_t)entry->value.size));
    if (entry->content_type.size > 0) {
        failed |=
            set_text(object, "content_type", entry->content_type.data, entry->content_type.size);
    }
    rfc3339_format((int64_t)entry->modified_ms, date);
    failed |= set_text(object, "modified", date, RFC3339_SIZE - 1);
    if (failed == 0) {
        return object;
    }
    json_decref(object);
    return NULL;
}

static bool add_entry(void *arg, const struct store_entry *entry)
{
    struct page *page = arg;
    struct span key = {entry->key.data, entry->key.size};

    if (page->count == 0 && page->after.len > 0 && compare(key, page->after) == 0) {
        return true;
    }
    if (page->count == page->cursor.limit ||
        page->text.len + ENTRY_BYTES_MAX + CURSOR_SIZE > PAGE_BYTES_MAX) {
        page->more = true;
        return false;
    }
    json_text_add(&page->text, page->count == 0 ? "" : ",");
    json_text_add_value(&page->text, entry_object(entry));
    memcpy(page->last_key, key.at, key.len);
    page->cursor.last = span_of(page->last_key, key.len);
    page->count++;
    return !page->text.failed;
}

static void scanned(void *arg, enum err err, bool at_end)
{
    struct page *page = arg;

    (void)at_end; /* where the page stopped, one key was looked at too many: that says more */
    page->err = err;
    request_complete(page->request);
}

static void free_page(void *state)
{
    struct page *page = state;

    store_scan_free(page->scan);
    json_text_release(&page->text);
    free(page);
}

static void add_links(struct page *page, struct reply *reply, const char *cursor)
{
    static const char before[] = "</kv?cursor=";
    static const char after[] = ">; rel=\"next\"";
    char position[STORE_VERSION_TEXT_BYTES];
    char link[sizeof(before) + CURSOR_SIZE + sizeof(after)];

    if (page->scan != NULL) {
        store_version_format(store_scan_position(page->scan), position);
        reply_add(reply, "Varve-Position", position);
    }
    if (cursor[0] != '\0') {
        stpcpy(stpcpy(stpcpy(link, before), cursor), after);
        reply_add(reply, "Link", link);
    }
}

static void answer_page(struct request *request, struct page *page)
{
    char cursor[CURSOR_SIZE] = "";
    struct reply reply;
    size_t len;
    char *text;

    json_text_add(&page->text, "]");
    if (page->more) {
        cursor_format(&page->cursor, cursor);
        json_text_add(&page->text, ",\"cursor\":");
        json_text_add_value(&page->text, json_string(cursor));
    }
    json_text_add(&page->text, "}\n");
    text = json_text_take(&page->text, &len);
    reply = reply_text(text, len);
    reply_add(&reply, "Content-Type", "application/json");
    reply_add(&reply, "Cache-Control", "no-store");
    add_links(page, &reply, cursor);
    reply_queue(request, MHD_HTTP_OK, &reply);
}

static void list_answer(struct request *request)
{
    struct page *page = request->state;

    request->state = NULL;
    request_fail_err(request, page->err);
    if (request->problem == PROBLEM_NONE) {
        answer_page(request, page);
    }
    free_page(page);
}

static void list_finish(struct request *request)
{
    struct page *page = calloc(1, sizeof(*page));
    struct span start = {NULL, 0};
    struct store_range range = {.reverse = false};
    enum err err;

    if (page == NULL) {
        request_fail(request, PROBLEM_OUT_OF_MEMORY);
        return;
    }
    page->request = request;
    if (request->parameters[LIST_CURSOR].value.at != NULL) {
        range_from_cursor(request, page, &start);
    } else {
        range_from_bounds(request, page, &start);
    }
    range.start = bytes_of(start.at, start.len);
    range.end = bytes_of(page->cursor.end.at, page->cursor.end.len);
    if (request->problem == PROBLEM_NONE) {
        err = store_scan_new(request_store(request), &range, &page->scan);
        request_fail_err(request, err);
    }
    if (request->problem != PROBLEM_NONE) {
        free_page(page);
        return;
    }
    json_text_add(&page->text, "{\"keys\":[");
    request->state = page;
    request->state_free = free_page;
    request_start(request);
    store_scan_run(page->scan, add_entry, scanned, page);
    request_then(request, list_answer);
}

static void list_begin(struct request *request)
{
    if (request->wants_ndjson && !request->takes_json) {
        request_fail_because(request, PROBLEM_NOT_ACCEPTABLE,
                             "Lists come as application/json, a page at a time; "
                             "application/x-ndjson is not supported in this version.");
    }
}

const struct handler list_get = {
    .needs_store = true,
    .parameters =
        {
            [LIST_PREFIX] = "prefix",
            [LIST_START] = "start",
            [LIST_END] = "end",
            [LIST_LIMIT] = "limit",
            [LIST_CURSOR] = "cursor",
        },
    .begin = list_begin,
    .finish = list_finish,
};
