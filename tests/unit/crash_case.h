/*
 * crash_case.h - a file system in memory for a test, and what may be left of it after a crash.
 *
 * Files are made of letters, so that an outcome is a short text.
 *
 * Threads: one.
 */
#ifndef VARVE_TESTS_UNIT_CRASH_CASE_H
#define VARVE_TESTS_UNIT_CRASH_CASE_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/vfs.h"
#include "tests/support/vfs_mem.h"

#define SECTOR ((size_t)MEM_SECTOR_BYTES)

/* So many crashes show every outcome that the tests ask for. */
enum { CRASH_SEEDS = 300 };

/* The file system whose one directory is contract_dir (vfs_contract.h). */
extern struct vfs_mem *crash_fs;

/* Where a crash may lead: the letters at some places, as text, with how often they came out. */
struct outcomes {
    char texts[16][8];
    unsigned counts[16];
    size_t n;
};

/* A test's setup and teardown. */
int crash_case_make(void **state);
int crash_case_free(void **state);

/* A whole run of equal bytes. */
void write_letters(struct vfs_file *file, uint64_t offset, char letter, size_t size);

/* A file of one byte, synced itself; its name is not. */
void make_letter(const char *name, char letter);

/* The byte at `offset` of a file after a crash: '0' for a zero, '-' beyond its end, ' ' if there is
 * no such file. */
char letter_of(struct vfs_mem *after, const char *name, size_t offset);

/* Crashes with many seeds and notes the first letters of the files named by each letter of `names`.
 */
struct outcomes crash_names(const char *names);

/* The same with the letters of the file "a", one for each sector, whose first and last byte must
 * agree. */
struct outcomes crash_sectors(size_t n_sectors);

/* Exactly these came out, each at least once; separated by commas. */
void expect_outcomes(struct outcomes outcomes, const char *expected);

/* "a" with its name synced: one letter a sector, synced too. */
struct vfs_file *make_sectors(const char *letters);

#endif
