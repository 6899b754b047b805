#include "api/problem.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define KIND(code, identifier, status, retry_after_s, title, detail) \
    [code] = {"/problems/" identifier, status, retry_after_s, title, detail},
static const struct problem_kind kinds[PROBLEM_COUNT] = {PROBLEM_TABLE(KIND)};
#undef KIND

const struct problem_kind *problem_kind(enum problem problem)
{
    assert(problem > PROBLEM_NONE && problem < PROBLEM_COUNT);
    return &kinds[problem];
}

enum problem problem_from_err(enum err err)
{
    switch (err) {
    case ERR_OK:
        return PROBLEM_NONE;
    case ERR_NO_MEMORY:
        return PROBLEM_OUT_OF_MEMORY;
    case ERR_NO_SPACE:
        return PROBLEM_NO_SPACE;
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_FORMAT:
        return PROBLEM_DAMAGED;
    case ERR_BUSY:
    case ERR_EXPIRED:
        return PROBLEM_BUSY;
    case ERR_READ_ONLY:
        return PROBLEM_READ_ONLY;
    case ERR_OUTCOME_UNKNOWN:
        return PROBLEM_OUTCOME_UNKNOWN;
    case ERR_TOO_LARGE:
        return PROBLEM_VALUE_TOO_LARGE;
    case ERR_CLOSED:
        return PROBLEM_DRAINING;
    case ERR_LOCKED:
    case ERR_INVALID:
    case ERR_EXISTS:
    case ERR_NOT_FOUND:
        return PROBLEM_INTERNAL;
    }
    return PROBLEM_INTERNAL;
}

static int set_text(json_t *object, const char *name, const char *text)
{
    return text == NULL ? 0 : json_object_set_new_nocheck(object, name, json_string(text));
}

/* A prompt that follows on a terminal begins a line of its own. */
static char *end_line(char *text, size_t *ret_len)
{
    size_t len = strlen(text);
    char *line = realloc(text, len + 2);

    if (line == NULL) {
        free(text);
        return NULL;
    }
    line[len] = '\n';
    line[len + 1] = '\0';
    *ret_len = len + 1;
    return line;
}

char *problem_body(enum problem problem, const struct problem_occurrence *occurrence,
                   size_t *ret_len)
{
    const struct problem_kind *kind = problem_kind(problem);
    const char *detail = occurrence->detail != NULL ? occurrence->detail : kind->detail;
    json_t *object = json_object();
    char *text = NULL;
    int failed = 0;

    failed |= set_text(object, "type", kind->type);
    failed |= set_text(object, "title", kind->title);
    failed |= json_object_set_new_nocheck(object, "status", json_integer((json_int_t)kind->status));
    failed |= set_text(object, "detail", detail);
    failed |= set_text(object, "parameter", occurrence->parameter);
    failed |= set_text(object, "current_etag", occurrence->current_etag);
    if (occurrence->has_limit) {
        failed |= json_object_set_new_nocheck(object, "limit",
                                              json_integer((json_int_t)occurrence->limit));
    }
    failed |= set_text(object, "request_id", occurrence->request_id);
    if (failed == 0) {
        text = json_dumps(object, JSON_COMPACT);
    }
    json_decref(object);
    return text == NULL ? NULL : end_line(text, ret_len);
}
