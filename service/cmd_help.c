/* cmd_help.c - `varve help [COMMAND]`, and the manual page that is made from the same tables. */
#include <stdio.h>
#include <string.h>

#include "service/build_info.h"
#include "service/command.h"

struct arguments {
    bool man;
};

static const struct option_spec specs[] = {
    {
        .name = "man",
        .group = "Output",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct arguments, man, bool),
        .text = "Print the manual page of all commands, for man(1).",
    },
};

static const struct option_table options = {
    .command = "help",
    .summary = "List the commands, or say what one of them does.",
    .operands = "[COMMAND]",
    .operands_max = 1,
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

static const char about[] = "a durable key-value store over plain HTTP";

static void list_commands(void)
{
    printf("varve %s: %s\n\nUsage: varve COMMAND [OPTION...]\n\n", build_info.version, about);
    for (size_t i = 0; commands[i]; i++)
        printf("  %-10s %s\n", commands[i]->options->command, commands[i]->options->summary);
    fputs("\n`varve help COMMAND` lists the options of a command.\n"
          "Exit status: 0 done, 1 failed, 2 called wrongly.\n",
          stdout);
}

static void print_manual(void)
{
    printf(".TH VARVE 1 \"\" \"varve %s\"\n.SH NAME\nvarve \\- ", build_info.version);
    options_man_text(about, stdout);
    fputs("\n.SH SYNOPSIS\n.B varve\n.I command\n.RI [ option ...]\n.SH COMMANDS\n", stdout);
    for (size_t i = 0; commands[i]; i++)
        options_man(commands[i]->options, stdout);
    fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 called wrongly.\n", stdout);
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct operands operands;
    const struct command *about_command;
    int status;

    if (!command_parse(&command_help, argc, argv, &arguments, &operands, &status))
        return status;
    if (arguments.man) {
        print_manual();
        return STATUS_OK;
    }
    if (operands.count == 0) {
        list_commands();
        return STATUS_OK;
    }
    about_command = command_find(operands.items[0]);
    if (!about_command)
        return command_refuse_unknown(operands.items[0]);
    options_help(about_command->options, stdout);
    return STATUS_OK;
}

const struct command command_help = {.options = &options, .run = run};
