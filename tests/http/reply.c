/* Answers, wherever they came from, and what is asserted of them. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include <jansson.h>

#include "tests/http/support.h"
#include "tests/support/check.h"

enum { FIELD_TEXTS = 8, FIELD_BYTES = 2048 };

void reply_free(struct reply *reply)
{
    free(reply->head);
    free(reply->body);
    *reply = (struct reply){0};
}

const char *reply_field(const struct reply *reply, const char *name)
{
    static _Thread_local char texts[FIELD_TEXTS][FIELD_BYTES];
    static _Thread_local unsigned next;
    size_t length = strlen(name);
    for (const char *line = reply->head; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            char *text = texts[next++ % FIELD_TEXTS];
            const char *value = line + length + 1 + strspn(line + length + 1, " \t");
            (void)snprintf(text, FIELD_BYTES, "%.*s", (int)strcspn(value, "\r\n"), value);
            return text;
        }
    }
    return NULL;
}

/* All that came, for messages. */
static const char *shown(const struct reply *reply)
{
    static char text[4096];
    (void)snprintf(text, sizeof text, "%s%s%.2000s", reply->error,
                   reply->head != NULL ? reply->head : "(nothing)\n",
                   reply->body != NULL ? reply->body : "");
    return text;
}

void assert_status(const struct reply *reply, unsigned status)
{
    if (reply->status != status) {
        fail_msg("wanted status %u, got %u:\n%s", status, reply->status, shown(reply));
    }
}

void assert_body(const struct reply *reply, const char *text)
{
    if (reply->size != strlen(text) || memcmp(reply->body, text, reply->size) != 0) {
        fail_msg("wanted the body \"%s\", got:\n%s", text, shown(reply));
    }
}

void assert_field(const struct reply *reply, const char *name, const char *value)
{
    const char *is = reply_field(reply, name);
    if (is == NULL || strcmp(is, value) != 0) {
        fail_msg("wanted %s: %s, got:\n%s", name, value, shown(reply));
    }
}

void assert_no_field(const struct reply *reply, const char *name)
{
    if (reply_field(reply, name) != NULL) {
        fail_msg("wanted no field %s, got:\n%s", name, shown(reply));
    }
}

static void assert_text_member(const struct reply *reply, const json_t *object, const char *name,
                               const char *value)
{
    const char *is = json_string_value(json_object_get(object, name));
    if (is == NULL || is[0] == '\0' || (value != NULL && strcmp(is, value) != 0)) {
        fail_msg("wanted \"%s\": \"%s\", got:\n%s", name, value != NULL ? value : "…",
                 shown(reply));
    }
}

void assert_problem(const struct reply *reply, unsigned status, const char *type)
{
    assert_status(reply, status);
    assert_field(reply, "Content-Type", "application/problem+json");
    assert_field(reply, "Cache-Control", "no-store");
    json_t *problem = json_loadb(reply->body, reply->size, JSON_REJECT_DUPLICATES, NULL);
    if (problem == NULL) {
        fail_msg("no JSON:\n%s", shown(reply));
    }
    assert_text_member(reply, problem, "type", type);
    assert_text_member(reply, problem, "title", NULL);
    assert_text_member(reply, problem, "detail", NULL);
    assert_text_member(reply, problem, "request_id", reply_field(reply, "Varve-Request-Id"));
    if (json_integer_value(json_object_get(problem, "status")) != (json_int_t)status) {
        fail_msg("wanted \"status\": %u, got:\n%s", status, shown(reply));
    }
    json_decref(problem);
}
