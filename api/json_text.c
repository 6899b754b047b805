#include "api/json_text.h"

#include <stdlib.h>
#include <string.h>

static int append(const char *bytes, size_t len, void *arg)
{
    struct json_text *text = arg;

    if (!text->failed && len > text->room - text->len) {
        size_t room = text->room * 2 + len + 256;
        char *at = realloc(text->at, room);

        text->failed = at == NULL;
        if (at != NULL) {
            text->at = at;
            text->room = room;
        }
    }
    if (text->failed) {
        return -1;
    }
    memcpy(text->at + text->len, bytes, len);
    text->len += len;
    return 0;
}

void json_text_add(struct json_text *text, const char *literal)
{
    (void)append(literal, strlen(literal), text);
}

void json_text_add_value(struct json_text *text, json_t *value)
{
    if (value == NULL || json_dump_callback(value, append, text, JSON_COMPACT | JSON_ENCODE_ANY)) {
        text->failed = true;
    }
    json_decref(value);
}

char *json_text_take(struct json_text *text, size_t *ret_len)
{
    char *at = text->failed ? NULL : text->at;

    *ret_len = text->len;
    if (at == NULL) {
        free(text->at);
    }
    *text = (struct json_text){0};
    return at;
}

void json_text_release(struct json_text *text)
{
    free(text->at);
    *text = (struct json_text){0};
}
