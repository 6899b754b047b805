/* Log lines: their form, escaping, levels, and that lines of many threads don't mix. */
#include "service/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static int fd; /* where the log goes in these tests */

/* All that was written since the last call; to be freed. */
static char *written(void)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)size + 1);

    assert_non_null(text);
    assert_int_equal(pread(fd, text, (size_t)size, 0), size);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return text;
}

/* What follows the time in the one line that was written. */
static void expect_text(const char *expected)
{
    char *line = written();
    char *rest = strchr(line, ' ');

    assert_non_null(rest);
    assert_string_equal(rest + 1, expected);
    free(line);
}

static void as_text(enum log_level level)
{
    log_configure(level, LOG_AS_TEXT, fd);
}

static int open_file(void **state)
{
    (void)state;
    fd = memfd_create("log", 0);
    /* unlike a file on disk, a memfd doesn't lock its offset during a write */
    return fd < 0 ? -1 : fcntl(fd, F_SETFL, O_APPEND);
}

static int close_file(void **state)
{
    (void)state;
    log_configure(LOG_INFO, LOG_AS_TEXT, STDERR_FILENO);
    return close(fd);
}

static void an_event_is_a_line_of_keys_and_values(void **state)
{
    (void)state;
    as_text(LOG_INFO);
    log_event(LOG_INFO, "listening", log_text("addr", "127.0.0.1:41231"));
    expect_text("level=info event=listening addr=127.0.0.1:41231\n");
    log_event(LOG_WARN, "stopped");
    expect_text("level=warn event=stopped\n");
    log_event(LOG_ERROR, "figures", log_uint("u", UINT64_MAX), log_int("i", -5),
              log_real("s", 0.25), log_bool("b", true), log_bool("c", false));
    expect_text("level=error event=figures u=18446744073709551615 i=-5 s=0.250 b=true c=false\n");
}

static void the_time_is_rfc_3339_in_utc(void **state)
{
    int year, month, day, hour, minute, second, ms, end = 0;
    char *line;

    (void)state;
    as_text(LOG_INFO);
    log_event(LOG_INFO, "ready");
    line = written();
    assert_int_equal(sscanf(line, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ level=info event=ready%n", &year,
                            &month, &day, &hour, &minute, &second, &ms, &end),
                     7);
    assert_int_equal(end, strlen("ts=2026-01-02T03:04:05.678Z level=info event=ready"));
    free(line);
}

static void values_that_could_be_mistaken_are_quoted_and_escaped(void **state)
{
    (void)state;
    as_text(LOG_INFO);
    log_event(LOG_INFO, "e", log_text("a", "two words"), log_text("b", ""), log_text("c", NULL));
    expect_text("level=info event=e a=\"two words\" b=\"\" c=\"\"\n");
    log_event(LOG_INFO, "e", log_text("a", "x=1"), log_text("b", "say \"hi\" \\ bye"));
    expect_text("level=info event=e a=\"x=1\" b=\"say \\\"hi\\\" \\\\ bye\"\n");
    log_event(LOG_INFO, "e", log_text("a", "line\nlevel=error event=forged\r\x7f"));
    expect_text("level=info event=e a=\"line\\nlevel=error event=forged\\x0d\\x7f\"\n");
    log_event(LOG_INFO, "e", log_text("a", "caf\xc3\xa9"), log_text("b", "caf\xe9"));
    expect_text("level=info event=e a=\"caf\xc3\xa9\" b=\"caf\\\\xe9\"\n");
}

static void events_below_the_level_are_dropped_unevaluated(void **state)
{
    int evaluated = 0;
    char *line;

    (void)state;
    as_text(LOG_WARN);
    assert_true(log_enabled(LOG_ERROR));
    assert_false(log_enabled(LOG_INFO));
    log_event(LOG_INFO, "e", log_int("n", ++evaluated));
    log_event(LOG_DEBUG, "e", log_int("n", ++evaluated));
    line = written();
    assert_string_equal(line, "");
    free(line);
    assert_int_equal(evaluated, 0);
    log_event(LOG_ERROR, "e", log_int("n", ++evaluated));
    expect_text("level=error event=e n=1\n");
}

static void long_texts_are_cut_off_at_a_whole_character(void **state)
{
    char big[4 * LOG_TEXT_BYTES];
    char *line;
    size_t length;

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(big); i += 2)
        memcpy(big + i, "\xc3\xa9", 2);
    big[sizeof(big) - 2] = '\0';
    log_configure(LOG_INFO, LOG_AS_JSON, fd);
    log_event(LOG_INFO, "e", log_text("a", big), log_text("b", "after"));
    line = written();
    json_t *object = json_loads(line, 0, NULL);
    assert_non_null(object);
    const char *a = json_string_value(json_object_get(object, "a"));
    length = strlen(a);
    assert_true(length < LOG_TEXT_BYTES && length > LOG_TEXT_BYTES - 8);
    assert_string_equal(a + length - 5, "\xc3\xa9...");
    assert_string_equal(json_string_value(json_object_get(object, "b")), "after");
    json_decref(object);
    free(line);
}

static void a_text_line_fits_a_pipe_and_ends_in_a_newline(void **state)
{
    char big[2 * LOG_TEXT_BYTES];
    char *line;

    (void)state;
    memset(big, '"', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    as_text(LOG_INFO);
    log_event(LOG_INFO, "e", log_text("a", big), log_text("b", big), log_text("c", big));
    line = written();
    assert_true(strlen(line) <= 4096);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    free(line);
}

static void json_lines_hold_any_bytes(void **state)
{
    char *line;
    json_t *object;

    (void)state;
    log_configure(LOG_INFO, LOG_AS_JSON, fd);
    log_event(LOG_INFO, "corruption", log_text("file", "a\"\\\n\x01 caf\xc3\xa9 \xff\xed\xa0\x80"),
              log_uint("offset", 4096), log_uint("huge", UINT64_MAX), log_int("i", -1),
              log_real("s", 1.5), log_bool("b", true), log_text("none", NULL));
    line = written();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    object = json_loads(line, 0, NULL);
    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(object, "event")), "corruption");
    assert_string_equal(json_string_value(json_object_get(object, "file")),
                        "a\"\\\n\x01 caf\xc3\xa9 \\xff\\xed\\xa0\\x80");
    assert_int_equal(json_integer_value(json_object_get(object, "offset")), 4096);
    assert_true(json_real_value(json_object_get(object, "huge")) > 1.8e19);
    assert_int_equal(json_integer_value(json_object_get(object, "i")), -1);
    assert_true(json_is_true(json_object_get(object, "b")));
    assert_string_equal(json_string_value(json_object_get(object, "none")), "");
    json_decref(object);
    free(line);
}

enum { THREADS = 4, LINES_EACH = 500 };

static void *write_lines(void *argument)
{
    const char *name = argument;

    for (unsigned i = 0; i < LINES_EACH; i++)
        log_event(LOG_INFO, "step", log_text("who", name), log_uint("n", i));
    return NULL;
}

static void lines_of_many_threads_do_not_mix(void **state)
{
    static char names[THREADS][8];
    pthread_t threads[THREADS];
    size_t lines = 0;
    char *text;

    (void)state;
    as_text(LOG_INFO);
    for (unsigned i = 0; i < THREADS; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "t%u", i);
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    text = written();
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        unsigned who, n;
        int end = 0;

        assert_int_equal(
            sscanf(line, "ts=%*s level=info event=step who=t%u n=%u%n", &who, &n, &end), 2);
        assert_int_equal(end, strlen(line));
        lines++;
    }
    assert_int_equal(lines, THREADS * LINES_EACH);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_a_line_of_keys_and_values),
        cmocka_unit_test(the_time_is_rfc_3339_in_utc),
        cmocka_unit_test(values_that_could_be_mistaken_are_quoted_and_escaped),
        cmocka_unit_test(events_below_the_level_are_dropped_unevaluated),
        cmocka_unit_test(long_texts_are_cut_off_at_a_whole_character),
        cmocka_unit_test(a_text_line_fits_a_pipe_and_ends_in_a_newline),
        cmocka_unit_test(json_lines_hold_any_bytes),
        cmocka_unit_test(lines_of_many_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, open_file, close_file);
}
