/*
 * vfs_mem.c - the operations on files in memory, with the hook around each.
 *
 * Each operation is begin(), the work where the verdict wants it, end(). begin() asks the hook
 * outside the mutex and returns inside; end() leaves it and turns the verdict into the result.
 */
#include "tests/support/vfs_mem.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/vfs_mem_state.h"

struct open_dir {
    struct vfs_dir base;
    struct mem_node *node;
    bool holds_lock;
};

struct open_file {
    struct vfs_file base;
    struct mem_file *file;
    bool writable;
    char name[MEM_NAME_BYTES];
};

static struct vfs_mem *fs_of(const struct vfs *vfs)
{
    return (struct vfs_mem *)vfs; /* made by vfs_mem_new(), never const */
}

/* Counts the call and asks the hook. Returns holding the mutex. */
static struct vfs_mem_verdict begin(struct vfs_mem *fs, struct vfs_mem_call call)
{
    struct vfs_mem_verdict verdict = {.action = VFS_MEM_DO};
    vfs_mem_hook_fn *hook;
    void *arg;

    vfs_mem_lock(fs);
    call.number = ++fs->total;
    fs->counts[call.op]++;
    hook = fs->hook;
    arg = fs->hook_arg;
    if (hook && !fs->crashed) {
        vfs_mem_unlock(fs);
        verdict = hook(arg, &call);
        /* Others give their caller something that only doing them brings about. */
        assert(verdict.action != VFS_MEM_SKIP || call.op == VFS_MEM_SYNC ||
               call.op == VFS_MEM_DIR_SYNC);
        vfs_mem_lock(fs);
    }
    if (fs->crashed) {
        verdict = (struct vfs_mem_verdict){.action = VFS_MEM_CRASH};
    }
    return verdict;
}

static bool is_done(const struct vfs_mem_verdict *verdict)
{
    return verdict->action != VFS_MEM_FAIL && verdict->action != VFS_MEM_CRASH &&
           verdict->action != VFS_MEM_SKIP;
}

static int errno_of(enum err err)
{
    static const struct {
        enum err err;
        int number;
    } rows[] = {
        {ERR_NO_SPACE, ENOSPC}, {ERR_NO_MEMORY, ENOMEM},   {ERR_NOT_FOUND, ENOENT},
        {ERR_EXISTS, EEXIST},   {ERR_LOCKED, EWOULDBLOCK},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].err == err) {
            return rows[i].number;
        }
    }
    return EIO;
}

/* Leaves the mutex; `err` is what the work came to. */
static enum err end(struct vfs_mem *fs, const struct vfs_mem_verdict *verdict, enum err err)
{
    switch (verdict->action) {
    case VFS_MEM_DO:
    case VFS_MEM_SKIP:
        break;
    case VFS_MEM_FAIL:
    case VFS_MEM_FAIL_PARTLY:
        assert(verdict->err != ERR_OK);
        err = verdict->err;
        break;
    case VFS_MEM_CRASH:
    case VFS_MEM_CRASH_PARTLY:
        fs->crashed = true;
        err = ERR_IO;
        break;
    }
    vfs_mem_unlock(fs);
    if (err != ERR_OK) {
        errno = errno_of(err);
    }
    return err;
}

/* A name, a handle or a mapping that held the file's space is gone, and its reference. */
static void release(struct vfs_mem *fs, struct mem_file *file)
{
    if (mem_file_disuse(file)) {
        fs->used -= mem_file_size(file);
    }
    mem_file_unref(file);
}

static enum err op_dir_open(const struct vfs *vfs, const char *path, bool create,
                            struct vfs_dir **ret_dir)
{
    struct vfs_mem *fs = fs_of(vfs);
    struct vfs_mem_verdict verdict =
        begin(fs, (struct vfs_mem_call){.op = VFS_MEM_DIR_OPEN, .name = path});
    enum err err = ERR_OK;

    if (is_done(&verdict)) {
        struct mem_node *node = vfs_mem_find_node(fs, path);
        if (!node && create) {
            node = vfs_mem_add_node(fs, path, mem_dir_new());
        }
        if (!node) {
            err = ERR_NOT_FOUND;
        } else if (verdict.action == VFS_MEM_DO) {
            struct open_dir *dir = test_alloc(sizeof *dir);
            dir->base.vfs = vfs;
            atomic_init(&dir->base.failed_syncs, 0);
            dir->node = node;
            fs->n_open++;
            *ret_dir = &dir->base;
        }
    }
    return end(fs, &verdict, err);
}

static struct open_dir *dir_of(struct vfs_dir *dir)
{
    return (struct open_dir *)dir;
}

static void op_dir_close(struct vfs_dir *dir)
{
    struct vfs_mem *fs = fs_of(dir->vfs);

    vfs_mem_lock(fs);
    if (dir_of(dir)->holds_lock) {
        dir_of(dir)->node->locked = false;
    }
    fs->n_open--;
    vfs_mem_unlock(fs);
    free(dir);
}

static struct vfs_mem_verdict begin_dir(struct vfs_dir *dir, enum vfs_mem_op op)
{
    return begin(fs_of(dir->vfs), (struct vfs_mem_call){.op = op, .name = dir_of(dir)->node->path});
}

static enum err op_dir_lock(struct vfs_dir *dir)
{
    struct vfs_mem_verdict verdict = begin_dir(dir, VFS_MEM_DIR_LOCK);
    struct open_dir *open = dir_of(dir);
    enum err err = ERR_OK;

    if (is_done(&verdict) && !open->holds_lock) {
        if (open->node->locked) {
            err = ERR_LOCKED;
        } else {
            open->node->locked = true;
            open->holds_lock = true;
        }
    }
    return end(fs_of(dir->vfs), &verdict, err);
}

/* The names in an order that nobody can rely on. The callback runs outside the mutex. */
static enum err op_dir_list(struct vfs_dir *dir, vfs_name_fn *each, void *arg)
{
    struct vfs_mem_verdict verdict = begin_dir(dir, VFS_MEM_DIR_LIST);
    struct vfs_mem *fs = fs_of(dir->vfs);
    struct mem_dir *names = dir_of(dir)->node->dir;
    char(*list)[MEM_NAME_BYTES] = NULL;
    size_t n = 0;
    enum err err;

    if (is_done(&verdict)) {
        n = mem_dir_count(names);
        list = test_alloc(n * sizeof *list);
        for (size_t i = 0; i < n; i++) {
            size_t j = prng_below(&fs->prng, i + 1);
            memcpy(list[i], list[j], sizeof *list);
            memcpy(list[j], mem_dir_name(names, i), strlen(mem_dir_name(names, i)) + 1);
        }
    }
    err = end(fs, &verdict, ERR_OK);
    for (size_t i = 0; err == ERR_OK && i < n && each(arg, list[i]); i++) {
    }
    free(list);
    return err;
}

static enum err op_dir_sync(struct vfs_dir *dir)
{
    struct vfs_mem_verdict verdict = begin_dir(dir, VFS_MEM_DIR_SYNC);

    if (verdict.action == VFS_MEM_DO || verdict.action == VFS_MEM_CRASH_PARTLY) {
        mem_dir_sync(dir_of(dir)->node->dir);
    } else if (verdict.action != VFS_MEM_CRASH && verdict.action != VFS_MEM_SKIP) {
        mem_dir_fail_sync(dir_of(dir)->node->dir);
    }
    return end(fs_of(dir->vfs), &verdict, ERR_OK);
}

static enum err op_rename(struct vfs_dir *dir, const char *from, const char *to)
{
    struct vfs_mem *fs = fs_of(dir->vfs);
    struct vfs_mem_verdict verdict =
        begin(fs, (struct vfs_mem_call){.op = VFS_MEM_RENAME, .name = from, .to = to});
    struct mem_dir *names = dir_of(dir)->node->dir;
    enum err err = ERR_OK;

    assert(vfs_mem_is_plain(from) && vfs_mem_is_plain(to));
    if (is_done(&verdict)) {
        if (mem_dir_find(names, from)) {
            struct mem_file *replaced = mem_dir_rename(names, from, to);
            if (replaced) {
                release(fs, replaced);
            }
        } else {
            err = ERR_NOT_FOUND;
        }
    }
    return end(fs, &verdict, err);
}

static enum err op_unlink(struct vfs_dir *dir, const char *name)
{
    struct vfs_mem *fs = fs_of(dir->vfs);
    struct vfs_mem_verdict verdict =
        begin(fs, (struct vfs_mem_call){.op = VFS_MEM_UNLINK, .name = name});
    struct mem_dir *names = dir_of(dir)->node->dir;
    enum err err = ERR_OK;

    assert(vfs_mem_is_plain(name));
    if (is_done(&verdict)) {
        if (mem_dir_find(names, name)) {
            release(fs, mem_dir_unlink(names, name));
        } else {
            err = ERR_NOT_FOUND;
        }
    }
    return end(fs, &verdict, err);
}

static enum err op_open(struct vfs_dir *dir, const char *name, enum vfs_open_mode mode,
                        struct vfs_file **ret_file)
{
    struct vfs_mem *fs = fs_of(dir->vfs);
    enum vfs_mem_op op = mode == VFS_CREATE ? VFS_MEM_CREATE : VFS_MEM_OPEN;
    struct vfs_mem_verdict verdict = begin(fs, (struct vfs_mem_call){.op = op, .name = name});
    struct mem_dir *names = dir_of(dir)->node->dir;
    enum err err = ERR_OK;

    assert(vfs_mem_is_plain(name));
    if (is_done(&verdict)) {
        bool exists = mem_dir_find(names, name) != NULL;
        if (mode == VFS_CREATE && exists) {
            err = ERR_EXISTS;
        } else if (mode == VFS_CREATE) {
            vfs_mem_create(names, name);
        } else if (!exists) {
            err = ERR_NOT_FOUND;
        }
    }
    if (err == ERR_OK && verdict.action == VFS_MEM_DO) {
        struct open_file *file = test_alloc(sizeof *file);
        file->base.vfs = dir->vfs;
        file->file = mem_file_ref(mem_dir_find(names, name));
        mem_file_use(file->file);
        file->writable = mode == VFS_WRITE || mode == VFS_CREATE;
        memcpy(file->name, name, strlen(name) + 1);
        fs->n_open++;
        *ret_file = &file->base;
    }
    return end(fs, &verdict, err);
}

static struct open_file *file_of(struct vfs_file *file)
{
    return (struct open_file *)file;
}

static void op_close(struct vfs_file *file)
{
    struct vfs_mem *fs = fs_of(file->vfs);

    vfs_mem_lock(fs);
    release(fs, file_of(file)->file);
    fs->n_open--;
    vfs_mem_unlock(fs);
    free(file);
}

static struct vfs_mem_verdict begin_file(struct vfs_file *file, enum vfs_mem_op op, uint64_t offset,
                                         uint64_t size_bytes)
{
    return begin(fs_of(file->vfs), (struct vfs_mem_call){.op = op,
                                                         .name = file_of(file)->name,
                                                         .offset = offset,
                                                         .size_bytes = size_bytes});
}

static enum err op_size(struct vfs_file *file, uint64_t *ret_size_bytes)
{
    struct vfs_mem_verdict verdict = begin_file(file, VFS_MEM_SIZE, 0, 0);

    if (verdict.action == VFS_MEM_DO) {
        *ret_size_bytes = mem_file_size(file_of(file)->file);
    }
    return end(fs_of(file->vfs), &verdict, ERR_OK);
}

static enum err op_read(struct vfs_file *file, uint64_t offset, void *into, size_t size,
                        size_t *ret_read)
{
    struct vfs_mem_verdict verdict = begin_file(file, VFS_MEM_READ, offset, size);

    if (verdict.action == VFS_MEM_DO) {
        *ret_read = mem_file_read(file_of(file)->file, offset, into, size);
    }
    return end(fs_of(file->vfs), &verdict, ERR_OK);
}

/* The end that the capacity allows this file to reach. */
static uint64_t greatest_end(const struct vfs_mem *fs, const struct mem_file *file)
{
    uint64_t free_bytes = fs->used < fs->capacity ? fs->capacity - fs->used : 0;
    uint64_t size = mem_file_size(file);

    return free_bytes < UINT64_MAX - size ? size + free_bytes : UINT64_MAX;
}

/* Writes the first `limit` bytes of the parts. */
static void write_parts(struct vfs_mem *fs, struct mem_file *file, uint64_t offset,
                        const struct iovec *parts, uint64_t limit)
{
    uint64_t size_before = mem_file_size(file);

    for (size_t i = 0; limit > 0; i++) {
        size_t n = limit < parts[i].iov_len ? (size_t)limit : parts[i].iov_len;
        mem_file_write(file, offset, parts[i].iov_base, n);
        offset += n;
        limit -= n;
    }
    fs->used += mem_file_size(file) - size_before;
}

static enum err op_write(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                         size_t n_parts)
{
    struct vfs_mem *fs = fs_of(file->vfs);
    struct mem_file *content = file_of(file)->file;
    struct vfs_mem_verdict verdict;
    uint64_t total = 0, limit, end_allowed;
    enum err err = ERR_OK;

    for (size_t i = 0; i < n_parts; i++) {
        total += parts[i].iov_len;
    }
    verdict = begin_file(file, VFS_MEM_WRITE, offset, total);
    if (!file_of(file)->writable) {
        return end(fs, &verdict, ERR_IO);
    }
    limit = total;
    if (!is_done(&verdict)) {
        limit = 0;
    } else if (verdict.action != VFS_MEM_DO && verdict.bytes < total) {
        limit = verdict.bytes;
    }
    end_allowed = greatest_end(fs, content);
    if (limit > 0 && offset + limit > end_allowed) {
        limit = offset < end_allowed ? end_allowed - offset : 0;
        err = ERR_NO_SPACE;
    }
    write_parts(fs, content, offset, parts, limit);
    return end(fs, &verdict, err);
}

static enum err op_reserve(struct vfs_file *file, uint64_t size_bytes)
{
    struct vfs_mem *fs = fs_of(file->vfs);
    struct mem_file *content = file_of(file)->file;
    struct vfs_mem_verdict verdict = begin_file(file, VFS_MEM_RESERVE, 0, size_bytes);
    uint64_t size_before = mem_file_size(content);
    enum err err = ERR_OK;

    if (!file_of(file)->writable) {
        return end(fs, &verdict, ERR_IO);
    }
    if (is_done(&verdict)) {
        if (verdict.action != VFS_MEM_DO && verdict.bytes < size_bytes) {
            size_bytes = verdict.bytes;
        }
        if (size_bytes > size_before && size_bytes > greatest_end(fs, content)) {
            err = ERR_NO_SPACE;
        } else {
            mem_file_extend(content, size_bytes);
            fs->used += mem_file_size(content) - size_before;
        }
    }
    return end(fs, &verdict, err);
}

static enum err op_sync(struct vfs_file *file)
{
    struct vfs_mem_verdict verdict = begin_file(file, VFS_MEM_SYNC, 0, 0);
    struct vfs_mem *fs = fs_of(file->vfs);

    if (verdict.action == VFS_MEM_DO || verdict.action == VFS_MEM_CRASH_PARTLY) {
        mem_file_sync(file_of(file)->file);
    } else if (verdict.action != VFS_MEM_CRASH && verdict.action != VFS_MEM_SKIP) {
        mem_file_fail_sync(file_of(file)->file, &fs->prng);
    }
    return end(fs, &verdict, ERR_OK);
}

static enum err op_advise(struct vfs_file *file, uint64_t offset, uint64_t size_bytes,
                          enum vfs_advice advice)
{
    (void)file;
    (void)offset;
    (void)size_bytes;
    (void)advice;
    return ERR_OK;
}

static enum err op_map(struct vfs_file *file, size_t size, const void **ret_data)
{
    struct vfs_mem *fs = fs_of(file->vfs);
    struct vfs_mem_verdict verdict = begin_file(file, VFS_MEM_MAP, 0, size);

    if (verdict.action == VFS_MEM_DO) {
        struct mem_mapping *mapping = test_alloc(sizeof *mapping);
        int failed = posix_memalign(&mapping->data, 4096, size);
        size_t n;

        assert(failed == 0 && size > 0);
        n = mem_file_read(file_of(file)->file, 0, mapping->data, size);
        assert(n == size); /* the contract: the file holds as many */
        mapping->size = size;
        (void)memcpy(mapping->name, file_of(file)->name, sizeof mapping->name);
        mapping->file = mem_file_ref(file_of(file)->file);
        mem_file_use(mapping->file);
        mapping->next = fs->mappings;
        fs->mappings = mapping;
        *ret_data = mapping->data;
    }
    return end(fs, &verdict, ERR_OK);
}

static void op_unmap(const struct vfs *vfs, const void *data, size_t size)
{
    struct vfs_mem *fs = fs_of(vfs);
    struct mem_mapping **link = &fs->mappings;
    struct mem_mapping *mapping;

    vfs_mem_lock(fs);
    while (*link && (*link)->data != data) {
        link = &(*link)->next;
    }
    mapping = *link;
    assert(mapping && mapping->size == size);
    *link = mapping->next;
    release(fs, mapping->file);
    vfs_mem_unlock(fs);
    free(mapping->data);
    free(mapping->cold);
    free(mapping);
}

/* Under the mutex: the map that has these bytes, and where. */
static struct mem_mapping *find_mapping(struct vfs_mem *fs, const void *data, size_t size,
                                        size_t *ret_offset)
{
    struct mem_mapping *mapping = fs->mappings;
    uintptr_t at = (uintptr_t)data;

    while (mapping && (at < (uintptr_t)mapping->data ||
                       at - (uintptr_t)mapping->data + size > mapping->size)) {
        mapping = mapping->next;
    }
    assert(mapping);
    *ret_offset = at - (uintptr_t)mapping->data;
    return mapping;
}

static bool op_resident(const struct vfs *vfs, const void *data, size_t size)
{
    struct vfs_mem *fs = fs_of(vfs);
    bool resident = true;
    size_t offset;

    vfs_mem_lock(fs);
    struct mem_mapping *mapping = find_mapping(fs, data, size, &offset);
    for (size_t at = offset; mapping->cold && at < offset + size; at++) {
        resident = resident && !mapping->cold[at / MEM_PAGE_BYTES];
    }
    vfs_mem_unlock(fs);
    return resident;
}

static enum err op_populate(const struct vfs *vfs, const void *data, size_t size)
{
    struct vfs_mem *fs = fs_of(vfs);
    enum err err = ERR_OK;
    size_t offset;

    vfs_mem_lock(fs);
    struct mem_mapping *mapping = find_mapping(fs, data, size, &offset);
    if (fs->populate) {
        vfs_mem_unlock(fs); /* the caller keeps the map */
        err = fs->populate(fs->populate_arg, mapping->name, offset, size);
        vfs_mem_lock(fs);
    }
    if (err == ERR_OK && mapping->cold) {
        size_t pages = (mapping->size + MEM_PAGE_BYTES - 1) / MEM_PAGE_BYTES;
        size_t first = offset / MEM_PAGE_BYTES, last = (offset + size) / MEM_PAGE_BYTES + 1;
        for (size_t i = first > 0 ? first - 1 : 0; i <= last && i < pages; i++) {
            mapping->cold[i] = false;
        }
    }
    vfs_mem_unlock(fs);
    if (err != ERR_OK) {
        errno = errno_of(err);
    }
    return err;
}

const struct vfs vfs_mem_operations = {
    .dir_open = op_dir_open,
    .dir_close = op_dir_close,
    .dir_lock = op_dir_lock,
    .dir_list = op_dir_list,
    .dir_sync = op_dir_sync,
    .rename = op_rename,
    .unlink = op_unlink,
    .open = op_open,
    .close = op_close,
    .size = op_size,
    .read = op_read,
    .write = op_write,
    .reserve = op_reserve,
    .sync = op_sync,
    .advise = op_advise,
    .map = op_map,
    .unmap = op_unmap,
    .resident = op_resident,
    .populate = op_populate,
};
