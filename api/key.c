#include "api/key.h"

#include <string.h>
#include <strings.h>

#include "api/base64url.h"

bool span_is(struct span span, const char *text)
{
    return span.len == strlen(text) && memcmp(span.at, text, span.len) == 0;
}

bool span_is_nocase(struct span span, const char *text)
{
    return span.len == strlen(text) && strncasecmp(span.at, text, span.len) == 0;
}

static bool skip_nocase(struct span *span, const char *prefix)
{
    size_t len = strlen(prefix);

    if (span->len < len || strncasecmp(span->at, prefix, len) != 0) {
        return false;
    }
    *span = span_of(span->at + len, span->len - len);
    return true;
}

enum problem target_split(struct span raw, struct target *ret_target)
{
    struct target target = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct span rest = raw;
    const char *mark;

    if (skip_nocase(&rest, "http://") || skip_nocase(&rest, "https://")) {
        target.authority = span_of(rest.at, 0);
        while (target.authority.len < rest.len && rest.at[target.authority.len] != '/' &&
               rest.at[target.authority.len] != '?') {
            target.authority.len++;
        }
        /* Names and passwords don't belong there (RFC 9110 section 4.2.4). */
        if (target.authority.len == 0 ||
            memchr(target.authority.at, '@', target.authority.len) != NULL) {
            return PROBLEM_MALFORMED_REQUEST;
        }
        rest = span_of(rest.at + target.authority.len, rest.len - target.authority.len);
    } else if (rest.len == 0 || (rest.at[0] != '/' && !span_is(rest, "*"))) {
        return PROBLEM_MALFORMED_REQUEST;
    }
    mark = rest.len == 0 ? NULL : memchr(rest.at, '?', rest.len);
    target.path = span_of(rest.at, mark == NULL ? rest.len : (size_t)(mark - rest.at));
    if (mark != NULL) {
        target.query = span_of(mark + 1, rest.len - target.path.len - 1);
    }
    if (target.path.len == 0) {
        target.path = span_of("/", 1);
    }
    *ret_target = target;
    return PROBLEM_NONE;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes one byte, escaped or not, from the front of the text; false at a bad escape. */
static bool take_byte(struct span *text, char *ret_byte)
{
    size_t taken = 1;

    *ret_byte = text->at[0];
    if (text->at[0] == '%') {
        int high = text->len >= 3 ? hex_value(text->at[1]) : -1;
        int low = text->len >= 3 ? hex_value(text->at[2]) : -1;

        if (high < 0 || low < 0) {
            return false;
        }
        *ret_byte = (char)(high << 4 | low);
        taken = 3;
    }
    *text = span_of(text->at + taken, text->len - taken);
    return true;
}

enum problem key_from_path(struct span raw, char *out, struct span *ret_key)
{
    size_t len = 0;

    if (raw.len == 0) {
        return PROBLEM_EMPTY_KEY;
    }
    while (raw.len > 0) {
        char byte;

        if (!take_byte(&raw, &byte)) {
            return PROBLEM_MALFORMED_KEY;
        }
        if (len < KEY_BYTES_MAX) {
            out[len] = byte;
        }
        len++;
    }
    if (len > KEY_BYTES_MAX) {
        return PROBLEM_KEY_TOO_LONG;
    }
    *ret_key = span_of(out, len);
    return PROBLEM_NONE;
}

enum problem key_from_base64url(struct span raw, char *out, struct span *ret_key)
{
    size_t len;

    if (raw.len == 0) {
        return PROBLEM_EMPTY_KEY;
    }
    if (raw.len > base64url_text_len(KEY_BYTES_MAX)) {
        return PROBLEM_KEY_TOO_LONG;
    }
    if (!base64url_decode(raw.at, raw.len, (uint8_t *)out, &len)) {
        return PROBLEM_MALFORMED_KEY;
    }
    *ret_key = span_of(out, len);
    return PROBLEM_NONE;
}

/* The length of the well-formed sequence at the front, 0 if there is none (RFC 3629 section 4). */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
    size_t len = at[0] < 0x80 ? 1 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
    uint8_t low = 0x80; /* bounds of the second byte: no overlong form, surrogate or giant */
    uint8_t high = 0xBF;

    if (at[0] >= 0x80 && (at[0] < 0xC2 || at[0] > 0xF4)) {
        return 0;
    }
    if (len > left) {
        return 0;
    }
    if (at[0] == 0xE0) {
        low = 0xA0;
    } else if (at[0] == 0xED) {
        high = 0x9F;
    } else if (at[0] == 0xF0) {
        low = 0x90;
    } else if (at[0] == 0xF4) {
        high = 0x8F;
    }
    if (len > 1 && (at[1] < low || at[1] > high)) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (at[i] < 0x80 || at[i] > 0xBF) {
            return 0;
        }
    }
    return len;
}

bool key_is_utf8(struct span key)
{
    const uint8_t *at = (const uint8_t *)key.at;

    for (size_t left = key.len; left > 0;) {
        size_t len = utf8_sequence(at, left);

        if (len == 0) {
            return false;
        }
        at += len;
        left -= len;
    }
    return true;
}

/* Decodes a piece of a query in place; false at a bad escape. */
static bool decode_piece(char *piece, size_t len, struct span *ret_piece)
{
    struct span raw = {piece, len};
    size_t at = 0;

    while (raw.len > 0) {
        if (raw.at[0] == '+') {
            piece[at] = ' ';
            raw = span_of(raw.at + 1, raw.len - 1);
        } else if (!take_byte(&raw, &piece[at])) {
            return false;
        }
        at++;
    }
    *ret_piece = span_of(piece, at);
    return true;
}

static struct span showable(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] < 0x20 || name.at[i] > 0x7E) {
            return span_of(name.at, 0);
        }
    }
    return name;
}

static enum problem take_parameter(struct span name, struct span value,
                                   struct parameter parameters[], size_t n)
{
    if (span_is(name, "ID")) {
        return PROBLEM_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        if (!span_is(name, parameters[i].name)) {
            continue;
        }
        if (parameters[i].value.at != NULL) {
            return PROBLEM_MALFORMED_PARAMETER;
        }
        parameters[i].value = value;
        return PROBLEM_NONE;
    }
    return PROBLEM_UNKNOWN_PARAMETER;
}

enum problem query_parse(char *query, size_t len, struct parameter parameters[], size_t n,
                         struct span *ret_name)
{
    char *end = query + len;

    for (char *pair = query; pair < end;) {
        size_t pair_len = (size_t)(end - pair);
        char *ampersand = memchr(pair, '&', pair_len);
        struct span name = {pair, 0};
        struct span value;
        enum problem problem;
        char *equals;
        size_t name_len;

        if (ampersand != NULL) {
            pair_len = (size_t)(ampersand - pair);
        }
        equals = memchr(pair, '=', pair_len);
        name_len = equals == NULL ? pair_len : (size_t)(equals - pair);
        value = span_of(pair + pair_len, 0);
        if (pair_len > 0) {
            problem = PROBLEM_MALFORMED_PARAMETER;
            if (decode_piece(pair, name_len, &name) &&
                (equals == NULL || decode_piece(equals + 1, pair_len - name_len - 1, &value))) {
                problem = take_parameter(name, value, parameters, n);
            }
            if (problem != PROBLEM_NONE) {
                *ret_name = showable(name);
                return problem;
            }
        }
        pair += pair_len + 1;
    }
    return PROBLEM_NONE;
}

bool number_parse(struct span text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;

    if (text.len == 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(text.at[i] - '0');

        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (number < min || number > max) {
        return false;
    }
    *ret_number = number;
    return true;
}
