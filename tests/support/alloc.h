/*
 * alloc.h - memory for the tests' own helpers, which have no use for running out of it.
 *
 * Threads:   any thread.
 * Ownership: the caller frees with free().
 * Errors:    running out of memory ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_ALLOC_H
#define VARVE_TESTS_SUPPORT_ALLOC_H

#include <stddef.h>

/* Zeroed. */
void *test_alloc(size_t size);

/* `old` (NULL for nothing yet) made larger; the new bytes are zeroed. */
void *test_grow(void *old, size_t old_size, size_t size);

char *test_strdup(const char *text);

#endif
