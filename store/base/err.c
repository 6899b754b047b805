/* err.c - names and texts of the errors, all generated from the one table in err.h. */
#include "store/base/err.h"

#include <stddef.h>
#include <stdio.h>

struct entry {
    const char *name;
    const char *text;
};

#define ENTRY(code, text) [code] = {#code, text},
static const struct entry table[] = {ERR_TABLE(ENTRY)};
#undef ENTRY

static const struct entry *lookup(enum err err)
{
    static const struct entry unknown = {"ERR_?", "unknown error"};
    size_t index = (size_t)err;

    return index < sizeof(table) / sizeof(table[0]) ? &table[index] : &unknown;
}

const char *err_text(enum err err)
{
    return lookup(err)->text;
}

const char *err_name(enum err err)
{
    return lookup(err)->name;
}

void err_detail_vset(struct err_detail *detail, const char *format, va_list args)
{
    if (detail)
        (void)vsnprintf(detail->text, sizeof(detail->text), format, args);
}

void err_detail_set(struct err_detail *detail, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    err_detail_vset(detail, format, args);
    va_end(args);
}
