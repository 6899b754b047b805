/*
 * log.c - formats an event into a buffer on the stack and hands it to the kernel as a whole.
 *
 * A text line never exceeds LINE_BYTES, which is what a pipe takes without splitting it. JSON
 * lines come from jansson; should it find no memory, the text form is written instead, so that
 * running out of memory can still be reported.
 */
#include "service/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

enum { LINE_BYTES = PIPE_BUF, TIME_BYTES = 32 };

const char *const log_level_names[] = {"error", "warn", "info", "debug", NULL};
const char *const log_format_names[] = {"text", "json", NULL};

static atomic_int max_level = LOG_INFO;
static atomic_int line_format = LOG_AS_TEXT;
static atomic_int out_fd = STDERR_FILENO;

void log_configure(enum log_level level, enum log_format format, int fd)
{
    atomic_store(&max_level, (int)level);
    atomic_store(&line_format, (int)format);
    atomic_store(&out_fd, fd);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* RFC 3339, UTC, milliseconds. */
static void format_now(char text[static TIME_BYTES])
{
    struct timespec now;
    struct tm tm;
    size_t at;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    at = strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text + at, TIME_BYTES - at, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* The number of bytes of the UTF-8 sequence at `p`, 0 if there is none (RFC 3629). */
static size_t utf8_length(const unsigned char *p)
{
    size_t n = p[0] < 0x80                    ? 1
               : p[0] >= 0xC2 && p[0] <= 0xDF ? 2
               : p[0] >= 0xE0 && p[0] <= 0xEF ? 3
               : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                              : 0;

    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) /* also stops at the terminator */
            return 0;
    }
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0; /* overlong, surrogate, beyond U+10FFFF */
    return n;
}

/* Copies a text, with bytes that aren't UTF-8 as \xNN, cut off at whole characters. */
static void make_utf8(const char *text, char clean[static LOG_TEXT_BYTES])
{
    enum { ROOM = LOG_TEXT_BYTES - sizeof("...") };
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;

    while (*p) {
        size_t n = utf8_length(p);

        if (at + (n ? n : 4) > ROOM) {
            memcpy(clean + at, "...", 3);
            at += 3;
            break;
        }
        if (n)
            memcpy(clean + at, p, n);
        else
            (void)snprintf(clean + at, 5, "\\x%02x", *p);
        at += n ? n : 4;
        p += n ? n : 1;
    }
    clean[at] = '\0';
}

struct line {
    char text[LINE_BYTES];
    size_t length;
};

/* Room is left for the newline. What doesn't fit is dropped. */
static void put(struct line *line, const char *text, size_t length)
{
    size_t room = sizeof(line->text) - 1 - line->length;

    if (length > room)
        length = room;
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:@%+,[]";

    return *text && text[strspn(text, plain)] == '\0';
}

/* A value as it stands where nothing in it could be mistaken, else in quotes with escapes. */
static void put_value(struct line *line, const char *text)
{
    char escape[5];

    if (is_plain(text)) {
        put_text(line, text);
        return;
    }
    put_text(line, "\"");
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\') {
            put(line, "\\", 1);
            put(line, text, 1);
        } else if (byte == '\n') {
            put_text(line, "\\n");
        } else if (byte < 0x20 || byte == 0x7F) {
            (void)snprintf(escape, sizeof(escape), "\\x%02x", byte);
            put_text(line, escape);
        } else {
            put(line, text, 1);
        }
    }
    put_text(line, "\"");
}

static void put_field(struct line *line, const struct log_field *field)
{
    char text[LOG_TEXT_BYTES] = "";

    put_text(line, " ");
    put_text(line, field->key);
    put_text(line, "=");
    switch (field->kind) {
    case LOG_FIELD_TEXT:
        if (field->value.text)
            make_utf8(field->value.text, text);
        break;
    case LOG_FIELD_UINT:
        (void)snprintf(text, sizeof(text), "%" PRIu64, field->value.u);
        break;
    case LOG_FIELD_INT:
        (void)snprintf(text, sizeof(text), "%" PRId64, field->value.i);
        break;
    case LOG_FIELD_REAL:
        (void)snprintf(text, sizeof(text), "%.3f", field->value.real);
        break;
    case LOG_FIELD_BOOL:
        (void)snprintf(text, sizeof(text), "%s", field->value.flag ? "true" : "false");
        break;
    }
    put_value(line, text);
}

/* One write(2), again only if a signal came first. An error has nowhere to be reported. */
static void write_line(const char *text, size_t length)
{
    int fd = atomic_load_explicit(&out_fd, memory_order_relaxed);
    int saved = errno;

    while (write(fd, text, length) < 0 && errno == EINTR)
        ;
    errno = saved;
}

static void write_text(const char *now, enum log_level level, const char *event,
                       const struct log_field fields[])
{
    struct line line;

    line.length = 0;
    put_text(&line, "ts=");
    put_text(&line, now);
    put_text(&line, " level=");
    put_text(&line, log_level_names[level]);
    put_text(&line, " event=");
    put_value(&line, event);
    for (; fields->key; fields++)
        put_field(&line, fields);
    line.text[line.length++] = '\n';
    write_line(line.text, line.length);
}

/* A new reference, NULL without memory. */
static json_t *json_of(const struct log_field *field)
{
    char clean[LOG_TEXT_BYTES] = "";

    switch (field->kind) {
    case LOG_FIELD_TEXT:
        if (field->value.text)
            make_utf8(field->value.text, clean);
        return json_string(clean);
    case LOG_FIELD_UINT:
        /* beyond jansson's integers a real keeps the magnitude */
        if (field->value.u > INT64_MAX)
            return json_real((double)field->value.u);
        return json_integer((json_int_t)field->value.u);
    case LOG_FIELD_INT:
        return json_integer((json_int_t)field->value.i);
    case LOG_FIELD_REAL:
        return json_real(field->value.real);
    case LOG_FIELD_BOOL:
        return json_boolean(field->value.flag);
    }
    return NULL;
}

static bool write_json(const char *now, enum log_level level, const char *event,
                       const struct log_field fields[])
{
    json_t *object =
        json_pack("{ss ss ss}", "ts", now, "level", log_level_names[level], "event", event);
    char *text = NULL;
    bool complete = object != NULL;

    for (; complete && fields->key; fields++)
        complete = json_object_set_new(object, fields->key, json_of(fields)) == 0;
    if (complete)
        text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(object);
    if (!text)
        return false;
    size_t length = strlen(text);
    text[length] = '\n'; /* in the terminator's place: write_line() takes a length */
    write_line(text, length + 1);
    free(text);
    return true;
}

void log_write(enum log_level level, const char *event, const struct log_field fields[])
{
    char now[TIME_BYTES];

    format_now(now);
    if (atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_AS_JSON &&
        write_json(now, level, event, fields))
        return;
    write_text(now, level, event, fields);
}
