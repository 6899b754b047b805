/* Shape, scores and picks: pure functions of a view. */
#include "store/lsm/compaction_pick.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct range {
    struct bytes smallest, largest; /* both inclusive */
};

static struct range range_of(const struct table *table)
{
    const struct table_info *info = table_info(table);
    return (struct range){bytes_of(info->smallest.data, info->smallest.size),
                          bytes_of(info->largest.data, info->largest.size)};
}

static bool overlap(struct range a, struct range b)
{
    return bytes_compare(a.smallest, b.largest) <= 0 && bytes_compare(b.smallest, a.largest) <= 0;
}

static struct range join(struct range a, struct range b)
{
    return (struct range){
        .smallest = bytes_compare(a.smallest, b.smallest) < 0 ? a.smallest : b.smallest,
        .largest = bytes_compare(a.largest, b.largest) > 0 ? a.largest : b.largest,
    };
}

/* Tables of one level, next to each other. */
struct slice {
    size_t first, n;
    uint64_t bytes;
};

/* Those of a sorted level that overlap with `range`. */
static struct slice slice_of(const struct view_level *level, struct range range)
{
    size_t low = 0, high = level->n_tables;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_compare(range_of(level->tables[middle]).largest, range.smallest) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct slice slice = {.first = low};
    for (size_t i = low; i < level->n_tables && overlap(range_of(level->tables[i]), range); i++) {
        slice.n++;
        slice.bytes += table_info(level->tables[i])->size_bytes;
    }
    return slice;
}

/* --- Shape --- */

static uint64_t estimate_debt(const struct view *view, const struct compaction_shape *shape)
{
    uint64_t debt = 0, coming = 0;
    if (view->levels[0].n_tables >= ENGINE_LEVEL0_TRIGGER) {
        coming = shape->level_bytes[0];
        debt = coming + shape->level_bytes[shape->base_level];
    }
    for (uint32_t l = shape->base_level; l < COMPACTION_LAST_LEVEL; l++) {
        uint64_t bytes = shape->weight_bytes[l] + coming;
        coming = bytes > shape->target_bytes[l] ? bytes - shape->target_bytes[l] : 0;
        /* Each byte that goes down meets so many in the next level. */
        double met = bytes > 0 ? (double)shape->level_bytes[l + 1] / (double)bytes : 0;
        debt += coming + (uint64_t)((double)coming * met);
    }
    return debt;
}

static void measure(const struct view *view, struct compaction_shape *shape)
{
    uint64_t markers[MANIFEST_LEVELS] = {0}, puts = 0, data_bytes = 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        for (size_t i = 0; i < view->levels[l].n_tables; i++) {
            const struct table_info *info = table_info(view->levels[l].tables[i]);
            shape->level_bytes[l] += info->size_bytes;
            markers[l] += info->markers;
            puts += info->records - info->markers;
            data_bytes += info->data_bytes;
        }
    }
    uint64_t usual_bytes = puts > 0 ? data_bytes / puts : 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        shape->weight_bytes[l] = shape->level_bytes[l] + markers[l] * usual_bytes;
    }
}

void compaction_shape_of(const struct view *view, uint64_t memtable_bytes,
                         struct compaction_shape *ret_shape)
{
    struct compaction_shape shape = {
        .table_bytes =
            memtable_bytes < COMPACTION_TABLE_BYTES ? memtable_bytes : COMPACTION_TABLE_BYTES,
        .base_level = COMPACTION_LAST_LEVEL,
        .level0_due = ENGINE_LEVEL0_TRIGGER,
    };
    measure(view, &shape);
    uint32_t first = COMPACTION_LAST_LEVEL; /* below level 0 that has tables */
    uint64_t greatest = 0;
    for (uint32_t l = COMPACTION_LAST_LEVEL; l > 0; l--) {
        first = view->levels[l].n_tables > 0 ? l : first;
        greatest = shape.level_bytes[l] > greatest ? shape.level_bytes[l] : greatest;
    }
    /* Level 0 brings so much at a time. A level that may hold much less would be passed through. */
    uint64_t least = ENGINE_LEVEL0_TRIGGER * memtable_bytes / 2;
    uint64_t target = greatest > least ? greatest : least;
    shape.target_bytes[COMPACTION_LAST_LEVEL] = target;
    while (shape.base_level > 1 &&
           (target / COMPACTION_LEVEL_FACTOR >= least || first < shape.base_level)) {
        target /= COMPACTION_LEVEL_FACTOR;
        target = target > least ? target : least;
        shape.target_bytes[--shape.base_level] = target;
    }
    shape.debt_bytes = estimate_debt(view, &shape);
    *ret_shape = shape;
}

/* --- Filling a pick --- */

static bool is_damaged(const struct compaction_damage *damage, const struct table *table)
{
    uint64_t number = table_info(table)->number;
    for (size_t i = 0; i < damage->n_numbers; i++) {
        if (damage->numbers[i] == number) {
            return true;
        }
    }
    return false;
}

static bool any_damaged(const struct compaction_damage *damage, const struct view_level *level,
                        struct slice slice)
{
    for (size_t i = 0; i < slice.n; i++) {
        if (is_damaged(damage, level->tables[slice.first + i])) {
            return true;
        }
    }
    return false;
}

static size_t count_tables(const struct view *view)
{
    size_t n = 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        n += view->levels[l].n_tables;
    }
    return n;
}

/* Room for every table of the view, as inputs and as older ones. */
static enum err pick_alloc(const struct view *view, struct compaction_pick *ret_pick)
{
    size_t n = count_tables(view);
    struct compaction_pick pick = {
        .inputs = calloc(n + 1, sizeof *pick.inputs),
        .tables = calloc(n + 1, sizeof *pick.tables),
        .runs = calloc(n + 1, sizeof *pick.runs),
        .older_tables = calloc(n + 1, sizeof *pick.older_tables),
    };
    *ret_pick = pick;
    return pick.inputs && pick.tables && pick.runs && pick.older_tables ? ERR_OK : ERR_NO_MEMORY;
}

/* Adds tables of one level as a run. Runs are added newest first. */
static void add_run(struct compaction_pick *pick, const struct view *view, uint32_t l,
                    struct slice slice)
{
    if (slice.n == 0) {
        return;
    }
    pick->runs[pick->n_runs++] =
        (struct merge_run){.tables = &pick->tables[pick->n_inputs], .n_tables = slice.n};
    for (size_t i = 0; i < slice.n; i++) {
        struct table *table = view->levels[l].tables[slice.first + i];
        table_acquire(table);
        pick->tables[pick->n_inputs] = table;
        pick->inputs[pick->n_inputs++] = (struct engine_edit_table){.level = l, .table = table};
    }
}

/* Notes what lies below the output level, beside any of the inputs: those of the output level may
 * reach further than those that are merged into them. */
static void add_older(struct compaction_pick *pick, const struct view *view)
{
    struct table **into = pick->older_tables;
    struct range range = range_of(pick->tables[0]);
    for (size_t i = 1; i < pick->n_inputs; i++) {
        range = join(range, range_of(pick->tables[i]));
    }
    for (uint32_t l = pick->output_level + 1; l < MANIFEST_LEVELS; l++) {
        struct slice slice = slice_of(&view->levels[l], range);
        pick->older[l] = (struct merge_run){.tables = into, .n_tables = slice.n};
        for (size_t i = 0; i < slice.n; i++) {
            *into = view->levels[l].tables[slice.first + i];
            table_acquire(*into++);
        }
    }
}

static uint64_t run_bytes(const struct merge_run *run)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < run->n_tables; i++) {
        bytes += table_info(run->tables[i])->size_bytes;
    }
    return bytes;
}

/* A single table may just change its level, unless that would take delete markers to where nothing
 * is older, and they'd stay for ever; or would put it above so much of the level below that merging
 * it later costs more than cutting it now. */
static bool may_move(const struct compaction_pick *pick, const struct compaction_shape *shape)
{
    if (pick->n_inputs != 1) {
        return false;
    }
    bool older = false;
    for (uint32_t l = pick->output_level + 1; l < MANIFEST_LEVELS; l++) {
        older = older || pick->older[l].n_tables > 0;
    }
    if (!older) {
        return table_info(pick->tables[0])->markers == 0;
    }
    return run_bytes(&pick->older[pick->output_level + 1]) <=
           COMPACTION_LEVEL_FACTOR * shape->table_bytes;
}

void compaction_pick_release(struct compaction_pick *pick, struct store *store)
{
    for (size_t i = 0; i < pick->n_inputs; i++) {
        if (table_release(pick->inputs[i].table)) {
            engine_reap_table(store, pick->inputs[i].table);
        }
    }
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        for (size_t i = 0; i < pick->older[l].n_tables; i++) {
            if (table_release(pick->older[l].tables[i])) {
                engine_reap_table(store, pick->older[l].tables[i]);
            }
        }
    }
    free(pick->inputs);
    free(pick->tables);
    free(pick->runs);
    free(pick->older_tables);
    *pick = (struct compaction_pick){.n_inputs = 0};
}

/* --- Level 0 --- */

/* Tables of level 0 that hang together: `in[i]` says whether table i is one of them. */
static struct range find_component(const struct view_level *level0, size_t seed, bool in[])
{
    struct range range = range_of(level0->tables[seed]);
    bool grown = true;
    memset(in, 0, level0->n_tables * sizeof in[0]);
    in[seed] = true;
    while (grown) {
        grown = false;
        for (size_t i = 0; i < level0->n_tables; i++) {
            if (!in[i] && overlap(range_of(level0->tables[i]), range)) {
                in[i] = true;
                range = join(range, range_of(level0->tables[i]));
                grown = true;
            }
        }
    }
    return range;
}

static bool component_damaged(const struct view *view, const struct compaction_damage *damage,
                              const bool in[], uint32_t output_level, struct range range)
{
    const struct view_level *output = &view->levels[output_level];
    for (size_t i = 0; i < view->levels[0].n_tables; i++) {
        if (in[i] && is_damaged(damage, view->levels[0].tables[i])) {
            return true;
        }
    }
    return any_damaged(damage, output, slice_of(output, range));
}

/* The component of the oldest table whose component can be merged. */
static bool pick_level0(const struct view *view, const struct compaction_shape *shape,
                        const struct compaction_damage *damage, bool in[],
                        struct compaction_pick *pick)
{
    const struct view_level *level0 = &view->levels[0];
    for (size_t seed = level0->n_tables; seed-- > 0;) {
        struct range range = find_component(level0, seed, in);
        if (component_damaged(view, damage, in, shape->base_level, range)) {
            continue;
        }
        pick->level = 0;
        pick->output_level = shape->base_level;
        for (size_t i = 0; i < level0->n_tables; i++) {
            if (in[i]) {
                add_run(pick, view, 0, (struct slice){.first = i, .n = 1});
            }
        }
        add_run(pick, view, pick->output_level, slice_of(&view->levels[pick->output_level], range));
        add_older(pick, view);
        return true;
    }
    return false;
}

/* --- The other levels --- */

/* The table that costs least: bytes to merge for each byte that leaves the level. Delete markers
 * count as much as what they free below. */
static bool pick_level(const struct view *view, uint32_t l, const struct compaction_damage *damage,
                       struct compaction_pick *pick)
{
    const struct view_level *level = &view->levels[l], *output = &view->levels[l + 1];
    double best_cost = 0;
    size_t best = level->n_tables;
    for (size_t i = 0; i < level->n_tables; i++) {
        const struct table_info *info = table_info(level->tables[i]);
        struct slice met = slice_of(output, range_of(level->tables[i]));
        if (is_damaged(damage, level->tables[i]) || any_damaged(damage, output, met)) {
            continue;
        }
        double gain =
            (double)info->size_bytes * (1 + (double)info->markers / (double)info->records);
        double cost = (double)met.bytes / gain;
        if (best == level->n_tables || cost < best_cost) {
            best = i;
            best_cost = cost;
        }
    }
    if (best == level->n_tables) {
        return false;
    }
    struct range range = range_of(level->tables[best]);
    pick->level = l;
    pick->output_level = l + 1;
    add_run(pick, view, l, (struct slice){.first = best, .n = 1});
    add_run(pick, view, l + 1, slice_of(output, range));
    add_older(pick, view);
    return true;
}

static double level_score(const struct compaction_shape *shape, uint32_t l)
{
    return (double)shape->weight_bytes[l] / (double)shape->target_bytes[l];
}

/* Of the levels not tried yet, the one with the greatest score above `least`; the last level if
 * there is none. */
static uint32_t fullest_level(const struct compaction_shape *shape, uint32_t tried, double least)
{
    uint32_t found = COMPACTION_LAST_LEVEL;
    double greatest = least;
    for (uint32_t l = shape->base_level; l < COMPACTION_LAST_LEVEL; l++) {
        if (level_score(shape, l) > greatest && !(tried & 1u << l)) {
            found = l;
            greatest = level_score(shape, l);
        }
    }
    return found;
}

/* Above 1: the level is due. So level 0 goes first, unless another one is further beyond what it
 * should be: if it always did, a steady load would keep the others waiting for ever, and what level
 * 0 is merged with would grow without end. */
static double level0_score(const struct view *view, const struct compaction_shape *shape)
{
    return (double)view->levels[0].n_tables / (double)shape->level0_due;
}

uint64_t compaction_bytes_before_level0(const struct view *view,
                                        const struct compaction_shape *shape)
{
    double bytes = 0;
    for (uint32_t l = shape->base_level; l < COMPACTION_LAST_LEVEL; l++) {
        double limit = level0_score(view, shape) * (double)shape->target_bytes[l];
        double excess = (double)shape->weight_bytes[l] - limit;
        if (excess > 0) {
            bytes +=
                excess * (1 + (double)shape->level_bytes[l + 1] / (double)shape->weight_bytes[l]);
        }
    }
    return (uint64_t)bytes;
}

static bool pick_into(const struct view *view, const struct compaction_shape *shape,
                      const struct compaction_damage *damage, bool in[],
                      struct compaction_pick *pick, bool *blocked)
{
    bool level0_due = view->levels[0].n_tables >= shape->level0_due;
    uint32_t tried = 0;
    *blocked = false;
    for (;;) {
        uint32_t l = fullest_level(shape, tried, level0_due ? level0_score(view, shape) : 1);
        if (l != COMPACTION_LAST_LEVEL) {
            if (pick_level(view, l, damage, pick)) {
                return true;
            }
            tried |= 1u << l;
        } else if (level0_due) {
            if (pick_level0(view, shape, damage, in, pick)) {
                return true;
            }
            *blocked = true;
            level0_due = false;
        } else {
            return false;
        }
    }
}

enum err compaction_pick_due(const struct view *view, const struct compaction_shape *shape,
                             const struct compaction_damage *damage,
                             struct compaction_pick *ret_pick, bool *ret_found, bool *ret_blocked)
{
    struct compaction_pick pick;
    enum err err = pick_alloc(view, &pick);
    bool *in = calloc(view->levels[0].n_tables + 1, sizeof in[0]);
    if (err != ERR_OK || !in) {
        compaction_pick_release(&pick, NULL);
        free(in);
        return ERR_NO_MEMORY;
    }
    *ret_found = pick_into(view, shape, damage, in, &pick, ret_blocked);
    free(in);
    if (*ret_found) {
        pick.move = may_move(&pick, shape);
        *ret_pick = pick;
    } else {
        compaction_pick_release(&pick, NULL);
    }
    return ERR_OK;
}

/* --- Everything --- */

static bool is_one_clean_run(const struct view *view)
{
    size_t levels = 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        levels += l == 0 ? view->levels[l].n_tables : view->levels[l].n_tables > 0;
        for (size_t i = 0; i < view->levels[l].n_tables; i++) {
            if (table_info(view->levels[l].tables[i])->markers > 0) {
                return false;
            }
        }
    }
    return levels <= 1 && view->levels[0].n_tables == 0;
}

enum err compaction_pick_full(const struct view *view, struct compaction_pick *ret_pick,
                              bool *ret_found)
{
    if (is_one_clean_run(view)) {
        *ret_found = false;
        return ERR_OK;
    }
    struct compaction_pick pick;
    enum err err = pick_alloc(view, &pick);
    if (err != ERR_OK) {
        compaction_pick_release(&pick, NULL);
        return err;
    }
    pick.full = true;
    pick.output_level = COMPACTION_LAST_LEVEL;
    for (size_t i = 0; i < view->levels[0].n_tables; i++) {
        add_run(&pick, view, 0, (struct slice){.first = i, .n = 1});
    }
    for (uint32_t l = 1; l < MANIFEST_LEVELS; l++) {
        add_run(&pick, view, l, (struct slice){.n = view->levels[l].n_tables});
    }
    *ret_pick = pick;
    *ret_found = true;
    return ERR_OK;
}
