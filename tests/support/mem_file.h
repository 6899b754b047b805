/*
 * mem_file.h - a file's content in memory, and what of it a power failure leaves.
 *
 * Content is kept twice: as the program sees it (the page cache) and as it is on the disk for
 * certain. They differ in sectors of 512 bytes that were written since the last sync, and in size.
 *
 * What a crash may leave of the difference:
 *   1. Each such sector holds what was synced, or what it held after any later write to it, or its
 *      latest bytes: the kernel writes pages back when it likes, in any order. Never a mixture: a
 *      sector is written as a whole.
 *   2. The size is the synced one, the latest one or one between. Bytes that were never synced and
 *      did not get there read as zeros.
 *   3. After a failed sync each unsynced sector got there or did not, and counts as clean from then
 *      on: a later sync succeeds without it, as in Linux (Rebello et al., ATC'20). Only writing the
 *      sector again makes it dirty again.
 *
 * Threads:   none of this locks: vfs_mem.c calls it under its mutex.
 * Ownership: reference counts; mem_file_new() hands out the first one.
 * Errors:    none; running out of memory ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_MEM_FILE_H
#define VARVE_TESTS_SUPPORT_MEM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/random.h"

#define MEM_SECTOR_BYTES 512u

/* How much of what was not synced survives a crash. */
enum mem_keep {
    MEM_KEEP_NOTHING, /* only what was synced: the least that is promised */
    MEM_KEEP_RANDOM,  /* a random part, as above */
    MEM_KEEP_ALL,     /* all, as after killing the process alone */
};

struct mem_file;

/* Empty, with one reference. */
struct mem_file *mem_file_new(void);
struct mem_file *mem_file_ref(struct mem_file *file);
void mem_file_unref(struct mem_file *file);

/* Users hold the file's space: its name as the program sees it, who has it open or mapped. The
 * second returns true when the last one is gone. Beside the references. */
void mem_file_use(struct mem_file *file);
bool mem_file_disuse(struct mem_file *file);

uint64_t mem_file_size(const struct mem_file *file);

/* Returns how many bytes there were, at most `size`. */
size_t mem_file_read(const struct mem_file *file, uint64_t offset, void *into, size_t size);
/* Makes the file larger where it has to; a gap reads as zeros. */
void mem_file_write(struct mem_file *file, uint64_t offset, const void *data, size_t size);
/* Adds zeros until the size is at least this. */
void mem_file_extend(struct mem_file *file, uint64_t size_bytes);

void mem_file_sync(struct mem_file *file);
void mem_file_fail_sync(struct mem_file *file, struct prng *prng);

/* Sets the whole content, on the disk too. */
void mem_file_put(struct mem_file *file, const void *data, size_t size);

/* A new file with what a crash leaves of this one, all of it synced. */
struct mem_file *mem_file_after_crash(const struct mem_file *file, enum mem_keep keep,
                                      struct prng *prng);

#endif
