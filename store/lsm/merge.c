/* A binary heap of the sources that aren't at their end. The root is the current item: the first
 * key in the walk's direction, from the newest source that has it. Most steps leave the root where
 * it is, at the cost of two comparisons of ranks: one source, the last level, has most of the keys.
 */
#include "store/lsm/merge.h"

#include <assert.h>
#include <stdlib.h>

#include "store/lsm/merge_source.h"

struct merge {
    bool reverse;
    struct table *damaged;
    size_t n_heap;
    struct source **heap;
    size_t n_sources;
    struct source sources[]; /* newest first */
};

static struct merge *merge_alloc(size_t n_sources)
{
    struct merge *merge = calloc(1, sizeof *merge + n_sources * sizeof merge->sources[0]);
    if (!merge) {
        return NULL;
    }
    merge->heap = calloc(n_sources + 1, sizeof merge->heap[0]);
    if (!merge->heap) {
        free(merge);
        return NULL;
    }
    return merge;
}

static struct source *add_source(struct merge *merge, enum source_kind kind)
{
    struct source *source = &merge->sources[merge->n_sources++];
    source->kind = kind;
    source->reverse = merge->reverse;
    return source;
}

static void add_memtable(struct merge *merge, struct memtable *memtable, uint64_t max_seq)
{
    struct source *source = add_source(merge, SOURCE_MEMTABLE);
    source->memtable = memtable;
    source->max_seq = max_seq;
}

static void add_maps(struct merge *merge, struct table *const *tables, size_t n_tables)
{
    add_source(merge, SOURCE_MAPS)->run =
        (struct merge_run){.tables = tables, .n_tables = n_tables};
}

enum err merge_new_view(const struct view *view, uint64_t max_seq, bool reverse,
                        struct merge **ret_merge)
{
    const struct view_level *level0 = &view->levels[0];
    struct merge *merge = merge_alloc(1 + view->n_sealed + level0->n_tables + MANIFEST_LEVELS);
    if (!merge) {
        return ERR_NO_MEMORY;
    }
    merge->reverse = reverse;
    if (view->active) {
        add_memtable(merge, view->active, max_seq);
    }
    for (size_t i = 0; i < view->n_sealed; i++) {
        add_memtable(merge, view->sealed[i], max_seq);
    }
    /* Whatever is in a table of this view was durable when the number was taken. */
    for (size_t i = 0; i < level0->n_tables; i++) {
        add_maps(merge, &level0->tables[i], 1);
    }
    for (uint32_t l = 1; l < MANIFEST_LEVELS; l++) {
        if (view->levels[l].n_tables > 0) {
            add_maps(merge, view->levels[l].tables, view->levels[l].n_tables);
        }
    }
    *ret_merge = merge;
    return ERR_OK;
}

enum err merge_new_streams(struct vfs_dir *dir, const struct merge_run runs[], size_t n_runs,
                           struct merge **ret_merge)
{
    struct merge *merge = merge_alloc(n_runs);
    if (!merge) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n_runs; i++) {
        assert(runs[i].n_tables > 0);
        struct source *source = add_source(merge, SOURCE_STREAMS);
        source->run = runs[i];
        source->dir = dir;
    }
    *ret_merge = merge;
    return ERR_OK;
}

/* --- The heap --- */

/* bytes_compare() in the walk's direction; < 0: `a` comes first. */
static int compare_keys(const struct merge *merge, const struct source *a, const struct source *b)
{
    if (a->rank != b->rank) {
        return a->rank < b->rank ? -1 : 1;
    }
    int order = bytes_compare(a->item.key, b->item.key);
    return merge->reverse ? -order : order;
}

static bool comes_first(const struct merge *merge, const struct source *a, const struct source *b)
{
    int order = compare_keys(merge, a, b);
    return order < 0 || (order == 0 && a < b); /* in the array newer ones come first */
}

static void sift_down(struct merge *merge, size_t at)
{
    struct source *source = merge->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= merge->n_heap) {
            break;
        }
        if (child + 1 < merge->n_heap &&
            comes_first(merge, merge->heap[child + 1], merge->heap[child])) {
            child++;
        }
        if (!comes_first(merge, merge->heap[child], source)) {
            break;
        }
        merge->heap[at] = merge->heap[child];
        at = child;
    }
    merge->heap[at] = source;
}

static enum err fail(struct merge *merge, const struct source *source, enum err err)
{
    merge->damaged = source->item.table;
    merge->n_heap = 0;
    return err;
}

/* Moves the root to its next key and puts it in its place. */
static enum err step_root(struct merge *merge, struct err_detail *detail)
{
    struct source *root = merge->heap[0];
    enum err err = source_next(root, detail);
    if (err != ERR_OK) {
        return fail(merge, root, err);
    }
    if (!root->item.record) {
        merge->n_heap--;
        merge->heap[0] = merge->heap[merge->n_heap];
    }
    if (merge->n_heap > 1) {
        sift_down(merge, 0);
    }
    return ERR_OK;
}

enum err merge_seek(struct merge *merge, struct bytes key, struct err_detail *detail)
{
    merge->n_heap = 0;
    merge->damaged = NULL;
    for (size_t i = 0; i < merge->n_sources; i++) {
        struct source *source = &merge->sources[i];
        enum err err = source_seek(source, key, detail);
        if (err != ERR_OK) {
            return fail(merge, source, err);
        }
        if (source->item.record) {
            merge->heap[merge->n_heap++] = source;
        }
    }
    for (size_t i = merge->n_heap / 2; i > 0; i--) {
        sift_down(merge, i - 1);
    }
    return ERR_OK;
}

const struct merge_item *merge_item(const struct merge *merge)
{
    return merge->n_heap > 0 ? &merge->heap[0]->item : NULL;
}

enum err merge_next(struct merge *merge, struct err_detail *detail)
{
    assert(merge->n_heap > 0);
    struct source *source = merge->heap[0];
    struct bytes key = source->item.key; /* stays valid while `source` moves once */
    enum err err = step_root(merge, detail);

    /* Older versions of the same key. A source has a key once: when `source` itself is at the root
     * again, none is left. */
    while (err == ERR_OK && merge->n_heap > 0 && merge->heap[0] != source &&
           bytes_equal(merge->heap[0]->item.key, key)) {
        err = step_root(merge, detail);
    }
    return err;
}

struct table *merge_damaged(const struct merge *merge)
{
    return merge->damaged;
}

uint64_t merge_read_bytes(const struct merge *merge)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < merge->n_sources; i++) {
        bytes += merge->sources[i].read_bytes;
    }
    return bytes;
}

void merge_free(struct merge *merge)
{
    if (!merge) {
        return;
    }
    for (size_t i = 0; i < merge->n_sources; i++) {
        source_release(&merge->sources[i]);
    }
    free(merge->heap);
    free(merge);
}
