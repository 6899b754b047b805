/*
 * options.h - command line options from a table.
 *
 * A command describes its options once, in a table of `struct option_spec`. From it come
 * the parser, `--help`, the environment variables and the manual page, so that none of them
 * can say something that the others don't know.
 *
 *   --name VALUE, --name=VALUE   a value; the last one wins, lists collect them
 *   --flag, --flag=1, --flag=0   a flag
 *   VARVE_NAME=VALUE             the same from the environment: 1 or 0 for a flag, commas between
 *                                the items of a list; an empty variable counts as not set
 *   --                           ends the options; what follows are operands
 *
 * The command line wins over the environment, and that over the default. Variables that no
 * option bears the name of are ignored: Kubernetes makes some up for Services.
 *
 * Threads:   before start; nothing here locks.
 * Ownership: texts are borrowed from argv and the environment. Lists are allocated:
 *            options_release() frees them.
 * Errors:    one line that names the option, what it takes and what it got.
 */
#ifndef SERVICE_OPTIONS_H
#define SERVICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "store/base/err.h"

/* What an option takes, and the type of the member that the value goes to. */
enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_COUNT,    /* uint64_t */
    OPTION_SIZE,     /* uint64_t, bytes */
    OPTION_DURATION, /* uint64_t, milliseconds */
    OPTION_CHOICE,   /* an enum; its values number the choices from 0 */
    OPTION_ADDRESS,  /* struct address (values.h) */
    OPTION_TEXT,     /* const char *, not empty */
    OPTION_LIST,     /* struct option_list */
};

struct option_list {
    char **items;
    size_t count;
};

struct option_spec {
    const char *name;  /* without dashes: "data-dir" */
    const char *group; /* heading in the help; options of a group stand together */
    enum option_kind kind;
    size_t offset;        /* of the member: OPTION_MEMBER() */
    const char *value;    /* its name in the help: "DIR"; NULL for flags and choices */
    const char *fallback; /* default, as one would type it; NULL: the member stays zero */
    const char
        *fallback_note;    /* what zero stands for, where there is no fallback: "one per core" */
    const char *zero_note; /* what 0 means where the minimum is above it: "unlimited" */
    uint64_t min;          /* of counts, sizes and durations */
    uint64_t max;          /* the same; 0: no maximum */
    const char *const *choices; /* of OPTION_CHOICE, NULL-terminated */
    const char *text;           /* sentences for the help, without the default */
};

/* Offset of a member, checked against the type that the option's kind writes. */
#define OPTION_MEMBER(type, member, as) \
    (offsetof(type, member) +           \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->member), as) ? 1 : -1]))

/* The same for an enum: only its size can be checked. */
#define OPTION_ENUM_MEMBER(type, member) \
    (offsetof(type, member) + 0 * sizeof(char[sizeof(((type *)0)->member) == 4 ? 1 : -1]))

struct option_table {
    const char *command;  /* "serve" */
    const char *summary;  /* a sentence fragment: "run the server" */
    const char *operands; /* for the usage line: "DIR"; NULL: none */
    const char *details;  /* paragraphs for the help, after the options; may be NULL */
    size_t operands_min;
    size_t operands_max;
    const struct option_spec *specs;
    size_t count; /* at most OPTIONS_MAX */
    /* Checks values against each other and fills in those that depend on others or on the
     * machine. Returns false with a sentence. May be NULL. */
    bool (*complete)(void *target, struct err_detail *why);
};

enum { OPTIONS_MAX = 64 };

enum options_outcome {
    OPTIONS_OK,
    OPTIONS_HELP, /* --help or -h was given: nothing else counts */
    OPTIONS_BAD,  /* `why` has the line to print */
};

/* What remains of the command line; borrowed from argv. */
struct operands {
    const char *items[8];
    size_t count;
};

/* Fills `target`, the zeroed struct that the table's offsets refer to. `argv` begins after
 * the command's name; `environment` is as environ(7). On OPTIONS_OK, release with
 * options_release(); otherwise that was done. */
MUST_USE enum options_outcome options_parse(const struct option_table *table, int argc,
                                            char *const argv[], char *const environment[],
                                            void *target, struct operands *ret_operands,
                                            struct err_detail *why);

/* Frees the lists in `target`. */
void options_release(const struct option_table *table, void *target);

/* Writes what --help prints, at most 80 columns wide unless a word is longer. */
void options_help(const struct option_table *table, FILE *out);

/* Writes the command's section of the manual page, in man(7) macros. */
void options_man(const struct option_table *table, FILE *out);

/* Writes `text` with what troff takes for markup escaped. */
void options_man_text(const char *text, FILE *out);

/* What the option takes, as a noun phrase: "a number from 1 to 256". */
void option_allowed(const struct option_spec *spec, char text[], size_t size);

/* "VARVE_DATA_DIR" from "data-dir". */
void option_variable(const struct option_spec *spec, char text[], size_t size);

#endif
