/*
 * replay.c - main() for fuzz targets in builds without libFuzzer: runs every example of the
 * corpus, and mutations of it: truncated, with bits flipped, bytes replaced, parts repeated.
 *
 * usage: fuzz_NAME [--only] DIRECTORY|FILE...      VARVE_TEST_SEED repeats a run
 *
 * With --only there are no mutations: what the examples alone reach.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/random.h"

/* What a fuzz target defines; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MUTATIONS = 300,         /* of an example… */
    MUTATIONS_IN_ALL = 2000, /* …fewer where there are many */
    INPUT_BYTES = 1 << 20,
};

static size_t inputs;
static int mutations = MUTATIONS;

/* Each input gets memory of exactly its size, so that AddressSanitizer sees a read beyond it. */
static void try(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy) {
        fputs("replay: out of memory\n", stderr);
        exit(1);
    }
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    inputs++;
}

/* Changes the input in one to eight places; returns the new size, at most twice the old. */
static size_t mutate(uint8_t *data, size_t size, struct prng *prng)
{
    for (uint64_t n = 1 + prng_below(prng, 8); n > 0 && size > 0; n--) {
        size_t at = prng_below(prng, size);
        size_t length = prng_below(prng, size - at) + 1;

        switch (prng_below(prng, 5)) {
        case 0:
            data[at] ^= (uint8_t)(1U << prng_below(prng, 8));
            break;
        case 1:
            data[at] = (uint8_t)prng_next(prng);
            break;
        case 2:
            data[at] = prng_chance(prng, 50) ? 0x00 : 0xFF;
            break;
        case 3:
            size = at;
            break;
        default: /* repeat a part at the end, once: no more than doubles */
            memcpy(data + size, data + at, length);
            return size + length;
        }
    }
    return size;
}

static void replay_file(const char *path)
{
    static uint8_t data[2 * INPUT_BYTES];
    static uint8_t mutant[2 * INPUT_BYTES];
    FILE *file = fopen(path, "rb");
    struct prng prng;
    size_t size;

    if (!file) {
        perror(path);
        exit(1);
    }
    size = fread(data, 1, INPUT_BYTES, file);
    if (ferror(file) || !feof(file)) {
        fprintf(stderr, "%s: cannot be read, or larger than %d bytes\n", path, INPUT_BYTES);
        exit(1);
    }
    (void)fclose(file);
    prng_init(&prng, test_seed());
    try(data, size);
    for (int i = 0; i < mutations; i++) {
        memcpy(mutant, data, size);
        try(mutant, mutate(mutant, size, &prng));
    }
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void replay(const char *path)
{
    struct dirent **entries;
    struct stat status;
    char child[4096];
    int count;

    if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
        replay_file(path);
        return;
    }
    count = scandir(path, &entries, is_visible, alphasort);
    if (count < 0) {
        perror(path);
        exit(1);
    }
    if (count > 0 && mutations > MUTATIONS_IN_ALL / count) {
        mutations = MUTATIONS_IN_ALL / count;
    }
    for (int i = 0; i < count; i++) {
        (void)snprintf(child, sizeof(child), "%s/%s", path, entries[i]->d_name);
        free(entries[i]);
        replay(child);
    }
    free(entries);
}

int main(int argc, char *argv[])
{
    bool only = argc > 1 && strcmp(argv[1], "--only") == 0;

    mutations = only ? 0 : MUTATIONS;
    for (int i = only ? 2 : 1; i < argc; i++)
        replay(argv[i]);
    printf("%zu inputs\n", inputs);
    if (inputs == 0) {
        fputs("replay: the corpus is empty\n", stderr);
        return 1;
    }
    return 0;
}
