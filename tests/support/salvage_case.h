/*
 * salvage_case.h - a data directory whose whole history is known, ways to damage it, and what a
 * salvaged copy of it may say.
 *
 * The directory ("data", in memory) has tables in several levels, delete markers, long values and
 * a log, as after a kill. Every write is one number. A copy ("out") must have of each key the
 * newest version, or a finding that says what became of it; never anything that was not written.
 *
 * Threads:   the thread that runs the test.
 * Ownership: salvage_case_tear_down() frees what salvage_case_set_up() made.
 * Errors:    what must not happen ends the test by an assertion.
 */
#ifndef VARVE_TESTS_SUPPORT_SALVAGE_CASE_H
#define VARVE_TESTS_SUPPORT_SALVAGE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lsm/manifest.h"
#include "store/lsm/salvage.h"
#include "tests/support/driven.h"
#include "tests/support/vfs_mem.h"

/* One write of a key. */
struct salvage_write {
    uint64_t seq;
    size_t key;
    uint64_t version; /* of driven.h; 0: deleted */
};

/* A finding, copied. */
struct salvage_said {
    enum salvage_kind kind;
    char file[64];
    uint64_t offset;
    bool has_keys;
    size_t first_size, end_size;
    uint8_t first_key[80], end_key[80];
    uint64_t first_seq, last_seq, records;
    char text[200];
};

struct salvage_case {
    struct vfs_mem *fs;
    struct driven db;
    size_t n_keys;
    struct salvage_write *writes;
    size_t n_writes, room_writes;
    struct manifest manifest;
    char manifest_name[64];
    bool any_loss; /* older values and deleted keys may be back, whatever is said */

    struct salvage_said *said;
    size_t n_said, room_said;
    struct salvage_summary summary;
    struct err_detail detail;
};

/* For cmocka: *state becomes a struct salvage_case. */
int salvage_case_set_up(void **state);
int salvage_case_tear_down(void **state);

/* "data/NAME" of a table or segment; lives until the next call but three. */
const char *salvage_case_table(const struct salvage_case *fixture, size_t i);
const char *salvage_case_segment(const struct salvage_case *fixture, size_t i);

/* Salvages data to out, which is removed first. */
enum err salvage_case_run(struct salvage_case *fixture, bool older);

/* The copy passes the check, can be opened, and holds for each key what it may. Returns how many
 * keys don't have their newest version. */
size_t salvage_case_check(struct salvage_case *fixture, bool older);

/* salvage_case_run(), which must work, and salvage_case_check(). */
size_t salvage_case_copy(struct salvage_case *fixture, bool older);

/* Whether something of this kind was said of the file that ends so. */
bool salvage_case_said(const struct salvage_case *fixture, enum salvage_kind kind,
                       const char *file);

/* Removes a file; removes all files of out. */
void salvage_case_remove(struct salvage_case *fixture, const char *name);
void salvage_case_clear_out(struct salvage_case *fixture);

#endif
