/* Scans: a merge over a snapshot. Whatever changes meanwhile, the view keeps its memtables and
 * tables, and the number hides what came later. */
#include <stdlib.h>
#include <string.h>

#include "store/lsm/engine.h"
#include "store/lsm/merge.h"

struct store_scan {
    struct store *store;
    struct view *view;
    uint64_t seq;
    struct merge *merge;
    bool reverse, keys_only;
    bool started;
    bool stands;              /* at `entry`, which was not handed out yet */
    enum err err;             /* why it can't go on */
    struct store_entry entry; /* of the merge's item */
    struct bytes start, end;
    uint8_t bounds[]; /* the bytes of both */
};

static enum err scan_alloc(const struct store_range *range, struct store_scan **ret_scan)
{
    if (range->start.size > STORE_KEY_MAX_BYTES || range->end.size > STORE_KEY_MAX_BYTES) {
        return ERR_INVALID;
    }
    struct store_scan *scan = calloc(1, sizeof *scan + range->start.size + range->end.size);
    if (!scan) {
        return ERR_NO_MEMORY;
    }
    scan->reverse = range->reverse;
    scan->keys_only = range->keys_only;
    scan->start = bytes_of(scan->bounds, range->start.size);
    scan->end = bytes_of(scan->bounds + range->start.size, range->end.size);
    if (range->start.size > 0) {
        memcpy(scan->bounds, range->start.data, range->start.size);
    }
    if (range->end.size > 0) {
        memcpy(scan->bounds + range->start.size, range->end.data, range->end.size);
    }
    *ret_scan = scan;
    return ERR_OK;
}

enum err store_scan_new(struct store *store, const struct store_range *range,
                        struct store_scan **ret_scan)
{
    if (atomic_load(&store->closing)) {
        return ERR_CLOSED;
    }
    if (atomic_fetch_add(&store->counters.scans_open, 1) >= ENGINE_SCANS_MAX) {
        atomic_fetch_sub(&store->counters.scans_open, 1);
        return ERR_BUSY;
    }
    struct store_scan *scan;
    enum err err = scan_alloc(range, &scan);
    if (err != ERR_OK) {
        atomic_fetch_sub(&store->counters.scans_open, 1);
        return err;
    }
    scan->store = store;
    scan->view = engine_snapshot(store, &scan->seq);
    err = merge_new_view(scan->view, scan->seq, scan->reverse, &scan->merge);
    if (err != ERR_OK) {
        store_scan_free(scan);
        return err;
    }
    *ret_scan = scan;
    return ERR_OK;
}

void store_scan_free(struct store_scan *scan)
{
    if (!scan) {
        return;
    }
    merge_free(scan->merge);
    view_release(scan->view);
    atomic_fetch_sub(&scan->store->counters.scans_open, 1);
    free(scan);
}

struct store_version store_scan_position(const struct store_scan *scan)
{
    return (struct store_version){scan->store->epoch, scan->seq};
}

static bool in_range(const struct store_scan *scan, struct bytes key)
{
    if (scan->reverse) {
        return scan->start.size == 0 || bytes_compare(key, scan->start) >= 0;
    }
    return scan->end.size == 0 || bytes_compare(key, scan->end) < 0;
}

static enum err fail(struct store_scan *scan, struct table *table, enum err err)
{
    engine_table_failed(scan->store, table, err);
    return err;
}

/* Fills the entry with the merge's item; *ret_exists false: it is a delete marker. */
static enum err describe(struct store_scan *scan, const struct merge_item *item, bool *ret_exists)
{
    struct view_hit hit = {.record = item->record, .node = item->node, .table = item->table};
    enum record_kind kind;
    enum err err = engine_describe(scan->store, &hit, &scan->entry, &kind);
    if (err != ERR_OK) {
        return fail(scan, item->table, err);
    }
    *ret_exists = kind == RECORD_PUT;
    scan->entry.key = item->key;
    if (scan->keys_only) {
        scan->entry.value.data = NULL;
    }
    return ERR_OK;
}

static enum err step(struct store_scan *scan)
{
    enum err err;
    if (scan->started) {
        err = merge_next(scan->merge, NULL);
    } else {
        scan->started = true;
        err = merge_seek(scan->merge, scan->reverse ? scan->end : scan->start, NULL);
    }
    return err == ERR_OK ? ERR_OK : fail(scan, merge_damaged(scan->merge), err);
}

/* To the next entry in the range. None is left: stands nowhere, without an error. */
static enum err advance(struct store_scan *scan)
{
    bool exists = false;
    scan->stands = false;
    while (!exists) {
        enum err err = step(scan);
        if (err != ERR_OK) {
            return err;
        }
        const struct merge_item *item = merge_item(scan->merge);
        if (!item || !in_range(scan, item->key)) {
            return ERR_OK;
        }
        err = describe(scan, item, &exists);
        if (err != ERR_OK) {
            return err;
        }
    }
    scan->stands = true;
    return ERR_OK;
}

/* A long value is verified only now, when it is about to be shown. */
static enum err verify_value(struct store_scan *scan)
{
    const struct merge_item *item = merge_item(scan->merge);
    if (scan->keys_only || !item->table) {
        return ERR_OK;
    }
    enum err err = table_verify_value(item->table, item->record, 0, scan->entry.value.size);
    return err == ERR_OK ? ERR_OK : fail(scan, item->table, err);
}

void store_scan_run(struct store_scan *scan, store_scan_fn *each, store_scan_done_fn *done,
                    void *arg)
{
    bool go_on = true;
    if (!scan->started) {
        scan->err = advance(scan);
    }
    while (go_on && scan->stands && scan->err == ERR_OK) {
        scan->err = verify_value(scan);
        if (scan->err == ERR_OK) {
            go_on = each(arg, &scan->entry);
            /* One ahead, to say whether that was the last one. */
            scan->err = advance(scan);
        }
    }
    if (go_on) {
        done(arg, scan->err, scan->err == ERR_OK);
    } else {
        /* What went wrong behind the place where it was stopped is told when it goes on. */
        done(arg, ERR_OK, scan->err == ERR_OK && !scan->stands);
    }
}
