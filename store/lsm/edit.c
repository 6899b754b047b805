/*
 * The edit mutex is held from building a manifest until its view is published, so that manifests
 * follow one another as views do. Everything that can fail is made before the manifest is written.
 */
#include "store/lsm/edit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void retire(struct rcu_door_head *head)
{
    struct view *view = (struct view *)((char *)head - offsetof(struct view, rcu));
    atomic_fetch_sub_explicit(&view->store->counters.rcu_backlog, 1, memory_order_relaxed);
    view_release(view);
}

void engine_publish(struct store *store, struct view *next)
{
    struct view *before = atomic_exchange(&store->view, next);
    atomic_fetch_add_explicit(&store->counters.view_swaps, 1, memory_order_relaxed);
    if (before) {
        atomic_fetch_add_explicit(&store->counters.rcu_backlog, 1, memory_order_relaxed);
        rcu_door_defer(&before->rcu, retire);
    }
}

static enum err manifest_of(struct store *store, const struct view *view, uint64_t covered_seq,
                            const uint64_t segments[], size_t n_segments,
                            struct manifest *ret_manifest)
{
    size_t n = 0;
    for (size_t level = 0; level < MANIFEST_LEVELS; level++) {
        n += view->levels[level].n_tables;
    }
    uint64_t now_ms = engine_wall_ms();
    store->clock_ms = now_ms > store->clock_ms ? now_ms : store->clock_ms;
    struct manifest manifest = {.store_id = store->store_id,
                                .epoch = store->epoch,
                                .number = store->manifest_number + 1,
                                .next_file = atomic_load(&store->next_file),
                                .covered_seq = covered_seq,
                                .clock_ms = store->clock_ms,
                                .n_segments = n_segments};
    manifest.tables = calloc(n + 1, sizeof manifest.tables[0]);
    manifest.segments = calloc(n_segments + 1, sizeof manifest.segments[0]);
    if (!manifest.tables || !manifest.segments) {
        manifest_release(&manifest);
        return ERR_NO_MEMORY;
    }
    if (n_segments > 0) {
        memcpy(manifest.segments, segments, n_segments * sizeof segments[0]);
    }
    for (uint32_t level = 0; level < MANIFEST_LEVELS; level++) {
        for (size_t i = 0; i < view->levels[level].n_tables; i++) {
            manifest.tables[manifest.n_tables++] = (struct manifest_table){
                .level = level, .info = *table_info(view->levels[level].tables[i])};
        }
    }
    *ret_manifest = manifest;
    return ERR_OK;
}

/* Under the edit mutex. */
static enum err write_manifest(struct store *store, const struct view *view, uint64_t covered_seq,
                               const uint64_t segments[], size_t n_segments)
{
    if (store->manifest_failed) {
        return ERR_READ_ONLY;
    }
    struct manifest manifest;
    enum err err = manifest_of(store, view, covered_seq, segments, n_segments, &manifest);
    if (err != ERR_OK) {
        return err;
    }
    enum manifest_stage stage = MANIFEST_UNTOUCHED;
    err = manifest_store(store->dir, &manifest, &stage);
    int cause = errno;
    manifest_release(&manifest);
    if (stage == MANIFEST_UNKNOWN) {
        store->manifest_failed = true;
        engine_fail(store, STORE_EVENT_MANIFEST_FAILED,
                    "replacing %s/" FILES_MANIFEST
                    " failed: %s; writes are refused until a restart",
                    store->dir_path, strerror(cause));
        return ERR_OUTCOME_UNKNOWN;
    }
    if (err == ERR_OK) {
        store->manifest_number++;
    }
    return err;
}

enum err engine_write_manifest(struct store *store, const struct view *view, uint64_t covered_seq,
                               const uint64_t segments[], size_t n_segments)
{
    pthread_mutex_lock(&store->edit_mutex);
    enum err err = write_manifest(store, view, covered_seq, segments, n_segments);
    pthread_mutex_unlock(&store->edit_mutex);
    return err;
}

static size_t without_segment(uint64_t segments[], size_t n, uint64_t gone)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (segments[i] != gone) {
            segments[kept++] = segments[i];
        }
    }
    assert(kept + 1 == n);
    return kept;
}

/* The view after the edit, as far as tables go; the memtables are set when it is published. */
static enum err edited_view(struct store *store, const struct engine_edit *edit,
                            struct view **ret_view)
{
    pthread_mutex_lock(&store->view_mutex);
    struct view *next = NULL;
    enum err err = view_copy(atomic_load(&store->view), &next);
    pthread_mutex_unlock(&store->view_mutex);
    for (size_t i = 0; err == ERR_OK && i < edit->n_remove; i++) {
        view_remove_table(next, edit->remove[i].level, edit->remove[i].table);
    }
    for (size_t i = 0; err == ERR_OK && i < edit->n_add; i++) {
        err = view_add_table(next, edit->add[i].level, edit->add[i].table);
        if (err == ERR_OK) {
            table_acquire(edit->add[i].table); /* the caller's reference stays until all is done */
        }
    }
    if (err != ERR_OK) {
        if (next) {
            view_free(next);
        }
        return err;
    }
    *ret_view = next;
    return ERR_OK;
}

/* Gives `next` the memtables of now, less the flushed one, and publishes it. Doesn't fail. */
static void publish_edited(struct store *store, const struct engine_edit *edit, struct view *next)
{
    pthread_mutex_lock(&store->view_mutex);
    struct view *current = atomic_load(&store->view);
    struct memtable *dropped[VIEW_SEALED_MAX + 1];
    size_t n_dropped = 0;
    for (size_t i = 0; i < next->n_sealed; i++) {
        dropped[n_dropped++] = next->sealed[i];
    }
    dropped[n_dropped++] = next->active;
    next->n_sealed = current->n_sealed - (edit->flushed ? 1 : 0);
    for (size_t i = 0; i < next->n_sealed; i++) {
        next->sealed[i] = current->sealed[i];
        memtable_acquire(next->sealed[i]);
    }
    next->active = current->active;
    memtable_acquire(next->active);
    engine_publish(store, next);
    pthread_mutex_unlock(&store->view_mutex);
    for (size_t i = 0; i < n_dropped; i++) {
        memtable_release(dropped[i]);
    }
}

static enum err apply(struct store *store, const struct engine_edit *edit)
{
    struct view *next;
    enum err err = edited_view(store, edit, &next);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t segments[ENGINE_SEGMENTS_MAX];
    size_t n_segments = store->n_segments;
    memcpy(segments, store->segments, n_segments * sizeof segments[0]);
    if (edit->flushed) {
        pthread_mutex_lock(&store->view_mutex);
        size_t oldest = atomic_load(&store->view)->n_sealed - 1;
        next->covered_seq = store->sealed_last_seq[oldest];
        n_segments = without_segment(segments, n_segments, store->sealed_segment[oldest]);
        pthread_mutex_unlock(&store->view_mutex);
    }
    if (edit->flushed_active) {
        next->covered_seq = atomic_load(&store->visible_seq);
        n_segments = 0;
    }
    if (edit->add_segment != 0) {
        assert(n_segments < ENGINE_SEGMENTS_MAX);
        segments[n_segments++] = edit->add_segment;
    }
    err = write_manifest(store, next, next->covered_seq, segments, n_segments);
    if (err != ERR_OK) {
        view_free(next);
        return err;
    }
    memcpy(store->segments, segments, sizeof store->segments);
    store->n_segments = n_segments;
    for (size_t i = 0; i < edit->n_remove; i++) {
        bool moved = false;
        for (size_t j = 0; j < edit->n_add; j++) {
            moved = moved || edit->add[j].table == edit->remove[i].table;
        }
        if (!moved) {
            table_set_obsolete(edit->remove[i].table);
        }
    }
    publish_edited(store, edit, next);
    sleeper_wake(&store->scrub_sleeper); /* its table may have gone */
    for (size_t i = 0; i < edit->n_add; i++) {
        if (table_release(edit->add[i].table)) {
            engine_reap_table(store, edit->add[i].table);
        }
    }
    return ERR_OK;
}

enum err engine_apply(struct store *store, const struct engine_edit *edit)
{
    pthread_mutex_lock(&store->edit_mutex);
    enum err err = apply(store, edit);
    pthread_mutex_unlock(&store->edit_mutex);
    return err;
}
