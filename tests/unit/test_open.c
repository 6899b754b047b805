/* Opening and closing: what a crash or an earlier life has left is made good or refused. */
#include <stdlib.h>

#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/vfs_mem.h"

static struct vfs_mem *fs;
static struct driven db;

static int set_up(void **state)
{
    (void)state;
    fs = vfs_mem_new(test_seed());
    driven_init(&db, vfs_mem_vfs(fs), "data", 20, test_seed());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

/* --- Ballast --- */

static size_t ballast_bytes(void)
{
    size_t size;
    free(vfs_mem_get(fs, FILES_BALLAST, &size));
    return size;
}

/* The machine stopped after the file was created and before its space was reserved. */
static void a_ballast_that_a_crash_left_empty_is_filled(void **state)
{
    (void)state;
    driven_open(&db);
    driven_put(&db, 1, 100);
    driven_close(&db);
    size_t whole = ballast_bytes();
    assert_true(whole > db.options.memtable_bytes);
    vfs_mem_put(fs, FILES_BALLAST, "", 0);
    driven_open(&db);
    assert_int_equal(ballast_bytes(), whole);
    assert_int_equal(db.store->ballast_bytes, whole);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_ballast_that_a_crash_left_empty_is_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
