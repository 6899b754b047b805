/* The program `varve` as it is called: what it prints where, and its exit status. The tests
 * run the executable that the variable VARVE names. */
#include "service/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/support/check.h"

/* Runs `varve <arguments>` in a shell; its standard error comes out with its standard output.
 * Returns the exit status; `output` is cut off where it is longer. */
static int run(const char *arguments, char output[static 16384])
{
    char line[1000];
    size_t n;
    FILE *pipe;
    int status;

    assert_non_null(getenv("VARVE"));
    (void)snprintf(line, sizeof(line), "exec 2>&1; exec \"$VARVE\" %s", arguments);
    pipe = popen(line, "r");
    assert_non_null(pipe);
    n = fread(output, 1, 16383, pipe);
    output[n] = '\0';
    status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void is_one_line(const char *output)
{
    assert_int_equal(strncmp(output, "varve", 5), 0);
    assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1);
}

static void wrong_calls_are_one_line_and_status_2(void **state)
{
    static const char *const calls[] = {
        "",
        "frobnicate",
        "''",
        "\"$(printf 'a\\nb')\"",
        "version --jsn",
        "version --json=2",
        "version extra",
        "help frobnicate",
        "help version help",
    };
    char output[16384];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        assert_int_equal(run(calls[i], output), STATUS_USAGE);
        is_one_line(output);
    }
}

static void an_unknown_command_is_answered_with_the_nearest(void **state)
{
    char output[16384];

    (void)state;
    assert_int_equal(run("vresion", output), STATUS_USAGE);
    assert_string_equal(output, "varve: unknown command \"vresion\"; did you mean version?\n");
    assert_int_equal(run("help vresion", output), STATUS_USAGE);
    assert_string_equal(output, "varve: unknown command \"vresion\"; did you mean version?\n");
}

static void help_lists_every_command_and_describes_each(void **state)
{
    char list[16384];
    char one[16384];
    char option[16384];
    char call[100];

    (void)state;
    assert_int_equal(run("help", list), STATUS_OK);
    assert_int_equal(run("--help", one), STATUS_OK);
    assert_string_equal(one, list);
    for (size_t i = 0; commands[i]; i++) {
        const struct option_table *table = commands[i]->options;

        assert_non_null(strstr(list, table->summary));
        assert_ptr_equal(command_find(table->command), commands[i]);
        (void)snprintf(call, sizeof(call), "help %s", table->command);
        assert_int_equal(run(call, one), STATUS_OK);
        assert_non_null(strstr(one, table->summary));
        (void)snprintf(call, sizeof(call), "%s --help", table->command);
        assert_int_equal(run(call, option), STATUS_OK);
        assert_string_equal(option, one);
    }
}

static void version_names_the_program_and_its_libraries(void **state)
{
    char output[16384];

    (void)state;
    assert_int_equal(run("version", output), STATUS_OK);
    assert_int_equal(strncmp(output, "varve 0.", 8), 0);
    assert_non_null(strstr(output, "\nlibmicrohttpd "));
    assert_int_equal(run("version --json", output), STATUS_OK);
    assert_int_equal(strncmp(output, "{\"version\":\"0.", 14), 0);
}

static void the_manual_page_has_a_section_for_every_command(void **state)
{
    char output[16384];
    char section[100];

    (void)state;
    assert_int_equal(run("help --man", output), STATUS_OK);
    assert_int_equal(strncmp(output, ".TH VARVE 1 ", 12), 0);
    for (size_t i = 0; commands[i]; i++) {
        (void)snprintf(section, sizeof(section), "\n.SS varve %s", commands[i]->options->command);
        assert_non_null(strstr(output, section));
    }
}

static void output_that_can_not_be_written_is_a_failure(void **state)
{
    char output[16384];

    (void)state;
    assert_int_equal(run("version >/dev/full", output), STATUS_FAILED);
    is_one_line(output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_calls_are_one_line_and_status_2),
        cmocka_unit_test(an_unknown_command_is_answered_with_the_nearest),
        cmocka_unit_test(help_lists_every_command_and_describes_each),
        cmocka_unit_test(version_names_the_program_and_its_libraries),
        cmocka_unit_test(the_manual_page_has_a_section_for_every_command),
        cmocka_unit_test(output_that_can_not_be_written_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
