/* alloc.c - calloc and realloc that don't return NULL. */
#include "tests/support/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory)
{
    if (!memory) {
        fputs("a test's helper is out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *test_alloc(size_t size)
{
    return checked(calloc(1, size == 0 ? 1 : size));
}

void *test_grow(void *old, size_t old_size, size_t size)
{
    char *memory = checked(realloc(old, size == 0 ? 1 : size));

    if (size > old_size) {
        memset(memory + old_size, 0, size - old_size);
    }
    return memory;
}

char *test_strdup(const char *text)
{
    return checked(strdup(text));
}
