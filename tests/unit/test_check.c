/* Looking at a data directory without opening it: what is damaged is found and named, what isn't
 * is not. */
#include "store/lsm/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/vfs_mem.h"

#define MANY_KEYS UINT64_C(900) /* a table and a log of 64 KiB each, where every bit is flipped */

static uint64_t n_keys, n_in_table;
static struct vfs_mem *fs;
static struct driven db;
static char table_name[FILES_NAME_BYTES], log_name[FILES_NAME_BYTES];
static uint64_t log_end; /* of the last frame with records */

static void write_keys(size_t from, size_t to)
{
    for (size_t key = from; key < to; key++) {
        driven_put(&db, key, 20 + key % 100);
    }
}

/* A directory with a table of three fifths of the keys, the others in the log; left as by a kill.
 */
static void *make_directory(void)
{
    fs = vfs_mem_new(test_seed());
    n_keys = test_flips(MANY_KEYS, 200);
    n_in_table = n_keys * 3 / 5;
    driven_init(&db, vfs_mem_vfs(fs), "data", n_keys, test_seed());
    db.options.memtable_bytes = UINT64_C(1) << 20; /* one table, also of many keys */
    driven_open(&db);
    write_keys(0, n_in_table);
    driven_flush(&db);
    driven_settle(&db);
    write_keys(n_in_table, n_keys);
    log_end = wal_used_bytes(db.store->wal);
    assert_true(engine_log_idle_step(db.store));
    files_name(FILE_SEGMENT, wal_number(db.store->wal), log_name);
    files_name(FILE_TABLE, table_info(atomic_load(&db.store->view)->levels[0].tables[0])->number,
               table_name);
    return fs;
}

static int setup(void **state)
{
    *state = make_directory();
    engine_abandon(db.store);
    db.store = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

struct found {
    struct check_summary summary;
    struct err_detail detail;
    char file[64], text[512];
    uint64_t offset;
    bool has_keys;
    char first_key[64], end_key[64];
    uint64_t first_seq, last_seq;
    size_t n_keys;
    char read_key[64];
};

static void copy_key(char into[static 64], struct bytes key)
{
    size_t size = key.size < 63 ? key.size : 63;
    if (size > 0) {
        memcpy(into, key.data, size);
    }
    into[size] = '\0';
}

/* Keeps the first problem, or the last note. */
static void on_finding(void *arg, const struct check_finding *finding)
{
    struct found *found = arg;
    if (found->summary.problems > (finding->problem ? 1 : 0)) {
        return;
    }
    snprintf(found->file, sizeof found->file, "%s", finding->file);
    snprintf(found->text, sizeof found->text, "%s", finding->text);
    found->offset = finding->offset;
    found->has_keys = finding->has_keys;
    copy_key(found->first_key, finding->first_key);
    copy_key(found->end_key, finding->end_key);
    found->first_seq = finding->first_seq;
    found->last_seq = finding->last_seq;
    found->n_keys = finding->n_keys;
    if (finding->n_keys > 0) {
        copy_key(found->read_key, bytes_of(finding->keys[0].data, finding->keys[0].size));
    }
}

/* The summary is counted up in place, so that on_finding() sees it. */
static enum err look(struct found *found)
{
    memset(found, 0, sizeof *found);
    return check_dir(vfs_mem_vfs(fs), "data", on_finding, found, &found->summary, &found->detail);
}

static void clean(const struct found *found)
{
    if (found->summary.problems > 0) {
        fail_msg("%s, offset %llu: %s", found->file, (unsigned long long)found->offset,
                 found->text);
    }
    assert_int_equal(found->summary.notes, 0);
}

static void an_intact_directory_is_clean_and_counted(void **state)
{
    struct found found;
    (void)state;
    assert_ok(look(&found));
    clean(&found);
    assert_int_equal(found.summary.tables, 1);
    assert_int_equal(found.summary.table_records, n_in_table);
    assert_int_equal(found.summary.log_records, n_keys - n_in_table);
    assert_int_equal(found.summary.last_seq, n_keys);
}

static void a_store_that_was_closed_is_clean(void **state)
{
    struct found found;
    (void)state;
    driven_open(&db);
    driven_close(&db);
    assert_ok(look(&found));
    clean(&found);
    assert_int_equal(found.summary.last_seq, n_keys);
}

/* The bit is flipped, what is found is in that file and at or before it (or where the zeros end
 * that it is one of), and it is flipped back. */
static void flip(const char *name, uint64_t offset, uint64_t bit, bool problem)
{
    struct found found;
    vfs_mem_flip_bit(fs, name, offset * 8 + bit);
    assert_ok(look(&found));
    if ((found.summary.problems > 0) != problem ||
        (problem ? 0 : found.summary.notes) != (problem ? 0u : 1u) ||
        strcmp(found.file, name) != 0 || found.offset > offset + TABLE_PAGE_BYTES) {
        fail_msg("bit %u of byte %llu of %s: %llu problems, %llu notes; first is %s, offset "
                 "%llu: %s",
                 (unsigned)bit, (unsigned long long)offset, name,
                 (unsigned long long)found.summary.problems,
                 (unsigned long long)found.summary.notes, found.file,
                 (unsigned long long)found.offset, found.text);
    }
    vfs_mem_flip_bit(fs, name, offset * 8 + bit);
}

static size_t size_of(const char *name)
{
    size_t size;
    free(vfs_mem_get(fs, name, &size));
    return size;
}

static void finds_any_flipped_bit_of_the_manifest(void **state)
{
    struct found found;
    size_t size = size_of(FILES_MANIFEST);
    (void)state;
    for (uint64_t bit = 0; bit < 8 * size; bit++) {
        flip(FILES_MANIFEST, bit / 8, bit % 8, true);
    }
    assert_ok(look(&found));
    clean(&found);
}

static void finds_any_flipped_bit_of_a_table(void **state)
{
    size_t size = size_of(table_name);
    (void)state;
    for (uint64_t i = 0; i < test_flips(8 * size, 500); i++) {
        uint64_t bit = test_flip(&db.prng, i, 8 * size, 500);
        flip(table_name, bit / 8, bit % 8, true);
    }
}

static void finds_any_flipped_bit_of_a_log(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < test_flips(8 * log_end, 300); i++) {
        uint64_t bit = test_flip(&db.prng, i, 8 * log_end, 300);
        flip(log_name, bit / 8, bit % 8, true);
    }
}

/* Behind the last frame that anything stands for, damage looks like a write that was torn. */
static void a_torn_tail_is_a_note(void **state)
{
    size_t size = size_of(log_name);
    (void)state;
    for (size_t i = 0; i < 100; i++) {
        flip(log_name, log_end + prng_below(&db.prng, size - log_end), prng_below(&db.prng, 8),
             false);
    }
}

static void says_which_keys_a_damaged_block_may_hold(void **state)
{
    struct found found;
    (void)state;
    vfs_mem_flip_bit(fs, table_name, (4096 + 50) * 8);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 1);
    assert_string_equal(found.file, table_name);
    assert_int_equal(found.offset, 4096);
    assert_true(found.has_keys);
    assert_true(strcmp(found.first_key, "key/00000000") <= 0);
    assert_true(strcmp(found.end_key, "key/00000001") > 0);
}

/* Bits of whatever a lookup in the table relies on. */
static void says_the_range_of_a_table_that_can_not_be_opened(void **state)
{
    struct table_footer footer;
    size_t size;
    unsigned char *data = vfs_mem_get(fs, table_name, &size);
    (void)state;
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    free(data);
    const uint64_t offsets[] = {
        10,
        footer.regions[REGION_INDEX].offset + 70,
        footer.regions[REGION_FILTER].offset + 3,
        footer.regions[REGION_PROPERTIES].offset + 40,
        size - sizeof footer + 50,
    };
    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
        struct found found;
        char largest[64];
        snprintf(largest, sizeof largest, "key/%08u", (unsigned)n_in_table - 1);
        vfs_mem_flip_bit(fs, table_name, 8 * offsets[i]);
        assert_ok(look(&found));
        assert_int_equal(found.summary.problems, 1); /* the records are intact */
        assert_string_equal(found.file, table_name);
        assert_true(found.offset <= offsets[i] && found.offset + 4096 > offsets[i]);
        assert_string_equal(found.first_key, "key/00000000");
        assert_string_equal(found.end_key, largest);
        /* and what else is damaged is said as well */
        vfs_mem_flip_bit(fs, table_name, (4096 + 50) * 8);
        assert_ok(look(&found));
        assert_int_equal(found.summary.problems, 2);
        vfs_mem_flip_bit(fs, table_name, (4096 + 50) * 8);
        vfs_mem_flip_bit(fs, table_name, 8 * offsets[i]);
    }
}

static void says_the_key_of_a_damaged_long_value(void **state)
{
    struct found found;
    (void)state;
    driven_open(&db);
    driven_put(&db, 7, 150000);
    driven_flush(&db);
    files_name(FILE_TABLE, table_info(atomic_load(&db.store->view)->levels[0].tables[0])->number,
               table_name);
    engine_abandon(db.store);
    db.store = NULL;
    vfs_mem_flip_bit(fs, table_name, 8 * UINT64_C(100000));
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 1);
    assert_string_equal(found.file, table_name);
    assert_string_equal(found.first_key, "key/00000007");
    assert_string_equal(found.end_key, "key/00000007");
}

static void says_which_writes_and_keys_of_a_log_are_lost(void **state)
{
    struct found found;
    char key[64];
    (void)state;
    snprintf(key, sizeof key, "key/%08u", (unsigned)n_in_table);
    vfs_mem_flip_bit(fs, log_name, 8 * (WAL_FIRST_FRAME_OFFSET + WAL_FRAME_HEADER_BYTES + 60));
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 1);
    assert_string_equal(found.file, log_name);
    assert_int_equal(found.offset, WAL_FIRST_FRAME_OFFSET);
    assert_int_equal(found.first_seq, n_in_table + 1);
    assert_int_equal(found.last_seq, n_in_table + 1);
    assert_int_equal(found.n_keys, 1);
    assert_string_equal(found.read_key, key);
}

static void tables_under_each_others_names_are_damage(void **state)
{
    struct found found;
    char other[FILES_NAME_BYTES];
    size_t size, other_size;
    (void)state;
    driven_open(&db); /* what the log had is a second table now */
    const struct view *view = atomic_load(&db.store->view);
    const struct table *tables[2] = {
        view->levels[0].tables[0], view->levels[0].n_tables > 1 ? view->levels[0].tables[1] : NULL};
    assert_non_null(tables[1]);
    files_name(FILE_TABLE, table_info(tables[0])->number, table_name);
    files_name(FILE_TABLE, table_info(tables[1])->number, other);
    engine_abandon(db.store);
    db.store = NULL;
    unsigned char *data = vfs_mem_get(fs, table_name, &size);
    unsigned char *other_data = vfs_mem_get(fs, other, &other_size);
    vfs_mem_put(fs, table_name, other_data, other_size);
    vfs_mem_put(fs, other, data, size);
    free(data);
    free(other_data);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 2);
    assert_true(found.has_keys);
}

static void goes_on_without_a_manifest(void **state)
{
    struct found found;
    (void)state;
    vfs_mem_flip_bit(fs, FILES_MANIFEST, 8 * 100);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 1);
    assert_int_equal(found.summary.table_records, n_in_table);
    assert_int_equal(found.summary.log_records, n_keys - n_in_table);
    vfs_mem_flip_bit(fs, table_name, (4096 + 50) * 8);
    vfs_mem_flip_bit(fs, log_name, (4096 + 60) * 8);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 3);
}

static void goes_on_behind_the_first_damage(void **state)
{
    struct found found;
    (void)state;
    vfs_mem_flip_bit(fs, table_name, (4096 + 50) * 8);
    vfs_mem_flip_bit(fs, log_name, (4096 + 60) * 8);
    assert_ok(look(&found));
    assert_true(found.summary.problems >= 2);
}

static void a_missing_file_is_damage(void **state)
{
    const char *const names[] = {table_name, log_name, FILES_MANIFEST};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct found found;
        struct vfs_dir *dir;
        size_t size;
        unsigned char *content = vfs_mem_get(fs, names[i], &size);
        assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", false, &dir));
        assert_ok(vfs_unlink(dir, names[i]));
        vfs_dir_close(dir);
        assert_ok(look(&found));
        assert_true(found.summary.problems >= 1);
        assert_string_equal(found.file, names[i]);
        if (!strstr(found.text, "missing")) {
            fail_msg("%s: %s", found.file, found.text);
        }
        vfs_mem_put(fs, names[i], content, size);
        free(content);
    }
}

static void a_file_that_nothing_names_is_a_note(void **state)
{
    struct found found;
    (void)state;
    vfs_mem_put(fs, "00000000000000ff.table", "left", 4);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 0);
    assert_int_equal(found.summary.notes, 1);
    assert_string_equal(found.file, "00000000000000ff.table");
}

static void another_format_version_is_named(void **state)
{
    struct found found;
    size_t size;
    unsigned char *content = vfs_mem_get(fs, FILES_MANIFEST, &size);
    struct file_header header;
    (void)state;
    memcpy(&header, content, sizeof header);
    header.format_version = 7;
    memcpy(content, &header, sizeof header);
    vfs_mem_put(fs, FILES_MANIFEST, content, size);
    free(content);
    assert_ok(look(&found));
    assert_int_equal(found.summary.problems, 1);
    assert_string_equal(found.file, FILES_MANIFEST);
    assert_non_null(strstr(found.text, "has format version 7, this varve reads version 1"));
}

static void a_locked_directory_is_refused(void **state)
{
    struct found found;
    (void)state;
    driven_open(&db);
    assert_err(ERR_LOCKED, look(&found));
    assert_non_null(strstr(found.detail.text, "data is in use by another process"));
}

static void a_directory_without_data_is_refused(void **state)
{
    struct check_summary summary;
    struct err_detail detail;
    struct vfs_dir *dir;
    (void)state;
    assert_err(ERR_NOT_FOUND,
               check_dir(vfs_mem_vfs(fs), "nowhere", on_finding, NULL, &summary, &detail));
    assert_non_null(strstr(detail.text, "nowhere"));
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "empty", true, &dir));
    vfs_dir_close(dir);
    assert_err(ERR_NOT_FOUND,
               check_dir(vfs_mem_vfs(fs), "empty", on_finding, NULL, &summary, &detail));
    assert_string_equal(detail.text, "empty has no MANIFEST: it is no data directory of varve");
}

static void changes_nothing(void **state)
{
    struct found found;
    unsigned changes = 0;
    (void)state;
    for (unsigned op = 0; op < VFS_MEM_N_OPS; op++) {
        changes -= VFS_MEM_CHANGES & VFS_MEM_BIT(op) ? (unsigned)vfs_mem_count(fs, op) : 0;
    }
    assert_ok(look(&found));
    for (unsigned op = 0; op < VFS_MEM_N_OPS; op++) {
        changes += VFS_MEM_CHANGES & VFS_MEM_BIT(op) ? (unsigned)vfs_mem_count(fs, op) : 0;
    }
    assert_int_equal(changes, 0);
}

static void what_can_not_be_read_is_damage_or_an_error(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        struct found found;
        struct vfs_mem_plan plan = {.ops = VFS_MEM_ANY,
                                    .nth = nth,
                                    .forever = true, /* a failed read is tried with less */
                                    .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
        vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
        enum err err = look(&found);
        vfs_mem_set_hook(fs, NULL, NULL);
        if (plan.seen < nth) {
            assert_true(nth > 10);
            return;
        }
        if (err != ERR_OK ? found.detail.text[0] == '\0' : found.summary.problems == 0) {
            fail_msg("nothing was said of operation %llu: %s", (unsigned long long)nth,
                     err_name(err));
        }
    }
}

static void places_are_taken_apart(void **state)
{
    char name[FILES_NAME_BYTES] = "";
    uint64_t offset;
    (void)state;
    assert_string_equal(check_take_place("MANIFEST, offset 72: is bad: so", name, &offset),
                        "is bad: so");
    assert_string_equal(name, "MANIFEST");
    assert_int_equal(offset, 72);
    assert_string_equal(check_take_place("0.log: is bad", name, &offset), "is bad");
    assert_string_equal(name, "0.log");
    assert_int_equal(offset, 0);
    assert_string_equal(check_take_place("out of memory", name, &offset), "out of memory");
    assert_string_equal(check_take_place("", name, &offset), "");
    assert_string_equal(check_take_place("a, b: c", name, &offset), "a, b: c");
    assert_string_equal(name, "0.log");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_intact_directory_is_clean_and_counted),
        TEST(a_store_that_was_closed_is_clean),
        TEST(finds_any_flipped_bit_of_the_manifest),
        TEST(finds_any_flipped_bit_of_a_table),
        TEST(finds_any_flipped_bit_of_a_log),
        TEST(a_torn_tail_is_a_note),
        TEST(says_which_keys_a_damaged_block_may_hold),
        TEST(says_the_range_of_a_table_that_can_not_be_opened),
        TEST(says_the_key_of_a_damaged_long_value),
        TEST(says_which_writes_and_keys_of_a_log_are_lost),
        TEST(tables_under_each_others_names_are_damage),
        TEST(goes_on_without_a_manifest),
        TEST(goes_on_behind_the_first_damage),
        TEST(a_missing_file_is_damage),
        TEST(a_file_that_nothing_names_is_a_note),
        TEST(another_format_version_is_named),
        TEST(a_locked_directory_is_refused),
        TEST(a_directory_without_data_is_refused),
        TEST(changes_nothing),
        TEST(what_can_not_be_read_is_damage_or_an_error),
        cmocka_unit_test(places_are_taken_apart),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
