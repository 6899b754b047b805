/*
 * mem_dir.h - a directory's names in memory, and what of them a power failure leaves.
 *
 * Names are kept as the program sees them and as they are on the disk for certain; between the two
 * lies the list of operations (create, rename, unlink) since the last sync.
 *
 * What a crash may leave: a part of these operations happened, the others did not, where
 *   1. each happened as a whole: a rename moves a file from one name to the other, replacing what
 *      was there, or does nothing;
 *   2. operations that share a name happened in their order: if one did not, neither did any later
 *      one on its name or names. So each finds its names as the program found them; a file whose
 *      name was synced is never left without one unless it was removed or replaced;
 *   3. operations that share no name are independent of each other.
 * It follows that a file which was created and synced, but whose directory was not, may be gone
 * or have its name and (mem_file.h) any part of the content that was not synced; and that an unlink
 * may happen before a rename that was made long before it, unless a sync lies between them.
 * After a failed sync what it should have written stays in doubt: no later sync makes it certain.
 *
 * Threads:   none of this locks: vfs_mem.c calls it under its mutex.
 * Ownership: a directory holds references to its files.
 * Errors:    none; running out of memory ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_MEM_DIR_H
#define VARVE_TESTS_SUPPORT_MEM_DIR_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/support/mem_file.h"

#define MEM_NAME_BYTES 64u /* any name with its NUL */

struct mem_dir;

struct mem_dir *mem_dir_new(void);
void mem_dir_free(struct mem_dir *dir);

size_t mem_dir_count(const struct mem_dir *dir);
/* Name and file number `index`, in no particular order; borrowed until the directory changes. */
const char *mem_dir_name(const struct mem_dir *dir, size_t index);
struct mem_file *mem_dir_file(const struct mem_dir *dir, size_t index);

/* NULL if there is no such name; borrowed. */
struct mem_file *mem_dir_find(const struct mem_dir *dir, const char *name);

/* The name is new; the file is referenced. */
void mem_dir_create(struct mem_dir *dir, const char *name, struct mem_file *file);
/* `from` exists; returns what `to` named before (one reference for the caller) or NULL. */
struct mem_file *mem_dir_rename(struct mem_dir *dir, const char *from, const char *to);
/* The name exists; returns the file, with one reference for the caller. */
struct mem_file *mem_dir_unlink(struct mem_dir *dir, const char *name);

void mem_dir_sync(struct mem_dir *dir);
void mem_dir_fail_sync(struct mem_dir *dir);

/* A new directory with what a crash leaves of this one and of its files, all of it synced. */
struct mem_dir *mem_dir_after_crash(const struct mem_dir *dir, enum mem_keep keep,
                                    struct prng *prng);

#endif
