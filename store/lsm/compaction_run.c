/* The phases of one compaction, and what becomes of each key. */
#include "store/lsm/compaction_run.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/engine.h"
#include "store/lsm/files.h"
#include "store/lsm/scrub.h"
#include "store/lsm/space.h"

struct output {
    struct table_info info;
    struct table *table; /* NULL: not opened yet */
};

enum phase { PHASE_MERGE, PHASE_SYNC, PHASE_VERIFY, PHASE_REPLACE, PHASE_READY };

struct compaction {
    struct store *store;
    struct compaction_pick pick;
    uint64_t table_bytes;
    uint64_t began_us;
    enum phase phase;
    bool started; /* the merge stands somewhere… */
    bool merged;  /* …or is at its end */
    bool keep_outputs;
    struct merge *merge;
    struct table_writer *writer; /* NULL: no output is open */
    struct output *outputs;
    size_t n_outputs, room_outputs; /* not installed yet */
    size_t n_verified;
    size_t n_inputs, n_written; /* of all steps */
    uint64_t input_bytes;
    size_t passed, replaced; /* in steps: tables of the output level before the key, and gone */
    int64_t spared_bytes;    /* what steps may still take: given, and gone less come so far */
    uint64_t written_bytes;  /* of the finished outputs */
    uint64_t verified_bytes;
    uint64_t dropped_markers;
    uint64_t failed_syncs;            /* of the directory, before there was an output */
    size_t older_at[MANIFEST_LEVELS]; /* first older table that doesn't end before the key */
    size_t below_at;                  /* the same in the level below the output level… */
    uint64_t below_bytes; /* …whose tables that the open output has passed have so many bytes */
};

/* What came down is there twice until the end; if there is no room to get there it would stay so,
 * in the place of the ballast. So there must be room for all of it and an output or two, or the
 * steps take nothing: where they end, there is no less room than before. */
static uint64_t bytes_for_steps(const struct compaction *compaction)
{
    const struct compaction_pick *pick = &compaction->pick;
    uint64_t bytes = 0;
    for (size_t i = 0; i < pick->n_inputs; i++) {
        bool above = pick->inputs[i].level != pick->output_level;
        bytes += above ? table_info(pick->inputs[i].table)->size_bytes : 0;
    }
    uint64_t room_bytes = space_to_lend(compaction->store);
    return bytes + compaction->table_bytes * 3 / 2 <= room_bytes ? bytes : 0;
}

enum err compaction_new(struct store *store, struct compaction_pick *pick, uint64_t table_bytes,
                        struct compaction **ret_compaction)
{
    struct compaction *compaction = calloc(1, sizeof *compaction);
    if (!compaction) {
        return ERR_NO_MEMORY;
    }
    compaction->store = store;
    compaction->table_bytes = table_bytes;
    compaction->began_us = engine_now_us();
    compaction->failed_syncs = vfs_dir_failed_syncs(store->dir);
    if (pick->move) {
        compaction->phase = PHASE_READY;
    } else {
        enum err err = merge_new_streams(store->dir, pick->runs, pick->n_runs, &compaction->merge);
        if (err != ERR_OK) {
            free(compaction);
            return err;
        }
    }
    for (size_t i = 0; i < pick->n_inputs; i++) {
        compaction->input_bytes += table_info(pick->tables[i])->size_bytes;
    }
    compaction->n_inputs = pick->n_inputs;
    compaction->pick = *pick;
    *pick = (struct compaction_pick){.n_inputs = 0};
    compaction->spared_bytes = (int64_t)bytes_for_steps(compaction);
    *ret_compaction = compaction;
    return ERR_OK;
}

const struct compaction_pick *compaction_pick_of(const struct compaction *compaction)
{
    return &compaction->pick;
}

uint64_t compaction_bytes(const struct compaction *compaction)
{
    uint64_t bytes = compaction->written_bytes + compaction->verified_bytes;
    if (compaction->merge) {
        bytes += merge_read_bytes(compaction->merge);
    }
    if (compaction->writer) {
        bytes += table_writer_bytes(compaction->writer);
    }
    return bytes;
}

/* Each byte is read, written and read back, as far as it isn't dropped. */
uint64_t compaction_bytes_left(const struct compaction *compaction)
{
    uint64_t all = COMPACTION_PASSES * compaction->input_bytes, done = compaction_bytes(compaction);
    if (compaction->pick.move) {
        return 0;
    }
    return all > done ? all - done : 0;
}

struct table *compaction_damaged(const struct compaction *compaction)
{
    return compaction->merge ? merge_damaged(compaction->merge) : NULL;
}

/* --- What becomes of a key --- */

static struct bytes key_bytes(const struct table_key *key)
{
    return bytes_of(key->data, key->size);
}

/* Moves *at on to the first table of the run that doesn't end before `key`; keys only ascend. */
static void pass_tables(const struct merge_run *run, struct bytes key, size_t *at)
{
    while (*at < run->n_tables &&
           bytes_compare(key_bytes(&table_info(run->tables[*at])->largest), key) < 0) {
        (*at)++;
    }
}

/* Whether a table below the output level may hold an older version of `key`. */
static bool has_older(struct compaction *compaction, struct bytes key)
{
    for (uint32_t l = compaction->pick.output_level + 1; l < MANIFEST_LEVELS; l++) {
        const struct merge_run *run = &compaction->pick.older[l];
        size_t *at = &compaction->older_at[l];
        pass_tables(run, key, at);
        if (*at < run->n_tables &&
            bytes_compare(key_bytes(&table_info(run->tables[*at])->smallest), key) <= 0) {
            return true;
        }
    }
    return false;
}

/* Counts what of the level below lies beside the open output. An output beside too much of it would
 * be dear to merge later, so it ends. */
static bool spans_too_much(struct compaction *compaction, struct bytes key)
{
    uint32_t below = compaction->pick.output_level + 1;
    if (below == MANIFEST_LEVELS) {
        return false;
    }
    const struct merge_run *run = &compaction->pick.older[below];
    size_t before = compaction->below_at;
    pass_tables(run, key, &compaction->below_at);
    for (size_t i = before; i < compaction->below_at; i++) {
        compaction->below_bytes += table_info(run->tables[i])->size_bytes;
    }
    return compaction->below_bytes > COMPACTION_LEVEL_FACTOR * compaction->table_bytes;
}

/* --- Outputs --- */

static enum err open_output(struct compaction *compaction)
{
    struct store *store = compaction->store;
    if (compaction->n_outputs == compaction->room_outputs) {
        size_t room = 2 * compaction->room_outputs + 4;
        struct output *grown = realloc(compaction->outputs, room * sizeof *grown);
        if (!grown) {
            return ERR_NO_MEMORY;
        }
        compaction->outputs = grown;
        compaction->room_outputs = room;
    }
    compaction->below_bytes = 0;
    return table_writer_new(store->dir, engine_new_number(store), store->store_id,
                            engine_random_id(), &compaction->writer);
}

static enum err close_output(struct compaction *compaction)
{
    struct output output = {.table = NULL};
    enum err err = table_writer_finish(compaction->writer, &output.info);
    table_writer_free(compaction->writer); /* if it isn't finished, the file goes */
    compaction->writer = NULL;
    if (err != ERR_OK) {
        return err;
    }
    compaction->outputs[compaction->n_outputs++] = output;
    compaction->n_written++;
    compaction->written_bytes += output.info.size_bytes;
    return ERR_OK;
}

static enum err write_item(struct compaction *compaction, const struct merge_item *item)
{
    bool cut = spans_too_much(compaction, item->key);
    if (item->record->kind == RECORD_DELETE && !has_older(compaction, item->key)) {
        compaction->dropped_markers++;
        return ERR_OK;
    }
    if (compaction->writer &&
        (cut || table_writer_bytes(compaction->writer) >= compaction->table_bytes)) {
        enum err err = close_output(compaction);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (!compaction->writer) {
        enum err err = open_output(compaction);
        if (err != ERR_OK) {
            return err;
        }
    }
    return table_writer_add(compaction->writer, item->record);
}

/* --- Steps --- */

/* The inputs that are in the output level; they are the last ones. NULL: none is. */
static const struct merge_run *output_run(const struct compaction *compaction)
{
    const struct compaction_pick *pick = &compaction->pick;
    bool any = pick->inputs[pick->n_inputs - 1].level == pick->output_level;
    return any ? &pick->runs[pick->n_runs - 1] : NULL;
}

static uint64_t step_bytes(const struct compaction *compaction)
{
    uint64_t bytes = compaction->writer ? table_writer_bytes(compaction->writer) : 0;
    for (size_t i = 0; i < compaction->n_outputs; i++) {
        bytes += compaction->outputs[i].info.size_bytes;
    }
    return bytes;
}

/* Of the tables that a step would replace. */
static uint64_t passed_bytes(const struct compaction *compaction, const struct merge_run *run)
{
    uint64_t bytes = 0;
    for (size_t i = compaction->replaced; i < compaction->passed; i++) {
        bytes += table_info(run->tables[i])->size_bytes;
    }
    return bytes;
}

/* Whether a step ends before `key`: it is the first one behind a table of the output level, so that
 * no table that stays has a range with anything written. Nor may all steps together take space that
 * isn't given. */
static bool ends_step(struct compaction *compaction, struct bytes key)
{
    const struct merge_run *run = compaction->pick.in_steps ? output_run(compaction) : NULL;
    size_t before = compaction->passed;
    if (!run) {
        return false;
    }
    pass_tables(run, key, &compaction->passed);
    uint64_t bytes = step_bytes(compaction);
    int64_t may_take = (int64_t)passed_bytes(compaction, run) + compaction->spared_bytes;
    return compaction->passed > before && bytes >= compaction->table_bytes / 2 &&
           (int64_t)bytes <= may_take; /* but for its index, which the next steps make up for */
}

/* --- The phases --- */

static enum err merge_slice(struct compaction *compaction, uint64_t slice_bytes,
                            struct err_detail *detail)
{
    struct merge *merge = compaction->merge;
    uint64_t end_bytes = merge_read_bytes(merge) + slice_bytes;
    enum err err = ERR_OK;
    if (!compaction->started) {
        compaction->started = true;
        err = merge_seek(merge, bytes_of(NULL, 0), detail);
    }
    while (err == ERR_OK && merge_item(merge) && merge_read_bytes(merge) < end_bytes) {
        if (ends_step(compaction, merge_item(merge)->key)) {
            compaction->phase = PHASE_SYNC;
            return compaction->writer ? close_output(compaction) : ERR_OK;
        }
        err = write_item(compaction, merge_item(merge));
        if (err == ERR_OK) {
            err = merge_next(merge, detail);
        }
    }
    if (err == ERR_OK && !merge_item(merge)) {
        compaction->merged = true;
        if (compaction->writer) {
            err = close_output(compaction);
        }
        compaction->phase = compaction->n_outputs > 0 ? PHASE_SYNC : PHASE_READY;
    }
    return err;
}

/* Reads an output back, all of it: nothing that can't be read takes the place of what can. */
static enum err verify_output(struct compaction *compaction, struct err_detail *detail)
{
    struct store *store = compaction->store;
    struct output *output = &compaction->outputs[compaction->n_verified];
    enum err err = table_open(store->dir, store->store_id, output->info.number, &output->info,
                              &output->table, detail);
    if (err == ERR_OK) {
        err = table_verify(store->dir, output->table, NULL, NULL, detail);
    }
    if (err != ERR_OK) {
        return err;
    }
    engine_scrub_note_verified(store, output->table);
    compaction->verified_bytes += output->info.size_bytes;
    compaction->n_verified++;
    if (compaction->n_verified == compaction->n_outputs) {
        compaction->phase = compaction->merged ? PHASE_READY : PHASE_REPLACE;
    }
    return ERR_OK;
}

static void tell(const struct compaction *compaction, uint64_t read_bytes)
{
    const struct compaction_pick *pick = &compaction->pick;
    struct counters *counters = &compaction->store->counters;
    atomic_fetch_add_explicit(&counters->compactions, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->compaction_read_bytes, read_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->compaction_written_bytes, compaction->written_bytes,
                              memory_order_relaxed);
    if (pick->move) {
        engine_event(compaction->store, STORE_EVENT_COMPACTED,
                     "table %016" PRIx64 " moved from level %" PRIu32 " to %" PRIu32,
                     table_info(pick->tables[0])->number, pick->level, pick->output_level);
        return;
    }
    engine_event(compaction->store, STORE_EVENT_COMPACTED,
                 "%s %" PRIu32 " to %" PRIu32 ": %zu tables, %" PRIu64
                 " bytes became %zu tables, %" PRIu64 " bytes; %" PRIu64
                 " delete markers went; %" PRIu64 " ms",
                 pick->full ? "all levels from" : "level", pick->level, pick->output_level,
                 compaction->n_inputs, read_bytes, compaction->n_written, compaction->written_bytes,
                 compaction->dropped_markers, (engine_now_us() - compaction->began_us) / 1000);
}

/* The edit's additions, each with a reference for the edit. */
static struct engine_edit_table *additions(const struct compaction *compaction, size_t *ret_n)
{
    const struct compaction_pick *pick = &compaction->pick;
    size_t n = pick->move ? 1 : compaction->n_outputs;
    struct engine_edit_table *add = calloc(n + 1, sizeof *add);
    for (size_t i = 0; add && i < n; i++) {
        struct table *table = pick->move ? pick->tables[0] : compaction->outputs[i].table;
        table_acquire(table);
        add[i] = (struct engine_edit_table){.level = pick->output_level, .table = table};
    }
    *ret_n = n;
    return add;
}

/* Makes the outputs take the place of `n` inputs from `first` on. */
static enum err replace(struct compaction *compaction, size_t first, size_t n)
{
    size_t n_add;
    struct engine_edit_table *add = additions(compaction, &n_add);
    if (!add) {
        return ERR_NO_MEMORY;
    }
    struct engine_edit edit = {
        .remove = &compaction->pick.inputs[first], .n_remove = n, .add = add, .n_add = n_add};
    enum err err = engine_apply(compaction->store, &edit);
    if (err != ERR_OK) {
        compaction->keep_outputs = err == ERR_OUTCOME_UNKNOWN;
        for (size_t i = 0; i < n_add; i++) {
            bool last = table_release(add[i].table);
            assert(!last);
        }
    }
    free(add);
    return err;
}

static void let_go(struct compaction *compaction, struct table *table)
{
    if (table_release(table)) {
        engine_reap_table(compaction->store, table);
    }
}

/* Ends a step. What it replaced is let go, so that its space comes back. */
static enum err replace_passed(struct compaction *compaction)
{
    struct compaction_pick *pick = &compaction->pick;
    size_t n = compaction->passed - compaction->replaced;
    int64_t taken_bytes =
        (int64_t)step_bytes(compaction) - (int64_t)passed_bytes(compaction, output_run(compaction));
    size_t left = output_run(compaction)->n_tables - compaction->replaced;
    struct engine_edit_table *first = &pick->inputs[pick->n_inputs - left];
    enum err err = replace(compaction, pick->n_inputs - left, n);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < n; i++) {
        let_go(compaction, first[i].table);
    }
    memmove(first, first + n, (left - n) * sizeof *first);
    pick->n_inputs -= n;
    compaction->replaced = compaction->passed;
    compaction->spared_bytes -= taken_bytes;
    for (size_t i = 0; i < compaction->n_outputs; i++) {
        let_go(compaction, compaction->outputs[i].table);
    }
    compaction->n_outputs = compaction->n_verified = 0;
    compaction->failed_syncs = vfs_dir_failed_syncs(compaction->store->dir);
    compaction->phase = PHASE_MERGE;
    return ERR_OK;
}

enum err compaction_work(struct compaction *compaction, uint64_t slice_bytes, bool *ret_done,
                         struct err_detail *detail)
{
    enum err err = ERR_OK;
    switch (compaction->phase) {
    case PHASE_MERGE:
        err = merge_slice(compaction, slice_bytes, detail);
        break;
    case PHASE_SYNC:
        err = vfs_dir_sync_since(compaction->store->dir, compaction->failed_syncs);
        if (err == ERR_OK) {
            compaction->phase = PHASE_VERIFY;
        }
        break;
    case PHASE_VERIFY:
        err = verify_output(compaction, detail);
        break;
    case PHASE_REPLACE:
        err = replace_passed(compaction);
        break;
    case PHASE_READY:
        break;
    }
    *ret_done = compaction->phase == PHASE_READY;
    return err;
}

enum err compaction_install(struct compaction *compaction)
{
    assert(compaction->phase == PHASE_READY);
    enum err err = replace(compaction, 0, compaction->pick.n_inputs);
    if (err == ERR_OK) {
        compaction->keep_outputs = true;
        tell(compaction, compaction->merge ? merge_read_bytes(compaction->merge) : 0);
    }
    return err;
}

static void drop_output(struct compaction *compaction, struct output *output)
{
    if (!output->table) {
        if (!compaction->keep_outputs) {
            char name[FILES_NAME_BYTES];
            files_name(FILE_TABLE, output->info.number, name);
            (void)!vfs_unlink(compaction->store->dir, name); /* else it goes at the next open */
        }
        return;
    }
    if (!compaction->keep_outputs) {
        table_set_obsolete(output->table);
    }
    let_go(compaction, output->table);
}

void compaction_free(struct compaction *compaction)
{
    if (!compaction) {
        return;
    }
    merge_free(compaction->merge);
    table_writer_free(compaction->writer);
    for (size_t i = 0; i < compaction->n_outputs; i++) {
        drop_output(compaction, &compaction->outputs[i]);
    }
    free(compaction->outputs);
    compaction_pick_release(&compaction->pick, compaction->store);
    free(compaction);
}
