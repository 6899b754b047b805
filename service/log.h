/*
 * log.h - one line per event on standard error, for people (key=value) or machines (JSON).
 *
 *   log_event(LOG_INFO, "listening", log_text("addr", address), log_uint("threads", n));
 *
 *   ts=2026-11-23T09:17:54.123Z level=info event=listening addr=127.0.0.1:7070 threads=2
 *   {"ts":"2026-11-23T09:17:54.123Z","level":"info","event":"listening",...}
 *
 * Events and keys are lower case with underscores; others parse them, so they don't change.
 * Never log values, tokens, or above LOG_DEBUG keys of the store.
 *
 * Threads:   log_event(): any thread; a line is one write(2), so that lines don't mix. May block
 *            where standard error is a full pipe. log_configure(): before start.
 * Ownership: nothing is kept; texts are borrowed for the call.
 * Errors:    none: a line that can't be written is dropped.
 */
#ifndef SERVICE_LOG_H
#define SERVICE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_AS_TEXT, LOG_AS_JSON };

/* Names in the order of the enums, NULL-terminated. */
extern const char *const log_level_names[];
extern const char *const log_format_names[];

/* Drops events above `level`, writes the others to `fd`. Without this call: LOG_INFO, text,
 * standard error. */
void log_configure(enum log_level level, enum log_format format, int fd);

/* Whether an event of this level would be written: to spare the work of preparing one. */
bool log_enabled(enum log_level level);

struct log_field {
    const char *key; /* NULL ends a list of fields */
    enum { LOG_FIELD_TEXT, LOG_FIELD_UINT, LOG_FIELD_INT, LOG_FIELD_REAL, LOG_FIELD_BOOL } kind;
    union {
        const char *text;
        uint64_t u;
        int64_t i;
        double real;
        bool flag;
    } value;
};

/* Texts longer than this are cut off, marked with "...". */
enum { LOG_TEXT_BYTES = 1024 };

/* NULL is written as an empty text; bytes that aren't UTF-8 or printable are escaped. */
static inline struct log_field log_text(const char *key, const char *text)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_TEXT, .value.text = text};
}

static inline struct log_field log_uint(const char *key, uint64_t value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_UINT, .value.u = value};
}

static inline struct log_field log_int(const char *key, int64_t value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_INT, .value.i = value};
}

/* Written with three decimals: seconds to the millisecond, percentages. */
static inline struct log_field log_real(const char *key, double value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_REAL, .value.real = value};
}

static inline struct log_field log_bool(const char *key, bool value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_BOOL, .value.flag = value};
}

/* log_event(level, event, field...): the fields are evaluated only if the level is enabled. */
#define log_event(level, event, ...)                                                     \
    do {                                                                                 \
        if (log_enabled(level))                                                          \
            log_write(level, event,                                                      \
                      (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.key = 0}}); \
    } while (0)

/* What log_event() expands to: writes the line, whatever the level. */
void log_write(enum log_level level, const char *event, const struct log_field fields[]);

#endif
