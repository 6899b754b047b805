/*
 * A request target, as any bytes: split, and its key, query and cursor decoded. What is taken
 * keeps the limits, and has one spelling that stands for the same bytes.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/base64url.h"
#include "api/cursor.h"
#include "api/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A key that was taken is the same again through its canonical base64url. */
static void check_key(struct span key)
{
    char text[KEY_BYTES_MAX * 2];
    char out[KEY_BYTES_MAX];
    struct span again;

    assert(key.len >= 1 && key.len <= KEY_BYTES_MAX);
    base64url_encode((const uint8_t *)key.at, key.len, text);
    assert(key_from_base64url(span_of(text, base64url_text_len(key.len)), out, &again) ==
           PROBLEM_NONE);
    assert(again.len == key.len && memcmp(again.at, key.at, key.len) == 0);
    (void)key_is_utf8(key);
}

static void check_cursor(struct span text)
{
    char *copy = malloc(text.len + 1);
    struct cursor cursor;

    assert(copy != NULL);
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    if (cursor_parse(copy, text.len, 10000, &cursor)) {
        char again[CURSOR_SIZE];

        assert(cursor.limit >= 1 && cursor.limit <= 10000);
        cursor_format(&cursor, again);
        assert(span_is(text, again));
    }
    free(copy);
}

static void check_query(struct span query)
{
    struct parameter known[2] = {{.name = "cursor"}, {.name = "limit"}};
    char *copy = malloc(query.len + 1);
    struct span name = {NULL, 0};
    uint64_t number;

    assert(copy != NULL);
    memcpy(copy, query.at, query.len);
    copy[query.len] = '\0';
    if (query_parse(copy, query.len, known, 2, &name) == PROBLEM_NONE) {
        for (size_t i = 0; i < 2; i++) {
            assert(known[i].value.at == NULL ||
                   (known[i].value.at >= copy &&
                    known[i].value.at + known[i].value.len <= copy + query.len));
        }
        if (known[0].value.at != NULL) {
            check_cursor(known[0].value);
        }
        if (number_parse(known[1].value, 1, UINT64_MAX / 2, &number)) {
            assert(number >= 1 && number <= UINT64_MAX / 2);
        }
    } else {
        assert(name.len <= query.len);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span raw = {(const char *)data, size};
    struct target target;
    char out[KEY_BYTES_MAX];
    struct span key;

    if (target_split(raw, &target) != PROBLEM_NONE) {
        return 0;
    }
    assert(target.path.at[0] == '/' || span_is(target.path, "*"));
    assert(memchr(target.path.at, '?', target.path.len) == NULL);
    if (key_from_path(target.path, out, &key) == PROBLEM_NONE) {
        check_key(key);
    }
    if (key_from_base64url(span_of(target.path.at + 1, target.path.len - 1), out, &key) ==
        PROBLEM_NONE) {
        check_key(key);
    }
    if (target.query.at != NULL) {
        check_query(target.query);
    }
    return 0;
}
