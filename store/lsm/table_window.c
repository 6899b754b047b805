/* Direct reads have to begin and end on pages. Others don't, so that a bad sector is an error only
 * of what lies there. */
#include "store/lsm/table_window.h"

#include <stdlib.h>

#define WINDOW_BYTES (UINT64_C(512) << 10)

static uint64_t align_of(const struct table_window *window)
{
    return window->use == WINDOW_DISK ? VFS_DIRECT_ALIGN : 8;
}

static uint64_t round_down(const struct table_window *window, uint64_t offset)
{
    return offset - offset % align_of(window);
}

static uint64_t round_up(const struct table_window *window, uint64_t offset)
{
    return round_down(window, offset + align_of(window) - 1);
}

/* A buffer for so many bytes from any place on. */
static uint8_t *new_buffer(uint64_t size, uint64_t *ret_capacity)
{
    uint64_t capacity = (size / VFS_DIRECT_ALIGN + 2) * VFS_DIRECT_ALIGN;
    uint8_t *buffer = aligned_alloc(VFS_DIRECT_ALIGN, capacity);
    if (buffer) {
        *ret_capacity = capacity;
    }
    return buffer;
}

enum err table_window_open(struct vfs_dir *dir, const char *name, uint64_t limit,
                           enum table_window_use use, struct table_window *ret_window)
{
    struct table_window window = {.limit = limit, .use = use};
    window.buffer = new_buffer(limit < WINDOW_BYTES ? limit : WINDOW_BYTES, &window.capacity);
    if (!window.buffer) {
        return ERR_NO_MEMORY;
    }
    enum err err =
        vfs_open(dir, name, use == WINDOW_DISK ? VFS_READ_DIRECT : VFS_READ, &window.file);
    if (err) {
        free(window.buffer);
        return err;
    }
    vfs_advise(window.file, 0, limit, VFS_ADVICE_SEQUENTIAL);
    *ret_window = window;
    return ERR_OK;
}

static void drop(struct table_window *window)
{
    if (window->use != WINDOW_KEEP && window->size > 0) {
        vfs_advise(window->file, window->offset, window->size, VFS_ADVICE_DONTNEED);
    }
    window->size = 0;
}

void table_window_close(struct table_window *window)
{
    drop(window);
    vfs_close(window->file);
    free(window->buffer);
}

static enum err grow(struct table_window *window, uint64_t size)
{
    if (size <= window->capacity) {
        return ERR_OK;
    }
    /* The old bytes aren't needed any more. */
    uint64_t capacity;
    uint8_t *buffer = new_buffer(size, &capacity);
    if (!buffer) {
        return ERR_NO_MEMORY;
    }
    free(window->buffer);
    window->buffer = buffer;
    window->capacity = capacity;
    return ERR_OK;
}

/* Reads [begin, end), which must reach up to `needed`. */
static enum err fill(struct table_window *window, uint64_t begin, uint64_t end, uint64_t needed)
{
    size_t got = 0;
    enum err err = vfs_read(window->file, begin, window->buffer, end - begin, &got);
    if (err) {
        return err;
    }
    window->offset = begin;
    window->size = got;
    return begin + got < needed ? ERR_CORRUPT : ERR_OK;
}

enum err table_window_load(struct table_window *window, uint64_t offset, uint64_t size,
                           const uint8_t **ret_data)
{
    uint64_t end = offset + size;

    if (offset < window->offset || end > window->offset + window->size) {
        uint64_t begin = round_down(window, offset);
        uint64_t least = round_up(window, end);
        uint64_t most = round_up(window, window->limit);
        drop(window);
        enum err err = grow(window, least - begin);
        if (err) {
            return err;
        }
        most = most < begin + window->capacity ? most : begin + window->capacity;
        err = fill(window, begin, most, end);
        if (err == ERR_IO && most > least) {
            /* A bad place further on is another block's. */
            err = fill(window, begin, least, end);
        }
        if (err) {
            return err;
        }
    }
    *ret_data = window->buffer + (offset - window->offset);
    return ERR_OK;
}
