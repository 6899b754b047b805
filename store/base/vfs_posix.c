/* vfs_posix.c - the file operations as system calls. */
#include "store/base/vfs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/sigbus.h"

/* Of a map, asked for at a time: kernels cut single requests at about this size. */
#define POPULATE_BYTES ((size_t)512 << 10)

struct posix_dir {
    struct vfs_dir base;
    int fd;
};

struct posix_file {
    struct vfs_file base;
    int fd;
    _Atomic bool direct; /* opened with O_DIRECT, which still holds */
};

static int dir_fd(const struct vfs_dir *dir)
{
    return ((const struct posix_dir *)dir)->fd;
}

static int file_fd(const struct vfs_file *file)
{
    return ((const struct posix_file *)file)->fd;
}

static enum err err_of_errno(void)
{
    switch (errno) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

/* For calls that find their file by name. */
static enum err err_of_named_errno(void)
{
    switch (errno) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    default:
        return err_of_errno();
    }
}

/* Closes without losing the errno of what failed before. What was written is safe only by a sync,
 * so an error of close() says nothing new. */
static void close_quietly(int fd)
{
    int saved = errno;
    (void)close(fd);
    errno = saved;
}

static off_t to_off(uint64_t offset)
{
    assert(offset <= INT64_MAX);
    return (off_t)offset;
}

/* A name in the directory itself, never a path. */
static bool is_plain(const char *name)
{
    return name[0] != '\0' && !strchr(name, '/');
}

/* The parent by way of the directory: right also where `path` is a symbolic link. */
static enum err sync_parent(int fd)
{
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = ERR_OK;

    if (parent < 0) {
        return err_of_errno();
    }
    if (fsync(parent) != 0) {
        err = err_of_errno();
    }
    close_quietly(parent);
    return err;
}

static enum err posix_dir_open(const struct vfs *vfs, const char *path, bool create,
                               struct vfs_dir **ret_dir)
{
    bool made = create && mkdir(path, 0700) == 0;
    struct posix_dir *dir;
    int fd;

    if (create && !made && errno != EEXIST) {
        return err_of_named_errno();
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_of_named_errno();
    }
    /* Also where it exists: who made it may have died before this. But then the parent may belong
     * to somebody else and be unreadable, which is no reason to refuse. */
    if (create) {
        enum err err = sync_parent(fd);
        if (err != ERR_OK && made) {
            close_quietly(fd);
            return err;
        }
    }
    dir = malloc(sizeof *dir);
    if (!dir) {
        close_quietly(fd);
        return ERR_NO_MEMORY;
    }
    *dir = (struct posix_dir){.base.vfs = vfs, .fd = fd};
    *ret_dir = &dir->base;
    return ERR_OK;
}

static void posix_dir_close(struct vfs_dir *dir)
{
    close_quietly(dir_fd(dir));
    free(dir);
}

static enum err posix_dir_lock(struct vfs_dir *dir)
{
    while (flock(dir_fd(dir), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return ERR_LOCKED;
        }
        if (errno != EINTR) {
            return err_of_errno();
        }
    }
    return ERR_OK;
}

static enum err posix_dir_list(struct vfs_dir *dir, vfs_name_fn *each, void *arg)
{
    /* A descriptor of its own: a duplicate would share the position with other listings. */
    int fd = openat(dir_fd(dir), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err err = ERR_OK;
    DIR *stream;

    if (fd < 0) {
        return err_of_errno();
    }
    stream = fdopendir(fd);
    if (!stream) {
        err = err_of_errno();
        close_quietly(fd);
        return err;
    }
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(stream);
        if (!entry) {
            err = errno == 0 ? ERR_OK : err_of_errno();
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (!each(arg, entry->d_name)) {
            break;
        }
    }
    int saved = errno;
    (void)closedir(stream);
    errno = saved;
    return err;
}

static enum err posix_dir_sync(struct vfs_dir *dir)
{
    return fsync(dir_fd(dir)) == 0 ? ERR_OK : err_of_errno();
}

static enum err posix_rename(struct vfs_dir *dir, const char *from, const char *to)
{
    int fd = dir_fd(dir);

    assert(is_plain(from) && is_plain(to));
    return renameat(fd, from, fd, to) == 0 ? ERR_OK : err_of_named_errno();
}

static enum err posix_unlink(struct vfs_dir *dir, const char *name)
{
    assert(is_plain(name));
    return unlinkat(dir_fd(dir), name, 0) == 0 ? ERR_OK : err_of_named_errno();
}

static int flags_of(enum vfs_open_mode mode)
{
    switch (mode) {
    case VFS_READ:
        return O_RDONLY;
    case VFS_READ_DIRECT:
        return O_RDONLY | O_DIRECT;
    case VFS_WRITE:
        return O_RDWR;
    case VFS_CREATE:
        return O_RDWR | O_CREAT | O_EXCL;
    }
    abort();
}

static int open_at(const struct vfs_dir *dir, const char *name, int flags)
{
    int fd;

    do {
        fd = openat(dir_fd(dir), name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static enum err posix_open(struct vfs_dir *dir, const char *name, enum vfs_open_mode mode,
                           struct vfs_file **ret_file)
{
    /* Before the file, so that running out of memory leaves no empty file behind. */
    struct posix_file *file = malloc(sizeof *file);

    assert(is_plain(name));
    if (!file) {
        return ERR_NO_MEMORY;
    }
    file->base.vfs = dir->vfs;
    file->direct = mode == VFS_READ_DIRECT;
    file->fd = open_at(dir, name, flags_of(mode));
    if (file->fd < 0 && file->direct && errno == EINVAL) {
        file->direct = false; /* tmpfs, for one, has no such reads */
        file->fd = open_at(dir, name, flags_of(VFS_READ));
    }
    if (file->fd < 0) {
        enum err err = err_of_named_errno();
        free(file);
        return err;
    }
    *ret_file = &file->base;
    return ERR_OK;
}

static void posix_close(struct vfs_file *file)
{
    close_quietly(file_fd(file));
    free(file);
}

static enum err posix_size(struct vfs_file *file, uint64_t *ret_size_bytes)
{
    struct stat status;

    if (fstat(file_fd(file), &status) != 0) {
        return err_of_errno();
    }
    *ret_size_bytes = (uint64_t)status.st_size;
    return ERR_OK;
}

/* A direct read was refused with EINVAL. True: it may be tried again, as an ordinary one. */
static bool leave_direct(struct posix_file *file)
{
    if (!file->direct) {
        return false;
    }
    file->direct = false;
    return fcntl(file->fd, F_SETFL, 0) == 0;
}

static bool is_at_end(struct vfs_file *file, uint64_t offset)
{
    uint64_t size;

    return posix_size(file, &size) == ERR_OK && offset >= size;
}

static enum err posix_read(struct vfs_file *file, uint64_t offset, void *into, size_t size,
                           size_t *ret_read)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(file_fd(file), (char *)into + done, size - done, to_off(offset + done));
        if (n == 0) {
            break; /* the end of the file */
        }
        if (n > 0) {
            done += (size_t)n;
        } else if (errno == EINVAL && ((struct posix_file *)file)->direct) {
            /* A file may end where no direct read begins. */
            if (is_at_end(file, offset + done)) {
                break;
            }
            if (!leave_direct((struct posix_file *)file)) {
                return err_of_errno();
            }
        } else if (errno != EINTR) {
            return err_of_errno();
        }
    }
    *ret_read = done;
    return ERR_OK;
}

/* Where a write has got to. */
struct cursor {
    const struct iovec *parts;
    size_t n_parts;
    size_t done; /* bytes of parts[0] */
};

/* `n` bytes further, then over empty parts: stops at a part with bytes left, or at the end. */
static void advance(struct cursor *cursor, size_t n)
{
    while (cursor->n_parts > 0) {
        size_t left = cursor->parts->iov_len - cursor->done;
        if (n < left) {
            cursor->done += n;
            return;
        }
        n -= left;
        cursor->done = 0;
        cursor->parts++;
        cursor->n_parts--;
    }
}

static enum err posix_write(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                            size_t n_parts)
{
    struct cursor cursor = {.parts = parts, .n_parts = n_parts};
    int fd = file_fd(file);

    advance(&cursor, 0);
    while (cursor.n_parts > 0) {
        ssize_t n;

        if (cursor.done > 0) {
            /* The rest of a part that a short write has cut. */
            n = pwrite(fd, (const char *)cursor.parts->iov_base + cursor.done,
                       cursor.parts->iov_len - cursor.done, to_off(offset));
        } else {
            size_t batch = cursor.n_parts < IOV_MAX ? cursor.n_parts : IOV_MAX;
            n = pwritev(fd, cursor.parts, (int)batch, to_off(offset));
        }
        if (n > 0) {
            offset += (uint64_t)n;
            advance(&cursor, (size_t)n);
        } else if (n == 0) {
            errno = EIO; /* no regular file does so; going on could spin */
            return ERR_IO;
        } else if (errno != EINTR) {
            return err_of_errno();
        }
    }
    return ERR_OK;
}

/* Where the file system can't promise space: blocks that are written exist. */
static enum err extend_with_zeros(struct vfs_file *file, uint64_t size_bytes)
{
    static const char zeros[64 * 1024];
    uint64_t at;
    enum err err = posix_size(file, &at);

    while (err == ERR_OK && at < size_bytes) {
        uint64_t left = size_bytes - at;
        size_t step = left < sizeof zeros ? (size_t)left : sizeof zeros;
        struct iovec part = {.iov_base = (void *)zeros, .iov_len = step};
        err = posix_write(file, at, &part, 1);
        at += step;
    }
    return err;
}

static enum err posix_reserve(struct vfs_file *file, uint64_t size_bytes)
{
    if (size_bytes == 0) {
        return ERR_OK;
    }
    while (fallocate(file_fd(file), 0, 0, to_off(size_bytes)) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            return extend_with_zeros(file, size_bytes);
        }
        if (errno != EINTR) {
            return err_of_errno();
        }
    }
    return ERR_OK;
}

static enum err posix_sync(struct vfs_file *file)
{
    /* Not even EINTR is tried again: the error may stand for pages that are gone. */
    return fdatasync(file_fd(file)) == 0 ? ERR_OK : err_of_errno();
}

static enum err posix_advise(struct vfs_file *file, uint64_t offset, uint64_t size_bytes,
                             enum vfs_advice advice)
{
    if (((struct posix_file *)file)->direct) {
        return ERR_OK; /* what is in the page cache isn't ours */
    }
    int number = advice == VFS_ADVICE_SEQUENTIAL ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_DONTNEED;
    int failed = posix_fadvise(file_fd(file), to_off(offset), to_off(size_bytes), number);

    if (failed != 0) {
        errno = failed;
        return err_of_errno();
    }
    return ERR_OK;
}

static enum err posix_map(struct vfs_file *file, size_t size, const void **ret_data)
{
    void *data;

    assert(size > 0);
    data = mmap(NULL, size, PROT_READ, MAP_SHARED, file_fd(file), 0);
    if (data == MAP_FAILED) {
        return err_of_errno();
    }
    /* Point lookups: read-ahead would fill the cache with neighbours. A kernel without the advice
     * serves the same bytes. */
    (void)madvise(data, size, MADV_RANDOM);
    *ret_data = data;
    return ERR_OK;
}

static void posix_unmap(const struct vfs *vfs, const void *data, size_t size)
{
    int failed = munmap((void *)data, size);

    (void)vfs;
    assert(failed == 0);
}

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* From the begin of its first page on; *size grows by as much. */
static const char *page_begin(const void *data, size_t *size)
{
    size_t before = (uintptr_t)data % page_bytes();

    *size += before;
    return (const char *)data - before;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool posix_resident(const struct vfs *vfs, const void *data, size_t size)
{
    unsigned char pages[256]; /* bit 0: in memory; the others are reserved */
    const size_t page = page_bytes();
    const char *begin = page_begin(data, &size);

    (void)vfs;
    for (size_t at = 0; at < size; at += sizeof pages * page) {
        size_t part = least(size - at, sizeof pages * page);
        if (mincore((void *)(begin + at), part, pages) != 0) {
            return true; /* it isn't allowed, say */
        }
        for (size_t i = 0; i < (part + page - 1) / page; i++) {
            if ((pages[i] & 1) == 0) {
                return false;
            }
        }
    }
    return true;
}

static void ask_for(const char *begin, size_t size, size_t at)
{
    if (at < size) {
        (void)madvise((void *)(begin + at), least(size - at, POPULATE_BYTES), MADV_WILLNEED);
    }
}

/* Touching alone would read page after page, since the map is for random access. So one part is
 * asked for while the one before is waited for. MADV_POPULATE_READ waits too, no better, and older
 * kernels don't know it. */
static void touch_all(const char *begin, size_t size)
{
    ask_for(begin, size, 0);
    for (size_t at = 0; at < size; at += page_bytes()) {
        if (at % POPULATE_BYTES == 0) {
            ask_for(begin, size, at + POPULATE_BYTES);
        }
        (void)*(const volatile char *)(begin + at);
    }
}

static enum err posix_populate(const struct vfs *vfs, const void *data, size_t size)
{
    struct sigbus_guard guard;
    const char *begin = page_begin(data, &size);

    (void)vfs;
    if (!sigbus_guard_enter(&guard, begin, size)) {
        errno = EIO;
        return ERR_IO;
    }
    touch_all(begin, size);
    sigbus_guard_leave(&guard);
    return ERR_OK;
}

const struct vfs *vfs_posix(void)
{
    static const struct vfs table = {
        .dir_open = posix_dir_open,
        .dir_close = posix_dir_close,
        .dir_lock = posix_dir_lock,
        .dir_list = posix_dir_list,
        .dir_sync = posix_dir_sync,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .open = posix_open,
        .close = posix_close,
        .size = posix_size,
        .read = posix_read,
        .write = posix_write,
        .reserve = posix_reserve,
        .sync = posix_sync,
        .advise = posix_advise,
        .map = posix_map,
        .unmap = posix_unmap,
        .resident = posix_resident,
        .populate = posix_populate,
    };
    return &table;
}
