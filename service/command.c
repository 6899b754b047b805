/* command.c - finds the command and runs it. */
#include "service/command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "service/nearest.h"

#define ENTRY(name) &command_##name,
const struct command *const commands[] = {COMMANDS(ENTRY) NULL};
#undef ENTRY

#define ONE(name) COUNT_##name,
enum { COMMANDS(ONE) COMMAND_COUNT };
#undef ONE

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->options->command, name) == 0)
            return commands[i];
    }
    return NULL;
}

bool command_parse(const struct command *command, int argc, char *const argv[], void *target,
                   struct operands *ret_operands, int *ret_status)
{
    struct err_detail why;

    switch (options_parse(command->options, argc, argv, environ, target, ret_operands, &why)) {
    case OPTIONS_OK:
        return true;
    case OPTIONS_HELP:
        options_help(command->options, stdout);
        *ret_status = STATUS_OK;
        return false;
    case OPTIONS_BAD:
        fprintf(stderr, "varve %s: %s\n", command->options->command, why.text);
        *ret_status = STATUS_USAGE;
        return false;
    }
    return false;
}

int command_refuse_unknown(const char *name)
{
    const char *names[COMMAND_COUNT];
    const char *near;
    char shown[41];

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->options->command;
    near = nearest_name(name, names, COMMAND_COUNT);
    (void)snprintf(shown, sizeof(shown), "%s", name);
    for (char *p = shown; *p; p++)
        *p = iscntrl((unsigned char)*p) ? '?' : *p;
    if (near)
        fprintf(stderr, "varve: unknown command \"%s\"; did you mean %s?\n", shown, near);
    else
        fprintf(stderr, "varve: unknown command \"%s\"; `varve help` lists them\n", shown);
    return STATUS_USAGE;
}

/* Also `varve --help` and `varve --version`, which people try first. */
static const struct command *choose(const char *name)
{
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return &command_help;
    if (strcmp(name, "--version") == 0)
        return &command_version;
    return command_find(name);
}

int command_dispatch(int argc, char *const argv[])
{
    const struct command *command;
    int status;

    if (argc < 2) {
        fputs("varve: no command given; `varve help` lists them\n", stderr);
        return STATUS_USAGE;
    }
    command = choose(argv[1]);
    if (!command)
        return command_refuse_unknown(argv[1]);
    status = command->run(argc - 2, argv + 2);
    /* what was printed may still be in the buffer, and the disk full */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_OK) {
        fputs("varve: cannot write to standard output\n", stderr);
        status = STATUS_FAILED;
    }
    return status;
}
