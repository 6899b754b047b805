/* input_files.c - a walk over folders. */
#include "tests/crash/input_files.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store.h"
#include "tests/support/alloc.h"

#define SIZE_LIMIT_BYTES (16u << 20)

/* nftw() has no argument for its callback. */
static struct input_files *found;

static char *target_of(const char *path)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    char *target = test_alloc(strlen("/kv/") + 3 * strlen(path) + 1);
    char *end = stpcpy(target, "/kv/");
    for (const char *at = path; *at != '\0'; at++) {
        if (strchr(plain, *at) != NULL) {
            *end++ = *at;
        } else {
            end += sprintf(end, "%%%02X", (unsigned char)*at);
        }
    }
    return target;
}

static int look_at(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)place;
    if (kind != FTW_F || !S_ISREG(status->st_mode) || status->st_size >= SIZE_LIMIT_BYTES ||
        strlen(path) > STORE_KEY_MAX_BYTES || access(path, R_OK) != 0) {
        return 0;
    }
    if (found->count == found->room) {
        size_t room = found->room > 0 ? 2 * found->room : 1024;
        found->files = test_grow(found->files, found->room * sizeof *found->files,
                                 room * sizeof *found->files);
        found->room = room;
    }
    found->files[found->count++] = (struct input_file){
        .path = test_strdup(path), .target = target_of(path), .size = (size_t)status->st_size};
    found->bytes += (uint64_t)status->st_size;
    return 0;
}

struct input_files input_files_find(const char *const folders[])
{
    struct input_files files = {.files = NULL};
    found = &files;
    for (size_t i = 0; folders[i] != NULL; i++) {
        (void)nftw(folders[i], look_at, 16, FTW_PHYS);
    }
    found = NULL;
    return files;
}

static void drop(struct input_file *file)
{
    free(file->path);
    free(file->target);
}

void input_files_thin(struct input_files *files, size_t count, uint64_t bytes)
{
    size_t kept = 0;
    uint64_t kept_bytes = 0;
    size_t step = count < files->count ? (files->count + count - 1) / count : 1;
    for (size_t i = 0; i < files->count; i++) {
        struct input_file file = files->files[i];
        if (i % step == 0 && kept_bytes + file.size < bytes) {
            files->files[kept++] = file;
            kept_bytes += file.size;
        } else {
            drop(&file);
        }
    }
    files->count = kept;
    files->bytes = kept_bytes;
}

void *input_file_read(const struct input_file *file)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    char *bytes = test_alloc(file->size + 1);
    size_t size = 0;
    ssize_t n;
    while (size <= file->size && (n = read(fd, bytes + size, file->size + 1 - size)) > 0) {
        size += (size_t)n;
    }
    close(fd);
    if (size != file->size) {
        free(bytes);
        return NULL;
    }
    return bytes;
}

void input_files_free(struct input_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        drop(&files->files[i]);
    }
    free(files->files);
    *files = (struct input_files){.files = NULL};
}
