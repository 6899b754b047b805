/* Lookups that don't hold up their thread: what is in memory is answered at once, what isn't is
 * left to readers, and nobody waits for nothing. */
#include "store/lsm/engine.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "store/base/rcu.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/failing_alloc.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"
#include "tests/support/vfs_mem.h"

enum { SMALL_BYTES = 500, LONG_BYTES = 100000, HUGE_BYTES = 1500000 };
enum { SMALL, LONG, HUGE, OTHER, KEYS };

static struct vfs_mem *fs;
static struct driven db;

/* One table with all keys, read by nobody yet. */
static int set_up(void **state)
{
    static const size_t sizes[KEYS] = {SMALL_BYTES, LONG_BYTES, HUGE_BYTES, LONG_BYTES};
    (void)state;
    fs = vfs_mem_new(test_seed());
    driven_init(&db, vfs_mem_vfs(fs), "data", KEYS, test_seed());
    db.options.max_value_bytes = UINT64_C(2) << 20;
    db.options.max_inflight_bytes = UINT64_C(4) << 20;
    driven_open(&db);
    for (size_t key = 0; key < KEYS; key++) {
        driven_put(&db, key, sizes[key]);
    }
    driven_flush(&db);
    driven_settle(&db);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

/* --- Asking --- */

struct lookup {
    char key_text[DRIVEN_KEY_BYTES];
    struct bytes key;
    _Atomic unsigned done;
    enum err err;
    bool found;
    struct store_entry entry;
};

static void lookup_of(size_t key, struct lookup *ret_lookup)
{
    *ret_lookup = (struct lookup){.done = 0};
    int size = snprintf(ret_lookup->key_text, DRIVEN_KEY_BYTES, "key/%08zu", key);
    ret_lookup->key = bytes_of(ret_lookup->key_text, (size_t)size);
}

static void on_got(void *arg, enum err err, const struct store_entry *entry)
{
    struct lookup *lookup = arg;
    lookup->err = err;
    lookup->found = entry != NULL;
    if (entry) {
        lookup->entry = *entry;
    }
    atomic_fetch_add(&lookup->done, 1);
}

static bool get_at_once(size_t key, struct lookup *ret_lookup)
{
    lookup_of(key, ret_lookup);
    bool answered = store_get_at_once(db.store, ret_lookup->key, on_got, ret_lookup);
    assert_int_equal(ret_lookup->done, answered);
    return answered;
}

static void get_later(size_t key, struct lookup *ret_lookup)
{
    lookup_of(key, ret_lookup);
    store_get_later(db.store, ret_lookup->key, on_got, ret_lookup);
}

/* It was answered with what the key has now. */
static void expect_answer(size_t key, struct lookup *lookup)
{
    assert_int_equal(lookup->done, 1);
    assert_ok(lookup->err);
    assert_int_equal(lookup->found, db.keys[key].version != 0);
    if (lookup->found) {
        assert_int_equal(lookup->entry.value.size, db.keys[key].size);
        assert_true(pattern_matches(lookup->key, db.keys[key].version, lookup->entry.value));
        store_entry_release(&lookup->entry);
    }
}

static void expect_at_once(size_t key)
{
    struct lookup lookup;
    assert_true(get_at_once(key, &lookup));
    expect_answer(key, &lookup);
}

static void expect_not_at_once(size_t key)
{
    struct lookup lookup;
    assert_false(get_at_once(key, &lookup));
    assert_int_equal(lookup.done, 0);
}

static void expect_later(size_t key)
{
    struct lookup lookup;
    get_later(key, &lookup);
    assert_int_equal(lookup.done, 0);
    assert_true(engine_read_step(db.store));
    expect_answer(key, &lookup);
}

static struct store_stats stats(void)
{
    struct store_stats now;
    store_stats(db.store, &now);
    return now;
}

/* --- What is answered at once --- */

static void what_is_in_memory_is_answered_at_once(void **state)
{
    (void)state;
    expect_at_once(SMALL);
    expect_at_once(LONG);
    driven_put(&db, HUGE, HUGE_BYTES); /* in a memtable */
    driven_put(&db, OTHER, SMALL_BYTES);
    vfs_mem_evict(fs);
    expect_at_once(HUGE);
    expect_at_once(OTHER);
    driven_delete(&db, LONG);
    expect_at_once(LONG);
    assert_int_equal(stats().cold_reads, 0);
    assert_int_equal(stats().pinned_entries, 0);
}

static void what_is_not_is_left_to_readers(void **state)
{
    (void)state;
    vfs_mem_evict(fs);
    for (size_t key = 0; key < KEYS; key++) {
        expect_not_at_once(key);
        assert_int_equal(stats().pinned_entries, 0);
        expect_later(key);
        expect_at_once(key); /* now it is there */
    }
    assert_int_equal(stats().cold_reads, KEYS);
    assert_int_equal(stats().waiting_reads, 0);
}

/* Regression of a wrong short cut: that it was verified doesn't say that it is still there. */
static void so_is_what_was_read_and_has_left_memory(void **state)
{
    (void)state;
    expect_at_once(LONG);
    expect_at_once(SMALL);
    vfs_mem_evict(fs);
    expect_not_at_once(LONG);
    expect_at_once(SMALL); /* asking would cost every lookup a system call, to save a read */
    expect_later(LONG);
    expect_at_once(LONG);
}

static void so_is_what_takes_long_to_verify(void **state)
{
    (void)state;
    expect_not_at_once(HUGE);
    assert_int_equal(stats().pinned_entries, 0);
    expect_later(HUGE);
    expect_at_once(HUGE);
}

static void all_but_the_value_is_told_without_it(void **state)
{
    struct lookup lookup;
    (void)state;
    for (size_t key = LONG; key < KEYS; key++) {
        vfs_mem_evict(fs);
        lookup_of(key, &lookup);
        store_head(db.store, lookup.key, on_got, &lookup);
        assert_int_equal(lookup.done, 1);
        assert_true(lookup.found);
        assert_int_equal(lookup.entry.value.size, db.keys[key].size);
        assert_true(store_version_equal(lookup.entry.version, db.keys[key].shown));
        store_entry_release(&lookup.entry);
        expect_not_at_once(key); /* nothing was brought */
    }
    driven_delete(&db, LONG);
    lookup_of(LONG, &lookup);
    store_head(db.store, lookup.key, on_got, &lookup);
    expect_answer(LONG, &lookup);
    assert_int_equal(stats().cold_reads, 0);
    assert_int_equal(stats().pinned_entries, 0);
}

/* --- What waits --- */

static void reads_begin_in_the_order_of_the_calls(void **state)
{
    struct lookup lookups[KEYS];
    (void)state;
    vfs_mem_evict(fs);
    for (size_t key = 0; key < KEYS; key++) {
        get_later(key, &lookups[key]);
    }
    assert_int_equal(stats().waiting_reads, KEYS);
    assert_int_equal(stats().pinned_entries, 0); /* a queue holds nothing */
    for (size_t key = 0; key < KEYS; key++) {
        assert_int_equal(lookups[key].done, 0);
        assert_true(engine_read_step(db.store));
        expect_answer(key, &lookups[key]);
        assert_int_equal(stats().waiting_reads, KEYS - key - 1);
    }
    assert_false(engine_read_step(db.store));
}

static void a_read_sees_what_is_there_when_its_turn_comes(void **state)
{
    struct lookup replaced, deleted;
    (void)state;
    vfs_mem_evict(fs);
    get_later(LONG, &replaced);
    get_later(OTHER, &deleted);
    driven_put(&db, LONG, SMALL_BYTES);
    driven_delete(&db, OTHER);
    assert_ok(driven_compact(&db));
    driven_settle(&db);
    assert_true(engine_read_step(db.store));
    assert_true(engine_read_step(db.store));
    expect_answer(LONG, &replaced);
    expect_answer(OTHER, &deleted);
}

/* More would be memory without bounds. */
static void beyond_the_bound_the_caller_waits_itself(void **state)
{
    struct lookup *lookups = calloc(ENGINE_READS_MAX + 1, sizeof *lookups);
    (void)state;
    assert_non_null(lookups);
    for (size_t i = 0; i < ENGINE_READS_MAX; i++) {
        get_later(SMALL, &lookups[i]);
    }
    get_later(LONG, &lookups[ENGINE_READS_MAX]);
    expect_answer(LONG, &lookups[ENGINE_READS_MAX]);
    assert_int_equal(stats().waiting_reads, ENGINE_READS_MAX);
    for (size_t i = 0; i < ENGINE_READS_MAX; i++) {
        assert_int_equal(lookups[i].done, 0);
        assert_true(engine_read_step(db.store));
        expect_answer(SMALL, &lookups[i]);
    }
    free(lookups);
}

static void without_memory_the_caller_waits_itself(void **state)
{
    struct lookup lookup;
    (void)state;
    failing_alloc_arm(1, 1, false);
    get_later(LONG, &lookup);
    assert_int_equal(failing_alloc_disarm(), 1);
    expect_answer(LONG, &lookup);
    assert_int_equal(stats().waiting_reads, 0);
}

/* --- What goes wrong --- */

static enum err fail_large(void *arg, const char *name, uint64_t offset, uint64_t size_bytes)
{
    (void)name;
    (void)offset;
    return size_bytes == *(const uint64_t *)arg ? ERR_IO : ERR_OK;
}

static void an_unreadable_value_is_an_error_of_its_key_only(void **state)
{
    uint64_t bad_bytes = HUGE_BYTES;
    struct lookup lookups[KEYS];
    (void)state;
    vfs_mem_evict(fs);
    vfs_mem_set_populate(fs, fail_large, &bad_bytes);
    for (size_t key = 0; key < KEYS; key++) {
        get_later(key, &lookups[key]);
    }
    while (engine_read_step(db.store)) {
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (key == HUGE) {
            assert_int_equal(lookups[key].done, 1);
            assert_err(ERR_IO, lookups[key].err);
            assert_false(lookups[key].found);
        } else {
            expect_answer(key, &lookups[key]);
        }
    }
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    assert_non_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], "the disk can't read it"));
    assert_int_equal(stats().pinned_entries, 0);
    vfs_mem_set_populate(fs, NULL, NULL);
    expect_later(HUGE);
}

/* Flips a bit in the middle of the long value, in the only table. */
static void damage(size_t key)
{
    struct view *view = engine_view_acquire(db.store);
    struct view_hit hit;
    struct lookup lookup;
    lookup_of(key, &lookup);
    assert_ok(view_find_in_tables(view, lookup.key, TABLE_HEAD, &hit));
    ((unsigned char *)(uintptr_t)record_value(hit.record).data)[db.keys[key].size / 2] ^= 1;
    view_release(view);
}

static void a_damaged_value_is_not_shown(void **state)
{
    struct lookup lookup;
    (void)state;
    damage(LONG);
    vfs_mem_evict(fs);
    get_later(LONG, &lookup);
    assert_true(engine_read_step(db.store));
    assert_int_equal(lookup.done, 1);
    assert_err(ERR_CORRUPT, lookup.err);
    assert_false(lookup.found);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    expect_later(OTHER);
}

static void closing_completes_what_waits(void **state)
{
    struct lookup lookups[KEYS];
    (void)state;
    vfs_mem_evict(fs);
    for (size_t key = 0; key < KEYS; key++) {
        get_later(key, &lookups[key]);
    }
    driven_close(&db);
    for (size_t key = 0; key < KEYS; key++) {
        assert_int_equal(lookups[key].done, 1);
        assert_err(ERR_CLOSED, lookups[key].err);
        assert_false(lookups[key].found);
    }
}

static void so_does_a_crash(void **state)
{
    struct lookup lookup;
    (void)state;
    get_later(LONG, &lookup);
    engine_abandon(db.store);
    db.store = NULL;
    assert_int_equal(lookup.done, 1);
    assert_err(ERR_CLOSED, lookup.err);
    driven_open(&db);
}

/* --- With files --- */

/* Pages of the only table's file leave memory, first the process's, then the kernel's. False where
 * there is nothing but memory, as on tmpfs. */
static bool evict_file(const char *dir)
{
    struct view *view = engine_view_acquire(db.store);
    struct table *table = view->levels[0].tables[0];
    struct bytes map = table_map(table);
    char *begin = (char *)(uintptr_t)map.data;
    char name[FILES_NAME_BYTES], path[TEMP_DIR_BYTES + FILES_NAME_BYTES];
    unsigned char resident = 1;
    struct statfs where;
    files_name(FILE_TABLE, table_info(table)->number, name);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstatfs(fd, &where), 0);
    while (where.f_type != TMPFS_MAGIC && (resident & 1) != 0) {
        assert_int_equal(madvise(begin, map.size, MADV_DONTNEED), 0);
        assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        assert_int_equal(mincore(begin + map.size / 2 / 4096 * 4096, 1, &resident), 0);
    }
    close(fd);
    view_release(view);
    return where.f_type != TMPFS_MAGIC;
}

static void what_the_kernel_has_dropped_is_left_to_readers(void **state)
{
    struct driven in_memory = db;
    char dir[TEMP_DIR_BYTES];
    (void)state;
    temp_dir_make(dir);
    driven_init(&db, vfs_posix(), dir, KEYS, test_seed());
    driven_open(&db);
    driven_put(&db, LONG, LONG_BYTES);
    driven_flush(&db);
    driven_check_key(&db, LONG); /* now it is verified */
    if (evict_file(dir)) {
        expect_not_at_once(LONG);
        expect_later(LONG);
    }
    expect_at_once(LONG);
    driven_release(&db);
    temp_dir_remove(dir);
    db = in_memory;
    rcu_door_set_manual(true);
}

/* --- With threads --- */

struct slow_disk {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool held;
    unsigned waiting;
};

static enum err hold(void *arg, const char *name, uint64_t offset, uint64_t size_bytes)
{
    struct slow_disk *disk = arg;
    (void)name;
    (void)offset;
    (void)size_bytes;
    pthread_mutex_lock(&disk->lock);
    disk->waiting++;
    pthread_cond_broadcast(&disk->changed);
    while (disk->held) {
        pthread_cond_wait(&disk->changed, &disk->lock);
    }
    disk->waiting--;
    pthread_mutex_unlock(&disk->lock);
    return ERR_OK;
}

static void wait_until_held(struct slow_disk *disk, unsigned n)
{
    pthread_mutex_lock(&disk->lock);
    while (disk->waiting < n) {
        pthread_cond_wait(&disk->changed, &disk->lock);
    }
    pthread_mutex_unlock(&disk->lock);
}

static void let_go(struct slow_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->held = false;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
}

static void wait_for(struct lookup *lookup)
{
    while (atomic_load(&lookup->done) == 0) {
        sched_yield();
    }
}

/* The same store with its threads, on a disk that is held. */
static void open_with_threads(struct slow_disk *disk)
{
    driven_close(&db);
    db.options.manual = false;
    struct err_detail detail;
    assert_ok(store_open(&db.options, &db.store, &detail));
    *disk = (struct slow_disk){
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .held = true};
    vfs_mem_evict(fs);
    vfs_mem_set_populate(fs, hold, disk);
}

static void others_are_answered_while_one_waits_for_the_disk(void **state)
{
    struct slow_disk disk;
    struct lookup cold;
    (void)state;
    open_with_threads(&disk);
    get_later(LONG, &cold);
    wait_until_held(&disk, 1);
    assert_int_equal(stats().waiting_reads, 1);
    for (int i = 0; i < 100; i++) {
        struct lookup absent;
        lookup_of(KEYS, &absent);
        assert_true(store_get_at_once(db.store, absent.key, on_got, &absent));
        assert_ok(absent.err);
    }
    assert_int_equal(cold.done, 0);
    let_go(&disk);
    wait_for(&cold);
    expect_answer(LONG, &cold);
    expect_at_once(LONG);
    assert_int_equal(stats().cold_reads, 1);
}

static void *close_store(void *arg)
{
    store_close(arg);
    return NULL;
}

/* Those that are at the disk and those that aren't yet. */
static void closing_waits_for_readers_and_completes_the_rest(void **state)
{
    struct lookup lookups[2 * ENGINE_READERS];
    struct slow_disk disk;
    pthread_t closer;
    (void)state;
    open_with_threads(&disk);
    for (size_t i = 0; i < COUNT_OF(lookups); i++) {
        get_later(LONG, &lookups[i]);
    }
    wait_until_held(&disk, ENGINE_READERS);
    assert_int_equal(pthread_create(&closer, NULL, close_store, db.store), 0);
    while (!atomic_load(&db.store->closing)) {
        sched_yield();
    }
    for (size_t i = 0; i < COUNT_OF(lookups); i++) {
        assert_int_equal(lookups[i].done, 0);
    }
    let_go(&disk);
    assert_int_equal(pthread_join(closer, NULL), 0);
    db.store = NULL;
    for (size_t i = 0; i < COUNT_OF(lookups); i++) {
        assert_int_equal(lookups[i].done, 1);
        assert_err(ERR_CLOSED, lookups[i].err);
        assert_false(lookups[i].found);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_in_memory_is_answered_at_once),
        TEST(what_is_not_is_left_to_readers),
        TEST(so_is_what_was_read_and_has_left_memory),
        TEST(so_is_what_takes_long_to_verify),
        TEST(all_but_the_value_is_told_without_it),
        TEST(reads_begin_in_the_order_of_the_calls),
        TEST(a_read_sees_what_is_there_when_its_turn_comes),
        TEST(beyond_the_bound_the_caller_waits_itself),
        TEST(without_memory_the_caller_waits_itself),
        TEST(an_unreadable_value_is_an_error_of_its_key_only),
        TEST(a_damaged_value_is_not_shown),
        TEST(closing_completes_what_waits),
        TEST(so_does_a_crash),
        TEST(what_the_kernel_has_dropped_is_left_to_readers),
        TEST(others_are_answered_while_one_waits_for_the_disk),
        TEST(closing_waits_for_readers_and_completes_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
