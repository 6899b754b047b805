/* cmd_version.c - `varve version`: what to put into a bug report. */
#include <stdio.h>

#include <jansson.h>

#include "service/build_info.h"
#include "service/command.h"

struct arguments {
    bool json;
};

static const struct option_spec specs[] = {
    {
        .name = "json",
        .group = "Output",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct arguments, json, bool),
        .text = "Print one JSON object.",
    },
};

static const struct option_table options = {
    .command = "version",
    .summary = "Print the version of the program and of the libraries it runs with.",
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

static void print_text(const struct library_version libraries[])
{
    printf("varve %s\n", build_info.version);
    printf("build: %s, %s%s%s\n", build_info.build_type, build_info.compiler,
           *build_info.sanitizers ? ", sanitizers " : "", build_info.sanitizers);
    for (; libraries->name; libraries++)
        printf("%s %s\n", libraries->name, libraries->version);
}

static int print_json(const struct library_version libraries[])
{
    json_t *object = json_pack("{ss ss ss ss s{}}", "version", build_info.version, "build_type",
                               build_info.build_type, "compiler", build_info.compiler, "sanitizers",
                               build_info.sanitizers, "libraries");
    json_t *versions = json_object_get(object, "libraries");
    bool complete = object != NULL;

    for (; complete && libraries->name; libraries++)
        complete =
            json_object_set_new(versions, libraries->name, json_string(libraries->version)) == 0;
    complete = complete && json_dumpf(object, stdout, JSON_COMPACT) == 0;
    json_decref(object);
    if (!complete) {
        fputs("varve version: cannot write the answer\n", stderr);
        return STATUS_FAILED;
    }
    putchar('\n');
    return STATUS_OK;
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct operands operands;
    struct library_version libraries[LIBRARY_COUNT + 1];
    int status;

    if (!command_parse(&command_version, argc, argv, &arguments, &operands, &status))
        return status;
    build_info_libraries(libraries);
    if (arguments.json)
        return print_json(libraries);
    print_text(libraries);
    return STATUS_OK;
}

const struct command command_version = {.options = &options, .run = run};
