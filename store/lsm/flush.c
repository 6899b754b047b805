/*
 * The flush thread: makes spare log segments ahead of need, and turns sealed memtables into level-0
 * tables, oldest first. It also looks after the space that is kept back (space.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/commit.h"
#include "store/lsm/edit.h"
#include "store/lsm/flush.h"
#include "store/lsm/scrub.h"
#include "store/lsm/space.h"

static struct pulse *pulse(struct store *store)
{
    return &store->pulses[ENGINE_FLUSH_THREAD];
}

static void kick_log(struct store *store)
{
    atomic_store(&store->log_kick, true);
    sleeper_wake(&store->log_sleeper);
}

/* --- How an attempt ended
 * ---------------------------------------------------------------------------------------- */

/* Notes a failure: says so once, and when to try again. */
static void note_failure(struct store *store, enum err err, const char *what)
{
    store->flush_retry_ms = engine_now_ms() + ENGINE_RETRY_MS;
    if (err == ERR_NO_SPACE) {
        space_is_short(store, what);
    } else if (!store->flush_failed) {
        store->flush_failed = true;
        engine_event(store, STORE_EVENT_BACKGROUND_FAILED,
                     "writing %s in %s failed: %s; it is tried "
                     "again every second",
                     what, store->dir_path, err_text(err));
    }
}

static bool finish(struct store *store, enum err err, const char *what)
{
    if (err == ERR_OK) {
        store->flush_failed = false;
        store->flush_retry_ms = 0;
        kick_log(store);
        return true;
    }
    if (err == ERR_OUTCOME_UNKNOWN || err == ERR_READ_ONLY) {
        store->flush_retry_ms = UINT64_MAX; /* not before a restart */
    } else {
        note_failure(store, err, what);
    }
    return false;
}

/* --- Spare segments
 * ------------------------------------------------------------------------------- */

/* Creates a segment that no manifest names yet. */
static enum err make_segment(struct store *store, struct wal **ret_wal)
{
    return wal_create(store->dir, engine_new_number(store), store->store_id, engine_random_id(),
                      store->segment_bytes, ret_wal);
}

static void drop_segment(struct store *store, uint64_t number)
{
    char name[FILES_NAME_BYTES];
    files_name(FILE_SEGMENT, number, name);
    (void)!vfs_unlink(store->dir, name); /* else it goes at the next open */
}

/* A spare serves only once it is complete and named in the manifest. */
static enum err make_spare(struct store *store)
{
    struct wal *wal;
    enum err err = make_segment(store, &wal);
    if (err != ERR_OK) {
        return err;
    }
    struct engine_edit edit = {.add_segment = wal_number(wal)};
    err = engine_apply(store, &edit);
    if (err != ERR_OK) {
        if (err != ERR_OUTCOME_UNKNOWN) {
            drop_segment(store, wal_number(wal));
        }
        wal_close(wal);
        return err;
    }
    pthread_mutex_lock(&store->view_mutex);
    store->spare = wal;
    pthread_mutex_unlock(&store->view_mutex);
    return ERR_OK;
}

static bool spare_is_wanted(struct store *store)
{
    pthread_mutex_lock(&store->view_mutex);
    bool there = store->spare != NULL;
    pthread_mutex_unlock(&store->view_mutex);
    return !there && !atomic_load(&store->closing) && atomic_load(&store->spare_wanted);
}

/* --- Memtable to table
 * ---------------------------------------------------------------------------- */

/* Writes the newest version of each key. */
static enum err write_records(struct table_writer *writer, const struct memtable *memtable)
{
    const struct record *before = NULL;
    for (const struct node *node = memtable_first(memtable); node; node = memtable_next(node)) {
        if (before && bytes_equal(record_key(before), record_key(node->record))) {
            continue;
        }
        before = node->record;
        enum err err = table_writer_add(writer, before);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* Reads the new table once more, so that nothing replaces the log that can't be read. */
static enum err open_verified(struct store *store, const struct table_info *info,
                              struct table **ret_table)
{
    struct err_detail detail = {""};
    struct table *table;
    enum err err = table_open(store->dir, store->store_id, info->number, info, &table, &detail);
    if (err != ERR_OK) {
        return err;
    }
    err = table_verify(store->dir, table, NULL, NULL, &detail);
    if (err != ERR_OK) {
        table_set_obsolete(table);
        if (table_release(table)) {
            table_free(table);
        }
        return err;
    }
    engine_scrub_note_verified(store, table);
    *ret_table = table;
    return ERR_OK;
}

enum err flush_write_table(struct store *store, const struct memtable *memtable,
                           struct table **ret_table)
{
    struct table_writer *writer;
    uint64_t failed_syncs = vfs_dir_failed_syncs(store->dir);
    enum err err = table_writer_new(store->dir, engine_new_number(store), store->store_id,
                                    engine_random_id(), &writer);
    if (err != ERR_OK) {
        return err;
    }
    struct table_info info;
    err = write_records(writer, memtable);
    if (err == ERR_OK) {
        err = table_writer_finish(writer, &info);
    }
    table_writer_free(writer);
    if (err != ERR_OK) {
        return err;
    }
    err = vfs_dir_sync_since(store->dir, failed_syncs);
    if (err == ERR_OK) {
        err = open_verified(store, &info, ret_table);
    }
    if (err != ERR_OK) {
        char name[FILES_NAME_BYTES];
        files_name(FILE_TABLE, info.number, name);
        (void)!vfs_unlink(store->dir, name);
    }
    return err;
}

static enum err install(struct store *store, struct table *table, bool is_active)
{
    struct engine_edit_table add = {.level = 0, .table = table};
    struct engine_edit edit = {
        .add = &add, .n_add = 1, .flushed = !is_active, .flushed_active = is_active};
    enum err err = engine_apply(store, &edit);
    if (err != ERR_OK) {
        if (err != ERR_OUTCOME_UNKNOWN) {
            table_set_obsolete(table);
        }
        if (table_release(table)) {
            table_free(table);
        }
    }
    return err;
}

static enum err flush_memtable(struct store *store, struct memtable *memtable, bool is_active)
{
    uint64_t began_us = engine_now_us();
    struct table *table;
    engine_io_begin(pulse(store));
    enum err err = flush_write_table(store, memtable, &table);
    struct table_info info;
    if (err == ERR_OK) {
        info = *table_info(table);
        err = install(store, table, is_active);
    }
    engine_io_end(pulse(store));
    if (err != ERR_OK) {
        return err;
    }
    atomic_fetch_add_explicit(&store->counters.flushes, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->counters.flushed_bytes, info.size_bytes,
                              memory_order_relaxed);
    engine_event(store, STORE_EVENT_FLUSHED,
                 "table %016" PRIx64 ": %" PRIu64 " records, %" PRIu64 " bytes, %" PRIu64 " ms",
                 info.number, info.records, info.size_bytes, (engine_now_us() - began_us) / 1000);
    return ERR_OK;
}

/* The oldest sealed memtable if the log has consumed all of it, with its segment's number. */
static struct memtable *oldest_complete(struct store *store, uint64_t *ret_segment)
{
    struct memtable *memtable = NULL;
    pthread_mutex_lock(&store->view_mutex);
    const struct view *view = atomic_load(&store->view);
    if (view->n_sealed > 0 && store->sealed_last_seq[view->n_sealed - 1] != 0) {
        memtable = view->sealed[view->n_sealed - 1];
        memtable_acquire(memtable);
        *ret_segment = store->sealed_segment[view->n_sealed - 1];
    }
    pthread_mutex_unlock(&store->view_mutex);
    return memtable;
}

/* --- Requests
 * ------------------------------------------------------------------------------------- */

static uint64_t covered_seq(struct store *store)
{
    rcu_door_lock();
    uint64_t covered = atomic_load(&store->view)->covered_seq;
    rcu_door_unlock();
    return covered;
}

/* Whether a request ends now, and how. Who waits for a table that the disk has no room for is told
 * so; what is covered already is for the compaction thread. */
static bool is_answered(struct store *store, const struct flush_request *request, uint64_t covered,
                        enum err *ret_err)
{
    bool is_covered = request->target_seq <= covered;
    if (is_covered && !request->compact) {
        *ret_err = ERR_OK;
    } else if (atomic_load(&store->closing)) {
        *ret_err = ERR_CLOSED;
    } else if (atomic_load(&store->state) == STORE_READ_ONLY) {
        *ret_err = ERR_READ_ONLY;
    } else if (!is_covered && atomic_load(&store->no_space)) {
        *ret_err = ERR_NO_SPACE;
    } else {
        return false;
    }
    return true;
}

static struct flush_request *take_answered(struct store *store, uint64_t covered, enum err *ret_err)
{
    struct flush_request *found = NULL;
    pthread_mutex_lock(&store->admission_mutex);
    for (struct flush_request **link = &store->requests; *link; link = &(*link)->next) {
        if (is_answered(store, *link, covered, ret_err)) {
            found = *link;
            *link = found->next;
            break;
        }
    }
    pthread_mutex_unlock(&store->admission_mutex);
    return found;
}

static void answer_requests(struct store *store)
{
    uint64_t covered = covered_seq(store);
    struct flush_request *request;
    enum err err = ERR_OK;
    while ((request = take_answered(store, covered, &err)) != NULL) {
        request->done(request->arg, err);
        free(request);
    }
    sleeper_wake(&store->compaction_sleeper);
}

/* Under the admission mutex. */
static void raise_flush_target(struct store *store, uint64_t target)
{
    if (atomic_load(&store->flush_target) < target) {
        atomic_store(&store->flush_target, target);
    }
}

/* Has the memtable sealed as if somebody had asked for a flush. */
static void request_rotation(struct store *store)
{
    pthread_mutex_lock(&store->admission_mutex);
    raise_flush_target(store, claim_seq(atomic_load(&store->claim)) - 1);
    pthread_mutex_unlock(&store->admission_mutex);
    kick_log(store);
}

void engine_request(struct store *store, bool compact, store_done_fn *done, void *arg)
{
    struct flush_request *request = malloc(sizeof *request);
    if (!request) {
        done(arg, ERR_NO_MEMORY);
        return;
    }
    uint64_t target = claim_seq(atomic_load(&store->claim)) - 1;
    *request =
        (struct flush_request){.target_seq = target, .compact = compact, .done = done, .arg = arg};
    pthread_mutex_lock(&store->admission_mutex);
    request->next = store->requests;
    store->requests = request;
    raise_flush_target(store, target);
    pthread_mutex_unlock(&store->admission_mutex);
    atomic_store(&store->spare_wanted, true);
    atomic_store(&store->requests_changed, true);
    kick_log(store);
    sleeper_wake(&store->flush_sleeper);
}

void store_flush(struct store *store, store_done_fn *done, void *arg)
{
    engine_request(store, false, done, arg);
}

/* --- Step and thread
 * ------------------------------------------------------------------------------ */

/* A full disk is met with the ballast. */
static enum err flush_with_ballast(struct store *store, struct memtable *memtable, bool is_active)
{
    enum err err = flush_memtable(store, memtable, is_active);
    if (err == ERR_NO_SPACE && space_give_ballast(store)) {
        err = flush_memtable(store, memtable, is_active);
    }
    return err;
}

/* True if a memtable was flushed. */
static bool flush_oldest(struct store *store)
{
    uint64_t segment = 0;
    struct memtable *memtable = oldest_complete(store, &segment);
    if (!memtable) {
        return false;
    }
    enum err err = flush_with_ballast(store, memtable, false);
    memtable_release(memtable);
    if (err == ERR_OK) {
        drop_segment(store, segment);
    }
    return finish(store, err, "a table");
}

static enum err make_wanted_spare(struct store *store)
{
    atomic_store(&store->spare_wanted, false); /* before it is there and may be used up */
    engine_io_begin(pulse(store));
    enum err err = make_spare(store);
    engine_io_end(pulse(store));
    if (err != ERR_OK) {
        atomic_store(&store->spare_wanted, true);
    }
    return err;
}

static bool may_flush_deletes(struct store *store)
{
    rcu_door_lock();
    const struct view *view = atomic_load(&store->view);
    bool may = memtable_records(view->active) > 0 && view->n_sealed == 0 &&
               view->levels[0].n_tables < ENGINE_LEVEL0_STOP;
    rcu_door_unlock();
    return may && !atomic_load(&store->closing);
}

/* Deletes that came while the disk is full free nothing as long as they are in memory only: has the
 * memtable sealed, with a segment from the ballast if need be. The rest of the ballast is enough
 * for the table. */
static void flush_deletes(struct store *store)
{
    if (!atomic_load(&store->deletes_waiting) || !may_flush_deletes(store) ||
        space_free_all_but_needed(store) != ERR_OK) {
        return;
    }
    atomic_store(&store->spare_wanted, true);
    if (spare_is_wanted(store) && make_wanted_spare(store) != ERR_OK) {
        return;
    }
    atomic_store(&store->deletes_waiting, false);
    request_rotation(store);
}

/* With the disk full: what can be done, until the next attempt. */
static void wait_for_space(struct store *store)
{
    store->flush_retry_ms = engine_now_ms() + ENGINE_RETRY_MS;
    if (atomic_load(&store->loan) == SPACE_OWN) {
        flush_deletes(store);
    }
}

bool engine_flush_step(struct store *store)
{
    atomic_store(&store->requests_changed, false);
    answer_requests(store);
    if (engine_now_ms() < store->flush_retry_ms && !store->options.manual) {
        return false;
    }
    if (store->flush_retry_ms == UINT64_MAX) {
        return false;
    }
    store->flush_retry_ms = 0; /* unless something fails now */
    if (flush_oldest(store)) {
        answer_requests(store);
        return true;
    }
    if (store->flush_retry_ms == UINT64_MAX) {
        return false;
    }
    bool whole = space_restore(store);
    bool short_of_space = atomic_load(&store->no_space);
    if (spare_is_wanted(store) && (whole || !short_of_space)) {
        if (finish(store, make_wanted_spare(store), "a log segment")) {
            return true;
        }
        if (store->flush_retry_ms == UINT64_MAX) {
            return false;
        }
    } else if (whole && short_of_space && store->flush_retry_ms == 0 && space_look_again(store)) {
        return true;
    }
    if (atomic_load(&store->no_space)) {
        wait_for_space(store);
    } else if (!whole) {
        store->flush_retry_ms = engine_now_ms() + ENGINE_RETRY_MS;
    }
    return false;
}

enum err flush_at_close(struct store *store)
{
    uint64_t segments[ENGINE_SEGMENTS_MAX];
    while (engine_flush_step(store)) {
    }
    struct view *view = atomic_load(&store->view);
    bool all_durable =
        claim_seq(atomic_load(&store->claim)) == atomic_load(&store->visible_seq) + 1;
    if (view->n_sealed > 0 || !all_durable || atomic_load(&store->state) == STORE_READ_ONLY) {
        return ERR_IO; /* it stays in the log */
    }
    if (memtable_records(view->active) == 0) {
        return ERR_OK;
    }
    size_t n_segments = store->n_segments;
    memcpy(segments, store->segments, sizeof segments);
    enum err err = flush_with_ballast(store, view->active, true);
    for (size_t i = 0; err == ERR_OK && i < n_segments; i++) {
        drop_segment(store, segments[i]);
    }
    return err;
}

static bool flush_has_work(void *arg)
{
    struct store *store = arg;
    if (atomic_load(&store->stop_background) || atomic_load(&store->requests_changed)) {
        return true;
    }
    if (engine_now_ms() < store->flush_retry_ms) {
        return false;
    }
    uint64_t segment;
    struct memtable *memtable = oldest_complete(store, &segment);
    if (memtable) {
        memtable_release(memtable);
        return true;
    }
    return spare_is_wanted(store);
}

void *engine_flush_thread(void *arg)
{
    struct store *store = arg;
    while (!atomic_load(&store->stop_background)) {
        engine_busy_begin(pulse(store));
        while (!atomic_load(&store->stop_background) && engine_flush_step(store)) {
        }
        engine_busy_end(pulse(store));
        bool retry = store->flush_retry_ms != 0 && store->flush_retry_ms != UINT64_MAX;
        sleeper_wait(&store->flush_sleeper, flush_has_work, store,
                     retry ? ENGINE_RETRY_MS : UINT64_MAX);
    }
    return NULL;
}
