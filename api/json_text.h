/*
 * json_text.h - a growing text of JSON: values by jansson, the frame around them by hand, so that
 * a page of many entries never exists twice.
 *
 * Threads:   one at a time.
 * Ownership: the text is on the heap; json_text_take() hands it over, json_text_release() frees
 *            it.
 * Errors:    out of memory only, kept in `failed`; later calls then do nothing.
 */
#ifndef API_JSON_TEXT_H
#define API_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct json_text {
    char *at;
    size_t len;
    size_t room;
    bool failed;
};

/* All zero is an empty text. */
void json_text_add(struct json_text *text, const char *literal);

/* Adds a value in its shortest form and consumes it. NULL counts as out of memory. */
void json_text_add_value(struct json_text *text, json_t *value);

/* The text for free(), NULL where something failed; the struct is empty afterwards. */
char *json_text_take(struct json_text *text, size_t *ret_len);

void json_text_release(struct json_text *text);

#endif
