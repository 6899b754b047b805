/*
 * Opening and closing. Recovery, in this order: read the manifest; map the tables it names; replay
 * the log segments it names, flushing to level-0 tables as memory fills; create a fresh segment
 * numbered above all; publish one manifest that names the new tables and the new segment, also when
 * nothing was replayed; only then remove what no manifest names, and serve. Until that manifest is
 * in force nothing that a manifest names is removed or changed, so a crash in the middle finds
 * everything as it was. On a full disk another one comes before it, as often as room is needed: it
 * names the tables so far and the rest of the log, and what it doesn't name goes.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/sigbus.h"
#include "store/lsm/commit.h"
#include "store/lsm/compaction.h"
#include "store/lsm/data_dir.h"
#include "store/lsm/edit.h"
#include "store/lsm/flush.h"
#include "store/lsm/scrub.h"
#include "store/lsm/space.h"

/* For a manifest of so many tables, and some that come of the log, whose keys aren't very long. */
#define MANIFEST_HELD_BYTES(n_tables) (UINT64_C(256) * ((n_tables) + 32))

struct store_options store_options_default(void)
{
    return (struct store_options){.memtable_bytes = UINT64_C(64) << 20,
                                  .max_value_bytes = UINT64_C(16) << 20,
                                  .max_inflight_bytes = UINT64_C(64) << 20,
                                  .scrub_rate = UINT64_C(2) << 20};
}

/* --- The struct
 * ----------------------------------------------------------------------------------- */

static enum err check_options(const struct store_options *options, struct err_detail *detail)
{
    if (!options->dir || options->dir[0] == '\0') {
        err_detail_set(detail, "no data directory is given");
        return ERR_INVALID;
    }
    if (options->max_value_bytes == 0 || options->max_value_bytes > STORE_VALUE_LIMIT_BYTES) {
        err_detail_set(detail, "the largest value must have 1 to %" PRIu64 " bytes",
                       STORE_VALUE_LIMIT_BYTES);
        return ERR_INVALID;
    }
    if (options->memtable_bytes < ENGINE_MEMTABLE_MIN_BYTES ||
        options->memtable_bytes > ENGINE_MEMTABLE_MAX_BYTES) {
        err_detail_set(detail, "a memtable must have %" PRIu64 " to %" PRIu64 " bytes",
                       ENGINE_MEMTABLE_MIN_BYTES, ENGINE_MEMTABLE_MAX_BYTES);
        return ERR_INVALID;
    }
    uint64_t largest = options->max_value_bytes + options->max_value_bytes / 8192 + UINT64_C(65536);
    if (options->max_inflight_bytes < largest) {
        err_detail_set(detail,
                       "writes in flight must have room for the largest value: at least %" PRIu64
                       " bytes",
                       largest);
        return ERR_INVALID;
    }
    if (options->max_inflight_bytes > ENGINE_INFLIGHT_MAX_BYTES) {
        err_detail_set(detail, "writes in flight may have at most %" PRIu64 " bytes",
                       ENGINE_INFLIGHT_MAX_BYTES);
        return ERR_INVALID;
    }
    return ERR_OK;
}

static uint64_t power_of_two_from(uint64_t n)
{
    uint64_t power = 1;
    while (power < n) {
        power *= 2;
    }
    return power;
}

static void init_locks(struct store *store)
{
    for (size_t i = 0; i < ENGINE_STRIPES; i++) {
        pthread_mutex_init(&store->stripes[i], NULL);
    }
    pthread_mutex_init(&store->edit_mutex, NULL);
    pthread_mutex_init(&store->view_mutex, NULL);
    pthread_mutex_init(&store->admission_mutex, NULL);
    pthread_mutex_init(&store->waiters_mutex, NULL);
    pthread_mutex_init(&store->reaper_mutex, NULL);
    pthread_mutex_init(&store->reads.mutex, NULL);
    pthread_cond_init(&store->reads.added, NULL);
    slowdown_init(&store->slowdown);
    sleeper_init(&store->log_sleeper);
    sleeper_init(&store->flush_sleeper);
    sleeper_init(&store->compaction_sleeper);
    sleeper_init(&store->reaper_sleeper);
    sleeper_init(&store->scrub_sleeper);
}

static void release_locks(struct store *store)
{
    for (size_t i = 0; i < ENGINE_STRIPES; i++) {
        pthread_mutex_destroy(&store->stripes[i]);
    }
    pthread_mutex_destroy(&store->edit_mutex);
    pthread_mutex_destroy(&store->view_mutex);
    pthread_mutex_destroy(&store->admission_mutex);
    pthread_mutex_destroy(&store->waiters_mutex);
    pthread_mutex_destroy(&store->reaper_mutex);
    pthread_mutex_destroy(&store->reads.mutex);
    pthread_cond_destroy(&store->reads.added);
    slowdown_release(&store->slowdown);
    sleeper_release(&store->log_sleeper);
    sleeper_release(&store->flush_sleeper);
    sleeper_release(&store->compaction_sleeper);
    sleeper_release(&store->reaper_sleeper);
    sleeper_release(&store->scrub_sleeper);
}

/* Frees everything; no thread runs any more. Half-built stores too. */
static void store_free(struct store *store)
{
    engine_compaction_close(store);
    engine_scrub_close(store);
    struct view *view = atomic_exchange(&store->view, NULL);
    if (view) {
        view_release(view);
    }
    if (!store->options.manual) {
        rcu_door_barrier();
    }
    while (engine_reclaim_step(store)) {
    }
    wal_close(store->wal);
    wal_close(store->next_wal);
    wal_close(store->spare);
    arena_free(store->arena);
    vfs_dir_close(store->dir);
    free(store->dir_path);
    free(store->ring);
    free(store->run);
    free(store->run_records);
    release_locks(store);
    free(store);
}

static struct store *store_alloc(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        return NULL;
    }
    init_locks(store);
    store->options = *options;
    store->vfs = options->vfs ? options->vfs : vfs_posix();
    /* Every operation in flight holds at least ENGINE_OP_BYTES, so the ring can't overflow, nor
     * even be full: the log thread ends a run at an empty slot. */
    uint64_t slots = power_of_two_from(options->max_inflight_bytes / ENGINE_OP_BYTES + 1);
    store->ring_mask = slots - 1;
    store->ring = calloc(slots, sizeof store->ring[0]);
    store->run = malloc(WAL_FRAME_RECORDS_MAX * sizeof store->run[0]);
    store->run_records = malloc(WAL_FRAME_RECORDS_MAX * sizeof store->run_records[0]);
    store->dir_path = strdup(options->dir);
    store->segment_bytes = (WAL_FIRST_FRAME_OFFSET + options->memtable_bytes +
                            options->max_inflight_bytes + ENGINE_DELETE_RESERVE_BYTES + 4095) /
                           4096 * 4096;
    if (!store->ring || !store->run || !store->run_records || !store->dir_path ||
        arena_new(&store->arena) != ERR_OK) {
        store_free(store);
        return NULL;
    }
    return store;
}

static enum err open_tables(struct store *store, const struct manifest *manifest, struct view *view,
                            struct err_detail *detail)
{
    for (size_t i = 0; i < manifest->n_tables; i++) {
        const struct manifest_table *of = &manifest->tables[i];
        struct table *table;
        enum err err =
            table_open(store->dir, store->store_id, of->info.number, &of->info, &table, detail);
        if (err == ERR_NOT_FOUND) {
            char name[FILES_NAME_BYTES];
            files_name(FILE_TABLE, of->info.number, name);
            err_detail_set(detail, "%s: the manifest names this file, and it is missing", name);
            return ERR_CORRUPT;
        }
        if (err != ERR_OK) {
            return err;
        }
        err = view_add_table(view, of->level, table);
        if (err != ERR_OK) {
            table_free(table);
            return err;
        }
    }
    view->covered_seq = manifest->covered_seq;
    return ERR_OK;
}

/* --- Replay
 * --------------------------------------------------------------------------------------- */

struct replay {
    struct store *store;
    const struct manifest *manifest;
    struct view *view; /* not published: gets the tables that are flushed on the way */
    struct memtable *memtable;
    uint64_t flushed_seq; /* every number up to this is in a table, flushed on the way or before */
    uint64_t first_segment; /* where the log of what is in memory begins; 0: nothing is */
    struct err_detail *detail;
};

/* On a full disk: what is not needed any more, of this opening or of the process before, makes
 * room. The manifest must be one that was put in force here, before anything goes; what it names as
 * the log is `segments`. */
static enum err make_room(struct store *store, struct view *view, uint64_t covered_seq,
                          const uint64_t segments[], size_t n_segments, struct err_detail *detail)
{
    (void)space_give_ballast(store);
    enum err err = engine_write_manifest(store, view, covered_seq, segments, n_segments);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot write %s/" FILES_MANIFEST ": %s", store->dir_path,
                       err_text(err));
        return err;
    }
    data_dir_remove_unnamed(store, view, segments, n_segments);
    return ERR_OK;
}

/* What is in memory needs the segments from that on where it begins. */
static enum err make_room_for_table(struct replay *replay)
{
    const struct manifest *manifest = replay->manifest;
    size_t begin = 0;
    assert(replay->first_segment != 0);
    while (manifest->segments[begin] < replay->first_segment) {
        begin++;
    }
    return make_room(replay->store, replay->view, replay->flushed_seq, manifest->segments + begin,
                     manifest->n_segments - begin, replay->detail);
}

static enum err flush_replayed(struct replay *replay)
{
    struct table *table;
    enum err err = flush_write_table(replay->store, replay->memtable, &table);
    if (err == ERR_NO_SPACE) {
        err = make_room_for_table(replay);
        if (err != ERR_OK) {
            return err;
        }
        err = flush_write_table(replay->store, replay->memtable, &table);
    }
    if (err != ERR_OK) {
        err_detail_set(replay->detail, "cannot write a table to %s: %s", replay->store->dir_path,
                       err_text(err));
        return err;
    }
    err = view_add_table(replay->view, 0, table);
    if (err != ERR_OK) {
        table_set_obsolete(table);
        table_free(table);
        return err;
    }
    memtable_release(replay->memtable);
    replay->memtable = NULL;
    replay->first_segment = 0;
    return memtable_new(0, replay->store->options.memtable_bytes, &replay->memtable);
}

static enum err replay_record(struct replay *replay, const struct record *record)
{
    struct node *node;
    uint64_t size = record_size(record);
    enum err err = arena_node(replay->store->arena, size, &node);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(node->record, record, size);
    err = memtable_adopt(replay->memtable, node);
    if (err == ERR_OK) {
        struct memtable_position position;
        memtable_find_position(replay->memtable, record_key(node->record), &position);
        memtable_insert(replay->memtable, node, &position);
    }
    chunk_release(node->chunk);
    return err;
}

static enum err replay_frame(void *arg, const struct frame_header *frame,
                             const struct record *const records[], uint64_t segment_number,
                             uint64_t offset)
{
    (void)offset;
    struct replay *replay = arg;
    for (uint32_t i = 0; i < frame->count; i++) {
        if (records[i]->seq <= replay->manifest->covered_seq) {
            continue;
        }
        if (replay->first_segment == 0) {
            replay->first_segment = segment_number;
        }
        enum err err = replay_record(replay, records[i]);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (memtable_bytes(replay->memtable) >= replay->store->options.memtable_bytes) {
        enum err err = flush_replayed(replay);
        if (err != ERR_OK) {
            return err;
        }
        replay->flushed_seq = frame->first_seq + frame->count - 1;
    }
    return ERR_OK;
}

static void replay_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    const struct store_options *options = &((struct replay *)arg)->store->options;
    if (options->on_progress) {
        options->on_progress(options->arg, done_bytes, total_bytes);
    }
}

static enum err replay_log(struct store *store, const struct manifest *manifest, struct view *view,
                           struct wal_replay *result, struct err_detail *detail)
{
    struct replay replay = {.store = store,
                            .manifest = manifest,
                            .view = view,
                            .flushed_seq = manifest->covered_seq,
                            .detail = detail};
    enum err err = memtable_new(0, store->options.memtable_bytes, &replay.memtable);
    if (err != ERR_OK) {
        return err;
    }
    err = wal_replay(store->dir, store->store_id, manifest->segments, manifest->n_segments,
                     manifest->covered_seq + 1, replay_frame, replay_progress, &replay, result,
                     detail);
    if (err == ERR_OK && memtable_records(replay.memtable) > 0) {
        err = flush_replayed(&replay);
    }
    memtable_release(replay.memtable);
    if (err == ERR_OK && result->warning.text[0] != '\0') {
        engine_event(store, result->torn ? STORE_EVENT_TORN_TAIL : STORE_EVENT_CORRUPTION, "%s",
                     result->warning.text);
    }
    return err;
}

/* --- The end of recovery
 * -------------------------------------------------------------------------- */

/* Creates the segment that takes the first frame, and puts a manifest in force that names it. */
static enum err begin_segment(struct store *store, struct view *view, struct err_detail *detail)
{
    enum err err = wal_create(store->dir, engine_new_number(store), store->store_id,
                              engine_random_id(), store->segment_bytes, &store->wal);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot write a log segment of %" PRIu64 " bytes to %s: %s",
                       store->segment_bytes, store->dir_path, err_text(err));
        return err;
    }
    store->segments[0] = wal_number(store->wal);
    store->n_segments = 1;
    err = engine_write_manifest(store, view, view->covered_seq, store->segments, 1);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot write %s/" FILES_MANIFEST ": %s", store->dir_path,
                       err_text(err));
    }
    return err;
}

static void drop_first_segment(struct store *store)
{
    if (store->wal) {
        char name[FILES_NAME_BYTES];
        files_name(FILE_SEGMENT, wal_number(store->wal), name);
        (void)!vfs_unlink(store->dir, name);
        wal_close(store->wal);
        store->wal = NULL;
        store->n_segments = 0;
    }
}

/* Makes the store ready for numbers from `next_seq` on and publishes its view. */
static enum err begin(struct store *store, struct view *view, uint64_t next_seq,
                      struct err_detail *detail)
{
    view->covered_seq = next_seq - 1;
    enum err err = begin_segment(store, view, detail);
    if (err == ERR_NO_SPACE) {
        /* Everything is in tables by now: the whole log makes room. */
        drop_first_segment(store);
        err = make_room(store, view, view->covered_seq, NULL, 0, detail);
        if (err == ERR_OK) {
            err = begin_segment(store, view, detail);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    err = memtable_new(1, store->options.memtable_bytes, &view->active);
    if (err != ERR_OK) {
        return err;
    }
    atomic_store(&store->claim, claim_of(1, next_seq));
    atomic_store(&store->visible_seq, next_seq - 1);
    atomic_store(&store->log_room_bytes,
                 wal_capacity_bytes(store->wal) - wal_used_bytes(store->wal));
    store->log_next_seq = next_seq;
    store->recorded_seq = next_seq - 1;
    store->active_first_seq = next_seq;
    return ERR_OK;
}

static enum err recover(struct store *store, struct view *view, struct err_detail *detail)
{
    uint64_t began_us = engine_now_us();
    struct manifest manifest = {0};
    struct wal_replay replayed = {0};
    enum err err = data_dir_open(store, &manifest, detail);
    if (err == ERR_OK) {
        err = open_tables(store, &manifest, view, detail);
    }
    if (err == ERR_OK) {
        err = data_dir_remove_unnumbered(store, &manifest, detail);
    }
    if (err == ERR_OK) {
        space_hold_for_manifest(store, MANIFEST_HELD_BYTES(manifest.n_tables));
        err = replay_log(store, &manifest, view, &replayed, detail);
    }
    manifest_release(&manifest);
    if (err == ERR_OK && replayed.next_seq - 1 > RECORD_SEQ_MAX / 2) {
        err_detail_set(detail, FILES_MANIFEST ": the numbers of its log are used up");
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        err = begin(store, view, replayed.next_seq, detail);
    }
    if (err != ERR_OK) {
        return err;
    }
    data_dir_remove_unnamed(store, view, store->segments, store->n_segments);
    space_open(store);
    store->counters.recovery_us = engine_now_us() - began_us;
    store->counters.recovered_records = replayed.records;
    engine_event(store, STORE_EVENT_RECOVERED,
                 "%" PRIu64 " records from the log in %" PRIu64 " ms, next number %" PRIu64,
                 replayed.records, store->counters.recovery_us / 1000, replayed.next_seq);
    engine_check_numbers(store, replayed.next_seq);
    return ERR_OK;
}

/* --- Threads
 * -------------------------------------------------------------------------------------- */

static void *(*const thread_functions[ENGINE_THREADS])(void *) = {
    [ENGINE_LOG_THREAD] = engine_log_thread,
    [ENGINE_FLUSH_THREAD] = engine_flush_thread,
    [ENGINE_COMPACTION_THREAD] = engine_compaction_thread,
    [ENGINE_REAPER_THREAD] = engine_reaper_thread,
    [ENGINE_SCRUB_THREAD] = engine_scrub_thread,
};

/* Who waits for a reader is told; the log thread drains what was claimed before it ends; then the
 * others end. */
static void stop_threads(struct store *store)
{
    atomic_store(&store->closing, true);
    engine_readers_stop(store);
    atomic_store(&store->stop_log, true);
    sleeper_wake(&store->log_sleeper);
    if (store->n_threads > ENGINE_LOG_THREAD) {
        pthread_join(store->threads[ENGINE_LOG_THREAD], NULL);
    }
    atomic_store(&store->stop_background, true);
    sleeper_wake(&store->flush_sleeper);
    sleeper_wake(&store->compaction_sleeper);
    sleeper_wake(&store->reaper_sleeper);
    sleeper_wake(&store->scrub_sleeper);
    for (size_t i = ENGINE_LOG_THREAD + 1; i < store->n_threads; i++) {
        pthread_join(store->threads[i], NULL);
    }
    store->n_threads = 0;
}

static enum err start_threads(struct store *store)
{
    while (store->n_threads < ENGINE_THREADS) {
        if (pthread_create(&store->threads[store->n_threads], NULL,
                           thread_functions[store->n_threads], store) != 0) {
            stop_threads(store);
            return ERR_NO_MEMORY;
        }
        store->n_threads++;
    }
    enum err err = engine_readers_start(store);
    if (err != ERR_OK) {
        stop_threads(store);
    }
    return err;
}

/* What to do about damage. */
static void advise(struct err_detail *detail)
{
    static const char salvage[] = ", `varve salvage` copies what is intact";
    struct err_detail said = *detail;
    err_detail_set(detail, "%s%s%s", said.text,
                   strstr(said.text, "`varve check`") ? "" : "; `varve check` looks closer",
                   salvage);
}

enum err store_open(const struct store_options *options, struct store **ret_store,
                    struct err_detail *detail)
{
    struct err_detail unwanted;
    if (!detail) {
        detail = &unwanted;
    }
    detail->text[0] = '\0';
    enum err err = check_options(options, detail);
    if (err != ERR_OK) {
        return err;
    }
    sigbus_install();
    struct store *store = store_alloc(options);
    struct view *view = NULL;
    if (!store || view_new(store, &view) != ERR_OK) {
        if (store) {
            store_free(store);
        }
        err_detail_set(detail, "out of memory");
        return ERR_NO_MEMORY;
    }
    err = recover(store, view, detail);
    atomic_store(&store->view, view);
    if (err == ERR_OK && !options->manual) {
        err = start_threads(store);
    }
    if (err != ERR_OK) {
        if (detail->text[0] == '\0') {
            err_detail_set(detail, "cannot open %s: %s", options->dir, err_text(err));
        }
        if (err == ERR_CORRUPT) {
            advise(detail);
            engine_event(store, STORE_EVENT_CORRUPTION, "%s", detail->text);
        }
        store_free(store);
        return err;
    }
    *ret_store = store;
    return ERR_OK;
}

void store_close(struct store *store)
{
    if (!store) {
        return;
    }
    atomic_store(&store->closing, true);
    admission_fail_all(store, ERR_CLOSED);
    stop_threads(store);
    while (engine_log_step(store)) { /* in manual mode; else the thread has done it */
    }
    engine_log_idle_step(store);
    enum err err = flush_at_close(store);
    if (err != ERR_OK && atomic_load(&store->state) != STORE_READ_ONLY) {
        engine_event(store, STORE_EVENT_BACKGROUND_FAILED,
                     "the memtable could not be flushed at close (%s); the log keeps it",
                     err_text(err));
    }
    store_free(store);
}

/* Ends as a crash would, for tests in manual mode: nothing more is written. */
void engine_abandon(struct store *store)
{
    assert(store->options.manual);
    atomic_store(&store->closing, true); /* nobody is let in by what is given back */
    engine_readers_stop(store);
    uint64_t end = claim_seq(atomic_load(&store->claim));
    for (uint64_t seq = store->log_next_seq; seq < end;
         seq++) { /* an operation goes with its last */
        struct op *op = atomic_exchange(&store->ring[seq & store->ring_mask], NULL);
        if (op && op->last) {
            commit_complete(op->write, ERR_OUTCOME_UNKNOWN);
        }
    }
    atomic_store(&store->poisoned, true);
    commit_drain_waiters(store);
    admission_fail_all(store, ERR_CLOSED);
    struct flush_request *request;
    while ((request = store->requests) != NULL) {
        store->requests = request->next;
        request->done(request->arg, ERR_CLOSED);
        free(request);
    }
    store_free(store);
}
