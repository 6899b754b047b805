/*
 * vfs_mem_state.h - what vfs_mem.c (the operations) and vfs_mem_control.c (the tests' side) share.
 */
#ifndef VARVE_TESTS_SUPPORT_VFS_MEM_STATE_H
#define VARVE_TESTS_SUPPORT_VFS_MEM_STATE_H

#include <pthread.h>

#include "tests/support/vfs_mem.h"

/* A directory, whether open or not. */
struct mem_node {
    struct mem_node *next;
    char *path;
    struct mem_dir *dir;
    bool locked;
};

/* A mapping is a copy, so that the sanitizers see reads beyond it. */
struct mem_mapping {
    struct mem_mapping *next;
    void *data;
    size_t size;
    struct mem_file *file;
    char name[MEM_NAME_BYTES]; /* of the file when it was opened */
    bool *cold;                /* of each page of MEM_PAGE_BYTES; NULL: all are in memory */
};

struct vfs_mem {
    struct vfs table; /* first: the operations get from here to the rest */
    pthread_mutex_t mutex;
    struct mem_node *nodes;
    struct mem_mapping *mappings;
    unsigned n_open; /* directories and files */
    vfs_mem_hook_fn *hook;
    void *hook_arg;
    vfs_mem_populate_fn *populate;
    void *populate_arg;
    bool crashed;
    uint64_t total;
    uint64_t counts[VFS_MEM_N_OPS];
    uint64_t capacity;
    uint64_t used;
    struct prng prng;
};

/* The table of operations, to be copied into a file system. */
extern const struct vfs vfs_mem_operations;

void vfs_mem_lock(struct vfs_mem *fs);
void vfs_mem_unlock(struct vfs_mem *fs);

/* The rest under the lock. NULL if there is no such directory. */
struct mem_node *vfs_mem_find_node(struct vfs_mem *fs, const char *path);
/* Owns the directory then. */
struct mem_node *vfs_mem_add_node(struct vfs_mem *fs, const char *path, struct mem_dir *dir);

/* True for names that a file may have here: short, without slashes. */
bool vfs_mem_is_plain(const char *name);

/* Makes an empty file with its name; the name uses it. */
void vfs_mem_create(struct mem_dir *names, const char *name);

#endif
