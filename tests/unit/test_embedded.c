/*
 * A program that keeps its data in the store, without HTTP and without a look behind store.h and
 * store_sync.h: the blocking calls first, then the same with callbacks.
 */
#include <pthread.h>
#include <stdlib.h>

#include "store/store.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

static char dir[TEMP_DIR_BYTES];
static struct store *store;

static void open_store(void)
{
    struct store_options options = store_options_default();
    struct err_detail why;
    options.dir = dir;
    options.memtable_bytes = UINT64_C(1) << 20; /* of small things a small program needs less */
    options.max_value_bytes = UINT64_C(1) << 20;
    options.max_inflight_bytes = UINT64_C(4) << 20;
    if (store_open(&options, &store, &why) != ERR_OK) {
        fail_msg("%s", why.text);
    }
}

static int begin(void **state)
{
    (void)state;
    temp_dir_make(dir);
    open_store();
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    temp_dir_remove(dir);
    return 0;
}

static void reopen(void)
{
    store_close(store);
    open_store();
}

/* --- Blocking --------------------------------------------------------------------------------- */

static struct store_version put(const char *key, const char *value)
{
    struct store_put what = {.key = bytes_of_text(key), .content_type = bytes_of_text("text/x")};
    struct store_version version;
    assert_ok(store_put_sync(store, &what, bytes_of_text(value), &version));
    return version;
}

/* The key has this value; NULL: it isn't there. */
static void assert_value(const char *key, const char *value)
{
    struct store_entry entry;
    bool found;
    assert_ok(store_get_sync(store, bytes_of_text(key), &found, &entry));
    assert_int_equal(found, value != NULL);
    if (found) {
        assert_true(bytes_equal(entry.value, bytes_of_text(value)));
        assert_true(bytes_equal(store_text_bytes(&entry.content_type), bytes_of_text("text/x")));
        assert_true(entry.modified_ms > 0);
        store_entry_release(&entry);
    }
}

static void puts_gets_and_deletes(void **state)
{
    bool existed;
    (void)state;
    struct store_version first = put("key", "one");
    assert_value("key", "one");
    struct store_version second = put("key", "two");
    assert_false(store_version_equal(first, second));
    assert_value("key", "two");
    assert_value("other", NULL);
    assert_ok(store_delete_sync(store, bytes_of_text("key"), &existed));
    assert_true(existed);
    assert_value("key", NULL);
    assert_ok(store_delete_sync(store, bytes_of_text("key"), &existed));
    assert_false(existed);
}

/* True if what is there is exactly the version that `arg` points at. */
static bool is_version(void *arg, const struct store_current *current)
{
    return current->exists && store_version_equal(current->version, *(struct store_version *)arg);
}

/* Replaces the value if the key is still at `expected`; returns whether it did. */
static bool replace_if(const char *key, const char *value, struct store_version expected)
{
    struct store_write *write;
    struct store_write_size size = {.ops = 1, .bytes = strlen(key) + strlen(value) + 6};
    struct store_put what = {.key = bytes_of_text(key),
                             .content_type = bytes_of_text("text/x"),
                             .value_bytes = strlen(value)};
    void *into;
    bool refused;
    assert_ok(store_write_new_sync(store, &size, &write));
    assert_ok(store_write_put(write, &what, &into));
    memcpy(into, value, strlen(value));
    store_write_condition(write, is_version, &expected);
    assert_ok(store_write_commit_sync(write, &refused));
    return !refused;
}

static void replaces_only_the_version_that_was_read(void **state)
{
    (void)state;
    struct store_version first = put("counter", "1");
    assert_true(replace_if("counter", "2", first));
    assert_false(replace_if("counter", "3", first));
    assert_value("counter", "2");
}

/* Moves a value from one key to another, or does nothing. */
static bool move(const char *from, const char *to, const char *value, struct store_version expected)
{
    struct store_write *write;
    struct store_write_size size = {.ops = 2, .bytes = 100};
    struct store_put what = {.key = bytes_of_text(to),
                             .content_type = bytes_of_text("text/x"),
                             .value_bytes = strlen(value)};
    void *into;
    bool refused;
    assert_ok(store_write_new_sync(store, &size, &write));
    assert_ok(store_write_put(write, &what, &into));
    memcpy(into, value, strlen(value));
    assert_ok(store_write_delete(write, bytes_of_text(from)));
    store_write_condition(write, is_version, &expected);
    assert_ok(store_write_commit_sync(write, &refused));
    return !refused;
}

static void a_batch_happens_whole_or_not_at_all(void **state)
{
    (void)state;
    struct store_version version = put("here", "thing");
    assert_true(move("here", "there", "thing", version));
    assert_value("here", NULL);
    assert_value("there", "thing");
    put("here", "again");
    assert_false(move("here", "elsewhere", "again", version));
    assert_value("here", "again");
    assert_value("elsewhere", NULL);
}

struct walk {
    char keys[64]; /* one letter each */
    size_t n, stop_after;
    bool at_end;
    enum err err;
};

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    struct walk *walk = arg;
    assert_int_equal(entry->key.size, 1);
    walk->keys[walk->n++] = *(const char *)entry->key.data;
    walk->keys[walk->n] = '\0';
    return walk->n % walk->stop_after != 0;
}

static void on_scan_done(void *arg, enum err err, bool at_end)
{
    struct walk *walk = arg;
    walk->err = err;
    walk->at_end = at_end;
}

static void assert_scan(const struct store_range *range, const char *keys)
{
    struct store_scan *scan;
    struct walk walk = {.stop_after = 3};
    assert_ok(store_scan_new(store, range, &scan));
    put("0", "not in the snapshot");
    while (!walk.at_end) { /* in steps of three */
        store_scan_run(scan, on_scanned, on_scan_done, &walk);
        assert_ok(walk.err);
    }
    store_scan_free(scan);
    assert_string_equal(walk.keys, keys);
    assert_ok(store_delete_sync(store, bytes_of_text("0"), NULL));
}

static void scans_in_order(void **state)
{
    static const char *const keys[] = {"g", "c", "a", "f", "b", "e", "d"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        put(keys[i], "value");
    }
    assert_scan(&(struct store_range){.keys_only = false}, "abcdefg");
    assert_scan(&(struct store_range){.reverse = true}, "gfedcba");
    assert_scan(&(struct store_range){.start = bytes_of_text("b"), .end = bytes_of_text("f")},
                "bcde");
    assert_ok(store_flush_sync(store));
    assert_ok(store_delete_sync(store, bytes_of_text("d"), NULL));
    assert_scan(&(struct store_range){.keys_only = true}, "abcefg");
}

static void everything_is_there_after_flush_compaction_and_reopening(void **state)
{
    (void)state;
    put("kept", "1");
    put("deleted", "2");
    assert_ok(store_flush_sync(store));
    put("in memory", "3");
    assert_ok(store_delete_sync(store, bytes_of_text("deleted"), NULL));
    for (int round = 0; round < 3; round++) {
        assert_value("kept", "1");
        assert_value("in memory", "3");
        assert_value("deleted", NULL);
        if (round == 0) {
            reopen();
        } else if (round == 1) {
            assert_ok(store_compact_sync(store));
            reopen();
        }
    }
}

static void an_entry_outlives_what_happens_to_its_key(void **state)
{
    struct store_entry entry;
    bool found;
    (void)state;
    put("key", "old");
    assert_ok(store_get_sync(store, bytes_of_text("key"), &found, &entry));
    put("key", "new");
    assert_ok(store_compact_sync(store));
    assert_ok(store_delete_sync(store, bytes_of_text("key"), NULL));
    assert_ok(store_compact_sync(store));
    assert_true(bytes_equal(entry.value, bytes_of_text("old")));
    store_entry_release(&entry);
}

/* --- With callbacks --------------------------------------------------------------------------- */

/* How many operations are under way. Callbacks come on any thread. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static size_t under_way;

static void begin_one(void)
{
    pthread_mutex_lock(&mutex);
    under_way++;
    pthread_mutex_unlock(&mutex);
}

static void end_one(void)
{
    pthread_mutex_lock(&mutex);
    under_way--;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}

static void wait_for_all(void)
{
    pthread_mutex_lock(&mutex);
    while (under_way > 0) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

struct task {
    char key;
    struct store_write *write;
    enum err err;
    bool created, found, right;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct task *task = arg;
    task->err = err;
    task->write = write;
    end_one();
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct task *task = arg;
    task->err = err;
    task->created = err == ERR_OK && !written->ops[0].before.exists;
    end_one();
}

static void on_got(void *arg, enum err err, const struct store_entry *entry)
{
    struct task *task = arg;
    task->err = err;
    task->found = entry != NULL;
    if (entry) {
        struct store_entry mine = *entry;
        task->right = bytes_equal(entry->value, bytes_of(&task->key, 1));
        store_entry_release(&mine);
    }
    end_one();
}

static void on_done(void *arg, enum err err)
{
    *(enum err *)arg = err;
    end_one();
}

enum { TASKS = 26 };

static void put_all(struct task tasks[static TASKS])
{
    struct store_write_size size = {.ops = 1, .bytes = 2};
    for (size_t i = 0; i < TASKS; i++) {
        tasks[i] = (struct task){.key = (char)('a' + i)};
        begin_one();
        store_write_new(store, &size, on_ready, &tasks[i]);
    }
    wait_for_all();
    for (size_t i = 0; i < TASKS; i++) {
        struct store_put what = {.key = bytes_of(&tasks[i].key, 1), .value_bytes = 1};
        void *into;
        assert_ok(tasks[i].err);
        assert_ok(store_write_put(tasks[i].write, &what, &into));
        *(char *)into = tasks[i].key;
        begin_one();
        store_write_commit(tasks[i].write, on_written, &tasks[i]);
    }
    wait_for_all();
}

static void many_operations_are_under_way_at_once(void **state)
{
    struct task tasks[TASKS];
    enum err flushed, compacted;
    (void)state;
    for (int round = 0; round < 2; round++) {
        put_all(tasks);
        for (size_t i = 0; i < TASKS; i++) {
            assert_ok(tasks[i].err);
            assert_int_equal(tasks[i].created, round == 0);
        }
    }
    begin_one();
    store_flush(store, on_done, &flushed);
    begin_one();
    store_compact(store, on_done, &compacted);
    for (size_t i = 0; i < TASKS; i++) {
        begin_one();
        store_get(store, bytes_of(&tasks[i].key, 1), on_got, &tasks[i]);
    }
    wait_for_all();
    assert_ok(flushed);
    assert_ok(compacted);
    for (size_t i = 0; i < TASKS; i++) {
        assert_ok(tasks[i].err);
        assert_true(tasks[i].found && tasks[i].right);
    }
}

static void a_write_can_be_given_up(void **state)
{
    struct task task = {.key = 'x'};
    struct store_write_size size = {.ops = 1, .bytes = 2};
    struct store_put what = {.key = bytes_of(&task.key, 1), .value_bytes = 1};
    struct store_stats stats;
    void *into;
    (void)state;
    begin_one();
    store_write_new(store, &size, on_ready, &task);
    wait_for_all();
    assert_ok(store_write_put(task.write, &what, &into));
    store_write_abort(task.write);
    assert_value("x", NULL);
    store_stats(store, &stats);
    assert_int_equal(stats.inflight_bytes, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(puts_gets_and_deletes),
        TEST(replaces_only_the_version_that_was_read),
        TEST(a_batch_happens_whole_or_not_at_all),
        TEST(scans_in_order),
        TEST(everything_is_there_after_flush_compaction_and_reopening),
        TEST(an_entry_outlives_what_happens_to_its_key),
        TEST(many_operations_are_under_way_at_once),
        TEST(a_write_can_be_given_up),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
