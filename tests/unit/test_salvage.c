/* A damaged directory is copied: what is intact is there, nothing is wrong, and what was lost is
 * said. */
#include "store/lsm/salvage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/table_format.h"
#include "store/lsm/wal.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/salvage_case.h"

/* A file; each is a whole salvage. */
enum { FLIPS = 25, FLIPS_FOR_FIGURES = 10000 };

static size_t size_of(struct salvage_case *fixture, const char *name)
{
    size_t size;
    free(vfs_mem_get(fixture->fs, name, &size));
    return size;
}

static void a_healthy_directory_loses_nothing(void **state)
{
    struct salvage_case *fixture = *state;
    assert_int_equal(salvage_case_copy(fixture, false), 0);
    assert_int_equal(fixture->n_said, 0);
    assert_int_equal(fixture->summary.places + fixture->summary.older, 0);
    assert_int_equal(fixture->summary.tables, fixture->manifest.n_tables);
    assert_int_equal(fixture->summary.segments, fixture->manifest.n_segments);
}

/* The same as an open would do, also with what a crash tore. */
static void a_torn_tail_is_dropped_and_noted(void **state)
{
    struct salvage_case *fixture = *state;
    const char *name = salvage_case_segment(fixture, 0);
    size_t size = size_of(fixture, name);
    vfs_mem_flip_bit(fixture->fs, name, size * 8 - 77);
    assert_int_equal(salvage_case_copy(fixture, false), 0);
    assert_int_equal(fixture->n_said, 1);
    assert_true(salvage_case_said(fixture, SALVAGE_NOTE, name));
}

/* --- One flipped bit -------------------------------------------------------------------------- */

/* What one bit may cost: the record that it is in, and keys that can't be told from it. */
static void flip(struct salvage_case *fixture, const char *name, uint64_t bit, uint64_t most)
{
    vfs_mem_flip_bit(fixture->fs, name, bit);
    size_t differ = salvage_case_copy(fixture, false);
    bool said = salvage_case_said(fixture, SALVAGE_NOTE, name) ||
                salvage_case_said(fixture, SALVAGE_LOST, name);
    if (differ > most + fixture->summary.older || (differ > 0 && !said) ||
        differ > fixture->summary.lost_records + fixture->summary.older) {
        fail_msg("bit %llu of byte %llu of %s: %zu keys differ, %zu findings, first %s",
                 (unsigned long long)bit % 8, (unsigned long long)bit / 8, name, differ,
                 fixture->n_said, fixture->n_said > 0 ? fixture->said[0].text : "");
    }
    vfs_mem_flip_bit(fixture->fs, name, bit);
}

static void flip_many(struct salvage_case *fixture, const char *of, uint64_t bits, uint64_t most)
{
    char name[64];
    snprintf(name, sizeof name, "%s", of);
    for (unsigned i = 0; i < (getenv("VARVE_TEST_FLIPS") ? FLIPS_FOR_FIGURES : FLIPS); i++) {
        flip(fixture, name, prng_below(&fixture->db.prng, bits), most);
    }
}

static void a_flipped_bit_of_a_table_costs_one_record(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 0; i < fixture->manifest.n_tables; i++) {
        const char *name = salvage_case_table(fixture, i);
        flip_many(fixture, name, 8 * size_of(fixture, name), 1);
    }
}

static void a_flipped_bit_of_index_filter_or_header_costs_nothing(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 0; i < fixture->manifest.n_tables; i++) {
        const char *name = salvage_case_table(fixture, i);
        size_t size;
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        struct table_footer footer;
        memcpy(&footer, data + size - sizeof footer, sizeof footer);
        free(data);
        for (uint64_t bit = prng_below(&fixture->db.prng, 31); bit < 512; bit += 31) {
            flip(fixture, name, bit, 0);
        }
        uint64_t begin = 8 * footer.regions[REGION_INDEX].offset;
        for (uint64_t n = 0; n < 30; n++) {
            flip(fixture, name, begin + prng_below(&fixture->db.prng, 8 * size - begin), 0);
        }
    }
}

/* Numbers that are lost hide keys that aren't known. */
static void a_flipped_bit_of_a_log_costs_one_write(void **state)
{
    struct salvage_case *fixture = *state;
    const char *name = salvage_case_segment(fixture, 0);
    size_t size;
    unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
    while (data[size - 1] == 0) {
        size--;
    }
    free(data);
    /* The last frame, an empty one, is all that says that the one before it was durable. */
    flip_many(fixture, name, 8 * (size / 8 * 8 + 8 - WAL_FRAME_HEADER_BYTES), 1);
}

/* --- More than a bit -------------------------------------------------------------------------- */

static void damaged_pages_cost_what_was_in_them(void **state)
{
    struct salvage_case *fixture = *state;
    struct prng *prng = &fixture->db.prng;
    for (int round = 0; round < 40; round++) {
        const char *name =
            salvage_case_table(fixture, prng_below(prng, fixture->manifest.n_tables));
        char copy_name[64];
        size_t size;
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        unsigned char *damaged = malloc(size);
        assert_non_null(damaged);
        snprintf(copy_name, sizeof copy_name, "%s", name);
        memcpy(damaged, data, size);
        for (uint64_t n = 1 + prng_below(prng, 3); n > 0; n--) {
            uint64_t begin = prng_below(prng, size / 512) * 512;
            uint64_t bytes = size - begin < 4096 ? size - begin : 4096;
            if (prng_chance(prng, 50)) {
                memset(damaged + begin, 0, bytes);
            } else {
                prng_fill(prng, damaged + begin, bytes);
            }
        }
        vfs_mem_put(fixture->fs, copy_name, damaged, size);
        (void)salvage_case_copy(fixture, round % 2 == 0);
        vfs_mem_put(fixture->fs, copy_name, data, size);
        free(damaged);
        free(data);
    }
}

/* Without the index a page of zeros looks like a gap between blocks; what it held must not be
 * missed, and no older value come in its place. */
static void zeros_in_a_table_without_index_hide_nothing(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 0; i < fixture->manifest.n_tables; i++) {
        char name[64];
        size_t size;
        snprintf(name, sizeof name, "%s", salvage_case_table(fixture, i));
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        unsigned char *damaged = malloc(size);
        struct table_footer footer;
        assert_non_null(damaged);
        memcpy(&footer, data + size - sizeof footer, sizeof footer);
        for (uint64_t at = 4096; at < footer.regions[REGION_INDEX].offset && at < 40000;
             at += 4096) {
            memcpy(damaged, data, size);
            uint64_t left = footer.regions[REGION_INDEX].offset - at;
            memset(damaged + at, 0, left < 4096 ? left : 4096);
            damaged[footer.regions[REGION_INDEX].offset + 3] ^= 1;
            vfs_mem_put(fixture->fs, name, damaged, size);
            (void)salvage_case_copy(fixture, at % 8192 == 0);
        }
        vfs_mem_put(fixture->fs, name, data, size);
        free(damaged);
        free(data);
    }
}

static void files_cut_short_anywhere_keep_what_is_left(void **state)
{
    struct salvage_case *fixture = *state;
    struct prng *prng = &fixture->db.prng;
    for (int round = 0; round < 60; round++) {
        bool table = round % 3 != 0;
        char name[64];
        size_t size;
        snprintf(name, sizeof name, "%s",
                 table ? salvage_case_table(fixture, prng_below(prng, fixture->manifest.n_tables))
                       : salvage_case_segment(fixture, 0));
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        vfs_mem_truncate(fixture->fs, name,
                         prng_below(prng, table ? size : WAL_FIRST_FRAME_OFFSET * 5));
        fixture->any_loss = !table; /* what said that it was durable may be cut off, too */
        (void)salvage_case_copy(fixture, round % 2 == 0);
        fixture->any_loss = false;
        vfs_mem_put(fixture->fs, name, data, size);
        free(data);
    }
}

static void a_missing_table_is_lost_with_its_range(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 0; i < fixture->manifest.n_tables; i++) {
        for (int older = 0; older < 2; older++) {
            char name[64];
            size_t size;
            snprintf(name, sizeof name, "%s", salvage_case_table(fixture, i));
            unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
            salvage_case_remove(fixture, name);
            (void)salvage_case_copy(fixture, older);
            assert_true(salvage_case_said(fixture, SALVAGE_LOST, name));
            assert_int_equal(fixture->summary.lost_records,
                             fixture->manifest.tables[i].info.records);
            vfs_mem_put(fixture->fs, name, data, size);
            free(data);
        }
    }
}

static void a_missing_segment_is_lost_with_its_numbers(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 0; i < fixture->manifest.n_segments; i++) {
        char name[64];
        size_t size;
        snprintf(name, sizeof name, "%s", salvage_case_segment(fixture, i));
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        salvage_case_remove(fixture, name);
        fixture->any_loss = true; /* nothing is left that says up to where numbers went */
        (void)salvage_case_copy(fixture, false);
        assert_true(salvage_case_said(fixture, SALVAGE_LOST, name) ||
                    salvage_case_said(fixture, SALVAGE_NOTE, name));
        fixture->any_loss = false;
        vfs_mem_put(fixture->fs, name, data, size);
        free(data);
    }
}

static void swap(struct salvage_case *fixture, const char *a, const char *b)
{
    size_t a_size, b_size;
    unsigned char *of_a = vfs_mem_get(fixture->fs, a, &a_size);
    unsigned char *of_b = vfs_mem_get(fixture->fs, b, &b_size);
    vfs_mem_put(fixture->fs, a, of_b, b_size);
    vfs_mem_put(fixture->fs, b, of_a, a_size);
    free(of_a);
    free(of_b);
}

static void tables_under_each_others_names_are_told_apart(void **state)
{
    struct salvage_case *fixture = *state;
    for (size_t i = 1; i < fixture->manifest.n_tables; i++) {
        swap(fixture, salvage_case_table(fixture, 0), salvage_case_table(fixture, i));
        assert_int_equal(salvage_case_copy(fixture, false), 0);
        assert_true(salvage_case_said(fixture, SALVAGE_NOTE, salvage_case_table(fixture, i)));
        swap(fixture, salvage_case_table(fixture, 0), salvage_case_table(fixture, i));
    }
}

/* A page in the place of another one, also of another table at the same place. */
static void swapped_blocks_are_lost_and_never_believed(void **state)
{
    struct salvage_case *fixture = *state;
    const struct manifest_table *tables = fixture->manifest.tables;
    size_t largest = 1;
    unsigned lost = 0;
    char name[64];
    size_t size, other_size;
    for (size_t i = 2; i < fixture->manifest.n_tables; i++) {
        largest = tables[i].info.size_bytes > tables[largest].info.size_bytes ? i : largest;
    }
    snprintf(name, sizeof name, "%s", salvage_case_table(fixture, largest));
    unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
    unsigned char *other = vfs_mem_get(fixture->fs, salvage_case_table(fixture, 0), &other_size);
    unsigned char *damaged = malloc(size);
    assert_non_null(damaged);
    assert_true(size > 20000 && other_size > 4608);
    for (int round = 0; round < 8; round++) {
        memcpy(damaged, data, size);
        if (round % 2 == 0) {
            memcpy(damaged + 4096, data + 8192, 4096);
            memcpy(damaged + 8192, data + 4096, 4096);
        } else {
            memcpy(damaged + 4096 + round / 4 * 4096, other + 4096,
                   other_size - 4096 < 2048 ? other_size - 4096 : 2048);
        }
        vfs_mem_put(fixture->fs, name, damaged, size);
        (void)salvage_case_copy(fixture, round % 4 < 2);
        lost += salvage_case_said(fixture, SALVAGE_LOST, name);
    }
    assert_true(lost >= 4); /* some hit nothing but the zeros before a long value */
    vfs_mem_put(fixture->fs, name, data, size);
    free(damaged);
    free(other);
    free(data);
}

static void a_file_of_another_store_is_left_out(void **state)
{
    struct salvage_case *fixture = *state;
    char name[64];
    size_t size;
    unsigned char *data = vfs_mem_get(fixture->fs, salvage_case_table(fixture, 0), &size);
    struct file_header header;
    memcpy(&header, data, sizeof header);
    file_header_init(&header, FILE_TABLE, header.store_id + 1, header.number, header.file_id);
    memcpy(data, &header, sizeof header);
    snprintf(name, sizeof name, "%s", salvage_case_table(fixture, 0));
    vfs_mem_put(fixture->fs, name, data, size);
    free(data);
    (void)salvage_case_copy(fixture, false);
    assert_true(salvage_case_said(fixture, SALVAGE_LOST, name));
    assert_true(salvage_case_said(fixture, SALVAGE_NOTE, name));
}

/* --- Without a manifest ----------------------------------------------------------------------- */

static void without_a_manifest_everything_there_is_is_taken(void **state)
{
    struct salvage_case *fixture = *state;
    char text[2] = {'x', '\0'};
    for (int round = 0; round < 3; round++) {
        if (round == 0) {
            salvage_case_remove(fixture, "data/MANIFEST");
        } else {
            vfs_mem_put(fixture->fs, "data/MANIFEST", text, (size_t)round - 1);
        }
        assert_int_equal(salvage_case_copy(fixture, false), 0);
        assert_int_equal(fixture->n_said, 1);
        assert_true(salvage_case_said(fixture, SALVAGE_LOST, "MANIFEST"));
        assert_true(fixture->summary.more_lost);
    }
}

static void a_flipped_bit_of_a_manifest_costs_nothing(void **state)
{
    struct salvage_case *fixture = *state;
    flip_many(fixture, "data/MANIFEST", 8 * size_of(fixture, "data/MANIFEST"), 0);
}

static void without_a_manifest_damage_is_still_told(void **state)
{
    struct salvage_case *fixture = *state;
    fixture->any_loss = true; /* a table that can't be opened may have held anything */
    salvage_case_remove(fixture, "data/MANIFEST");
    for (size_t i = 0; i < fixture->manifest.n_tables; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", salvage_case_table(fixture, i));
        uint64_t bits = 8 * size_of(fixture, name);
        for (int round = 0; round < 12; round++) {
            flip(fixture, name, prng_below(&fixture->db.prng, bits), 1);
        }
    }
}

/* --- The two directories ---------------------------------------------------------------------- */

static struct vfs_mem_verdict refuse_changes(void *arg, const struct vfs_mem_call *call)
{
    const char *directory = arg;
    (void)directory;
    if ((VFS_MEM_CHANGES & VFS_MEM_BIT(call->op)) != 0 && strncmp(call->name, "data", 4) == 0) {
        fail_msg("%s of %s", vfs_mem_op_name(call->op), call->name);
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

/* Every file of the directory, one behind the other. */
static uint64_t sum_of_data(struct salvage_case *fixture)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < fixture->manifest.n_tables + fixture->manifest.n_segments + 1; i++) {
        const char *name = i < fixture->manifest.n_tables ? salvage_case_table(fixture, i)
                           : i < fixture->manifest.n_tables + fixture->manifest.n_segments
                               ? salvage_case_segment(fixture, i - fixture->manifest.n_tables)
                               : "data/MANIFEST";
        size_t size;
        unsigned char *data = vfs_mem_get(fixture->fs, name, &size);
        for (size_t at = 0; at < size; at++) {
            sum = scramble64(sum ^ data[at]);
        }
        free(data);
    }
    return sum;
}

static void never_writes_into_the_directory_it_reads(void **state)
{
    struct salvage_case *fixture = *state;
    vfs_mem_flip_bit(fixture->fs, salvage_case_table(fixture, 0), 8 * 4150);
    uint64_t before = sum_of_data(fixture);
    vfs_mem_set_hook(fixture->fs, refuse_changes, NULL);
    assert_ok(salvage_case_run(fixture, false));
    vfs_mem_set_hook(fixture->fs, NULL, NULL);
    assert_true(before == sum_of_data(fixture));
}

static void the_copy_must_be_empty_and_the_original_free(void **state)
{
    struct salvage_case *fixture = *state;
    struct salvage_options options = {.from = "data", .to = "out"};
    struct vfs_dir *dir;
    assert_ok(salvage_case_run(fixture, false));
    assert_err(ERR_EXISTS, salvage_dir(vfs_mem_vfs(fixture->fs), &options, NULL, NULL,
                                       &fixture->summary, &fixture->detail));
    assert_non_null(strstr(fixture->detail.text, "out isn't empty"));
    options.to = "data";
    assert_err(ERR_EXISTS, salvage_dir(vfs_mem_vfs(fixture->fs), &options, NULL, NULL,
                                       &fixture->summary, &fixture->detail));
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "data", false, &dir));
    assert_ok(vfs_dir_lock(dir));
    assert_err(ERR_LOCKED, salvage_case_run(fixture, false));
    assert_non_null(strstr(fixture->detail.text, "data is in use by another process"));
    vfs_dir_close(dir);
    options.from = "nowhere";
    assert_err(ERR_NOT_FOUND, salvage_dir(vfs_mem_vfs(fixture->fs), &options, NULL, NULL,
                                          &fixture->summary, &fixture->detail));
}

/* Opening the copy is refused, or everything is in it. */
static void assert_copy_is_whole_or_nothing(struct salvage_case *fixture)
{
    struct err_detail detail;
    struct store *store;
    struct driven out;
    size_t differ;
    if (vfs_mem_exists(fixture->fs, "out/MANIFEST")) {
        differ = salvage_case_check(fixture, false);
        assert_int_equal(differ, 0);
        return;
    }
    driven_init(&out, vfs_mem_vfs(fixture->fs), "out", 1, 1);
    enum err err = store_open(&out.options, &store, &detail);
    if (err == ERR_OK) { /* empty, so that it was made anew */
        store_close(store);
        salvage_case_clear_out(fixture);
    }
    driven_release(&out);
}

static void no_space_and_failures_leave_no_copy(void **state)
{
    struct salvage_case *fixture = *state;
    for (uint64_t nth = 1;; nth++) {
        struct vfs_mem_plan plan = {
            .ops = VFS_MEM_CHANGES,
            .nth = nth,
            .verdict = {.action = VFS_MEM_FAIL, .err = nth % 2 ? ERR_NO_SPACE : ERR_IO}};
        salvage_case_clear_out(fixture);
        vfs_mem_set_hook(fixture->fs, vfs_mem_follow_plan, &plan);
        struct salvage_options options = {.from = "data", .to = "out"};
        enum err err = salvage_dir(vfs_mem_vfs(fixture->fs), &options, NULL, NULL,
                                   &fixture->summary, &fixture->detail);
        vfs_mem_set_hook(fixture->fs, NULL, NULL);
        if (plan.seen < nth) {
            assert_ok(err);
            assert_true(nth > 10);
            return;
        }
        if (err != ERR_OK) {
            assert_err(nth % 2 ? ERR_NO_SPACE : ERR_IO, err);
            assert_non_null(strstr(fixture->detail.text, "out: "));
            struct vfs_dir *dir;
            bool any = false;
            assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "out", false, &dir));
            vfs_dir_close(dir);
            for (uint64_t number = 1; number < 20; number++) {
                char name[FILES_NAME_BYTES], path[64];
                files_name(FILE_TABLE, number, name);
                snprintf(path, sizeof path, "out/%s", name);
                any = any || vfs_mem_exists(fixture->fs, path);
            }
            assert_false(any || vfs_mem_exists(fixture->fs, "out/MANIFEST"));
        }
    }
}

static void a_crash_leaves_no_copy_that_is_taken_for_complete(void **state)
{
    struct salvage_case *fixture = *state;
    struct vfs_mem *fs = fixture->fs;
    for (uint64_t nth = 1;; nth++) {
        struct vfs_mem_plan plan = {
            .ops = VFS_MEM_CHANGES, .nth = nth, .verdict = {.action = VFS_MEM_CRASH}};
        struct salvage_options options = {.from = "data", .to = "out"};
        fixture->fs = vfs_mem_crash_clone(fs, MEM_KEEP_ALL, nth);
        vfs_mem_set_hook(fixture->fs, vfs_mem_follow_plan, &plan);
        enum err err = salvage_dir(vfs_mem_vfs(fixture->fs), &options, NULL, NULL,
                                   &fixture->summary, &fixture->detail);
        vfs_mem_set_hook(fixture->fs, NULL, NULL);
        struct vfs_mem *after = vfs_mem_crash_clone(fixture->fs, MEM_KEEP_RANDOM, nth);
        vfs_mem_free(fixture->fs);
        fixture->fs = after;
        assert_copy_is_whole_or_nothing(fixture);
        vfs_mem_free(fixture->fs);
        fixture->fs = fs;
        if (err == ERR_OK) {
            assert_true(nth > 10);
            return;
        }
    }
}

static void what_can_not_be_read_is_lost_or_an_error(void **state)
{
    struct salvage_case *fixture = *state;
    for (uint64_t nth = 1;; nth += 1 + nth / 16) {
        struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(VFS_MEM_READ),
                                    .nth = nth,
                                    .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
        salvage_case_clear_out(fixture);
        vfs_mem_set_hook(fixture->fs, vfs_mem_follow_plan, &plan);
        enum err err = salvage_case_run(fixture, false);
        vfs_mem_set_hook(fixture->fs, NULL, NULL);
        if (plan.seen < nth) {
            assert_true(nth > 10);
            return;
        }
        fixture->any_loss = salvage_case_said(fixture, SALVAGE_LOST, "MANIFEST");
        if (err == ERR_OK) {
            (void)salvage_case_check(fixture, false);
        }
        fixture->any_loss = false;
    }
}

static void ignore_finding(void *arg, enum salvage_kind kind, const struct check_finding *finding)
{
    (void)arg;
    (void)kind;
    (void)finding;
}

/* A copy with such a number couldn't be opened. */
static void numbers_beyond_those_of_any_store_are_refused(void **state)
{
    struct vfs_mem *fs = vfs_mem_new(test_seed());
    struct salvage_options options = {.from = "data", .to = "out"};
    struct salvage_summary summary;
    struct err_detail detail;
    struct table_writer *writer;
    struct table_info info;
    struct vfs_dir *dir;
    uint64_t space[16];
    struct record *record = (struct record *)space;
    (void)state;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", true, &dir));
    assert_ok(table_writer_new(dir, 1, 1, 1, &writer));
    record_init(record, RECORD_PUT, bytes_of_text("k"), NULL, 0);
    record_seal(record, record_payload_checksum(record), RECORD_SEQ_MAX, 0);
    assert_ok(table_writer_add(writer, record));
    assert_ok(table_writer_finish(writer, &info));
    table_writer_free(writer);
    vfs_dir_close(dir);

    assert_err(ERR_CORRUPT,
               salvage_dir(vfs_mem_vfs(fs), &options, ignore_finding, NULL, &summary, &detail));
    assert_non_null(strstr(detail.text, "281474976710655"));
    assert_false(vfs_mem_exists(fs, "out/MANIFEST"));
    vfs_mem_free(fs);
}

int main(void)
{
#define TEST(name) \
    cmocka_unit_test_setup_teardown(name, salvage_case_set_up, salvage_case_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_healthy_directory_loses_nothing),
        TEST(a_torn_tail_is_dropped_and_noted),
        TEST(a_flipped_bit_of_a_table_costs_one_record),
        TEST(a_flipped_bit_of_index_filter_or_header_costs_nothing),
        TEST(a_flipped_bit_of_a_log_costs_one_write),
        TEST(damaged_pages_cost_what_was_in_them),
        TEST(zeros_in_a_table_without_index_hide_nothing),
        TEST(files_cut_short_anywhere_keep_what_is_left),
        TEST(a_missing_table_is_lost_with_its_range),
        TEST(a_missing_segment_is_lost_with_its_numbers),
        TEST(tables_under_each_others_names_are_told_apart),
        TEST(swapped_blocks_are_lost_and_never_believed),
        TEST(a_file_of_another_store_is_left_out),
        TEST(without_a_manifest_everything_there_is_is_taken),
        TEST(a_flipped_bit_of_a_manifest_costs_nothing),
        TEST(without_a_manifest_damage_is_still_told),
        TEST(never_writes_into_the_directory_it_reads),
        TEST(the_copy_must_be_empty_and_the_original_free),
        TEST(no_space_and_failures_leave_no_copy),
        TEST(a_crash_leaves_no_copy_that_is_taken_for_complete),
        TEST(what_can_not_be_read_is_lost_or_an_error),
        cmocka_unit_test(numbers_beyond_those_of_any_store_are_refused),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
