#include "api/cursor.h"

#include <string.h>

#include "api/base64url.h"
#include "store/base/bytes.h"

enum { FORMAT = 1, HEAD_BYTES = 5 };

static void put_u16(uint8_t *at, size_t number)
{
    at[0] = (uint8_t)(number >> 8);
    at[1] = (uint8_t)number;
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

void cursor_format(const struct cursor *cursor, char out[CURSOR_SIZE])
{
    uint8_t bytes[CURSOR_BYTES_MAX];
    size_t len = HEAD_BYTES + cursor->last.len;

    bytes[0] = FORMAT;
    put_u16(bytes + 1, cursor->limit);
    put_u16(bytes + 3, cursor->last.len);
    memcpy(bytes + HEAD_BYTES, cursor->last.at, cursor->last.len);
    if (cursor->end.len > 0) {
        memcpy(bytes + len, cursor->end.at, cursor->end.len);
    }
    len += cursor->end.len;
    base64url_encode(bytes, len, out);
    out[base64url_text_len(len)] = '\0';
}

bool cursor_parse(char *text, size_t len, uint16_t limit_max, struct cursor *ret_cursor)
{
    uint8_t *bytes = (uint8_t *)text;
    struct cursor cursor;
    size_t last_len;
    size_t end_len;

    if (!base64url_decode(text, len, bytes, &len) || len < HEAD_BYTES || bytes[0] != FORMAT) {
        return false;
    }
    cursor.limit = get_u16(bytes + 1);
    last_len = get_u16(bytes + 3);
    if (cursor.limit == 0 || cursor.limit > limit_max || last_len == 0 ||
        last_len > KEY_BYTES_MAX || last_len > len - HEAD_BYTES) {
        return false;
    }
    end_len = len - HEAD_BYTES - last_len;
    if (end_len > KEY_BYTES_MAX) {
        return false;
    }
    cursor.last = span_of(text + HEAD_BYTES, last_len);
    cursor.end = span_of(text + HEAD_BYTES + last_len, end_len);
    if (end_len > 0 &&
        bytes_compare(bytes_of(cursor.last.at, last_len), bytes_of(cursor.end.at, end_len)) >= 0) {
        return false; /* no page goes so far */
    }
    *ret_cursor = cursor;
    return true;
}
