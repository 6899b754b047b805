/* Which directories become a store's, which are refused, and what is said of one that can't be
 * made. */
#include "store/lsm/data_dir.h"

#include <stdio.h>

#include "store/base/rcu.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"
#include "tests/support/vfs_mem.h"

static struct err_detail detail;

static struct store_options options_in(const struct vfs *vfs, const char *dir)
{
    struct store_options options = store_options_default();
    options.dir = dir;
    options.vfs = vfs;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 65536;
    options.max_inflight_bytes = 256 * 1024;
    options.manual = true;
    return options;
}

/* Opens what there is at `dir`, and closes it again. */
static enum err try_open(const struct vfs *vfs, const char *dir)
{
    struct store_options options = options_in(vfs, dir);
    struct store *store;
    enum err err = store_open(&options, &store, &detail);
    if (err == ERR_OK) {
        store_close(store);
    }
    return err;
}

/* An empty directory "data". */
static struct vfs_mem *new_disk(void)
{
    struct vfs_mem *fs = vfs_mem_new(test_seed());
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", true, &dir));
    vfs_dir_close(dir);
    return fs;
}

static uint64_t changes(struct vfs_mem *fs)
{
    uint64_t n = 0;
    for (unsigned op = 0; op < VFS_MEM_N_OPS; op++) {
        n += VFS_MEM_CHANGES & VFS_MEM_BIT(op) ? vfs_mem_count(fs, (enum vfs_mem_op)op) : 0;
    }
    return n;
}

/* --- Refused --- */

/* Regression: as root, a store began in /etc. */
static void a_directory_with_others_files_is_refused_and_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {"passwd",       "README.md",
                                        "lost+found2",  "MANIFEST.next.old",
                                        "MANIFEST.bak", "0000000000000001.LOG",
                                        FILES_BALLAST};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct vfs_mem *fs = new_disk();
        vfs_mem_put(fs, names[i], "theirs", 6);
        vfs_mem_put(fs, FILES_MANIFEST_NEXT, "", 0);
        vfs_mem_put(fs, ".hidden", "", 0);
        assert_err(ERR_EXISTS, try_open(vfs_mem_vfs(fs), "data"));
        assert_non_null(strstr(detail.text, "data is not a data directory and not empty"));
        assert_non_null(strstr(detail.text, names[i]));
        assert_non_null(strstr(detail.text, "give a --data-dir that is empty"));
        assert_null(strchr(detail.text, '\n'));
        assert_int_equal(changes(fs), 0);
        vfs_mem_free(fs);
    }
}

static void a_missing_manifest_beside_data_is_no_empty_store(void **state)
{
    (void)state;
    static const char *const names[] = {"0000000000000001.log", "00000000000000a2.table"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct vfs_mem *fs = new_disk();
        vfs_mem_put(fs, names[i], "ours", 4);
        vfs_mem_put(fs, "passwd", "theirs", 6);
        assert_err(ERR_CORRUPT, try_open(vfs_mem_vfs(fs), "data"));
        assert_non_null(strstr(detail.text, "data/MANIFEST is missing"));
        assert_non_null(strstr(detail.text, names[i]));
        assert_int_equal(changes(fs), 0);
        vfs_mem_free(fs);
    }
}

/* --- Taken --- */

static void what_any_directory_may_have_is_in_nobodys_way(void **state)
{
    (void)state;
    static const char *const names[] = {"lost+found", ".snapshot", ".nfs0001", ".keep"};
    struct vfs_mem *fs = new_disk();
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        vfs_mem_put(fs, names[i], "theirs", 6);
    }
    assert_ok(try_open(vfs_mem_vfs(fs), "data"));
    assert_ok(try_open(vfs_mem_vfs(fs), "data"));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_true(vfs_mem_exists(fs, names[i]));
    }
    vfs_mem_free(fs);
}

/* With a store, others' files are left alone. */
static void a_store_with_others_files_opens(void **state)
{
    (void)state;
    struct vfs_mem *fs = new_disk();
    assert_ok(try_open(vfs_mem_vfs(fs), "data"));
    vfs_mem_put(fs, "notes", "theirs", 6);
    assert_ok(try_open(vfs_mem_vfs(fs), "data"));
    assert_true(vfs_mem_exists(fs, "notes"));
    vfs_mem_free(fs);
}

/* Cut short before its nth operation, or amid it. Returns whether it came so far. */
static bool cut_first_opening_short(uint64_t nth, enum vfs_mem_action how, enum mem_keep keep)
{
    struct vfs_mem *fs = new_disk();
    struct vfs_mem_plan plan = {
        .ops = VFS_MEM_ANY, .nth = nth, .verdict = {.action = how, .bytes = nth % 50}};
    vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
    (void)!try_open(vfs_mem_vfs(fs), "data");
    bool met = vfs_mem_is_crashed(fs);
    struct vfs_mem *after = vfs_mem_crash_clone(fs, keep, test_seed() + nth);
    if (try_open(vfs_mem_vfs(after), "data") != ERR_OK) {
        fail_msg("cut short at operation %u: %s", (unsigned)nth, detail.text);
    }
    vfs_mem_free(after);
    vfs_mem_free(fs);
    return met;
}

static void a_first_opening_that_was_cut_short_anywhere_can_be_repeated(void **state)
{
    (void)state;
    uint64_t nth = 1;
    for (bool met = true; met; nth++) {
        met = false;
        for (int keep = MEM_KEEP_NOTHING; keep <= MEM_KEEP_ALL; keep++) {
            met = cut_first_opening_short(nth, VFS_MEM_CRASH, (enum mem_keep)keep) || met;
            met = cut_first_opening_short(nth, VFS_MEM_CRASH_PARTLY, (enum mem_keep)keep) || met;
        }
    }
    assert_true(nth > 10);
    printf("%u operations\n", (unsigned)nth - 2);
}

/* --- Can't be made --- */

static void a_missing_parent_is_named(void **state)
{
    (void)state;
    static const char *const below[] = {"missing/store", "missing/store/", "missing//store//",
                                        "missing/../store"};
    char temp[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 40], advice[TEMP_DIR_BYTES + 40];
    temp_dir_make(temp);
    for (size_t i = 0; i < COUNT_OF(below); i++) {
        snprintf(path, sizeof path, "%s/%s", temp, below[i]);
        snprintf(advice, sizeof advice, "(mkdir -p %s/missing", temp);
        assert_err(ERR_NOT_FOUND, try_open(vfs_posix(), path));
        if (!strstr(detail.text, path) || !strstr(detail.text, advice)) {
            fail_msg("%s: %s", path, detail.text);
        }
    }
    temp_dir_remove(temp);
}

/* --- Names --- */

static struct vfs_mem_verdict fail_first_dir_sync(void *arg, const struct vfs_mem_call *call)
{
    bool *failed = arg;
    if (call->op != VFS_MEM_DIR_SYNC || *failed) {
        return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
    }
    *failed = true;
    return (struct vfs_mem_verdict){.action = VFS_MEM_FAIL, .err = ERR_NO_SPACE};
}

/* Regression, found by crash/sim: who opened a store whose last manifest wasn't durable by its name
 * and whose own first sync of the directory failed went on, and removed what an older one names. */
static void a_manifest_is_not_built_upon_before_its_name_is_durable(void **state)
{
    (void)state;
    struct vfs_mem *fs = new_disk();
    bool failed = false;
    assert_ok(try_open(vfs_mem_vfs(fs), "data"));
    vfs_mem_set_hook(fs, fail_first_dir_sync, &failed);
    uint64_t before = changes(fs);
    assert_err(ERR_NO_SPACE, try_open(vfs_mem_vfs(fs), "data"));
    assert_true(failed);
    assert_non_null(strstr(detail.text, "cannot sync data directory data"));
    assert_int_equal(changes(fs), before + 1); /* that sync */
    vfs_mem_set_hook(fs, NULL, NULL);
    vfs_mem_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_with_others_files_is_refused_and_left_alone),
        cmocka_unit_test(a_missing_manifest_beside_data_is_no_empty_store),
        cmocka_unit_test(what_any_directory_may_have_is_in_nobodys_way),
        cmocka_unit_test(a_store_with_others_files_opens),
        cmocka_unit_test(a_first_opening_that_was_cut_short_anywhere_can_be_repeated),
        cmocka_unit_test(a_missing_parent_is_named),
        cmocka_unit_test(a_manifest_is_not_built_upon_before_its_name_is_durable),
    };
    rcu_door_set_manual(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
