/*
 * table_window.h - a piece of a table's file in memory, read with ordinary reads from front to
 * back. Inside tables: for the sources named table_*.c.
 *
 * Threads:   one thread at a time.
 * Ownership: a window has its file open and its buffer; what it shows is valid until the next load.
 * Errors:    ERR_IO, ERR_NO_MEMORY; ERR_CORRUPT if the file is too short; ERR_NOT_FOUND at opening.
 */
#ifndef VARVE_STORE_LSM_TABLE_WINDOW_H
#define VARVE_STORE_LSM_TABLE_WINDOW_H

#include <stdint.h>

#include "store/base/vfs.h"

enum table_window_use {
    WINDOW_KEEP, /* others will want it soon: it stays in the page cache */
    WINDOW_DROP, /* it may leave the page cache once it was read */
    WINDOW_DISK, /* the disk's bytes are wanted, not the page cache's, which is left as it is */
};

struct table_window {
    struct vfs_file *file;
    enum table_window_use use;
    uint64_t limit; /* nothing that begins here is asked for */
    uint8_t *buffer;
    uint64_t capacity;
    uint64_t offset, size; /* what of the file is in the buffer */
};

MUST_USE enum err table_window_open(struct vfs_dir *dir, const char *name, uint64_t limit,
                                    enum table_window_use use, struct table_window *ret_window);
void table_window_close(struct table_window *window);

/* Makes [offset, offset + size) of the file be there, and as much behind it as there is room for.
 * What lies 8-aligned in the file does so in memory. */
MUST_USE enum err table_window_load(struct table_window *window, uint64_t offset, uint64_t size,
                                    const uint8_t **ret_data);

#endif
