/*
 * vfs_contract.h - what every implementation of vfs.h promises: one list of tests for all of them.
 *
 * A test program opens contract_dir, an empty directory, in its setup and closes it in its
 * teardown.
 *
 * Threads: one.
 */
#ifndef VARVE_TESTS_UNIT_VFS_CONTRACT_H
#define VARVE_TESTS_UNIT_VFS_CONTRACT_H

#include "store/base/vfs.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

/* The directory at contract_path; the tests may replace the handle by another one. */
extern struct vfs_dir *contract_dir;
extern const char *contract_path;

/* Helpers for the programs' own tests too. */
struct vfs_file *contract_create(const char *name);
enum err contract_write(struct vfs_file *file, uint64_t offset, const void *data, size_t size);
uint64_t contract_size(struct vfs_file *file);
void contract_expect(struct vfs_file *file, uint64_t offset, const void *data, size_t size);
/* Makes a file of so many parts of random sizes, reads it back and removes it. */
void contract_write_parts(struct prng *prng, size_t n_parts, size_t most_bytes_a_part);
/* Reserves in a new file, checks what is in it, and removes it. */
void contract_reserve(void);

void a_missing_directory_is_made_only_on_demand(void **state);
void the_lock_keeps_everybody_else_out_until_it_is_closed(void **state);
void create_wants_a_new_name_and_the_others_an_old_one(void **state);
void direct_reads_read_the_same_whatever_their_bounds(void **state);
void a_file_open_for_reading_cannot_be_written(void **state);
void reading_stops_at_the_end_of_the_file(void **state);
void writes_all_parts_also_more_than_one_call_takes(void **state);
void reserving_keeps_what_is_there_and_adds_zeros(void **state);
void rename_replaces_and_unlink_removes(void **state);
void lists_every_name_once_until_told_to_stop(void **state);
void a_map_shows_the_bytes_and_outlives_file_and_name(void **state);
void what_is_populated_is_in_memory(void **state);
void advice_changes_nothing_and_closing_null_is_allowed(void **state);

#define VFS_CONTRACT_TESTS(TEST)                                                                  \
    TEST(a_missing_directory_is_made_only_on_demand),                                             \
        TEST(the_lock_keeps_everybody_else_out_until_it_is_closed),                               \
        TEST(create_wants_a_new_name_and_the_others_an_old_one),                                  \
        TEST(direct_reads_read_the_same_whatever_their_bounds),                                   \
        TEST(a_file_open_for_reading_cannot_be_written),                                          \
        TEST(reading_stops_at_the_end_of_the_file),                                               \
        TEST(writes_all_parts_also_more_than_one_call_takes),                                     \
        TEST(reserving_keeps_what_is_there_and_adds_zeros),                                       \
        TEST(rename_replaces_and_unlink_removes), TEST(lists_every_name_once_until_told_to_stop), \
        TEST(a_map_shows_the_bytes_and_outlives_file_and_name),                                   \
        TEST(what_is_populated_is_in_memory),                                                     \
        TEST(advice_changes_nothing_and_closing_null_is_allowed)

#endif
