/*
 * command.h - the commands of the program: `varve NAME ...`.
 *
 * A command lives in a file of its own, which defines `const struct command command_<name>`;
 * a line in COMMANDS() registers it. Nothing else needs to know.
 *
 * Threads:   the main thread.
 * Ownership: argv and the environment are borrowed and outlive the command.
 * Errors:    commands return an exit status: 0 done, 1 failed, 2 called wrongly; what went
 *            wrong is a line on standard error.
 */
#ifndef SERVICE_COMMAND_H
#define SERVICE_COMMAND_H

#include "service/options.h"

/* In the order of the help. */
#define COMMANDS(X) \
    X(serve)        \
    X(health)       \
    X(check)        \
    X(dump)         \
    X(salvage)      \
    X(version)      \
    X(help)

enum exit_status { STATUS_OK = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

struct command {
    const struct option_table *options; /* its name and summary too */

    /* `argv` begins after the command's name. */
    int (*run)(int argc, char *const argv[]);
};

#define COMMAND_DECLARE(name) extern const struct command command_##name;
COMMANDS(COMMAND_DECLARE)
#undef COMMAND_DECLARE

/* All of them, NULL-terminated. */
extern const struct command *const commands[];

/* The command of that name, NULL if there is none. */
const struct command *command_find(const char *name);

/* Says that there is no command of that name, and which one may have been meant. Returns the exit
 * status. */
int command_refuse_unknown(const char *name);

/* Parses a command's arguments and the environment into `target`, a zeroed struct. Where it
 * returns false the command is over: --help was printed, or the line that says what is wrong,
 * and *ret_status is the exit status. Otherwise release with options_release(). */
MUST_USE bool command_parse(const struct command *command, int argc, char *const argv[],
                            void *target, struct operands *ret_operands, int *ret_status);

/* Runs what main() was given; returns the exit status. */
int command_dispatch(int argc, char *const argv[]);

#endif
