/*
 * vfs.h - every file operation of the store, behind one table of functions.
 *
 * Production uses vfs_posix(). Tests put another table in its place to keep files in memory, to
 * lose what was not synced, and to fail, tear, delay or stop at the Nth call.
 *
 * A store lives in one directory, without subdirectories: names are plain file names.
 *
 * Threads:   any thread; two threads may use one file at different offsets at the same time.
 * Ownership: whoever opened a file closes it; a mapping outlives the closing of its file.
 * Errors:    ERR_NO_SPACE for ENOSPC and EDQUOT, ERR_NO_MEMORY, ERR_LOCKED, ERR_NOT_FOUND where
 * said, ERR_IO for all else. errno is left as the failed call set it, for the event's text.
 * Durability: data of a file is durable after vfs_sync() returned ERR_OK; a name (creation, rename,
 *            removal) after vfs_dir_sync(). Nothing else is promised.
 */
#ifndef VARVE_STORE_BASE_VFS_H
#define VARVE_STORE_BASE_VFS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "store/base/err.h"

struct vfs_dir;  /* an open directory; each implementation has its own */
struct vfs_file; /* an open file */

enum vfs_open_mode {
    VFS_READ,        /* must exist; ERR_NOT_FOUND otherwise */
    VFS_READ_DIRECT, /* likewise; reads ask the disk, past the page cache, where they can */
    VFS_WRITE,       /* must exist; read and write */
    VFS_CREATE,      /* must not exist (ERR_EXISTS); read and write, empty, mode 0600 */
};

/* Offset, size and memory of a direct read should be multiples of this; from the first one on that
 * isn't, or where the file system has no such reads, they are ordinary ones. */
#define VFS_DIRECT_ALIGN 4096u

enum vfs_advice {
    VFS_ADVICE_SEQUENTIAL, /* read once, in order */
    VFS_ADVICE_DONTNEED,   /* will not be read again soon: the page cache may drop it */
};

/* Called once a name: return false to stop. */
typedef bool vfs_name_fn(void *arg, const char *name);

struct vfs {
    /* The directory: opened (made with mode 0700 if missing when `create`; its parent is synced
     * then) and closed. ERR_NOT_FOUND if it, or with `create` its parent, doesn't exist. */
    enum err (*dir_open)(const struct vfs *vfs, const char *path, bool create,
                         struct vfs_dir **ret_dir);
    void (*dir_close)(struct vfs_dir *dir);
    /* Takes the exclusive lock of the directory for as long as it is open; ERR_LOCKED at once when
     * somebody else has it. */
    enum err (*dir_lock)(struct vfs_dir *dir);
    /* Calls `each` for every name, in no order; it may rename and remove what it is told of. */
    enum err (*dir_list)(struct vfs_dir *dir, vfs_name_fn *each, void *arg);
    /* fsync of the directory: makes names durable. */
    enum err (*dir_sync)(struct vfs_dir *dir);
    /* Replaces `to` if it exists, in one step: at any moment and after any crash `to` names the old
     * or the new file. ERR_NOT_FOUND if `from` doesn't exist. */
    enum err (*rename)(struct vfs_dir *dir, const char *from, const char *to);
    /* ERR_NOT_FOUND if there is no such name. Who has the file open or mapped keeps it. */
    enum err (*unlink)(struct vfs_dir *dir, const char *name);

    enum err (*open)(struct vfs_dir *dir, const char *name, enum vfs_open_mode mode,
                     struct vfs_file **ret_file);
    void (*close)(struct vfs_file *file);
    enum err (*size)(struct vfs_file *file, uint64_t *ret_size_bytes);
    /* Reads up to `size` bytes; *ret_read is less only at the end of the file. */
    enum err (*read)(struct vfs_file *file, uint64_t offset, void *into, size_t size,
                     size_t *ret_read);
    /* Writes all of it: short writes are continued. After an error any part may be written. */
    enum err (*write)(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                      size_t n_parts);
    /* Sets aside blocks for [0, size): a later write there can't run out of space on file systems
     * that can promise so; elsewhere it writes zeros behind the present end. What is there
     * stays, the size becomes at least `size`, new bytes read as zeros. After an error any part may
     * be reserved. */
    enum err (*reserve)(struct vfs_file *file, uint64_t size_bytes);
    /* fdatasync. Never call it again after it failed: the kernel may have dropped the pages. */
    enum err (*sync)(struct vfs_file *file);
    /* Nothing happens while reads are direct: what others have in the page cache stays there. */
    enum err (*advise)(struct vfs_file *file, uint64_t offset, uint64_t size_bytes,
                       enum vfs_advice advice);
    /* Maps the first `size` (> 0) bytes read-only, for random access; the file holds as many. A
     * page that can't be read raises SIGBUS when it is touched (sigbus.h). */
    enum err (*map)(struct vfs_file *file, size_t size, const void **ret_data);
    void (*unmap)(const struct vfs *vfs, const void *data, size_t size);
    /* Whether these bytes of a map are in memory: touching them doesn't wait for the disk, unless
     * they leave memory before that. True where the system doesn't say. Never waits. */
    bool (*resident)(const struct vfs *vfs, const void *data, size_t size);
    /* Brings these bytes of a map into memory, and waits for them. They may leave it again. ERR_IO
     * if some of them can't be read. After sigbus_install(). */
    enum err (*populate)(const struct vfs *vfs, const void *data, size_t size);
};

/* The real thing: POSIX calls. */
const struct vfs *vfs_posix(void);

/* What an implementation's dir and file begin with, so that the wrappers below find the table. */
struct vfs_dir {
    const struct vfs *vfs;
    _Atomic uint64_t failed_syncs; /* begins at 0 */
};

struct vfs_file {
    const struct vfs *vfs;
};

MUST_USE static inline enum err vfs_dir_open(const struct vfs *vfs, const char *path, bool create,
                                             struct vfs_dir **ret_dir)
{
    return vfs->dir_open(vfs, path, create, ret_dir);
}

/* NULL is allowed. */
static inline void vfs_dir_close(struct vfs_dir *dir)
{
    if (dir) {
        dir->vfs->dir_close(dir);
    }
}

MUST_USE static inline enum err vfs_dir_lock(struct vfs_dir *dir)
{
    return dir->vfs->dir_lock(dir);
}

MUST_USE static inline enum err vfs_dir_list(struct vfs_dir *dir, vfs_name_fn *each, void *arg)
{
    return dir->vfs->dir_list(dir, each, arg);
}

MUST_USE static inline enum err vfs_dir_sync(struct vfs_dir *dir)
{
    return dir->vfs->dir_sync(dir);
}

/* A directory's sync that fails leaves in doubt whatever was waiting for it, also names that
 * another thread made, and no later sync that succeeds says otherwise. So who makes names asks
 * before the first of them how many syncs have failed, and hands that number to the sync: ERR_IO
 * also if another one has failed since. Any thread; syncs of directories run one at a time. */
static inline uint64_t vfs_dir_failed_syncs(const struct vfs_dir *dir)
{
    return atomic_load(&dir->failed_syncs);
}

MUST_USE enum err vfs_dir_sync_since(struct vfs_dir *dir, uint64_t failed_syncs);

MUST_USE static inline enum err vfs_rename(struct vfs_dir *dir, const char *from, const char *to)
{
    return dir->vfs->rename(dir, from, to);
}

MUST_USE static inline enum err vfs_unlink(struct vfs_dir *dir, const char *name)
{
    return dir->vfs->unlink(dir, name);
}

MUST_USE static inline enum err vfs_open(struct vfs_dir *dir, const char *name,
                                         enum vfs_open_mode mode, struct vfs_file **ret_file)
{
    return dir->vfs->open(dir, name, mode, ret_file);
}

/* NULL is allowed. */
static inline void vfs_close(struct vfs_file *file)
{
    if (file) {
        file->vfs->close(file);
    }
}

MUST_USE static inline enum err vfs_size(struct vfs_file *file, uint64_t *ret_size_bytes)
{
    return file->vfs->size(file, ret_size_bytes);
}

MUST_USE static inline enum err vfs_read(struct vfs_file *file, uint64_t offset, void *into,
                                         size_t size, size_t *ret_read)
{
    return file->vfs->read(file, offset, into, size, ret_read);
}

MUST_USE static inline enum err vfs_write(struct vfs_file *file, uint64_t offset,
                                          const struct iovec *parts, size_t n_parts)
{
    return file->vfs->write(file, offset, parts, n_parts);
}

MUST_USE static inline enum err vfs_reserve(struct vfs_file *file, uint64_t size_bytes)
{
    return file->vfs->reserve(file, size_bytes);
}

MUST_USE static inline enum err vfs_sync(struct vfs_file *file)
{
    return file->vfs->sync(file);
}

/* Advice may fail without harm. */
static inline void vfs_advise(struct vfs_file *file, uint64_t offset, uint64_t size_bytes,
                              enum vfs_advice advice)
{
    (void)file->vfs->advise(file, offset, size_bytes, advice);
}

MUST_USE static inline enum err vfs_map(struct vfs_file *file, size_t size, const void **ret_data)
{
    return file->vfs->map(file, size, ret_data);
}

static inline void vfs_unmap(const struct vfs *vfs, const void *data, size_t size)
{
    vfs->unmap(vfs, data, size);
}

static inline bool vfs_resident(const struct vfs *vfs, const void *data, size_t size)
{
    return vfs->resident(vfs, data, size);
}

MUST_USE static inline enum err vfs_populate(const struct vfs *vfs, const void *data, size_t size)
{
    return vfs->populate(vfs, data, size);
}

#endif
