/* Views are small: arrays of pointers. One is rebuilt at each rotation, flush and compaction, which
 * costs a reference per table, and in return readers never meet a list that changes. */
#include "store/lsm/view.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/engine.h"

static struct bytes key_bytes(const struct table_key *key)
{
    return bytes_of(key->data, key->size);
}

enum err view_new(struct store *store, struct view **ret_view)
{
    struct view *view = calloc(1, sizeof *view);
    if (!view) {
        return ERR_NO_MEMORY;
    }
    atomic_init(&view->references, 1);
    view->store = store;
    *ret_view = view;
    return ERR_OK;
}

/* Gives `level` arrays with room for `n` tables, and the first `n_tables` of `from`. */
static enum err level_make(struct view_level *level, const struct view_level *from, size_t n)
{
    struct table **tables = malloc(n * sizeof *tables);
    struct view_range *ranges = malloc(n * sizeof *ranges);
    if (!tables || !ranges) {
        free(tables);
        free(ranges);
        return ERR_NO_MEMORY;
    }
    if (from->n_tables > 0) {
        memcpy(tables, from->tables, from->n_tables * sizeof *tables);
        memcpy(ranges, from->ranges, from->n_tables * sizeof *ranges);
    }
    *level = (struct view_level){.tables = tables, .ranges = ranges, .n_tables = from->n_tables};
    return ERR_OK;
}

enum err view_copy(const struct view *view, struct view **ret_view)
{
    struct view *copy;
    enum err err = view_new(view->store, &copy);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        const struct view_level *from = &view->levels[l];
        if (from->n_tables == 0) {
            continue;
        }
        err = level_make(&copy->levels[l], from, from->n_tables);
        if (err != ERR_OK) {
            view_free(copy);
            return err;
        }
        for (size_t i = 0; i < from->n_tables; i++) {
            table_acquire(from->tables[i]);
        }
    }
    copy->covered_seq = view->covered_seq;
    copy->active = view->active;
    if (copy->active) {
        memtable_acquire(copy->active);
    }
    copy->n_sealed = view->n_sealed;
    for (size_t i = 0; i < view->n_sealed; i++) {
        copy->sealed[i] = view->sealed[i];
        memtable_acquire(copy->sealed[i]);
    }
    *ret_view = copy;
    return ERR_OK;
}

/* True if `a` may stand directly before `b` in `level`. */
static bool in_order(uint32_t level, const struct table_info *a, const struct table_info *b)
{
    if (level == 0) {
        return a->min_seq > b->max_seq;
    }
    return bytes_compare(key_bytes(&a->largest), key_bytes(&b->smallest)) < 0;
}

enum err view_add_table(struct view *view, uint32_t level, struct table *table)
{
    assert(level < MANIFEST_LEVELS);
    struct view_level *old = &view->levels[level];
    const struct table_info *info = table_info(table);
    size_t at = old->n_tables; /* from the end: at open tables come in order */
    while (at > 0 && !in_order(level, table_info(old->tables[at - 1]), info)) {
        at--;
    }
    if (at < old->n_tables && !in_order(level, info, table_info(old->tables[at]))) {
        return ERR_CORRUPT;
    }
    struct view_level new;
    enum err err = level_make(&new, old, old->n_tables + 1);
    if (err != ERR_OK) {
        return err;
    }
    size_t behind = old->n_tables - at;
    memmove(&new.tables[at + 1], &new.tables[at], behind * sizeof *new.tables);
    memmove(&new.ranges[at + 1], &new.ranges[at], behind * sizeof *new.ranges);
    new.tables[at] = table;
    new.ranges[at] = (struct view_range){
        .smallest = bytes_prefix(key_bytes(&info->smallest)),
        .largest = bytes_prefix(key_bytes(&info->largest)),
    };
    new.n_tables++;
    free(old->tables);
    free(old->ranges);
    *old = new;
    return ERR_OK;
}

static void drop_table(struct view *view, struct table *table)
{
    if (table_release(table)) {
        engine_reap_table(view->store, table);
    }
}

void view_remove_table(struct view *view, uint32_t level, struct table *table)
{
    struct view_level *in = &view->levels[level];
    size_t at = 0;
    while (at < in->n_tables && in->tables[at] != table) {
        at++;
    }
    assert(at < in->n_tables);
    in->n_tables--;
    size_t behind = in->n_tables - at;
    memmove(&in->tables[at], &in->tables[at + 1], behind * sizeof *in->tables);
    memmove(&in->ranges[at], &in->ranges[at + 1], behind * sizeof *in->ranges);
    drop_table(view, table);
}

void view_acquire(struct view *view)
{
    uint64_t before = atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    assert(before > 0);
}

void view_release(struct view *view)
{
    uint64_t before = atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1) {
        engine_reap_view(view->store, view);
    }
}

void view_free(struct view *view)
{
    if (!view) {
        return;
    }
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        for (size_t i = 0; i < view->levels[l].n_tables; i++) {
            drop_table(view, view->levels[l].tables[i]);
        }
        free(view->levels[l].tables);
        free(view->levels[l].ranges);
    }
    for (size_t i = 0; i < view->n_sealed; i++) {
        memtable_release(view->sealed[i]);
    }
    memtable_release(view->active);
    free(view);
}

/* --- Lookup --- */

void view_find_in_memtables(const struct view *view, struct bytes key, uint64_t max_seq,
                            struct view_hit *ret_hit)
{
    const struct node *node = NULL;
    if (view->active) {
        node = memtable_get(view->active, key, max_seq);
    }
    for (size_t i = 0; !node && i < view->n_sealed; i++) {
        node = memtable_get(view->sealed[i], key, max_seq);
    }
    *ret_hit = (struct view_hit){.record = node ? node->record : NULL, .node = node};
}

/* bytes_compare(key, bound), where the prefixes of both are known. */
static inline int compare_bound(struct bytes key, uint64_t prefix, uint64_t bound_prefix,
                                const struct table_key *bound)
{
    if (prefix != bound_prefix) {
        return prefix < bound_prefix ? -1 : 1;
    }
    return bytes_compare(key, key_bytes(bound));
}

static inline bool may_hold(const struct view_level *level, size_t i, struct bytes key,
                            uint64_t prefix)
{
    const struct table_info *info = table_info(level->tables[i]);
    return compare_bound(key, prefix, level->ranges[i].smallest, &info->smallest) >= 0 &&
           compare_bound(key, prefix, level->ranges[i].largest, &info->largest) <= 0;
}

/* The first table of a sorted level whose largest key is ≥ `key`; n_tables if there is none. */
static size_t find_table(const struct view_level *level, struct bytes key, uint64_t prefix)
{
    size_t low = 0, high = level->n_tables;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct table_info *info = table_info(level->tables[middle]);
        if (compare_bound(key, prefix, level->ranges[middle].largest, &info->largest) > 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum err view_find_in_tables(const struct view *view, struct bytes key, enum table_depth depth,
                             struct view_hit *ret_hit)
{
    uint64_t hash = table_hash(key);
    uint64_t prefix = bytes_prefix(key);

    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        const struct view_level *level = &view->levels[l];
        /* Level 0: every table, newest first. Others: the only one that may have the key. */
        size_t first = l == 0 ? 0 : find_table(level, key, prefix);
        size_t end = l == 0 || first == level->n_tables ? level->n_tables : first + 1;
        for (size_t i = first; i < end; i++) {
            if (!may_hold(level, i, key, prefix)) {
                continue;
            }
            *ret_hit = (struct view_hit){.table = level->tables[i]};
            enum err err = table_get(level->tables[i], key, hash, depth, &ret_hit->record);
            if (err != ERR_OK || ret_hit->record) {
                return err;
            }
        }
    }
    *ret_hit = (struct view_hit){.record = NULL};
    return ERR_OK;
}
