/*
 * The whole engine by many threads, on a real directory: eight write without waiting for each other
 * or for the disk, eight read and scan, while memtables of 64 KiB are sealed, flushed and compacted
 * all the time.
 *
 * Each key is written by one writer only, which numbers what it does to the key (its steps: a put,
 * whose value tells the step, or a delete). So a reader can tell from what it finds which steps it
 * may be the outcome of: none before the last one acknowledged when it began, none before what it
 * has seen already, none that was not begun when it ended. For the races all writers meet at one
 * new key.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/lsm/engine.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum {
    WRITERS = 8,
    READERS = 8,
    KEYS_EACH = 12, /* of each writer; the first two are always written together */
    KEYS = WRITERS * KEYS_EACH,
    STEPS_MAX = 1 << 16, /* of one key */
    FLIGHT = 24,         /* writes that a writer has under way at once */
    KEY_BYTES = 24,
    PINS = 8, /* of each reader */
    RACES_MAX = 65536,
    SMALL_BYTES = 100,
    LARGE_BYTES = 40000,
    SECONDS_MIN = 2,
    SECONDS_MAX = 60,
    ROTATIONS_WANTED = 20,
    RACES_WANTED = 5,
};

enum { STEP_PUT = 1, STEP_DELETE = 2 };

struct key {
    char text[KEY_BYTES];
    struct bytes name;
    unsigned step; /* the writer's own: the last one begun… */
    bool exists;   /* …and what it left */
    _Atomic unsigned begun, acknowledged;
    _Atomic unsigned char kinds[STEPS_MAX];
};

struct writer;

/* One write from its commit to its completion. */
struct flight {
    struct writer *writer;
    struct key *keys[2];
    unsigned steps[2]; /* 0: nothing happens to the key */
    bool existed[2], wants[2];
    size_t n;
    bool fails; /* its condition does */
};

struct writer {
    pthread_t thread;
    unsigned index;
    struct prng prng;
    pthread_mutex_t mutex; /* of `under_way` */
    pthread_cond_t less;
    unsigned under_way;
    struct flight flights[FLIGHT];
};

struct pin {
    struct store_entry entry;
    unsigned key, step;
};

struct reader {
    pthread_t thread;
    unsigned index;
    struct prng prng;
    unsigned seen[KEYS]; /* step */
    struct pin pins[PINS];
    size_t n_pins;
    uint64_t scans;
};

static char dir[TEMP_DIR_BYTES];
static struct store *store;
static struct key keys[KEYS];
static struct writer writers[WRITERS];
static struct reader readers[READERS];
static pthread_barrier_t meeting;
static _Atomic bool stop_writing, stop_reading;
static _Atomic unsigned winners[RACES_MAX];
static unsigned n_races;
static _Atomic unsigned n_busy; /* writes that were told to try again */
static uint64_t begin_ms;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void open_store(void)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    options.dir = dir;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = LARGE_BYTES;
    options.max_inflight_bytes = UINT64_C(512) << 10;
    assert_ok(store_open(&options, &store, &detail));
}

/* --- Writers ---------------------------------------------------------------------------------- */

static bool exists_as_wanted(void *arg, const struct store_current *current)
{
    return current->exists == *(const bool *)arg;
}

static bool is_absent(void *arg, const struct store_current *current)
{
    (void)arg;
    return !current->exists;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct flight *flight = arg;
    struct writer *writer = flight->writer;
    assert(err == ERR_OK);
    assert(written->condition_failed == flight->fails);
    for (size_t i = 0; i < flight->n && !flight->fails; i++) {
        assert(written->ops[i].before.exists == flight->existed[i]);
        if (flight->steps[i] != 0) {
            atomic_store(&flight->keys[i]->acknowledged, flight->steps[i]);
        }
    }
    pthread_mutex_lock(&writer->mutex);
    writer->under_way--;
    flight->n = 0;
    pthread_cond_signal(&writer->less);
    pthread_mutex_unlock(&writer->mutex);
}

static void wait_for_flights(struct writer *writer, unsigned at_most)
{
    pthread_mutex_lock(&writer->mutex);
    while (writer->under_way > at_most) {
        pthread_cond_wait(&writer->less, &writer->mutex);
    }
    pthread_mutex_unlock(&writer->mutex);
}

static struct flight *new_flight(struct writer *writer, size_t n)
{
    wait_for_flights(writer, FLIGHT - 1);
    pthread_mutex_lock(&writer->mutex);
    struct flight *flight = writer->flights;
    while (flight->n != 0) {
        flight++;
    }
    *flight = (struct flight){.writer = writer, .n = n};
    writer->under_way++;
    pthread_mutex_unlock(&writer->mutex);
    return flight;
}

static unsigned begin_step(struct key *key, unsigned kind)
{
    assert(key->step + 1 < STEPS_MAX);
    key->step++;
    key->exists = kind == STEP_PUT;
    atomic_store(&key->kinds[key->step], (unsigned char)kind);
    atomic_store(&key->begun, key->step);
    return key->step;
}

static size_t draw_size(struct prng *prng)
{
    size_t most = prng_chance(prng, 1) ? LARGE_BYTES : SMALL_BYTES;
    return PATTERN_VERSION_BYTES + (size_t)prng_below(prng, most - PATTERN_VERSION_BYTES);
}

static void add_op(struct store_write *write, struct flight *flight, size_t i, bool deletes,
                   size_t size)
{
    struct key *key = flight->keys[i];
    flight->existed[i] = key->exists;
    if (deletes) {
        if (key->exists && !flight->fails) {
            flight->steps[i] = begin_step(key, STEP_DELETE);
        }
        assert(store_write_delete(write, key->name) == ERR_OK);
        return;
    }
    struct store_put put = {.key = key->name, .value_bytes = size};
    void *value;
    assert(store_write_put(write, &put, &value) == ERR_OK);
    if (!flight->fails) {
        flight->steps[i] = begin_step(key, STEP_PUT);
    }
    pattern_fill(key->name, key->step, value, size);
}

/* A disk that others keep busy may take longer than writes wait; then it is tried again. */
static struct store_write *new_write(const struct store_write_size *size)
{
    struct store_write *write;
    enum err err;
    while ((err = store_write_new_sync(store, size, &write)) == ERR_BUSY) {
        atomic_fetch_add(&n_busy, 1);
    }
    assert(err == ERR_OK);
    return write;
}

static void write_once(struct writer *writer)
{
    struct prng *prng = &writer->prng;
    struct key *own = &keys[writer->index * KEYS_EACH];
    bool both = prng_chance(prng, 20);
    bool deletes = prng_chance(prng, 25), conditional = prng_chance(prng, 30);
    size_t size = draw_size(prng);
    struct store_write_size asked = {.ops = both ? 2 : 1, .bytes = 2 * (size + KEY_BYTES + 64)};
    struct store_write *write = new_write(&asked);

    struct flight *flight = new_flight(writer, asked.ops);
    flight->keys[0] = both ? &own[0] : &own[2 + prng_below(prng, KEYS_EACH - 2)];
    flight->keys[1] = &own[1];
    flight->fails = conditional && prng_chance(prng, 30);
    for (size_t i = 0; i < flight->n; i++) {
        flight->wants[i] = flight->keys[i]->exists != flight->fails;
        add_op(write, flight, i, deletes, size);
        if (conditional) {
            store_write_condition(write, exists_as_wanted, &flight->wants[i]);
        }
    }
    store_write_commit(write, on_written, flight);
}

static struct bytes race_key(unsigned race, char text[KEY_BYTES])
{
    return bytes_of(text, (size_t)snprintf(text, KEY_BYTES, "race/%06u", race));
}

/* All at once put the same new key if it isn't there. */
static void race(struct writer *writer, unsigned number)
{
    char text[KEY_BYTES];
    struct bytes key = race_key(number, text);
    struct store_put put = {.key = key, .value_bytes = 64};
    struct store_write_size asked = {.ops = 1, .bytes = 200};
    struct store_write *write = new_write(&asked);
    void *value;
    bool failed;
    assert(store_write_put(write, &put, &value) == ERR_OK);
    pattern_fill(key, writer->index + 1, value, 64);
    store_write_condition(write, is_absent, NULL);
    pthread_barrier_wait(&meeting);
    assert(store_write_commit_sync(write, &failed) == ERR_OK);
    if (!failed) {
        atomic_fetch_add(&winners[number], 1);
    }
    /* Won or lost, it is there by now. */
    struct store_entry entry;
    bool found;
    uint64_t who;
    assert(store_get_sync(store, key, &found, &entry) == ERR_OK && found);
    assert(pattern_version(key, entry.value, &who));
    assert(failed ? who != writer->index + 1 : who == writer->index + 1);
    store_entry_release(&entry);
}

/* Enough of everything that is to happen has happened. */
static bool is_enough(unsigned n)
{
    struct store_stats stats;
    uint64_t lasted_ms = now_ms() - begin_ms;
    store_stats(store, &stats);
    return lasted_ms >= SECONDS_MAX * 1000 || n == RACES_MAX ||
           (lasted_ms >= SECONDS_MIN * 1000 && stats.rotations >= ROTATIONS_WANTED &&
            stats.compactions > 0 && stats.claim_retries + stats.insert_retries > 0 &&
            n >= RACES_WANTED);
}

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    for (unsigned n = 0;; n++) {
        for (unsigned i = 0; i < 100; i++) {
            write_once(writer);
        }
        if (writer->index == 0) {
            n_races = n;
            atomic_store(&stop_writing, is_enough(n));
        }
        pthread_barrier_wait(&meeting);
        bool stop = atomic_load(&stop_writing);
        pthread_barrier_wait(&meeting);
        if (stop) {
            break;
        }
        race(writer, n);
    }
    wait_for_flights(writer, 0);
    return NULL;
}

/* --- Readers ---------------------------------------------------------------------------------- */

/* The key wasn't there: after which step may that have been? None before `from`. */
static unsigned absent_after(struct key *key, unsigned from)
{
    unsigned begun = atomic_load(&key->begun);
    for (unsigned step = from; step <= begun; step++) {
        if (step == 0 || atomic_load(&key->kinds[step]) == STEP_DELETE) {
            return step;
        }
    }
    fprintf(stderr, "%s was absent, though it was put by step %u and not deleted up to %u\n",
            key->text, from, begun);
    abort();
}

static unsigned present_after(struct key *key, struct bytes value, unsigned from)
{
    uint64_t step = 0;
    bool intact = pattern_version(key->name, value, &step);
    if (!intact || step < from || step > atomic_load(&key->begun) ||
        atomic_load(&key->kinds[step]) != STEP_PUT) {
        fprintf(stderr, "%s: %s, step %llu, where it must be from %u to %u\n", key->text,
                intact ? "intact" : "wrong bytes", (unsigned long long)step, from,
                atomic_load(&key->begun));
        abort();
    }
    return (unsigned)step;
}

/* The step that a read beginning now may show at least. */
static unsigned least_step(const struct reader *reader, unsigned i)
{
    unsigned acknowledged = atomic_load(&keys[i].acknowledged);
    return acknowledged > reader->seen[i] ? acknowledged : reader->seen[i];
}

static void drop_pin(struct reader *reader)
{
    struct pin *pin = &reader->pins[prng_below(&reader->prng, reader->n_pins)];
    assert(pattern_matches(keys[pin->key].name, pin->step, pin->entry.value));
    store_entry_release(&pin->entry);
    *pin = reader->pins[--reader->n_pins];
}

static void get_once(struct reader *reader)
{
    unsigned i = (unsigned)prng_below(&reader->prng, KEYS);
    unsigned from = least_step(reader, i);
    struct store_entry entry;
    bool found;
    assert(store_get_sync(store, keys[i].name, &found, &entry) == ERR_OK);
    if (!found) {
        reader->seen[i] = absent_after(&keys[i], from);
        return;
    }
    reader->seen[i] = present_after(&keys[i], entry.value, from);
    if (reader->n_pins == PINS) {
        drop_pin(reader);
    }
    reader->pins[reader->n_pins++] =
        (struct pin){.entry = entry, .key = i, .step = reader->seen[i]};
}

struct walk {
    unsigned from[KEYS], shown[KEYS];
    bool reverse, at_end;
    unsigned last; /* key shown last, + 1 */
};

static bool on_scanned(void *arg, const struct store_entry *entry)
{
    struct walk *walk = arg;
    for (unsigned i = 0; i < KEYS; i++) {
        if (bytes_equal(keys[i].name, entry->key)) {
            assert(walk->last == 0 || (walk->reverse ? i + 1 < walk->last : i + 1 > walk->last));
            walk->last = i + 1;
            walk->shown[i] = present_after(&keys[i], entry->value, walk->from[i]);
            return true;
        }
    }
    assert(false && "a key that nobody wrote");
    return false;
}

static void on_scan_end(void *arg, enum err err, bool at_end)
{
    assert(err == ERR_OK);
    ((struct walk *)arg)->at_end = at_end;
}

static void scan_once(struct reader *reader)
{
    struct walk walk = {.reverse = prng_chance(&reader->prng, 50)};
    struct store_range range = {
        .start = bytes_of_text("k"), .end = bytes_of_text("l"), .reverse = walk.reverse};
    struct store_scan *scan;
    for (unsigned i = 0; i < KEYS; i++) {
        walk.from[i] = least_step(reader, i);
    }
    assert(store_scan_new(store, &range, &scan) == ERR_OK);
    store_scan_run(scan, on_scanned, on_scan_end, &walk);
    store_scan_free(scan);
    assert(walk.at_end);
    for (unsigned i = 0; i < KEYS; i++) {
        reader->seen[i] = walk.shown[i] ? walk.shown[i] : absent_after(&keys[i], walk.from[i]);
        /* What is always written together is seen together. */
        assert(i % KEYS_EACH != 1 || walk.shown[i] == walk.shown[i - 1]);
    }
    reader->scans++;
}

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    while (!atomic_load(&stop_reading)) {
        uint64_t dice = prng_below(&reader->prng, 1000);
        if (dice < 20) {
            scan_once(reader);
        } else if (dice < 21 && reader->index == 0) {
            assert(store_flush_sync(store) == ERR_OK);
        } else if (dice < 22 && reader->index == 1) {
            assert(store_compact_sync(store) == ERR_OK);
        } else {
            get_once(reader);
        }
    }
    while (reader->n_pins > 0) {
        drop_pin(reader);
    }
    return NULL;
}

/* --- The test --------------------------------------------------------------------------------- */

static void make_keys(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        struct key *key = &keys[i];
        key->name =
            bytes_of(key->text, (size_t)snprintf(key->text, KEY_BYTES, "key/%s%03u",
                                                 i < KEYS / 2 ? "a/" : "with-a-prefix/", i));
    }
}

static void run_threads(void)
{
    begin_ms = now_ms();
    pthread_barrier_init(&meeting, NULL, WRITERS);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].index = i;
        prng_init(&readers[i].prng, test_seed() + 100 + i);
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].index = i;
        prng_init(&writers[i].prng, test_seed() + i);
        pthread_mutex_init(&writers[i].mutex, NULL);
        pthread_cond_init(&writers[i].less, NULL);
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
    }
    atomic_store(&stop_reading, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
    }
    pthread_barrier_destroy(&meeting);
}

static void check_what_is_left(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        struct store_entry entry;
        bool found;
        assert_ok(store_get_sync(store, keys[i].name, &found, &entry));
        assert_int_equal(found, keys[i].exists);
        if (found) {
            assert_true(pattern_matches(keys[i].name, keys[i].step, entry.value));
            store_entry_release(&entry);
        }
    }
    for (unsigned i = 0; i < n_races; i++) {
        assert_int_equal(atomic_load(&winners[i]), 1);
    }
}

static void everything_at_once_keeps_every_promise(void **state)
{
    (void)state;
    temp_dir_make(dir);
    make_keys();
    open_store();
    run_threads();
    check_what_is_left();

    struct store_stats stats;
    uint64_t scans = 0;
    store_stats(store, &stats);
    for (unsigned i = 0; i < READERS; i++) {
        scans += readers[i].scans;
    }
    printf("%llu writes (%u busy), %llu gets, %llu scans, %u races, %llu rotations, %llu flushes, "
           "%llu compactions, %llu views, %llu stalls, retries: %llu of claims, %llu of links\n",
           (unsigned long long)stats.writes, n_busy, (unsigned long long)stats.gets,
           (unsigned long long)scans, n_races, (unsigned long long)stats.rotations,
           (unsigned long long)stats.flushes, (unsigned long long)stats.compactions,
           (unsigned long long)stats.view_swaps, (unsigned long long)stats.stalls,
           (unsigned long long)stats.claim_retries, (unsigned long long)stats.insert_retries);
    assert_true(stats.rotations >= ROTATIONS_WANTED);
    assert_true(stats.view_swaps > stats.rotations);
    assert_true(stats.compactions > 0 && scans > 0 && n_races >= RACES_WANTED);
    assert_true(stats.claim_retries + stats.insert_retries > 0);
    assert_int_equal(stats.pinned_entries, 0);
    assert_int_equal(stats.inflight_bytes, 0);

    store_close(store);
    open_store();
    check_what_is_left();
    store_close(store);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_at_once_keeps_every_promise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
