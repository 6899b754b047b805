/* nearest.c - Levenshtein distance, one row at a time. */
#include "service/nearest.h"

#include <string.h>

enum { LONGEST = 40 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, const char *b)
{
    size_t row[LONGEST + 1];
    size_t width = strlen(b);

    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            row[j + 1] = smaller(replaced, 1 + smaller(row[j], row[j + 1]));
        }
    }
    return row[width];
}

const char *nearest_name(const char *wrong, const char *const names[], size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(wrong) / 2 + 1; /* exclusive */

    if (strlen(wrong) > LONGEST)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t d = strlen(names[i]) > LONGEST ? LONGEST : distance(wrong, names[i]);

        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
