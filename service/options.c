/*
 * options.c - parses a command line and the environment by a table.
 *
 * Three passes: the command line; then the environment and the defaults for options that it
 * didn't set. So a bad variable does no harm where the command line overrides it.
 */
#include "service/options.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "service/nearest.h"
#include "service/values.h"

static const char out_of_memory[] = "out of memory";

struct parse {
    const struct option_table *table;
    char *target;
    struct err_detail *why;
    bool seen[OPTIONS_MAX]; /* by index of the spec */
};

void option_variable(const struct option_spec *spec, char text[], size_t size)
{
    size_t at;

    assert(size > sizeof("VARVE_") + strlen(spec->name));
    memcpy(text, "VARVE_", at = sizeof("VARVE_") - 1);
    for (const char *p = spec->name; *p; p++)
        text[at++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    text[at] = '\0';
}

static void format_bound(const struct option_spec *spec, uint64_t bound,
                         char text[static VALUE_TEXT_BYTES])
{
    if (spec->kind == OPTION_SIZE)
        size_format(bound, text);
    else if (spec->kind == OPTION_DURATION)
        duration_format(bound, text);
    else
        (void)snprintf(text, VALUE_TEXT_BYTES, "%" PRIu64, bound);
}

/* "a size (KiB, MiB, GiB) from 1KiB to 4GiB, or 0 (unlimited)" */
static void allowed_number(const struct option_spec *spec, char text[], size_t size)
{
    const char *noun = spec->kind == OPTION_SIZE       ? "a size (bytes, KiB, MiB, GiB)"
                       : spec->kind == OPTION_DURATION ? "a time (ms, s, m)"
                                                       : "a number";
    char min[VALUE_TEXT_BYTES];
    char max[VALUE_TEXT_BYTES];
    char range[3 * VALUE_TEXT_BYTES] = "";

    format_bound(spec, spec->min, min);
    format_bound(spec, spec->max, max);
    if (spec->max)
        (void)snprintf(range, sizeof(range), " from %s to %s", min, max);
    else if (spec->min)
        (void)snprintf(range, sizeof(range), " from %s on", min);
    (void)snprintf(text, size, "%s%s%s%s%s", noun, range, spec->zero_note ? ", or 0 (" : "",
                   spec->zero_note ? spec->zero_note : "", spec->zero_note ? ")" : "");
}

void option_allowed(const struct option_spec *spec, char text[], size_t size)
{
    size_t at = 0;

    switch (spec->kind) {
    case OPTION_FLAG:
        (void)snprintf(text, size, "1 or 0");
        break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        allowed_number(spec, text, size);
        break;
    case OPTION_CHOICE:
        text[0] = '\0';
        for (size_t i = 0; spec->choices[i] && at < size; i++)
            at += (size_t)snprintf(text + at, size - at, "%s%s",
                                   i == 0                 ? ""
                                   : spec->choices[i + 1] ? ", "
                                                          : " or ",
                                   spec->choices[i]);
        break;
    case OPTION_ADDRESS:
        (void)snprintf(text, size, "a numeric address and a port, as 127.0.0.1:7070 or [::1]:7070");
        break;
    case OPTION_TEXT:
    case OPTION_LIST:
        (void)snprintf(text, size, "a text that is not empty");
        break;
    }
}

/* Sets `why` to "<what> takes <allowed>, not "<value>"", on one line whatever the value holds. */
static void refuse(struct parse *parse, const struct option_spec *spec, const char *what,
                   const char *value)
{
    char allowed[200];
    char shown[81];
    size_t length = strlen(value);
    size_t n = length < sizeof(shown) - 1 ? length : sizeof(shown) - 1;

    for (size_t i = 0; i < n; i++)
        shown[i] = iscntrl((unsigned char)value[i]) ? '?' : value[i];
    shown[n] = '\0';
    option_allowed(spec, allowed, sizeof(allowed));
    err_detail_set(parse->why, "%s takes %s, not \"%s%s\"", what, allowed, shown,
                   n < length ? "..." : "");
}

static bool list_append(struct option_list *list, const char *item, size_t length)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof(*items));

    if (!items)
        return false;
    list->items = items;
    items[list->count] = strndup(item, length);
    if (!items[list->count])
        return false;
    list->count++;
    return true;
}

static bool in_range(const struct option_spec *spec, uint64_t value)
{
    if (value == 0 && spec->zero_note)
        return true;
    return value >= spec->min && (spec->max == 0 || value <= spec->max);
}

static bool parse_number(const struct option_spec *spec, const char *value, uint64_t *number)
{
    bool valid = spec->kind == OPTION_SIZE       ? size_parse(value, number)
                 : spec->kind == OPTION_DURATION ? duration_parse(value, number)
                                                 : count_parse(value, number);

    return valid && in_range(spec, *number);
}

static bool parse_choice(const struct option_spec *spec, const char *value, unsigned *choice)
{
    for (unsigned i = 0; spec->choices[i]; i++) {
        if (strcmp(value, spec->choices[i]) == 0) {
            *choice = i;
            return true;
        }
    }
    return false;
}

/* Writes a value to its member; `what` is how the user named the option. */
static bool assign(struct parse *parse, const struct option_spec *spec, const char *what,
                   const char *value)
{
    char *member = parse->target + spec->offset;
    union {
        bool flag;
        uint64_t number;
        unsigned choice;
        struct address address;
    } to;
    size_t size = 0;
    bool valid = false;

    switch (spec->kind) {
    case OPTION_FLAG:
        valid = strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
        to.flag = value[0] == '1';
        size = sizeof(to.flag);
        break;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        valid = parse_number(spec, value, &to.number);
        size = sizeof(to.number);
        break;
    case OPTION_CHOICE:
        valid = parse_choice(spec, value, &to.choice);
        size = sizeof(to.choice);
        break;
    case OPTION_ADDRESS:
        valid = address_parse(value, &to.address);
        size = sizeof(to.address);
        break;
    case OPTION_TEXT:
        valid = value[0] != '\0';
        if (valid)
            memcpy(member, &value, sizeof(value));
        break;
    case OPTION_LIST:
        valid = value[0] != '\0';
        if (valid && !list_append((struct option_list *)member, value, strlen(value))) {
            err_detail_set(parse->why, "%s", out_of_memory);
            return false;
        }
        break;
    }
    if (!valid)
        refuse(parse, spec, what, value);
    else if (size)
        memcpy(member, &to, size);
    return valid;
}

static bool assign_variable(struct parse *parse, const struct option_spec *spec, const char *name,
                            const char *value)
{
    if (spec->kind != OPTION_LIST)
        return assign(parse, spec, name, value);
    while (*value) {
        size_t length = strcspn(value, ",");

        if (length == 0) {
            err_detail_set(parse->why, "%s has an empty item", name);
            return false;
        }
        if (!list_append((struct option_list *)(parse->target + spec->offset), value, length)) {
            err_detail_set(parse->why, "%s", out_of_memory);
            return false;
        }
        value += length;
        value += *value == ',';
    }
    return true;
}

static const char *find_variable(char *const environment[], const char *name)
{
    size_t length = strlen(name);

    for (; *environment; environment++) {
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    }
    return NULL;
}

/* For an option that the command line left alone. */
static bool assign_elsewhere(struct parse *parse, const struct option_spec *spec,
                             char *const environment[])
{
    char name[64];
    const char *value;

    option_variable(spec, name, sizeof(name));
    value = find_variable(environment, name);
    if (value && *value)
        return assign_variable(parse, spec, name, value);
    if (spec->fallback) {
        bool valid = assign(parse, spec, spec->name, spec->fallback);

        assert(valid); /* a default that its own option refuses */
        return valid;
    }
    return true;
}

static const struct option_spec *find_spec(const struct option_table *table, const char *name,
                                           size_t length)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strlen(table->specs[i].name) == length &&
            memcmp(table->specs[i].name, name, length) == 0)
            return &table->specs[i];
    }
    return NULL;
}

static void refuse_unknown(struct parse *parse, const char *argument)
{
    const char *names[OPTIONS_MAX];
    char given[41] = "";
    const char *near;
    size_t n = strcspn(argument, "=");

    for (size_t i = 0; i < parse->table->count; i++)
        names[i] = parse->table->specs[i].name;
    if (n >= sizeof(given))
        n = sizeof(given) - 1;
    for (size_t i = 0; i < n; i++)
        given[i] = iscntrl((unsigned char)argument[i]) ? '?' : argument[i];
    near = nearest_name(given + strspn(given, "-"), names, parse->table->count);
    err_detail_set(parse->why, "unknown option %s%s%s%s", given, near ? "; did you mean --" : "",
                   near ? near : "", near ? "?" : "");
}

/* Takes the option at argv[at]; returns how many arguments it used, 0 if it is bad. */
static int take_option(struct parse *parse, int argc, char *const argv[], int at)
{
    const char *name = argv[at] + 2;
    size_t length = strcspn(name, "=");
    const struct option_spec *spec = find_spec(parse->table, name, length);
    const char *value = NULL;
    char what[64];
    char allowed[200];
    int used = 1;

    if (strncmp(argv[at], "--", 2) != 0 || !spec) {
        refuse_unknown(parse, argv[at]);
        return 0;
    }
    (void)snprintf(what, sizeof(what), "--%s", spec->name);
    if (name[length] == '=')
        value = name + length + 1;
    else if (spec->kind == OPTION_FLAG)
        value = "1";
    else if (at + 1 < argc && strncmp(argv[at + 1], "--", 2) != 0) {
        value = argv[at + 1];
        used = 2;
    }
    if (!value) {
        option_allowed(spec, allowed, sizeof(allowed));
        err_detail_set(parse->why, "%s needs a value: %s", what, allowed);
        return 0;
    }
    parse->seen[spec - parse->table->specs] = true;
    return assign(parse, spec, what, value) ? used : 0;
}

static bool take_operand(struct parse *parse, const char *argument, struct operands *operands)
{
    char shown[81];

    if (operands->count < parse->table->operands_max) {
        operands->items[operands->count++] = argument;
        return true;
    }
    (void)snprintf(shown, sizeof(shown), "%s", argument);
    for (char *p = shown; *p; p++)
        *p = iscntrl((unsigned char)*p) ? '?' : *p;
    err_detail_set(parse->why, "unexpected argument \"%s\"", shown);
    return false;
}

/* Whether --help stands among the options. */
static bool asks_for_help(int argc, char *const argv[])
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

static bool take_all(struct parse *parse, int argc, char *const argv[],
                     struct operands *ret_operands)
{
    bool options = true;
    int used;

    for (int i = 0; i < argc; i += used) {
        used = 1;
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            used = take_option(parse, argc, argv, i);
            if (!used)
                return false;
        } else if (!take_operand(parse, argv[i], ret_operands)) {
            return false;
        }
    }
    if (ret_operands->count < parse->table->operands_min) {
        err_detail_set(parse->why, "missing argument: %s", parse->table->operands);
        return false;
    }
    return true;
}

enum options_outcome options_parse(const struct option_table *table, int argc, char *const argv[],
                                   char *const environment[], void *target,
                                   struct operands *ret_operands, struct err_detail *why)
{
    struct parse parse = {.table = table, .target = target, .why = why};
    struct operands operands = {0};
    bool valid;

    assert(table->count <= OPTIONS_MAX);
    assert(table->operands_max <= sizeof(operands.items) / sizeof(operands.items[0]));
    if (asks_for_help(argc, argv))
        return OPTIONS_HELP;
    valid = take_all(&parse, argc, argv, &operands);
    for (size_t i = 0; valid && i < table->count; i++) {
        if (!parse.seen[i])
            valid = assign_elsewhere(&parse, &table->specs[i], environment);
    }
    if (valid && table->complete)
        valid = table->complete(target, why);
    if (!valid) {
        options_release(table, target);
        return OPTIONS_BAD;
    }
    *ret_operands = operands;
    return OPTIONS_OK;
}

void options_release(const struct option_table *table, void *target)
{
    for (size_t i = 0; i < table->count; i++) {
        struct option_list *list;

        if (table->specs[i].kind != OPTION_LIST)
            continue;
        list = (struct option_list *)((char *)target + table->specs[i].offset);
        for (size_t j = 0; j < list->count; j++)
            free(list->items[j]);
        free(list->items);
        *list = (struct option_list){0};
    }
}
