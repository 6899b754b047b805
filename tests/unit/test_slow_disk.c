/* A disk that doesn't come back from a sync: reads go on, what may wait is bounded, the rest is
 * told that the store is busy, and all that waited completes once the disk answers. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/lsm/engine.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

#define INFLIGHT_BYTES (UINT64_C(256) << 10)
#define VALUE_BYTES    UINT64_C(8000)

/* --- A disk that can be held --- */

struct slow_disk {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool held;
    unsigned waiting; /* syncs of log segments */
};

static struct vfs_mem_verdict hold_syncs(void *arg, const struct vfs_mem_call *call)
{
    struct slow_disk *disk = arg;
    if (call->op == VFS_MEM_SYNC && strstr(call->name, ".log") != NULL) {
        pthread_mutex_lock(&disk->lock);
        disk->waiting++;
        pthread_cond_broadcast(&disk->changed);
        while (disk->held) {
            pthread_cond_wait(&disk->changed, &disk->lock);
        }
        disk->waiting--;
        pthread_mutex_unlock(&disk->lock);
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void set_held(struct slow_disk *disk, bool held)
{
    pthread_mutex_lock(&disk->lock);
    disk->held = held;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
}

static void wait_until_a_sync_is_held(struct slow_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    while (disk->waiting == 0) {
        pthread_cond_wait(&disk->changed, &disk->lock);
    }
    pthread_mutex_unlock(&disk->lock);
}

/* --- Writes --- */

struct counts {
    _Atomic unsigned admitted, busy, done, failed;
};

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct counts *counts = arg;
    (void)written;
    atomic_fetch_add(err == ERR_OK ? &counts->done : &counts->failed, 1);
}

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct counts *counts = arg;
    struct store_put put = {.key = bytes_of_text("key"), .value_bytes = VALUE_BYTES};
    void *value;
    if (err == ERR_BUSY) {
        atomic_fetch_add(&counts->busy, 1);
        return;
    }
    if (err != ERR_OK || store_write_put(write, &put, &value) != ERR_OK) {
        atomic_fetch_add(&counts->failed, 1);
        store_write_abort(write);
        return;
    }
    memset(value, 'v', VALUE_BYTES);
    atomic_fetch_add(&counts->admitted, 1);
    store_write_commit(write, on_written, counts);
}

static void expect_old_value(struct store *store)
{
    struct store_entry entry;
    bool found;
    assert_ok(store_get_sync(store, bytes_of_text("key"), &found, &entry));
    assert_true(found);
    assert_int_equal(entry.value.size, 3);
    assert_memory_equal(entry.value.data, "old", 3);
    store_entry_release(&entry);
}

static void reads_go_on_and_what_waits_is_bounded(void **state)
{
    (void)state;
    struct slow_disk disk = {.lock = PTHREAD_MUTEX_INITIALIZER,
                             .changed = PTHREAD_COND_INITIALIZER};
    struct vfs_mem *fs = vfs_mem_new(test_seed());
    struct store_options options = store_options_default();
    struct store_put put = {.key = bytes_of_text("key")};
    struct counts counts = {0};
    struct err_detail detail;
    struct store *store;
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = 1 << 20;
    options.max_value_bytes = 64 << 10;
    options.max_inflight_bytes = INFLIGHT_BYTES;
    vfs_mem_set_hook(fs, hold_syncs, &disk);
    assert_ok(store_open(&options, &store, &detail));
    assert_ok(store_put_sync(store, &put, bytes_of_text("old"), NULL));

    set_held(&disk, true);
    struct store_write_size size = {.ops = 1, .bytes = 3 + VALUE_BYTES};
    unsigned asked = 0;
    for (; asked < 2 * ENGINE_WAITING_MAX; asked++) {
        store_write_new(store, &size, on_ready, &counts);
    }
    wait_until_a_sync_is_held(&disk);
    /* Not one is done, only so many bytes are in flight, only so many wait; the others know. */
    struct store_stats stats;
    store_stats(store, &stats);
    assert_true(stats.inflight_bytes <= INFLIGHT_BYTES);
    assert_int_equal(stats.waiting_writes, ENGINE_WAITING_MAX);
    assert_int_equal(atomic_load(&counts.done), 0);
    assert_true(atomic_load(&counts.admitted) <= INFLIGHT_BYTES / VALUE_BYTES);
    assert_int_equal(atomic_load(&counts.busy),
                     asked - ENGINE_WAITING_MAX - atomic_load(&counts.admitted));
    for (int i = 0; i < 1000; i++) {
        expect_old_value(store);
    }
    /* Regression: nobody told those that had waited too long while the log thread was in a sync. */
    unsigned busy = atomic_load(&counts.busy);
    while (atomic_load(&counts.busy) < busy + ENGINE_WAITING_MAX) {
        const struct timespec time = {.tv_nsec = 50 * 1000000L};
        (void)nanosleep(&time, NULL);
        store_write_new(store, &size, on_ready, &counts);
        asked++;
    }
    assert_int_equal(store_state(store), STORE_WRITABLE);
    assert_int_equal(store_stuck_ms(store), 0);

    set_held(&disk, false);
    store_close(store);
    /* Those that waited were let in, or told at the end that the store is closing. */
    assert_int_equal(atomic_load(&counts.done), atomic_load(&counts.admitted));
    assert_int_equal(
        atomic_load(&counts.done) + atomic_load(&counts.busy) + atomic_load(&counts.failed), asked);
    vfs_mem_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_go_on_and_what_waits_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
