/*
 * A step verifies about a mebibyte of the table at hand, or takes the next one, and says in
 * wait_until_us when the next step may be. Between steps the thread sleeps; it wakes for that
 * moment, when the tables change, and when the store is closed.
 *
 * It takes locks for a few instructions only and is in a read section only to find a table: nobody
 * must have to wait for a thread that others come before.
 */
#include "store/lsm/scrub.h"

#include <assert.h>
#include <inttypes.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In manual mode slices are small, so that a test can do much between two of them. */
#define SLICE_BYTES        (UINT64_C(1) << 20)
#define MANUAL_SLICE_BYTES (UINT64_C(8) << 10)

#define PASS_MIN_US UINT64_C(1000000) /* from begin to begin, however little there is to read */

static bool stopping(const struct store *store)
{
    return atomic_load(&store->closing) || atomic_load(&store->stop_background);
}

/* --- The table at hand --- */

static void let_go(struct store *store)
{
    struct scrubber *scrubber = &store->scrubber;
    table_scrub_free(scrubber->scrub);
    scrubber->scrub = NULL;
    if (scrubber->table && table_release(scrubber->table)) {
        engine_reap_table(store, scrubber->table);
    }
    scrubber->table = NULL;
}

void engine_scrub_close(struct store *store)
{
    let_go(store);
}

void engine_scrub_note_verified(struct store *store, struct table *table)
{
    table_set_verified_at(table, atomic_fetch_add(&store->verifications, 1) + 1);
}

static void tell_damage(struct store *store, enum err err, const struct table_damage *damage)
{
    if (table_set_damaged(store->scrubber.table)) {
        engine_table_event(store, damage->keys.text,
                           "%s (%s), found by the scrubber; lookups in this table verify what they "
                           "hand out, see varve check",
                           damage->detail.text, err_text(err));
    }
}

/* --- Passes --- */

/* The table of the view that was verified longest ago, and before this pass; NULL if there is none.
 * With a reference. */
static struct table *find_due(struct store *store, bool *ret_any)
{
    struct table *found = NULL;
    struct view *view = engine_view_acquire(store);
    *ret_any = false;
    for (uint32_t level = 0; level < MANIFEST_LEVELS; level++) {
        const struct view_level *of = &view->levels[level];
        for (size_t i = 0; i < of->n_tables; i++) {
            uint64_t at = table_verified_at(of->tables[i]);
            *ret_any = true;
            if (at <= store->scrubber.pass_began_at && (!found || at < table_verified_at(found))) {
                found = of->tables[i];
            }
        }
    }
    if (found) {
        table_acquire(found);
    }
    view_release(view);
    return found;
}

static void begin_pass(struct store *store, uint64_t now_us)
{
    struct scrubber *scrubber = &store->scrubber;
    scrubber->in_pass = true;
    scrubber->pass_began_us = now_us;
    scrubber->pass_began_at = atomic_load(&store->verifications);
}

static void end_pass(struct store *store, bool any_tables, uint64_t swaps)
{
    struct scrubber *scrubber = &store->scrubber;
    scrubber->in_pass = false;
    scrubber->seen_swaps = swaps;
    if (!any_tables) {
        scrubber->wait_until_us = UINT64_MAX; /* until there are */
        return;
    }
    uint64_t took_us = engine_now_us() - scrubber->pass_began_us;
    uint64_t next_us = scrubber->pass_began_us + PASS_MIN_US;
    if (scrubber->wait_until_us < next_us) {
        scrubber->wait_until_us = next_us;
    }
    atomic_fetch_add_explicit(&store->counters.scrub_passes, 1, memory_order_relaxed);
    atomic_store_explicit(&store->counters.scrub_pass_us, took_us, memory_order_relaxed);
}

/* Gives up on the table until the next pass, so that it isn't in the others' way. It may be for
 * want of memory or descriptors, so it is not called damaged. */
static void put_off(struct store *store, enum err err)
{
    struct scrubber *scrubber = &store->scrubber;
    engine_scrub_note_verified(store, scrubber->table);
    let_go(store);
    scrubber->wait_until_us = engine_now_us() + ENGINE_RETRY_MS * 1000;
    if (!scrubber->failed) {
        scrubber->failed = true;
        engine_event(store, STORE_EVENT_BACKGROUND_FAILED,
                     "scrubbing a table in %s failed: %s; it is tried again in the next pass",
                     store->dir_path, err_text(err));
    }
}

/* Takes the next table of the pass. False: none is left. */
static bool begin_table(struct store *store)
{
    struct scrubber *scrubber = &store->scrubber;
    uint64_t swaps = atomic_load(&store->counters.view_swaps);
    bool any;
    if (!scrubber->in_pass) {
        begin_pass(store, engine_now_us());
    }
    scrubber->table = find_due(store, &any);
    if (!scrubber->table) {
        end_pass(store, any, swaps);
        return false;
    }
    enum err err = table_scrub_new(store->dir, scrubber->table, &scrubber->scrub);
    if (err == ERR_NOT_FOUND) {
        struct table_damage damage = {.keys.text = ""};
        char name[FILES_NAME_BYTES];
        files_name(FILE_TABLE, table_info(scrubber->table)->number, name);
        err_detail_set(&damage.detail, "%s: the file is gone", name);
        tell_damage(store, err, &damage);
        engine_scrub_note_verified(store, scrubber->table);
        let_go(store);
        return true;
    }
    if (err != ERR_OK) {
        put_off(store, err);
    }
    return true;
}

/* --- Steps --- */

static bool go_on(struct store *store)
{
    struct scrubber *scrubber = &store->scrubber;
    struct table_damage damage;
    bool done = false;
    uint64_t before = table_scrub_bytes(scrubber->scrub);
    enum err err = table_scrub_step(
        scrubber->scrub, store->options.manual ? MANUAL_SLICE_BYTES : SLICE_BYTES, &done, &damage);
    uint64_t bytes = table_scrub_bytes(scrubber->scrub) - before;

    atomic_fetch_add_explicit(&store->counters.scrub_bytes, bytes, memory_order_relaxed);
    scrubber->wait_until_us =
        pacer_book(&scrubber->pacer, store->options.scrub_rate, bytes, engine_now_us());
    if (err == ERR_NO_MEMORY) {
        put_off(store, err);
        return true;
    }
    scrubber->failed = false;
    if (err != ERR_OK) {
        tell_damage(store, err, &damage);
    }
    if (err != ERR_OK || done) {
        engine_scrub_note_verified(store, scrubber->table);
        let_go(store);
    }
    return true;
}

bool engine_scrub_step(struct store *store)
{
    struct scrubber *scrubber = &store->scrubber;
    if (stopping(store) || store->options.scrub_rate == 0) {
        let_go(store);
        return false;
    }
    if (scrubber->table && table_is_obsolete(scrubber->table)) {
        let_go(store);
    }
    return scrubber->table ? go_on(store) : begin_table(store);
}

/* --- Thread --- */

/* Of the disk it gets what nobody else wants, of the processor little; where that can't be had, the
 * rate alone keeps it modest. Not SCHED_IDLE, nor the greatest nice value: a process ends only when
 * each of its threads was given the processor once more, and with all of it busy that was measured
 * to take seconds, after SIGKILL too. */
static void stand_back(void)
{
    enum { NICE = 10, IOPRIO_WHO_PROCESS = 1, IOPRIO_CLASS_IDLE = 3, IOPRIO_CLASS_SHIFT = 13 };
    (void)!nice(NICE); /* of this thread alone, in Linux */
    (void)!syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT);
}

static bool has_work(void *arg)
{
    const struct store *store = arg;
    const struct scrubber *scrubber = &store->scrubber;
    if (stopping(store) || (scrubber->table && table_is_obsolete(scrubber->table))) {
        return true;
    }
    if (scrubber->wait_until_us == UINT64_MAX) {
        return atomic_load(&store->counters.view_swaps) != scrubber->seen_swaps;
    }
    return engine_now_us() >= scrubber->wait_until_us;
}

static uint64_t sleep_ms(const struct store *store)
{
    uint64_t until_us = store->scrubber.wait_until_us;
    uint64_t now_us = engine_now_us();
    if (until_us == UINT64_MAX) {
        return UINT64_MAX;
    }
    return until_us > now_us ? (until_us - now_us) / 1000 + 1 : 0;
}

void *engine_scrub_thread(void *arg)
{
    struct store *store = arg;
    if (store->options.scrub_rate == 0) {
        return NULL;
    }
    stand_back();
    while (!stopping(store)) {
        sleeper_wait(&store->scrub_sleeper, has_work, store, sleep_ms(store));
        if (has_work(store)) {
            (void)engine_scrub_step(store);
        }
    }
    return NULL;
}
