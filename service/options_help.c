/* options_help.c - what --help and the manual page say, from the same table as the parser. */
#include <assert.h>
#include <string.h>

#include "service/options.h"

enum {
    WIDTH = 80,       /* columns of the help */
    TEXT_COLUMN = 30, /* where the description of an option begins */
};

/* Prints words from column `at` on, breaking lines before WIDTH and indenting those that
 * follow by `indent`. Ends the line. */
static void print_wrapped(FILE *out, const char *text, size_t at, size_t indent)
{
    while (*text) {
        size_t length;

        text += strspn(text, " ");
        if (*text == '\n') {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
            text++;
            continue;
        }
        length = strcspn(text, " \n");
        if (at > indent && at + 1 + length > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", (int)length, text);
        at += length;
        text += length;
    }
    fputc('\n', out);
}

/* "--memtable-bytes SIZE", "--log-format text|json" */
static void usage_of(const struct option_spec *spec, char text[], size_t size)
{
    size_t at = (size_t)snprintf(text, size, "--%s", spec->name);

    if (spec->value && at < size)
        (void)snprintf(text + at, size - at, " %s", spec->value);
    for (size_t i = 0; spec->kind == OPTION_CHOICE && spec->choices[i] && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%c%s", i ? '|' : ' ', spec->choices[i]);
}

/* "Most bytes of one value. From 1B to 1GiB. [16MiB]": sentence, range, default. */
static void describe(const struct option_spec *spec, char text[], size_t size)
{
    const char *fallback = spec->fallback ? spec->fallback : spec->fallback_note;
    size_t at = (size_t)snprintf(text, size, "%s", spec->text);

    assert(at < size);
    if (spec->kind == OPTION_LIST)
        at += (size_t)snprintf(text + at, size - at, " May be given more than once.");
    if (spec->zero_note && at < size)
        at += (size_t)snprintf(text + at, size - at, " 0: %s.", spec->zero_note);
    if (fallback && at < size)
        (void)snprintf(text + at, size - at, " [%s]", fallback);
}

static void print_option(const struct option_spec *spec, FILE *out)
{
    char usage[100];
    char text[600];
    int printed;

    usage_of(spec, usage, sizeof(usage));
    describe(spec, text, sizeof(text));
    printed = fprintf(out, "  %s", usage);
    if (printed < TEXT_COLUMN - 1)
        fprintf(out, "%*s", TEXT_COLUMN - printed, "");
    else
        fprintf(out, "\n%*s", TEXT_COLUMN, "");
    print_wrapped(out, text, TEXT_COLUMN, TEXT_COLUMN);
}

static bool has_kind(const struct option_table *table, enum option_kind kind)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->specs[i].kind == kind)
            return true;
    }
    return false;
}

/* What holds for all options, as far as this table has such. */
static void general(const struct option_table *table, char text[], size_t size)
{
    char variable[64];

    option_variable(&table->specs[0], variable, sizeof(variable));
    (void)snprintf(text, size,
                   "Every option can also be set by an environment variable: --%s by %s%s%s. The "
                   "command line wins.%s%s",
                   table->specs[0].name, variable,
                   has_kind(table, OPTION_FLAG) ? ", a flag by 1" : "",
                   has_kind(table, OPTION_LIST) ? ", a list with commas between its items" : "",
                   has_kind(table, OPTION_SIZE) ? " Sizes take KiB, MiB, GiB." : "",
                   has_kind(table, OPTION_DURATION) ? " Times take ms, s, m." : "");
}

void options_help(const struct option_table *table, FILE *out)
{
    const char *group = "";
    char text[600];

    fprintf(out, "Usage: varve %s%s%s%s\n\n", table->command, table->count ? " [OPTION...]" : "",
            table->operands ? " " : "", table->operands ? table->operands : "");
    print_wrapped(out, table->summary, 0, 0);
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->specs[i].group, group) != 0) {
            group = table->specs[i].group;
            fprintf(out, "\n%s:\n", group);
        }
        print_option(&table->specs[i], out);
    }
    if (table->count) {
        general(table, text, sizeof(text));
        fputc('\n', out);
        print_wrapped(out, text, 0, 0);
    }
    if (table->details) {
        fputc('\n', out);
        print_wrapped(out, table->details, 0, 0);
    }
}

void options_man_text(const char *text, FILE *out)
{
    /* a period or quote at the beginning of a line would be a request */
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void man_option(const struct option_spec *spec, FILE *out)
{
    char usage[100];
    char text[600];

    usage_of(spec, usage, sizeof(usage));
    describe(spec, text, sizeof(text));
    fputs(".TP\n.B ", out);
    options_man_text(usage, out);
    fputc('\n', out);
    options_man_text(text, out);
    fputc('\n', out);
}

void options_man(const struct option_table *table, FILE *out)
{
    char text[600];

    fprintf(out, ".SS varve %s%s%s\n", table->command, table->operands ? " " : "",
            table->operands ? table->operands : "");
    options_man_text(table->summary, out);
    fputc('\n', out);
    for (size_t i = 0; i < table->count; i++)
        man_option(&table->specs[i], out);
    if (table->count) {
        general(table, text, sizeof(text));
        fputs(".PP\n", out);
        options_man_text(text, out);
        fputc('\n', out);
    }
    if (table->details) {
        fputs(".PP\n", out);
        options_man_text(table->details, out);
        fputc('\n', out);
    }
}
