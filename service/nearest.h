/*
 * nearest.h - "did you mean": the known name that a mistyped one is closest to.
 *
 * Threads:   any thread.
 * Ownership: the result is one of the names given.
 * Errors:    none.
 */
#ifndef SERVICE_NEAREST_H
#define SERVICE_NEAREST_H

#include <stddef.h>

/* The one of `names` that is the fewest insertions, deletions and replacements away from
 * `wrong` (Levenshtein distance); NULL where none is within half its length. */
const char *nearest_name(const char *wrong, const char *const names[], size_t count);

#endif
