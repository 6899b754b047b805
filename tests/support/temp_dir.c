/* temp_dir.c - mkdtemp, and a walk that removes. */
#include "tests/support/temp_dir.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *path)
{
    fprintf(stderr, "cannot %s %s: %s\n", what, path, strerror(errno));
    abort();
}

void temp_dir_make(char ret_path[TEMP_DIR_BYTES])
{
    const char *parent = getenv("TMPDIR");
    int size;

    if (!parent || parent[0] == '\0') {
        parent = "/tmp";
    }
    size = snprintf(ret_path, TEMP_DIR_BYTES, "%s/varve-test-XXXXXX", parent);
    if (size < 0 || (unsigned)size >= TEMP_DIR_BYTES) {
        errno = ENAMETOOLONG;
        die("make a directory below", parent);
    }
    if (!mkdtemp(ret_path)) {
        die("make", ret_path);
    }
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

void temp_dir_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0) {
        die("remove", path);
    }
}
