/* dir_check.c - `varve check`, with what it prints as the message. */
#include "tests/crash/dir_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/support/check.h"

enum { COMMAND_BYTES = 2000, OUTPUT_BYTES = 4000 };

void check_dir_in_order(const char *dir, bool clean)
{
    char command[COMMAND_BYTES], output[OUTPUT_BYTES], rest[OUTPUT_BYTES];
    const char *program = getenv("VARVE");
    assert_non_null(program);
    int length = snprintf(command, sizeof command, "'%s' check '%s' 2>&1", program, dir);
    assert_in_range(length, 1, COMMAND_BYTES - 1);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    output[fread(output, 1, sizeof output - 1, pipe)] = '\0';
    while (fread(rest, 1, sizeof rest, pipe) > 0) {
    }
    int status = pclose(pipe);
    bool note = strncmp(output, "note:", 5) == 0 || strstr(output, "\nnote:") != NULL;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || strstr(output, "no damage") == NULL ||
        (clean && note)) {
        fail_msg("%s: wait status %d:\n%s", command, status, output);
    }
}
