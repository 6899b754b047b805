/* The scrubber: rot is found before it is read, told once, and never served; and whoever waits for
 * the scrubber doesn't wait long. */
#include "store/lsm/scrub.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store/base/sigbus.h"
#include "store/lsm/files.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/temp_dir.h"
#include "tests/support/vfs_mem.h"

#define KEYS 300u

static struct vfs_mem *fs;
static char temp[TEMP_DIR_BYTES];
static struct driven db;

static void begin(uint64_t salt)
{
    uint64_t seed = scramble64(test_seed() + salt);
    fs = vfs_mem_new(seed);
    driven_init(&db, vfs_mem_vfs(fs), "data", KEYS, seed);
    driven_open(&db);
}

static void end(void)
{
    driven_release(&db);
    vfs_mem_free(fs);
}

/* On a real file system, where maps show what becomes of their files. */
static void begin_on_disk(uint64_t salt)
{
    sigbus_install(); /* cmocka has taken the signal for itself */
    temp_dir_make(temp);
    driven_init(&db, vfs_posix(), temp, KEYS, scramble64(test_seed() + salt));
    driven_open(&db);
}

static void end_on_disk(void)
{
    driven_release(&db);
    temp_dir_remove(temp);
}

/* A level-0 table of keys first, first + step, …, each with a value of `size`. */
static void make_table(size_t first, size_t step, size_t size)
{
    for (size_t key = first; key < KEYS; key += step) {
        driven_put(&db, key, size);
    }
    driven_flush(&db);
}

static const struct table_info *info_of(size_t i)
{
    return table_info(atomic_load(&db.store->view)->levels[0].tables[i]);
}

static void name_of(const struct table_info *info, char ret_name[FILES_NAME_BYTES])
{
    files_name(FILE_TABLE, info->number, ret_name);
}

static struct store_stats stats(void)
{
    struct store_stats now;
    store_stats(db.store, &now);
    return now;
}

/* Looks up all keys: each is right or damaged. Returns how many are. */
static size_t damaged_keys(void)
{
    size_t n = 0;
    for (size_t key = 0; key < KEYS; key++) {
        enum err err = driven_get(&db, key);
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
        n += err != ERR_OK;
    }
    return n;
}

static void invert_byte(const char *name, long offset)
{
    char path[TEMP_DIR_BYTES + FILES_NAME_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", temp, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
}

/* --- What it finds --- */

static void rot_is_told_once_and_not_served(void **state)
{
    (void)state;
    char name[FILES_NAME_BYTES];
    begin_on_disk(1);
    make_table(0, 1, 200);
    assert_int_equal(damaged_keys(), 0); /* now all of it counts as verified */
    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 0);

    name_of(info_of(0), name);
    invert_byte(name, 3 * 4096 + 200);
    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    assert_non_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], name));
    assert_non_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], "offset 12288"));
    assert_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], "key/"));
    assert_non_null(strstr(db.last_keys[STORE_EVENT_TABLE_DAMAGED], "from \"key/"));
    assert_int_equal(stats().damaged_tables, 1);
    assert_in_range(damaged_keys(), 1, 20);

    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    end_on_disk();
}

static void rot_that_only_the_disk_has_is_told_and_harms_nobody_yet(void **state)
{
    (void)state;
    char name[FILES_NAME_BYTES];
    begin(2);
    make_table(0, 1, 200);
    assert_int_equal(damaged_keys(), 0);
    name_of(info_of(0), name);
    vfs_mem_flip_bit(fs, name, UINT64_C(8) * (3 * 4096 + 200));
    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    assert_int_equal(damaged_keys(), 0);
    driven_check(&db);
    end();
}

static void one_damaged_table_does_not_keep_the_others_from_being_verified(void **state)
{
    (void)state;
    char names[2][FILES_NAME_BYTES];
    begin(3);
    for (unsigned i = 0; i < 3; i++) {
        make_table(i, 3, 200);
    }
    for (size_t i = 0; i < 2; i++) {
        name_of(info_of(i), names[i]);
        vfs_mem_flip_bit(fs, names[i], UINT64_C(8) * 4200);
    }
    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 2);
    assert_int_equal(stats().damaged_tables, 2);
    end();
}

static void a_file_that_is_gone_is_damage(void **state)
{
    (void)state;
    char name[FILES_NAME_BYTES];
    begin(4);
    make_table(0, 1, 200);
    name_of(info_of(0), name);
    assert_ok(vfs_unlink(db.store->dir, name));
    driven_scrub(&db);
    driven_scrub(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    assert_non_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], "the file is gone"));
    driven_check(&db);
    end();
}

static void a_file_that_can_not_be_opened_now_is_not_called_damaged(void **state)
{
    (void)state;
    struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(VFS_MEM_OPEN),
                                .nth = 1,
                                .forever = true,
                                .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
    begin(5);
    make_table(0, 2, 200);
    make_table(1, 2, 200);
    vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
    driven_scrub(&db);
    assert_int_equal(plan.seen, 2);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 0);
    assert_int_equal(db.events[STORE_EVENT_BACKGROUND_FAILED], 1);
    assert_int_equal(stats().scrub_bytes, 0);
    vfs_mem_set_hook(fs, NULL, NULL);
    driven_scrub(&db);
    assert_true(stats().scrub_bytes > 0);
    end();
}

/* --- Passes --- */

#define OPENED_MAX 16u

struct opened {
    size_t n;
    uint64_t numbers[OPENED_MAX]; /* of tables */
};

static struct vfs_mem_verdict note_opened(void *arg, const struct vfs_mem_call *call)
{
    struct opened *opened = arg;
    enum file_kind kind;
    uint64_t number;
    if (call->op == VFS_MEM_OPEN && files_parse_name(call->name, &kind, &number) &&
        kind == FILE_TABLE) {
        assert_true(opened->n < OPENED_MAX);
        opened->numbers[opened->n++] = number;
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void a_pass_takes_each_table_once_the_longest_unverified_first(void **state)
{
    (void)state;
    struct opened opened = {.n = 0};
    uint64_t table_bytes = 0;
    begin(6);
    for (unsigned i = 0; i < 3; i++) {
        make_table(i, 3, 200);
        table_bytes += info_of(0)->size_bytes;
    }
    driven_close(&db);
    driven_open(&db); /* so that all are as old */
    vfs_mem_set_hook(fs, note_opened, &opened);
    while (opened.n < 2) {
        assert_true(engine_scrub_step(db.store));
    }
    vfs_mem_set_hook(fs, NULL, NULL);
    make_table(0, 3, 200); /* verified now, so it waits for the next pass */
    uint64_t fresh = info_of(0)->number;
    vfs_mem_set_hook(fs, note_opened, &opened);
    driven_scrub(&db);
    assert_int_equal(opened.n, 3);
    assert_int_equal(stats().scrub_passes, 1);
    assert_int_equal(stats().scrub_bytes, table_bytes);

    driven_scrub(&db);
    assert_int_equal(opened.n, 7);
    assert_int_equal(opened.numbers[3], opened.numbers[0]);
    assert_int_equal(opened.numbers[4], fresh);
    assert_int_equal(opened.numbers[5], opened.numbers[1]);
    assert_int_equal(opened.numbers[6], opened.numbers[2]);
    assert_int_equal(stats().scrub_passes, 2);
    vfs_mem_set_hook(fs, NULL, NULL);
    end();
}

static void without_tables_it_waits_for_some(void **state)
{
    (void)state;
    begin(7);
    assert_false(engine_scrub_step(db.store));
    assert_true(db.store->scrubber.wait_until_us == UINT64_MAX);
    assert_int_equal(stats().scrub_passes, 0);
    make_table(0, 1, 100);
    driven_scrub(&db);
    assert_int_equal(stats().scrub_passes, 1);
    assert_true(db.store->scrubber.wait_until_us != UINT64_MAX);
    end();
}

static void what_was_verified_is_paid_for_at_the_rate(void **state)
{
    (void)state;
    begin(8);
    db.store->options.scrub_rate = 10000;
    make_table(0, 1, 200);
    uint64_t began_us = engine_now_us();
    driven_scrub(&db); /* nobody waits in manual mode */
    uint64_t cost_us = stats().scrub_bytes * 100;
    assert_true(cost_us > 1000000);
    assert_true(db.store->scrubber.wait_until_us + PACER_BURST_US >= began_us + cost_us);
    end();
}

static void a_rate_of_0_is_no_scrubbing(void **state)
{
    (void)state;
    begin(9);
    make_table(0, 1, 200);
    db.store->options.scrub_rate = 0;
    uint64_t before = vfs_mem_total(fs);
    assert_false(engine_scrub_step(db.store));
    assert_int_equal(vfs_mem_total(fs), before);
    end();
}

/* --- Beside other work --- */

static bool count_tables_each(void *arg, const char *name)
{
    enum file_kind kind;
    uint64_t number;
    *(size_t *)arg += files_parse_name(name, &kind, &number) && kind == FILE_TABLE;
    return true;
}

static size_t table_files(void)
{
    size_t n = 0;
    assert_ok(vfs_dir_list(db.store->dir, count_tables_each, &n));
    return n;
}

static size_t tables_in_view(void)
{
    struct store_stats now = stats();
    size_t n = 0;
    for (size_t level = 0; level < STORE_LEVELS; level++) {
        n += now.level_tables[level];
    }
    return n;
}

/* Without what driven_reclaims() does for tests that don't care. */
static void reclaim(void)
{
    while (engine_reclaim_step(db.store)) {
    }
}

static void a_table_that_was_replaced_is_let_go_at_once(void **state)
{
    (void)state;
    begin(10);
    for (unsigned i = 0; i < ENGINE_LEVEL0_TRIGGER; i++) {
        make_table(i, ENGINE_LEVEL0_TRIGGER, 300);
    }
    assert_true(engine_scrub_step(db.store)); /* takes one */
    assert_true(engine_scrub_step(db.store)); /* is in the middle of it */
    driven_compactions(&db);
    reclaim();
    assert_int_equal(stats().level_tables[0], 0);
    assert_int_equal(table_files(), tables_in_view() + 1);
    (void)engine_scrub_step(db.store);
    reclaim();
    assert_int_equal(table_files(), tables_in_view());
    driven_scrub(&db);
    driven_check(&db);
    end();
}

static void closing_in_the_middle_of_a_pass_leaves_nothing_open(void **state)
{
    (void)state;
    begin(11);
    make_table(0, 2, 300);
    make_table(1, 2, 300);
    for (unsigned steps = 1; steps < 12; steps++) {
        for (unsigned i = 0; i < steps; i++) {
            (void)engine_scrub_step(db.store);
        }
        driven_close(&db);
        driven_open(&db);
    }
    driven_check(&db);
    end(); /* asserts that no file is open */
}

/* --- With threads --- */

/* Not sched_yield(): the thread that is waited for runs when this one sleeps. */
static void wait_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct store *open_threaded(uint64_t scrub_rate)
{
    struct store_options options = store_options_default();
    struct store *store;
    fs = vfs_mem_new(test_seed());
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = UINT64_C(1) << 18;
    options.max_inflight_bytes = UINT64_C(1) << 19;
    options.scrub_rate = scrub_rate;
    assert_ok(store_open(&options, &store, NULL));
    return store;
}

static void put_and_flush(struct store *store)
{
    static char value[100000];
    struct store_put put = {.key = bytes_of_text("k")};
    assert_ok(store_put_sync(store, &put, bytes_of(value, sizeof value), NULL));
    assert_ok(store_flush_sync(store));
}

static void the_thread_wakes_when_there_are_tables_and_goes_round_again(void **state)
{
    (void)state;
    struct store *store = open_threaded(UINT64_C(1) << 30);
    struct store_stats now;
    put_and_flush(store);
    do {
        wait_a_moment();
        store_stats(store, &now);
    } while (now.scrub_passes < 2);
    assert_true(now.scrub_bytes >= 100000);
    store_close(store);
    vfs_mem_free(fs);
}

static void closing_does_not_wait_for_a_slow_scrub(void **state)
{
    (void)state;
    struct store *store = open_threaded(1); /* a byte a second: it would take a day */
    struct store_stats now;
    put_and_flush(store);
    do {
        wait_a_moment();
        store_stats(store, &now);
    } while (now.scrub_bytes == 0);
    store_close(store);
    vfs_mem_free(fs);
}

/* Threads of this process that get of the disk what nobody else wants, and less of the processor
 * than this one. */
static size_t modest_threads(void)
{
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_CLASS_IDLE = 3, IOPRIO_CLASS_SHIFT = 13 };
    size_t n = 0;
    int mine = getpriority(PRIO_PROCESS, 0);
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *task = readdir(tasks); task; task = readdir(tasks)) {
        id_t id = (id_t)strtoul(task->d_name, NULL, 10);
        long io = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, id);
        n += id != 0 && io >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_IDLE &&
             (getpriority(PRIO_PROCESS, id) > mine || mine == 19);
    }
    closedir(tasks);
    return n;
}

static void it_stands_back_for_others(void **state)
{
    (void)state;
    size_t before = modest_threads();
    struct store *store = open_threaded(UINT64_C(1) << 20);
    while (modest_threads() != before + 1) {
        wait_a_moment(); /* until the thread has begun */
    }
    store_close(store);
    vfs_mem_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rot_is_told_once_and_not_served),
        cmocka_unit_test(rot_that_only_the_disk_has_is_told_and_harms_nobody_yet),
        cmocka_unit_test(one_damaged_table_does_not_keep_the_others_from_being_verified),
        cmocka_unit_test(a_file_that_is_gone_is_damage),
        cmocka_unit_test(a_file_that_can_not_be_opened_now_is_not_called_damaged),
        cmocka_unit_test(a_pass_takes_each_table_once_the_longest_unverified_first),
        cmocka_unit_test(without_tables_it_waits_for_some),
        cmocka_unit_test(what_was_verified_is_paid_for_at_the_rate),
        cmocka_unit_test(a_rate_of_0_is_no_scrubbing),
        cmocka_unit_test(a_table_that_was_replaced_is_let_go_at_once),
        cmocka_unit_test(closing_in_the_middle_of_a_pass_leaves_nothing_open),
        cmocka_unit_test(the_thread_wakes_when_there_are_tables_and_goes_round_again),
        cmocka_unit_test(closing_does_not_wait_for_a_slow_scrub),
        cmocka_unit_test(it_stands_back_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
