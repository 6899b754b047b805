/* The option table: command line, environment, defaults, errors, help, manual page. */
#include "service/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/nearest.h"
#include "service/values.h"

enum color { RED, GREEN, BLUE };

struct values {
    bool verbose;
    uint64_t count;
    uint64_t bytes;
    uint64_t wait_ms;
    enum color color;
    struct address listen;
    const char *dir;
    struct option_list names;
};

static const char *const colors[] = {"red", "green", "blue", NULL};

static const struct option_spec specs[] = {
    {.name = "verbose",
     .group = "First",
     .kind = OPTION_FLAG,
     .offset = OPTION_MEMBER(struct values, verbose, bool),
     .text = "Say more."},
    {.name = "count",
     .group = "First",
     .kind = OPTION_COUNT,
     .offset = OPTION_MEMBER(struct values, count, uint64_t),
     .value = "N",
     .min = 1,
     .max = 9,
     .fallback_note = "as many as fit",
     .text = "How many."},
    {.name = "cache-bytes",
     .group = "Second",
     .kind = OPTION_SIZE,
     .offset = OPTION_MEMBER(struct values, bytes, uint64_t),
     .value = "SIZE",
     .min = 1024,
     .zero_note = "no cache",
     .fallback = "64KiB",
     .text = "Size of the cache."},
    {.name = "wait",
     .group = "Second",
     .kind = OPTION_DURATION,
     .offset = OPTION_MEMBER(struct values, wait_ms, uint64_t),
     .value = "TIME",
     .fallback = "5s",
     .max = 60000,
     .text = "How long to wait."},
    {.name = "color",
     .group = "Second",
     .kind = OPTION_CHOICE,
     .offset = OPTION_ENUM_MEMBER(struct values, color),
     .choices = colors,
     .fallback = "green",
     .text = "Which color."},
    {.name = "listen",
     .group = "Second",
     .kind = OPTION_ADDRESS,
     .offset = OPTION_MEMBER(struct values, listen, struct address),
     .value = "ADDRESS:PORT",
     .fallback = "127.0.0.1:7070",
     .text = "Where to listen."},
    {.name = "dir",
     .group = "Second",
     .kind = OPTION_TEXT,
     .offset = OPTION_MEMBER(struct values, dir, const char *),
     .value = "DIR",
     .fallback = "./data",
     .text = "Where the data is."},
    {.name = "name",
     .group = "Second",
     .kind = OPTION_LIST,
     .offset = OPTION_MEMBER(struct values, names, struct option_list),
     .value = "NAME",
     .text = "A name."},
};

static const struct option_table table = {
    .command = "try",
    .summary = "Try it.",
    .operands = "FILE",
    .operands_max = 2,
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

static struct values values;
static struct operands operands;
static struct err_detail why;

/* Parses NULL-terminated arguments and environment into the statics above. */
static enum options_outcome parse(const char *const argv[], const char *const environment[])
{
    int argc = 0;

    while (argv[argc])
        argc++;
    values = (struct values){0};
    why.text[0] = '\0';
    return options_parse(&table, argc, (char *const *)argv, (char *const *)environment, &values,
                         &operands, &why);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void refuses(const char *const argv[], const char *const environment[], const char *text)
{
    assert_int_equal(parse(argv, environment), OPTIONS_BAD);
    assert_string_equal(why.text, text);
    assert_null(strchr(why.text, '\n'));
    assert_null(values.names.items);
}

static void defaults_hold_where_nothing_is_said(void **state)
{
    char text[ADDRESS_TEXT_BYTES];

    (void)state;
    assert_int_equal(parse(ARGS(), ARGS()), OPTIONS_OK);
    assert_false(values.verbose);
    assert_int_equal(values.count, 0);
    assert_int_equal(values.bytes, 65536);
    assert_int_equal(values.wait_ms, 5000);
    assert_int_equal(values.color, GREEN);
    assert_string_equal(values.dir, "./data");
    assert_int_equal(values.names.count, 0);
    assert_int_equal(operands.count, 0);
    address_format(&values.listen, text);
    assert_string_equal(text, "127.0.0.1:7070");
}

static void values_follow_a_space_or_an_equals_sign(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--count", "3", "--cache-bytes=1MiB", "--wait=250ms", "--color",
                                "blue", "--dir=a=b", "--verbose", "--name", "x", "--name=y"),
                           ARGS()),
                     OPTIONS_OK);
    assert_int_equal(values.count, 3);
    assert_int_equal(values.bytes, 1048576);
    assert_int_equal(values.wait_ms, 250);
    assert_int_equal(values.color, BLUE);
    assert_string_equal(values.dir, "a=b");
    assert_true(values.verbose);
    assert_int_equal(values.names.count, 2);
    assert_string_equal(values.names.items[0], "x");
    assert_string_equal(values.names.items[1], "y");
    options_release(&table, &values);
    assert_int_equal(values.names.count, 0);
}

static void the_last_of_a_repeated_option_wins(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--count", "3", "--count=4", "--verbose", "--verbose=0"), ARGS()),
                     OPTIONS_OK);
    assert_int_equal(values.count, 4);
    assert_false(values.verbose);
}

static void the_environment_sets_what_the_command_line_does_not(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--count=2", "--name", "z"),
                           ARGS("VARVE_COUNT=7", "VARVE_VERBOSE=1", "VARVE_CACHE_BYTES=2KiB",
                                "VARVE_NAME=a,b", "VARVE_DIR=/srv")),
                     OPTIONS_OK);
    assert_int_equal(values.count, 2);
    assert_true(values.verbose);
    assert_int_equal(values.bytes, 2048);
    assert_string_equal(values.dir, "/srv");
    assert_int_equal(values.names.count, 1);
    assert_string_equal(values.names.items[0], "z");
    options_release(&table, &values);

    assert_int_equal(parse(ARGS("--verbose=0"), ARGS("VARVE_VERBOSE=1", "VARVE_NAME=a,b,c")),
                     OPTIONS_OK);
    assert_false(values.verbose);
    assert_int_equal(values.names.count, 3);
    assert_string_equal(values.names.items[2], "c");
    options_release(&table, &values);
}

static void variables_of_no_option_and_empty_ones_are_ignored(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS(), ARGS("VARVE_PORT=tcp://10.0.0.1:7070", "VARVE_SERVICE_HOST=x",
                                        "VARVE_COUNT=", "VARVE_COUNTER=99", "COUNT=99")),
                     OPTIONS_OK);
    assert_int_equal(values.count, 0);
}

static void a_bad_variable_is_harmless_where_the_command_line_overrides_it(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--count=2"), ARGS("VARVE_COUNT=many")), OPTIONS_OK);
    assert_int_equal(values.count, 2);
    refuses(ARGS(), ARGS("VARVE_COUNT=many"),
            "VARVE_COUNT takes a number from 1 to 9, not \"many\"");
}

static void bad_values_name_the_option_and_what_it_takes(void **state)
{
    (void)state;
    refuses(ARGS("--count", "10"), ARGS(), "--count takes a number from 1 to 9, not \"10\"");
    refuses(ARGS("--count=0"), ARGS(), "--count takes a number from 1 to 9, not \"0\"");
    refuses(ARGS("--count="), ARGS(), "--count takes a number from 1 to 9, not \"\"");
    refuses(ARGS("--cache-bytes=1MB"), ARGS(),
            "--cache-bytes takes a size (bytes, KiB, MiB, GiB) from 1KiB on, or 0 (no cache), not "
            "\"1MB\"");
    refuses(ARGS("--cache-bytes=1023"), ARGS(),
            "--cache-bytes takes a size (bytes, KiB, MiB, GiB) from 1KiB on, or 0 (no cache), not "
            "\"1023\"");
    refuses(ARGS("--wait", "10"), ARGS(),
            "--wait takes a time (ms, s, m) from 0ms to 1m, not \"10\"");
    refuses(ARGS("--wait", "61s"), ARGS(),
            "--wait takes a time (ms, s, m) from 0ms to 1m, not \"61s\"");
    refuses(ARGS("--color=pink"), ARGS(), "--color takes red, green or blue, not \"pink\"");
    refuses(ARGS("--listen=7070"), ARGS(),
            "--listen takes a numeric address and a port, as 127.0.0.1:7070 or [::1]:7070, not "
            "\"7070\"");
    refuses(ARGS("--dir="), ARGS(), "--dir takes a text that is not empty, not \"\"");
    refuses(ARGS("--verbose=yes"), ARGS(), "--verbose takes 1 or 0, not \"yes\"");
    refuses(ARGS(), ARGS("VARVE_VERBOSE=true"), "VARVE_VERBOSE takes 1 or 0, not \"true\"");
    refuses(ARGS(), ARGS("VARVE_NAME=a,,b"), "VARVE_NAME has an empty item");
    refuses(ARGS("--name", "kept until released", "--count=x"), ARGS(),
            "--count takes a number from 1 to 9, not \"x\"");
}

static void zero_is_taken_where_it_has_a_meaning(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--cache-bytes=0"), ARGS()), OPTIONS_OK);
    assert_int_equal(values.bytes, 0);
}

static void a_missing_value_is_not_taken_from_the_next_option(void **state)
{
    (void)state;
    refuses(ARGS("--count"), ARGS(), "--count needs a value: a number from 1 to 9");
    refuses(ARGS("--dir", "--verbose"), ARGS(), "--dir needs a value: a text that is not empty");
}

static void unknown_options_are_refused_with_the_nearest_known_one(void **state)
{
    (void)state;
    refuses(ARGS("--cuont", "3"), ARGS(), "unknown option --cuont; did you mean --count?");
    refuses(ARGS("--cachebytes=1"), ARGS(),
            "unknown option --cachebytes; did you mean --cache-bytes?");
    refuses(ARGS("--tls-cert=x"), ARGS(), "unknown option --tls-cert");
    refuses(ARGS("--coun", "3"), ARGS(), "unknown option --coun; did you mean --count?");
    refuses(ARGS("-count"), ARGS(), "unknown option -count; did you mean --count?");
    refuses(ARGS("-v"), ARGS(), "unknown option -v");
}

static void an_error_stays_on_one_line_whatever_was_given(void **state)
{
    char big[400];

    (void)state;
    refuses(ARGS("--count=1\n2"), ARGS(), "--count takes a number from 1 to 9, not \"1?2\"");
    refuses(ARGS("--a\nb"), ARGS(), "unknown option --a?b");
    refuses(ARGS("a", "b", "c\nd"), ARGS(), "unexpected argument \"c?d\"");
    memset(big, '9', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(parse(ARGS("--count", big), ARGS()), OPTIONS_BAD);
    assert_true(strlen(why.text) < 160);
    assert_non_null(strstr(why.text, "9...\""));
}

static void operands_may_stand_between_options_and_after_a_double_dash(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("one", "--count=1", "--", "--two"), ARGS()), OPTIONS_OK);
    assert_int_equal(operands.count, 2);
    assert_string_equal(operands.items[0], "one");
    assert_string_equal(operands.items[1], "--two");
    assert_int_equal(parse(ARGS("-"), ARGS()), OPTIONS_OK);
    assert_string_equal(operands.items[0], "-");
    refuses(ARGS("1", "2", "3"), ARGS(), "unexpected argument \"3\"");
}

static void help_is_given_whatever_else_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--count=x", "--help"), ARGS()), OPTIONS_HELP);
    assert_int_equal(parse(ARGS("-h"), ARGS("VARVE_COUNT=x")), OPTIONS_HELP);
    assert_int_equal(parse(ARGS("--", "--help"), ARGS()), OPTIONS_OK);
}

/* What `print` writes for the table; to be freed. */
static char *printed(void (*print)(const struct option_table *, FILE *))
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    print(&table, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void help_names_every_option_its_default_and_its_variable(void **state)
{
    char *text = printed(options_help);

    (void)state;
    assert_non_null(strstr(text, "Usage: varve try [OPTION...] FILE\n"));
    assert_non_null(strstr(text, "\nFirst:\n  --verbose"));
    assert_non_null(strstr(text, "\nSecond:\n  --cache-bytes SIZE"));
    assert_non_null(strstr(text, "  --color red|green|blue      Which color. [green]\n"));
    assert_non_null(strstr(text, "How many. [as many as fit]"));
    assert_non_null(strstr(text, "0: no cache. [64KiB]"));
    assert_non_null(strstr(text, "--verbose by\nVARVE_VERBOSE"));
    for (size_t i = 0; i < table.count; i++)
        assert_non_null(strstr(text, specs[i].name));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
    free(text);
}

static void the_manual_page_names_every_option_with_dashes_escaped(void **state)
{
    char *text = printed(options_man);

    (void)state;
    assert_non_null(strstr(text, ".B \\-\\-cache\\-bytes SIZE\n"));
    assert_non_null(strstr(text, "[./data]"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(line[0] != '.' || strncmp(line, ".TP\n", 4) == 0 ||
                    strncmp(line, ".B ", 3) == 0 || strncmp(line, ".SS ", 4) == 0 ||
                    strncmp(line, ".PP\n", 4) == 0);
    free(text);
}

static void the_nearest_name_is_the_one_with_the_fewest_edits(void **state)
{
    const char *const names[] = {"serve", "version", "help", "check"};

    (void)state;
    assert_string_equal(nearest_name("server", names, 4), "serve");
    assert_string_equal(nearest_name("hepl", names, 4), "help");
    assert_string_equal(nearest_name("vresion", names, 4), "version");
    assert_null(nearest_name("xyz", names, 4));
    assert_null(nearest_name("", names, 4));
    assert_null(nearest_name("a name that is far longer than any name of ours", names, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_where_nothing_is_said),
        cmocka_unit_test(values_follow_a_space_or_an_equals_sign),
        cmocka_unit_test(the_last_of_a_repeated_option_wins),
        cmocka_unit_test(the_environment_sets_what_the_command_line_does_not),
        cmocka_unit_test(variables_of_no_option_and_empty_ones_are_ignored),
        cmocka_unit_test(a_bad_variable_is_harmless_where_the_command_line_overrides_it),
        cmocka_unit_test(bad_values_name_the_option_and_what_it_takes),
        cmocka_unit_test(zero_is_taken_where_it_has_a_meaning),
        cmocka_unit_test(a_missing_value_is_not_taken_from_the_next_option),
        cmocka_unit_test(unknown_options_are_refused_with_the_nearest_known_one),
        cmocka_unit_test(an_error_stays_on_one_line_whatever_was_given),
        cmocka_unit_test(operands_may_stand_between_options_and_after_a_double_dash),
        cmocka_unit_test(help_is_given_whatever_else_is_wrong),
        cmocka_unit_test(help_names_every_option_its_default_and_its_variable),
        cmocka_unit_test(the_manual_page_names_every_option_with_dashes_escaped),
        cmocka_unit_test(the_nearest_name_is_the_one_with_the_fewest_edits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
