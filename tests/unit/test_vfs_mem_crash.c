/* Files in memory after a power failure: what was synced is there, of the rest any part. */
#include "tests/support/vfs_mem.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/unit/crash_case.h"
#include "tests/unit/vfs_contract.h"

static struct vfs_mem_verdict fail_syncs(void *arg, const struct vfs_mem_call *call)
{
    bool fails = call->op == VFS_MEM_SYNC || call->op == VFS_MEM_DIR_SYNC;

    (void)arg;
    return (struct vfs_mem_verdict){.action = fails ? VFS_MEM_FAIL : VFS_MEM_DO, .err = ERR_IO};
}

static void what_was_synced_survives_every_crash(void **state)
{
    struct vfs_file *file = make_sectors("abc");

    (void)state;
    expect_outcomes(crash_sectors(3), "abc");
    write_letters(file, SECTOR, 'B', SECTOR);
    assert_ok(vfs_sync(file));
    expect_outcomes(crash_sectors(3), "aBc");
    vfs_close(file);
}

static void each_unsynced_sector_is_old_or_new_independently(void **state)
{
    struct vfs_file *file = make_sectors("abc");

    (void)state;
    write_letters(file, SECTOR, 'B', 2 * SECTOR);
    expect_outcomes(crash_sectors(3), "abc,aBc,abB,aBB");
    vfs_close(file);
}

static void a_sector_written_twice_may_hold_what_it_held_between(void **state)
{
    struct vfs_file *file = make_sectors("a");

    (void)state;
    write_letters(file, 0, 'B', SECTOR);
    write_letters(file, 0, 'C', SECTOR);
    write_letters(file, 0, 'D', SECTOR);
    expect_outcomes(crash_sectors(1), "a,B,C,D");
    vfs_close(file);
}

/* A write beyond the synced end is there, or zeros in its place, or the file ends before. */
static void an_unsynced_end_is_old_or_new_or_between_and_may_be_zeros(void **state)
{
    struct vfs_file *file = make_sectors("a");
    bool old_size = false, new_size = false, between = false, zeros = false, bytes = false;

    (void)state;
    write_letters(file, SECTOR, 'B', 2 * SECTOR);
    for (uint64_t i = 0; i < CRASH_SEEDS; i++) {
        struct vfs_mem *after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, test_seed() + i);
        size_t size;
        unsigned char *data = vfs_mem_get(after, "a", &size);

        assert_true(size >= SECTOR && size <= 3 * SECTOR);
        old_size |= size == SECTOR;
        new_size |= size == 3 * SECTOR;
        between |= size > SECTOR && size < 3 * SECTOR;
        for (size_t at = 0; at < size; at++) {
            if (at < SECTOR) {
                assert_int_equal(data[at], 'a');
            } else {
                assert_true(data[at] == 0 || data[at] == 'B');
                zeros |= data[at] == 0;
                bytes |= data[at] == 'B';
            }
        }
        free(data);
        vfs_mem_free(after);
    }
    assert_true(old_size && new_size && between && zeros && bytes);
    vfs_close(file);
}

static void keeping_nothing_or_all_is_exact(void **state)
{
    struct vfs_file *file = make_sectors("ab");
    struct vfs_mem *after;

    (void)state;
    write_letters(file, SECTOR, 'B', 2 * SECTOR);
    make_letter("n", 'n');

    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_NOTHING, 1);
    assert_int_equal(letter_of(after, "a", SECTOR), 'b');
    assert_int_equal(letter_of(after, "a", 2 * SECTOR), '-');
    assert_false(vfs_mem_exists(after, "n"));
    vfs_mem_free(after);

    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_ALL, 1);
    assert_int_equal(letter_of(after, "a", SECTOR), 'B');
    assert_int_equal(letter_of(after, "a", 2 * SECTOR), 'B');
    assert_int_equal(letter_of(after, "n", 0), 'n');
    vfs_mem_free(after);
    vfs_close(file);
}

/* After a failed sync the kernel thinks the pages clean: a second one succeeds and helps nothing.
 */
static void a_sync_after_a_failed_one_brings_nothing_back(void **state)
{
    unsigned lost = 0;

    (void)state;
    for (int round = 0; round < 30; round++) {
        struct vfs_file *file = make_sectors("a");
        struct vfs_mem *after;

        write_letters(file, 0, 'B', SECTOR);
        vfs_mem_set_hook(crash_fs, fail_syncs, NULL);
        assert_err(ERR_IO, vfs_sync(file));
        vfs_mem_set_hook(crash_fs, NULL, NULL);
        assert_ok(vfs_sync(file));
        contract_expect(file, 0, "BB", 2); /* the page cache has it */

        after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_NOTHING, 1);
        lost += letter_of(after, "a", 0) == 'a';
        vfs_mem_free(after);

        /* written again, it can be synced again */
        write_letters(file, 0, 'C', SECTOR);
        assert_ok(vfs_sync(file));
        expect_outcomes(crash_sectors(1), "C");
        vfs_close(file);
        assert_ok(vfs_unlink(contract_dir, "a"));
    }
    assert_true(lost > 0 && lost < 30);
}

static void a_name_that_was_not_synced_is_there_or_not(void **state)
{
    (void)state;
    make_letter("a", 'A');
    expect_outcomes(crash_names("a"), " ,A");
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("a"), "A");
    assert_ok(vfs_unlink(contract_dir, "a"));
    expect_outcomes(crash_names("a"), " ,A");
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("a"), " ");
}

static void a_synced_name_without_synced_content_may_be_empty(void **state)
{
    struct vfs_file *file = contract_create("a");

    (void)state;
    write_letters(file, 0, 'A', 1);
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("a"), "-,0,A");
    vfs_close(file);
}

static void a_rename_happens_as_a_whole_or_not(void **state)
{
    (void)state;
    make_letter("m", 'O');
    assert_ok(vfs_dir_sync(contract_dir));
    make_letter("n", 'N');
    assert_ok(vfs_rename(contract_dir, "n", "m"));
    expect_outcomes(crash_names("mn"), "O ,ON,N ");
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("mn"), "N ");
    /* a move to a free name: under the one or the other */
    assert_ok(vfs_rename(contract_dir, "m", "n"));
    expect_outcomes(crash_names("mn"), "N , N");
}

static void changes_of_different_names_are_independent_unless_synced_between(void **state)
{
    (void)state;
    make_letter("m", 'O');
    make_letter("l", 'L');
    assert_ok(vfs_dir_sync(contract_dir));
    make_letter("n", 'N');
    assert_ok(vfs_dir_sync(contract_dir));
    assert_ok(vfs_rename(contract_dir, "n", "m"));
    assert_ok(vfs_unlink(contract_dir, "l"));
    expect_outcomes(crash_names("mnl"), "ONL,N L,ON ,N  ");
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("mnl"), "N  ");
}

static void changes_of_one_name_keep_their_order(void **state)
{
    (void)state;
    make_letter("a", '1');
    assert_ok(vfs_dir_sync(contract_dir));
    assert_ok(vfs_unlink(contract_dir, "a"));
    make_letter("a", '2');
    assert_ok(vfs_rename(contract_dir, "a", "b"));
    make_letter("a", '3');
    /* never 3 without 2 under its last name, never 2 while 1 is there */
    expect_outcomes(crash_names("ab"), "1 ,  ,2 , 2,32");
}

static void names_of_a_failed_sync_stay_in_doubt(void **state)
{
    (void)state;
    make_letter("a", 'A');
    vfs_mem_set_hook(crash_fs, fail_syncs, NULL);
    assert_err(ERR_IO, vfs_dir_sync(contract_dir));
    vfs_mem_set_hook(crash_fs, NULL, NULL);
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("a"), " ,A");
    /* a name of its own is not affected, but what builds on the doubtful one is */
    make_letter("b", 'B');
    assert_ok(vfs_rename(contract_dir, "a", "c"));
    assert_ok(vfs_dir_sync(contract_dir));
    expect_outcomes(crash_names("abc"), " B ,AB , BA");
}

/* A walk over five names: each file that is on the disk for certain stays there under one name
 * until it is removed or replaced, and no file ever has two. Files are told apart by their one
 * byte. */
static void no_crash_loses_or_doubles_a_file(void **state)
{
    static const char *const names[5] = {"v", "w", "x", "y", "z"};
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (int walk = 0; walk < 40; walk++) {
        bool certain[256] = {false}; /* synced, and neither removed nor replaced since */
        char now[5] = {0};           /* the file under each name */
        unsigned next = 1;

        for (int step = 0; step < 60 && next < 255; step++) {
            size_t from = prng_below(&prng, 5), to = prng_below(&prng, 5);
            uint64_t what = prng_below(&prng, 10);

            if (what < 4 && now[from] == 0) {
                make_letter(names[from], (char)next);
                now[from] = (char)next++;
            } else if (what < 8 && now[from] != 0 && from != to) {
                assert_ok(vfs_rename(contract_dir, names[from], names[to]));
                certain[(unsigned char)now[to]] = false;
                now[to] = now[from];
                now[from] = 0;
            } else if (what == 8 && now[from] != 0) {
                assert_ok(vfs_unlink(contract_dir, names[from]));
                certain[(unsigned char)now[from]] = false;
                now[from] = 0;
            } else if (what == 9) {
                assert_ok(vfs_dir_sync(contract_dir));
                for (size_t i = 0; i < 5; i++) {
                    certain[(unsigned char)now[i]] = now[i] != 0;
                }
            }

            struct vfs_mem *after =
                vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, prng_next(&prng));
            unsigned seen[256] = {0};
            for (size_t i = 0; i < 5; i++) {
                if (vfs_mem_exists(after, names[i])) {
                    seen[(unsigned char)letter_of(after, names[i], 0)]++;
                }
            }
            for (size_t i = 0; i < 256; i++) {
                assert_true(seen[i] <= 1);
                assert_true(!certain[i] || seen[i] == 1);
            }
            vfs_mem_free(after);
        }
        for (size_t i = 0; i < 5; i++) {
            if (now[i] != 0) {
                assert_ok(vfs_unlink(contract_dir, names[i]));
            }
        }
        assert_ok(vfs_dir_sync(contract_dir));
    }
}

/* Random writes and syncs: each sector after a crash is one that the file had since its last sync.
 */
static void every_sector_after_a_crash_was_there_since_the_last_sync(void **state)
{
    enum { SECTORS = 6, VERSIONS = 8, BYTES = SECTORS * SECTOR };
    unsigned char(*versions)[BYTES] = calloc(VERSIONS, sizeof *versions);
    struct vfs_file *file = contract_create("a");
    size_t n = 1, size_synced = 0, size_now = 0;
    struct prng prng;

    (void)state;
    assert_non_null(versions);
    prng_init(&prng, test_seed());
    assert_ok(vfs_dir_sync(contract_dir));
    for (int step = 0; step < 400; step++) {
        if (n == VERSIONS || prng_chance(&prng, 15)) {
            assert_ok(vfs_sync(file));
            memcpy(versions[0], versions[n - 1], BYTES);
            n = 1;
            size_synced = size_now;
        } else {
            size_t at = prng_below(&prng, BYTES);
            size_t size = 1 + prng_below(&prng, BYTES - at);
            memcpy(versions[n], versions[n - 1], BYTES);
            prng_fill(&prng, versions[n] + at, size);
            assert_ok(contract_write(file, at, versions[n] + at, size));
            size_now = at + size > size_now ? at + size : size_now;
            n++;
        }

        struct vfs_mem *after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, prng_next(&prng));
        size_t size;
        unsigned char *data = vfs_mem_get(after, "a", &size);
        assert_true(size >= size_synced && size <= size_now);
        for (size_t at = 0; at < size; at += SECTOR) {
            size_t part = size - at < SECTOR ? size - at : SECTOR;
            size_t i = 0;
            while (i < n && memcmp(data + at, versions[i] + at, part) != 0) {
                i++;
            }
            assert_true(i < n);
        }
        free(data);
        vfs_mem_free(after);
    }
    vfs_close(file);
    free(versions);
}

static void the_same_seed_gives_the_same_crash(void **state)
{
    struct vfs_file *file = make_sectors("abcdef");

    (void)state;
    write_letters(file, 0, 'X', 8 * SECTOR);
    make_letter("n", 'n');
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct vfs_mem *one = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, seed);
        struct vfs_mem *two = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, seed);
        size_t size_one, size_two;
        unsigned char *data_one = vfs_mem_get(one, "a", &size_one);
        unsigned char *data_two = vfs_mem_get(two, "a", &size_two);

        assert_int_equal(size_one, size_two);
        assert_memory_equal(data_one, data_two, size_one);
        assert_int_equal(vfs_mem_exists(one, "n"), vfs_mem_exists(two, "n"));
        free(data_one);
        free(data_two);
        vfs_mem_free(one);
        vfs_mem_free(two);
    }
    vfs_close(file);
}

/* After a crash all is on the disk: crashing once more changes nothing. */
static void what_a_crash_left_is_synced_and_unlocked(void **state)
{
    struct vfs_file *file = make_sectors("abc");
    struct vfs_mem *after, *later;
    struct vfs_dir *dir;

    (void)state;
    assert_ok(vfs_dir_lock(contract_dir));
    write_letters(file, 0, 'X', 4 * SECTOR);
    after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, test_seed());
    later = vfs_mem_crash_clone(after, MEM_KEEP_RANDOM, test_seed() + 1);
    for (size_t i = 0; i < 5; i++) {
        char letter = letter_of(after, "a", i * SECTOR);
        assert_int_equal(letter_of(later, "a", i * SECTOR), letter);
    }
    assert_ok(vfs_dir_open(vfs_mem_vfs(after), contract_path, false, &dir));
    assert_ok(vfs_dir_lock(dir));
    vfs_dir_close(dir);
    vfs_mem_free(later);
    vfs_mem_free(after);
    vfs_close(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, crash_case_make, crash_case_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_synced_survives_every_crash),
        TEST(each_unsynced_sector_is_old_or_new_independently),
        TEST(a_sector_written_twice_may_hold_what_it_held_between),
        TEST(an_unsynced_end_is_old_or_new_or_between_and_may_be_zeros),
        TEST(keeping_nothing_or_all_is_exact),
        TEST(a_sync_after_a_failed_one_brings_nothing_back),
        TEST(a_name_that_was_not_synced_is_there_or_not),
        TEST(a_synced_name_without_synced_content_may_be_empty),
        TEST(a_rename_happens_as_a_whole_or_not),
        TEST(changes_of_different_names_are_independent_unless_synced_between),
        TEST(changes_of_one_name_keep_their_order),
        TEST(names_of_a_failed_sync_stay_in_doubt),
        TEST(no_crash_loses_or_doubles_a_file),
        TEST(every_sector_after_a_crash_was_there_since_the_last_sync),
        TEST(the_same_seed_gives_the_same_crash),
        TEST(what_a_crash_left_is_synced_and_unlocked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
