/* Files in memory: as any files, and what hooks and limits do to them. */
#include "tests/support/vfs_mem.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/unit/crash_case.h"
#include "tests/unit/vfs_contract.h"

struct noted {
    struct vfs_mem_call calls[32];
    char names[32][MEM_NAME_BYTES];
    size_t n;
};

static struct vfs_mem_verdict note_call(void *arg, const struct vfs_mem_call *call)
{
    struct noted *noted = arg;

    assert_true(noted->n < COUNT_OF(noted->calls));
    noted->calls[noted->n] = *call;
    (void)snprintf(noted->names[noted->n], MEM_NAME_BYTES, "%s", call->name);
    noted->n++;
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static bool go_on(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return true;
}

static void the_hook_sees_every_operation_in_order(void **state)
{
    static const struct {
        enum vfs_mem_op op;
        const char *name;
        uint64_t offset, size_bytes;
    } expected[] = {
        {VFS_MEM_DIR_LOCK, "/store", 0, 0}, {VFS_MEM_CREATE, "a", 0, 0},
        {VFS_MEM_WRITE, "a", 7, 3},         {VFS_MEM_RESERVE, "a", 0, 100},
        {VFS_MEM_SYNC, "a", 0, 0},          {VFS_MEM_SIZE, "a", 0, 0},
        {VFS_MEM_READ, "a", 7, 3},          {VFS_MEM_MAP, "a", 0, 10},
        {VFS_MEM_DIR_SYNC, "/store", 0, 0}, {VFS_MEM_RENAME, "a", 0, 0},
        {VFS_MEM_OPEN, "b", 0, 0},          {VFS_MEM_UNLINK, "b", 0, 0},
        {VFS_MEM_DIR_LIST, "/store", 0, 0},
    };
    struct noted noted = {.n = 0};
    uint64_t before = vfs_mem_total(crash_fs);
    struct vfs_file *file, *again;
    const void *map;

    (void)state;
    vfs_mem_set_hook(crash_fs, note_call, &noted);
    assert_ok(vfs_dir_lock(contract_dir));
    file = contract_create("a");
    write_letters(file, 7, 'x', 3);
    assert_ok(vfs_reserve(file, 100));
    assert_ok(vfs_sync(file));
    assert_int_equal(contract_size(file), 100);
    contract_expect(file, 7, "xxx", 3);
    assert_ok(vfs_map(file, 10, &map));
    assert_ok(vfs_dir_sync(contract_dir));
    assert_ok(vfs_rename(contract_dir, "a", "b"));
    assert_ok(vfs_open(contract_dir, "b", VFS_READ, &again));
    assert_ok(vfs_unlink(contract_dir, "b"));
    assert_ok(vfs_dir_list(contract_dir, go_on, NULL));
    vfs_unmap(vfs_mem_vfs(crash_fs), map, 10);
    vfs_close(again);
    vfs_close(file);

    assert_int_equal(noted.n, COUNT_OF(expected));
    for (size_t i = 0; i < noted.n; i++) {
        assert_int_equal(noted.calls[i].number, before + 1 + i);
        assert_string_equal(vfs_mem_op_name(noted.calls[i].op), vfs_mem_op_name(expected[i].op));
        assert_string_equal(noted.names[i], expected[i].name);
        assert_int_equal(noted.calls[i].offset, expected[i].offset);
        assert_int_equal(noted.calls[i].size_bytes, expected[i].size_bytes);
        assert_int_equal(vfs_mem_count(crash_fs, expected[i].op), 1);
    }
    assert_string_equal(noted.calls[9].to, "b");
    assert_int_equal(vfs_mem_total(crash_fs), before + noted.n);
    vfs_mem_set_hook(crash_fs, NULL, NULL);
}

static void set_verdict(struct vfs_mem_plan *plan, unsigned ops, enum vfs_mem_action action,
                        uint64_t bytes)
{
    *plan = (struct vfs_mem_plan){
        .ops = ops,
        .nth = 1,
        .verdict = {.action = action, .err = ERR_NO_SPACE, .bytes = bytes},
    };
    vfs_mem_set_hook(crash_fs, vfs_mem_follow_plan, plan);
}

static void a_failed_operation_is_not_done(void **state)
{
    struct vfs_file *file = contract_create("a");
    struct vfs_file *opened = NULL;
    struct vfs_dir *dir = NULL;
    struct vfs_mem_plan plan;
    const void *map = NULL;
    char read[4];
    uint64_t size;
    size_t n;

    (void)state;
    write_letters(file, 0, 'x', 4);
    set_verdict(&plan, VFS_MEM_ANY, VFS_MEM_FAIL, 0);
    plan.forever = true;
    errno = 0;
    assert_err(ERR_NO_SPACE, contract_write(file, 0, "yyyyy", 5));
    assert_int_equal(errno, ENOSPC);
    assert_err(ERR_NO_SPACE, vfs_reserve(file, 100));
    assert_err(ERR_NO_SPACE, vfs_read(file, 0, read, sizeof read, &n));
    assert_err(ERR_NO_SPACE, vfs_map(file, 4, &map));
    assert_err(ERR_NO_SPACE, vfs_size(file, &size));
    assert_err(ERR_NO_SPACE, vfs_open(contract_dir, "b", VFS_CREATE, &opened));
    assert_err(ERR_NO_SPACE, vfs_open(contract_dir, "a", VFS_READ, &opened));
    assert_err(ERR_NO_SPACE, vfs_rename(contract_dir, "a", "c"));
    assert_err(ERR_NO_SPACE, vfs_unlink(contract_dir, "a"));
    assert_err(ERR_NO_SPACE, vfs_dir_list(contract_dir, go_on, NULL));
    assert_err(ERR_NO_SPACE, vfs_dir_lock(contract_dir));
    assert_err(ERR_NO_SPACE, vfs_dir_open(vfs_mem_vfs(crash_fs), "/other", true, &dir));
    assert_true(!opened && !dir && !map);

    vfs_mem_set_hook(crash_fs, NULL, NULL);
    contract_expect(file, 0, "xxxx", 4);
    assert_int_equal(contract_size(file), 4);
    assert_true(vfs_mem_exists(crash_fs, "a"));
    assert_false(vfs_mem_exists(crash_fs, "b"));
    assert_false(vfs_mem_exists(crash_fs, "c"));
    assert_err(ERR_NOT_FOUND, vfs_dir_open(vfs_mem_vfs(crash_fs), "/other", false, &dir));
    vfs_close(file);
}

static void a_partly_failed_operation_is_done_in_part(void **state)
{
    struct iovec parts[2] = {{.iov_base = (void *)"abc", .iov_len = 3},
                             {.iov_base = (void *)"defg", .iov_len = 4}};
    struct vfs_file *file = contract_create("a");
    struct vfs_file *opened;
    struct vfs_mem_plan plan;

    (void)state;
    for (uint64_t bytes = 0; bytes <= 8; bytes++) {
        uint64_t done = bytes < 7 ? bytes : 7;
        set_verdict(&plan, VFS_MEM_ANY, VFS_MEM_FAIL_PARTLY, bytes);
        assert_err(ERR_NO_SPACE, vfs_write(file, 0, parts, 2));
        assert_int_equal(contract_size(file), done);
        contract_expect(file, 0, "abcdefg", done);
    }
    set_verdict(&plan, VFS_MEM_ANY, VFS_MEM_FAIL_PARTLY, 50);
    assert_err(ERR_NO_SPACE, vfs_reserve(file, 100));
    assert_int_equal(contract_size(file), 50);
    /* others are done, and the caller doesn't know */
    set_verdict(&plan, VFS_MEM_ANY, VFS_MEM_FAIL_PARTLY, 0);
    assert_err(ERR_NO_SPACE, vfs_rename(contract_dir, "a", "b"));
    assert_false(vfs_mem_exists(crash_fs, "a"));
    assert_true(vfs_mem_exists(crash_fs, "b"));
    set_verdict(&plan, VFS_MEM_ANY, VFS_MEM_FAIL_PARTLY, 0);
    assert_err(ERR_NO_SPACE, vfs_open(contract_dir, "c", VFS_CREATE, &opened));
    assert_true(vfs_mem_exists(crash_fs, "c"));
    vfs_close(file);
}

static void after_a_crash_everything_fails_but_closing(void **state)
{
    struct vfs_file *file = make_sectors("a");
    struct vfs_file *opened;
    struct vfs_mem_plan plan;
    struct vfs_mem *after;
    const void *map;
    uint64_t size;

    (void)state;
    assert_ok(vfs_map(file, SECTOR, &map));
    set_verdict(&plan, VFS_MEM_BIT(VFS_MEM_WRITE), VFS_MEM_CRASH, 0);
    assert_err(ERR_IO, contract_write(file, 0, "y", 1));
    assert_true(vfs_mem_is_crashed(crash_fs));
    assert_err(ERR_IO, contract_write(file, 0, "z", 1));
    assert_err(ERR_IO, vfs_sync(file));
    assert_err(ERR_IO, vfs_size(file, &size));
    assert_err(ERR_IO, vfs_dir_sync(contract_dir));
    assert_err(ERR_IO, vfs_unlink(contract_dir, "a"));
    assert_err(ERR_IO, vfs_open(contract_dir, "a", VFS_READ, &opened));
    assert_memory_equal(map, "aa", 2);
    vfs_unmap(vfs_mem_vfs(crash_fs), map, SECTOR);
    vfs_close(file);
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_ALL, 0);
    assert_false(vfs_mem_is_crashed(after));
    assert_int_equal(letter_of(after, "a", 0), 'a');
    vfs_mem_free(after);
}

static void a_crash_may_come_in_the_middle_of_an_operation(void **state)
{
    struct vfs_file *file = make_sectors("a");
    struct vfs_mem_plan plan;
    struct vfs_mem *after;

    (void)state;
    set_verdict(&plan, VFS_MEM_BIT(VFS_MEM_WRITE), VFS_MEM_CRASH_PARTLY, 2);
    assert_err(ERR_IO, contract_write(file, 0, "xyz", 3));
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_ALL, 0);
    assert_int_equal(letter_of(after, "a", 0), 'x');
    assert_int_equal(letter_of(after, "a", 1), 'y');
    assert_int_equal(letter_of(after, "a", 2), 'a');
    vfs_mem_free(after);
    vfs_close(file);
}

static void a_crash_may_come_just_after_a_sync(void **state)
{
    struct vfs_file *file = make_sectors("a");
    struct vfs_mem_plan plan;

    (void)state;
    write_letters(file, 0, 'B', SECTOR);
    set_verdict(&plan, VFS_MEM_CHANGES, VFS_MEM_CRASH_PARTLY, 0);
    assert_err(ERR_IO, vfs_sync(file));
    expect_outcomes(crash_sectors(1), "B");
    vfs_close(file);
}

static void a_skipped_sync_says_that_it_was_done(void **state)
{
    struct vfs_file *file = make_sectors("a");
    struct vfs_mem_plan plan;
    struct vfs_mem *after;

    (void)state;
    write_letters(file, 0, 'B', SECTOR);
    make_letter("n", 'n');
    set_verdict(&plan, VFS_MEM_BIT(VFS_MEM_SYNC) | VFS_MEM_BIT(VFS_MEM_DIR_SYNC), VFS_MEM_SKIP, 0);
    plan.forever = true;
    assert_ok(vfs_sync(file));
    assert_ok(vfs_dir_sync(contract_dir));
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_NOTHING, 0);
    assert_int_equal(letter_of(after, "a", 0), 'a');
    assert_false(vfs_mem_exists(after, "n"));
    vfs_mem_free(after);

    /* nothing is given up: a sync that isn't skipped makes up for it */
    vfs_mem_set_hook(crash_fs, NULL, NULL);
    assert_ok(vfs_sync(file));
    assert_ok(vfs_dir_sync(contract_dir));
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_NOTHING, 0);
    assert_int_equal(letter_of(after, "a", 0), 'B');
    assert_true(vfs_mem_exists(after, "n"));
    vfs_mem_free(after);
    vfs_close(file);
}

static void the_test_may_stop_the_world_itself(void **state)
{
    struct vfs_file *file = make_sectors("a");

    (void)state;
    vfs_mem_crash(crash_fs);
    assert_err(ERR_IO, vfs_sync(file));
    vfs_close(file);
}

static void a_plan_counts_its_own_operations(void **state)
{
    struct vfs_file *file = contract_create("a");
    struct vfs_mem_plan plan = {
        .ops = VFS_MEM_BIT(VFS_MEM_SYNC),
        .nth = 3,
        .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO},
    };

    (void)state;
    vfs_mem_set_hook(crash_fs, vfs_mem_follow_plan, &plan);
    for (int i = 1; i <= 5; i++) {
        write_letters(file, 0, 'x', 1);
        assert_err(i == 3 ? ERR_IO : ERR_OK, vfs_sync(file));
    }
    assert_int_equal(plan.seen, 5);
    plan.seen = 0;
    plan.forever = true;
    for (int i = 1; i <= 5; i++) {
        assert_err(i >= 3 ? ERR_IO : ERR_OK, vfs_sync(file));
    }
    plan.nth = 0;
    assert_ok(vfs_sync(file));
    vfs_close(file);
}

static void a_full_disk_takes_what_fits_and_space_comes_back(void **state)
{
    struct vfs_file *a = contract_create("a");
    struct vfs_file *b = contract_create("b");
    const void *map;

    (void)state;
    vfs_mem_set_capacity(crash_fs, 100);
    write_letters(a, 0, 'a', 60);
    errno = 0;
    assert_err(ERR_NO_SPACE, vfs_reserve(b, 41));
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(contract_size(b), 0);
    assert_ok(vfs_reserve(b, 30));
    assert_int_equal(vfs_mem_used(crash_fs), 90);
    write_letters(b, 0, 'b', 30); /* in what was reserved */
    assert_err(ERR_NO_SPACE, contract_write(a, 50, "0123456789abcdefghijklmnop", 26));
    assert_int_equal(contract_size(a), 70);
    contract_expect(a, 50, "0123456789abcdefghij", 20);
    write_letters(a, 0, 'A', 70); /* over what is there */
    assert_int_equal(vfs_mem_used(crash_fs), 100);

    /* removed, but still open, then still mapped, then gone */
    assert_ok(vfs_map(a, 70, &map));
    assert_ok(vfs_unlink(contract_dir, "a"));
    assert_int_equal(vfs_mem_used(crash_fs), 100);
    vfs_close(a);
    assert_int_equal(vfs_mem_used(crash_fs), 100);
    vfs_unmap(vfs_mem_vfs(crash_fs), map, 70);
    assert_int_equal(vfs_mem_used(crash_fs), 30);
    /* a file that is replaced gives its space back too */
    vfs_close(contract_create("c"));
    vfs_close(b);
    assert_ok(vfs_rename(contract_dir, "c", "b"));
    assert_int_equal(vfs_mem_used(crash_fs), 0);
    assert_ok(vfs_dir_sync(contract_dir));
}

static void tests_may_change_what_is_on_the_disk(void **state)
{
    struct vfs_file *file;
    unsigned char *data;
    struct vfs_mem *after;
    size_t size;

    (void)state;
    vfs_mem_put(crash_fs, "a", "\x01\x02\x03", 3);
    vfs_mem_flip_bit(crash_fs, "a", 8 + 7);
    assert_ok(vfs_open(contract_dir, "a", VFS_READ, &file));
    contract_expect(file, 0, "\x01\x82\x03", 3);
    vfs_mem_truncate(crash_fs, "/store/a", 2);
    assert_int_equal(contract_size(file), 2);
    vfs_close(file);
    data = vfs_mem_get(crash_fs, "a", &size);
    assert_int_equal(size, 2);
    assert_memory_equal(data, "\x01\x82", 2);
    free(data);
    vfs_mem_put(crash_fs, "a", NULL, 0);
    vfs_mem_put(crash_fs, "a", "abcd", 4);
    assert_int_equal(vfs_mem_used(crash_fs), 4);
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_NOTHING, 0);
    assert_int_equal(letter_of(after, "a", 3), 'd');
    vfs_mem_free(after);
}

static void directories_are_told_apart_by_their_paths(void **state)
{
    struct vfs_file *file = contract_create("a");
    struct vfs_dir *other;

    (void)state;
    assert_ok(vfs_dir_open(vfs_mem_vfs(crash_fs), "/copy", true, &other));
    assert_ok(vfs_dir_lock(contract_dir));
    assert_ok(vfs_dir_lock(other));
    vfs_close(file);
    assert_ok(vfs_open(other, "a", VFS_CREATE, &file));
    vfs_close(file);
    assert_true(vfs_mem_exists(crash_fs, "/copy/a"));
    assert_ok(vfs_unlink(other, "a"));
    assert_false(vfs_mem_exists(crash_fs, "/copy/a"));
    assert_true(vfs_mem_exists(crash_fs, "/store/a"));
    vfs_dir_close(other);
}

struct slow_disk {
    sem_t begun, may_end;
};

static struct vfs_mem_verdict block_syncs(void *arg, const struct vfs_mem_call *call)
{
    struct slow_disk *disk = arg;

    if (call->op == VFS_MEM_SYNC) {
        sem_post(&disk->begun);
        while (sem_wait(&disk->may_end) != 0) {
        }
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void *sync_file(void *arg)
{
    enum err err = vfs_sync(arg);
    assert(err == ERR_OK);
    return NULL;
}

static void a_hook_that_blocks_holds_up_its_operation_alone(void **state)
{
    struct vfs_file *file = make_sectors("a");
    struct slow_disk disk;
    pthread_t thread;

    (void)state;
    sem_init(&disk.begun, 0, 0);
    sem_init(&disk.may_end, 0, 0);
    vfs_mem_set_hook(crash_fs, block_syncs, &disk);
    assert_int_equal(pthread_create(&thread, NULL, sync_file, file), 0);
    while (sem_wait(&disk.begun) != 0) {
    }
    contract_expect(file, 0, "aa", 2);
    write_letters(file, 0, 'b', 1);
    sem_post(&disk.may_end);
    assert_int_equal(pthread_join(thread, NULL), 0);
    vfs_mem_set_hook(crash_fs, NULL, NULL);
    vfs_close(file);
}

static void *use_a_file(void *arg)
{
    const char *name = arg;
    struct vfs_file *file;
    char read[8];

    for (unsigned i = 0; i < 100; i++) {
        struct iovec part = {.iov_base = (void *)"abcdefgh", .iov_len = 8};
        size_t n = 0;
        enum err err = vfs_open(contract_dir, name, VFS_CREATE, &file);
        assert(err == ERR_OK);
        err = vfs_write(file, i, &part, 1);
        assert(err == ERR_OK);
        err = vfs_sync(file);
        assert(err == ERR_OK);
        err = vfs_read(file, i, read, sizeof read, &n);
        assert(err == ERR_OK && n == 8 && memcmp(read, "abcdefgh", 8) == 0);
        vfs_close(file);
        err = vfs_unlink(contract_dir, name);
        assert(err == ERR_OK);
    }
    return NULL;
}

static void threads_may_use_it_while_it_is_cloned(void **state)
{
    static char names[3][2] = {"x", "y", "z"};
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_a_file, names[i]), 0);
    }
    for (uint64_t i = 0; i < 50; i++) {
        vfs_mem_free(vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, i));
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, crash_case_make, crash_case_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VFS_CONTRACT_TESTS(TEST),
        TEST(the_hook_sees_every_operation_in_order),
        TEST(a_failed_operation_is_not_done),
        TEST(a_partly_failed_operation_is_done_in_part),
        TEST(after_a_crash_everything_fails_but_closing),
        TEST(a_crash_may_come_in_the_middle_of_an_operation),
        TEST(a_crash_may_come_just_after_a_sync),
        TEST(a_skipped_sync_says_that_it_was_done),
        TEST(the_test_may_stop_the_world_itself),
        TEST(a_plan_counts_its_own_operations),
        TEST(a_full_disk_takes_what_fits_and_space_comes_back),
        TEST(tests_may_change_what_is_on_the_disk),
        TEST(directories_are_told_apart_by_their_paths),
        TEST(a_hook_that_blocks_holds_up_its_operation_alone),
        TEST(threads_may_use_it_while_it_is_cloned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
