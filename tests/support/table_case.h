/*
 * table_case.h - what tests of damaged tables share: a directory whose calls can be made to fail,
 * records, a table of them, and reading it in every way with a model to compare.
 *
 * Threads:   the thread that runs the test.
 * Ownership: table_case_tear_down() frees what table_case_set_up() made.
 * Errors:    what must not happen ends the test by an assertion.
 */
#ifndef VARVE_TESTS_SUPPORT_TABLE_CASE_H
#define VARVE_TESTS_SUPPORT_TABLE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/vfs.h"
#include "store/lsm/table.h"
#include "tests/support/random.h"
#include "tests/support/tables.h"
#include "tests/support/temp_dir.h"

#define TABLE_CASE_NAME "0000000000000001.table"

struct table_case {
    char path[TEMP_DIR_BYTES];
    struct vfs_dir *dir;
    struct prng prng;
    struct record_set set;
    struct table_info info;
    struct err_detail detail;
};

/* For cmocka: *state becomes a struct table_case. */
int table_case_set_up(void **state);
int table_case_tear_down(void **state);

/* Which call fails next, of writes, syncs, reads and maps: 0 is the next one; negative: none. */
extern int64_t table_case_fails_at;
/* A read of these bytes of a file fails. */
extern uint64_t table_case_bad_begin, table_case_bad_end;

/* Adds records k000, k002, …: the odd ones are absent. */
void table_case_add_even_keys(struct table_case *fixture, unsigned n, uint64_t value_bytes);

/* Writes the records as table 1, whose file is TABLE_CASE_NAME. */
void table_case_make(struct table_case *fixture);

/* Opens it; an error's detail names the file. */
enum err table_case_open(struct table_case *fixture, struct table **ret_table);

/* Writes into its file. */
void table_case_overwrite(struct table_case *fixture, uint64_t offset, const void *data,
                          size_t size);

/* ERR_CORRUPT or ERR_IO. */
bool is_damage(enum err err);

/* Looks up every key and its neighbour, which is absent: right, or an error. Returns how many gave
 * an error. */
size_t table_case_get_all(struct table *table, const struct record_set *set);

/* Streams: a beginning of the records, then the end (true) or an error. */
bool table_case_stream(struct table_case *fixture, struct table *table);

/* What reading the table showed. */
struct table_seen {
    bool at_open;
    bool by_lookups; /* and walks, which agree with them */
    bool by_verify;
};

/* Opens the table and asks for everything: no answer is wrong. Thorough: reads it as files are
 * read, too, which takes twice as long. */
struct table_seen table_case_read(struct table_case *fixture, bool thorough);

void table_case_assert_damaged(struct table_case *fixture);
void table_case_assert_intact(struct table_case *fixture);

/* What table_verify() reported. */
struct table_reports {
    size_t n;
    uint64_t offsets[8];
    char first_keys[8][16], end_keys[8][16];
    char texts[8][100];
};

/* Adds a report to the struct table_reports that `arg` is. */
void table_report(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                  const char *text);

#endif
