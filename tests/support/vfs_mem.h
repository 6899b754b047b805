/*
 * vfs_mem.h - files in memory that fail, tear, fill up and lose what was not synced, on demand.
 *
 * A file system for the engine under test. It knows of every byte and name whether a power failure
 * could take it back (mem_file.h and mem_dir.h say what a crash may leave). The usual simulation:
 *
 *     struct vfs_mem *fs = vfs_mem_new(seed);
 *     vfs_mem_set_hook(fs, crash_at_the_nth_call, &n);
 *     ... run the engine on vfs_mem_vfs(fs) until it has noticed; close it ...
 *     struct vfs_mem *after = vfs_mem_crash_clone(fs, MEM_KEEP_RANDOM, seed);
 *     vfs_mem_free(fs);
 *     ... open the engine on vfs_mem_vfs(after) and look what is left ...
 *
 * With one thread everything that happens is a function of the seeds and of the hook's verdicts.
 *
 * Several directories may exist, told apart by the text of their path; they have no parents.
 * A directory that is made is durable at once, as vfs.h asks for.
 *
 * Threads:   any thread, both the operations and the functions below; one mutex guards it all. The
 *            hook is called outside of it: it may block, and then only its own operation waits.
 * Ownership: vfs_mem_free() when all files, directories and mappings are closed; one that isn't is
 *            a leak of the program under test and ends the test.
 * Errors:    the operations' are vfs.h's; the functions below end the program when misused.
 */
#ifndef VARVE_TESTS_SUPPORT_VFS_MEM_H
#define VARVE_TESTS_SUPPORT_VFS_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "tests/support/mem_dir.h"
#include "tests/support/mem_file.h"

struct vfs_mem;

/* The operations that are counted and that a hook sees; closing, unmapping and advice always work.
 */
enum vfs_mem_op {
    VFS_MEM_DIR_OPEN,
    VFS_MEM_DIR_LOCK,
    VFS_MEM_DIR_LIST,
    VFS_MEM_DIR_SYNC,
    VFS_MEM_RENAME,
    VFS_MEM_UNLINK,
    VFS_MEM_CREATE, /* open with VFS_CREATE */
    VFS_MEM_OPEN,   /* the other two modes */
    VFS_MEM_SIZE,
    VFS_MEM_READ,
    VFS_MEM_WRITE,
    VFS_MEM_RESERVE,
    VFS_MEM_SYNC,
    VFS_MEM_MAP,
    VFS_MEM_N_OPS,
};

/* "write", "dir_sync" and so on. */
const char *vfs_mem_op_name(enum vfs_mem_op op);

/* Sets of operations: VFS_MEM_BIT(op) | … */
#define VFS_MEM_BIT(op) (1u << (op))
#define VFS_MEM_ANY     (VFS_MEM_BIT(VFS_MEM_N_OPS) - 1)
/* Those that change something on the disk. */
#define VFS_MEM_CHANGES                                                                          \
    (VFS_MEM_BIT(VFS_MEM_DIR_SYNC) | VFS_MEM_BIT(VFS_MEM_RENAME) | VFS_MEM_BIT(VFS_MEM_UNLINK) | \
     VFS_MEM_BIT(VFS_MEM_CREATE) | VFS_MEM_BIT(VFS_MEM_WRITE) | VFS_MEM_BIT(VFS_MEM_RESERVE) |   \
     VFS_MEM_BIT(VFS_MEM_SYNC))

/* One operation, just before it happens. */
struct vfs_mem_call {
    enum vfs_mem_op op;
    uint64_t number;     /* of all operations of this file system, from 1 */
    const char *name;    /* of the file when it was opened; for a directory its path */
    const char *to;      /* of a rename; NULL otherwise */
    uint64_t offset;     /* of a read or write */
    uint64_t size_bytes; /* of a read, write, reservation or mapping */
};

enum vfs_mem_action {
    VFS_MEM_DO,          /* as if there were no hook */
    VFS_MEM_FAIL,        /* not done; returns `err` */
    VFS_MEM_FAIL_PARTLY, /* `bytes` of a write or reservation are done, others are done; then `err`
                          */
    VFS_MEM_SKIP,        /* of a sync: not done, and says that it was: a program that left it out */
    VFS_MEM_CRASH,       /* not done; this and all later operations return ERR_IO */
    VFS_MEM_CRASH_PARTLY, /* done as with FAIL_PARTLY, then as with CRASH */
};

/* A sync that fails (FAIL, FAIL_PARTLY) leaves a random part of its data written and gives up the
 * rest for good; a directory's leaves everything in doubt for good. */
struct vfs_mem_verdict {
    enum vfs_mem_action action;
    enum err err; /* not ERR_OK where the action fails */
    uint64_t bytes;
};

/* Decides what happens to a call. The call is borrowed. */
typedef struct vfs_mem_verdict vfs_mem_hook_fn(void *arg, const struct vfs_mem_call *call);

/* Empty. The seed decides the order of listings and what failed syncs leave. */
struct vfs_mem *vfs_mem_new(uint64_t seed);
void vfs_mem_free(struct vfs_mem *fs);

/* The table for the program under test; lives as long as `fs`. */
const struct vfs *vfs_mem_vfs(struct vfs_mem *fs);

/* Asks the hook before every operation from now on; NULL for none. Not while operations run. */
void vfs_mem_set_hook(struct vfs_mem *fs, vfs_mem_hook_fn *hook, void *arg);

/* A ready-made hook: the `nth` call (from 1) of one of `ops` gets the verdict, and with `forever`
 * all later ones of them too; everything else is done. `seen` counts the calls of `ops`; begins at
 * 0. */
struct vfs_mem_plan {
    unsigned ops;
    uint64_t nth; /* 0: never */
    bool forever;
    struct vfs_mem_verdict verdict;
    _Atomic uint64_t seen;
};
vfs_mem_hook_fn vfs_mem_follow_plan; /* arg: struct vfs_mem_plan */

/* Pages of maps leave memory, all that are mapped now, and come back by being populated, with the
 * pages beside them. Touching them brings them back too, in fact, but can't be seen here: so it
 * finds their bytes, doesn't wait, and leaves them cold. */
#define MEM_PAGE_BYTES 4096u
void vfs_mem_evict(struct vfs_mem *fs);

/* Asked before pages of a map are brought back; what isn't ERR_OK is returned, and leaves them
 * cold. May block; then only that call waits. NULL for none. Not an operation that is counted. */
typedef enum err vfs_mem_populate_fn(void *arg, const char *name, uint64_t offset,
                                     uint64_t size_bytes);
void vfs_mem_set_populate(struct vfs_mem *fs, vfs_mem_populate_fn *populate, void *arg);

/* Stops the world between two operations: from now on all return ERR_IO. */
void vfs_mem_crash(struct vfs_mem *fs);
bool vfs_mem_is_crashed(struct vfs_mem *fs);

/* What a power failure now would leave, as a new file system: unlocked, without hook, counting from
 * 0, of the same capacity. `fs` stays as it is: one moment can be cloned with many seeds. */
struct vfs_mem *vfs_mem_crash_clone(struct vfs_mem *fs, enum mem_keep keep, uint64_t seed);

/* Bytes of all files together, beyond which growing returns ERR_NO_SPACE (a write does what fits).
 * A file counts until it has no name and nobody has it open or mapped. At first without limit. */
void vfs_mem_set_capacity(struct vfs_mem *fs, uint64_t capacity_bytes);
uint64_t vfs_mem_used(struct vfs_mem *fs);

/* How often an operation was called (refused and failed ones count), and all of them together. */
uint64_t vfs_mem_count(struct vfs_mem *fs, enum vfs_mem_op op);
uint64_t vfs_mem_total(struct vfs_mem *fs);

/* Direct access for tests, past hook and counters: `name` is a file's, or where there are several
 * directories PATH/NAME. Changes are durable at once; mappings that exist don't show them. */
bool vfs_mem_exists(struct vfs_mem *fs, const char *name);
/* The content, to be freed by the caller; at least one byte is allocated. */
unsigned char *vfs_mem_get(struct vfs_mem *fs, const char *name, size_t *ret_size);
/* Replaces the content, or makes the file. */
void vfs_mem_put(struct vfs_mem *fs, const char *name, const void *data, size_t size);
void vfs_mem_flip_bit(struct vfs_mem *fs, const char *name, uint64_t bit);
void vfs_mem_truncate(struct vfs_mem *fs, const char *name, uint64_t size_bytes);

#endif
