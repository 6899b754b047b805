/* vfs_mem_control.c - the tests' side of files in memory: life, crashes, limits, direct access. */
#include "tests/support/vfs_mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/vfs_mem_state.h"

const char *vfs_mem_op_name(enum vfs_mem_op op)
{
    static const char *const names[VFS_MEM_N_OPS] = {
        [VFS_MEM_DIR_OPEN] = "dir_open", [VFS_MEM_DIR_LOCK] = "dir_lock",
        [VFS_MEM_DIR_LIST] = "dir_list", [VFS_MEM_DIR_SYNC] = "dir_sync",
        [VFS_MEM_RENAME] = "rename",     [VFS_MEM_UNLINK] = "unlink",
        [VFS_MEM_CREATE] = "create",     [VFS_MEM_OPEN] = "open",
        [VFS_MEM_SIZE] = "size",         [VFS_MEM_READ] = "read",
        [VFS_MEM_WRITE] = "write",       [VFS_MEM_RESERVE] = "reserve",
        [VFS_MEM_SYNC] = "sync",         [VFS_MEM_MAP] = "map",
    };
    assert((unsigned)op < VFS_MEM_N_OPS);
    return names[op];
}

void vfs_mem_lock(struct vfs_mem *fs)
{
    int failed = pthread_mutex_lock(&fs->mutex);
    assert(failed == 0);
}

void vfs_mem_unlock(struct vfs_mem *fs)
{
    int failed = pthread_mutex_unlock(&fs->mutex);
    assert(failed == 0);
}

struct mem_node *vfs_mem_find_node(struct vfs_mem *fs, const char *path)
{
    struct mem_node *node = fs->nodes;

    while (node && strcmp(node->path, path) != 0) {
        node = node->next;
    }
    return node;
}

struct mem_node *vfs_mem_add_node(struct vfs_mem *fs, const char *path, struct mem_dir *dir)
{
    struct mem_node *node = test_alloc(sizeof *node);

    node->path = test_strdup(path);
    node->dir = dir;
    node->next = fs->nodes;
    fs->nodes = node;
    return node;
}

bool vfs_mem_is_plain(const char *name)
{
    return name[0] != '\0' && !strchr(name, '/') && strlen(name) < MEM_NAME_BYTES;
}

void vfs_mem_create(struct mem_dir *names, const char *name)
{
    struct mem_file *file = mem_file_new();

    mem_file_use(file);
    mem_dir_create(names, name, file);
    mem_file_unref(file);
}

struct vfs_mem *vfs_mem_new(uint64_t seed)
{
    struct vfs_mem *fs = test_alloc(sizeof *fs);
    int failed = pthread_mutex_init(&fs->mutex, NULL);

    assert(failed == 0);
    fs->table = vfs_mem_operations;
    fs->capacity = UINT64_MAX;
    prng_init(&fs->prng, seed);
    return fs;
}

void vfs_mem_free(struct vfs_mem *fs)
{
    int failed;

    assert(fs->n_open == 0 && !fs->mappings); /* a leak of the program under test */
    while (fs->nodes) {
        struct mem_node *node = fs->nodes;
        fs->nodes = node->next;
        mem_dir_free(node->dir);
        free(node->path);
        free(node);
    }
    failed = pthread_mutex_destroy(&fs->mutex);
    assert(failed == 0);
    free(fs);
}

const struct vfs *vfs_mem_vfs(struct vfs_mem *fs)
{
    return &fs->table;
}

void vfs_mem_set_hook(struct vfs_mem *fs, vfs_mem_hook_fn *hook, void *arg)
{
    vfs_mem_lock(fs);
    fs->hook = hook;
    fs->hook_arg = arg;
    vfs_mem_unlock(fs);
}

void vfs_mem_evict(struct vfs_mem *fs)
{
    vfs_mem_lock(fs);
    for (struct mem_mapping *mapping = fs->mappings; mapping; mapping = mapping->next) {
        size_t pages = (mapping->size + MEM_PAGE_BYTES - 1) / MEM_PAGE_BYTES;
        if (!mapping->cold) {
            mapping->cold = test_alloc(pages * sizeof *mapping->cold);
        }
        memset(mapping->cold, true, pages * sizeof *mapping->cold);
    }
    vfs_mem_unlock(fs);
}

void vfs_mem_set_populate(struct vfs_mem *fs, vfs_mem_populate_fn *populate, void *arg)
{
    vfs_mem_lock(fs);
    fs->populate = populate;
    fs->populate_arg = arg;
    vfs_mem_unlock(fs);
}

struct vfs_mem_verdict vfs_mem_follow_plan(void *arg, const struct vfs_mem_call *call)
{
    struct vfs_mem_plan *plan = arg;
    uint64_t seen;

    if ((plan->ops & VFS_MEM_BIT(call->op)) != 0) {
        seen = atomic_fetch_add(&plan->seen, 1) + 1;
        if (seen == plan->nth || (plan->forever && plan->nth != 0 && seen > plan->nth)) {
            return plan->verdict;
        }
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

void vfs_mem_crash(struct vfs_mem *fs)
{
    vfs_mem_lock(fs);
    fs->crashed = true;
    vfs_mem_unlock(fs);
}

bool vfs_mem_is_crashed(struct vfs_mem *fs)
{
    bool crashed;

    vfs_mem_lock(fs);
    crashed = fs->crashed;
    vfs_mem_unlock(fs);
    return crashed;
}

struct vfs_mem *vfs_mem_crash_clone(struct vfs_mem *fs, enum mem_keep keep, uint64_t seed)
{
    struct vfs_mem *after = vfs_mem_new(seed);

    vfs_mem_lock(fs);
    after->capacity = fs->capacity;
    for (const struct mem_node *node = fs->nodes; node; node = node->next) {
        struct mem_dir *dir = mem_dir_after_crash(node->dir, keep, &after->prng);
        for (size_t i = 0; i < mem_dir_count(dir); i++) {
            mem_file_use(mem_dir_file(dir, i));
            after->used += mem_file_size(mem_dir_file(dir, i));
        }
        (void)vfs_mem_add_node(after, node->path, dir);
    }
    vfs_mem_unlock(fs);
    return after;
}

void vfs_mem_set_capacity(struct vfs_mem *fs, uint64_t capacity_bytes)
{
    vfs_mem_lock(fs);
    fs->capacity = capacity_bytes;
    vfs_mem_unlock(fs);
}

uint64_t vfs_mem_used(struct vfs_mem *fs)
{
    uint64_t used;

    vfs_mem_lock(fs);
    used = fs->used;
    vfs_mem_unlock(fs);
    return used;
}

uint64_t vfs_mem_count(struct vfs_mem *fs, enum vfs_mem_op op)
{
    uint64_t count;

    assert((unsigned)op < VFS_MEM_N_OPS);
    vfs_mem_lock(fs);
    count = fs->counts[op];
    vfs_mem_unlock(fs);
    return count;
}

uint64_t vfs_mem_total(struct vfs_mem *fs)
{
    uint64_t total;

    vfs_mem_lock(fs);
    total = fs->total;
    vfs_mem_unlock(fs);
    return total;
}

/* The directory that `name` speaks of; *ret_plain is the name in it. */
static struct mem_dir *locate(struct vfs_mem *fs, const char *name, const char **ret_plain)
{
    const char *slash = strrchr(name, '/');
    struct mem_node *node = fs->nodes;

    if (slash) {
        char *path = test_strdup(name);
        path[slash - name] = '\0';
        node = vfs_mem_find_node(fs, path);
        free(path);
    } else {
        assert(!node || !node->next); /* several directories: PATH/NAME */
    }
    assert(node);
    *ret_plain = slash ? slash + 1 : name;
    assert(vfs_mem_is_plain(*ret_plain));
    return node->dir;
}

static struct mem_file *locate_file(struct vfs_mem *fs, const char *name)
{
    const char *plain;
    struct mem_dir *dir = locate(fs, name, &plain);

    return mem_dir_find(dir, plain);
}

bool vfs_mem_exists(struct vfs_mem *fs, const char *name)
{
    bool exists;

    vfs_mem_lock(fs);
    exists = locate_file(fs, name) != NULL;
    vfs_mem_unlock(fs);
    return exists;
}

unsigned char *vfs_mem_get(struct vfs_mem *fs, const char *name, size_t *ret_size)
{
    const struct mem_file *file;
    unsigned char *data;
    size_t size;

    vfs_mem_lock(fs);
    file = locate_file(fs, name);
    assert(file);
    size = (size_t)mem_file_size(file);
    data = test_alloc(size);
    (void)mem_file_read(file, 0, data, size);
    vfs_mem_unlock(fs);
    *ret_size = size;
    return data;
}

void vfs_mem_put(struct vfs_mem *fs, const char *name, const void *data, size_t size)
{
    struct mem_file *file;

    vfs_mem_lock(fs);
    file = locate_file(fs, name);
    if (!file) {
        const char *plain;
        struct mem_dir *dir = locate(fs, name, &plain);
        vfs_mem_create(dir, plain);
        mem_dir_sync(dir);
        file = mem_dir_find(dir, plain);
    }
    fs->used -= mem_file_size(file);
    mem_file_put(file, data, size);
    fs->used += size;
    vfs_mem_unlock(fs);
}

void vfs_mem_flip_bit(struct vfs_mem *fs, const char *name, uint64_t bit)
{
    size_t size;
    unsigned char *data = vfs_mem_get(fs, name, &size);

    assert(bit / 8 < size);
    data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    vfs_mem_put(fs, name, data, size);
    free(data);
}

void vfs_mem_truncate(struct vfs_mem *fs, const char *name, uint64_t size_bytes)
{
    size_t size;
    unsigned char *data = vfs_mem_get(fs, name, &size);

    assert(size_bytes <= size);
    vfs_mem_put(fs, name, data, (size_t)size_bytes);
    free(data);
}
