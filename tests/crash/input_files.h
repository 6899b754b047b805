/*
 * input_files.h - the files of this machine as real input: names and contents nobody made up.
 *
 * Threads:   the test's; the list may be read by any.
 * Ownership: input_files_free() frees all.
 * Errors:    running out of memory ends the program.
 */
#ifndef VARVE_TESTS_CRASH_INPUT_FILES_H
#define VARVE_TESTS_CRASH_INPUT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input_file {
    char *path;   /* of the file, which is its key */
    char *target; /* "/kv/" and the key, with everything but unreserved characters and / escaped */
    size_t size;
};

struct input_files {
    struct input_file *files;
    size_t count, room;
    uint64_t bytes;
};

/* All regular files below 16 MiB that can be read under the folders (NULL-terminated), in no
 * particular order; folders that don't exist have none. */
struct input_files input_files_find(const char *const folders[]);

/* Keeps at most `count` files, evenly spread over the list, and less than `bytes` in total. */
void input_files_thin(struct input_files *files, size_t count, uint64_t bytes);

/* The bytes of a file, for free(); NULL: it can't be read, or has another size by now. */
void *input_file_read(const struct input_file *file);

void input_files_free(struct input_files *files);

#endif
